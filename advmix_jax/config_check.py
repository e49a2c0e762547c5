"""Checks a configuration before any work: every message names the key, what was found, what was expected."""

import math
from collections.abc import Callable
from typing import Any

from ml_collections import ConfigDict

from advmix_jax import data, parallel, toy
from advmix_jax.config_keys import classifier_seeds, flatten, has_path_length
from advmix_jax.encoding import SCHEDULES
from advmix_jax.methods import METHODS
from advmix_jax.models.architectures import ARCHITECTURES
from advmix_jax.models.growing import STRUCTURES
from advmix_jax.network_check import check_features, check_sizes
from advmix_jax.training.adam import ADAMS
from advmix_jax.training.gan_losses import GAN_LOSSES
from advmix_jax.types import BadInputError

Rule = tuple[Callable[[Any], bool], str]


def _number(value: Any) -> bool:
  return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_batch(value: Any) -> bool:
  return isinstance(value, int) and value > 0 and value % 4 == 0


def _one_of(*names: str) -> Rule:
  return (lambda v: v in names, ' | '.join(names))


AT_LEAST_0: Rule = (lambda v: _number(v) and v >= 0, 'a number of at least 0')
ABOVE_0: Rule = (lambda v: _number(v) and v > 0, 'a number above 0')
COUNT: Rule = (lambda v: isinstance(v, int) and v >= 0, 'a whole number of at least 0')
COUNT_FROM_1: Rule = (lambda v: isinstance(v, int) and v >= 1, 'a whole number of at least 1')
SHARE: Rule = (lambda v: _number(v) and 0 <= v <= 1, 'a number in [0, 1]')
BELOW_1: Rule = (lambda v: _number(v) and 0 <= v < 1, 'a number in [0, 1)')
WIDTHS: Rule = (
  lambda v: len(v) > 0 and all(isinstance(x, int) and x > 0 for x in v),
  'whole numbers above 0',
)

SIDE: Rule = (
  lambda v: isinstance(v, int) and (v == 0 or (v >= 8 and not v & (v - 1))),
  '0 or a power of two from 8',
)
NAMES: Rule = (lambda v: all(isinstance(x, str) for x in v), 'names')

STDDEV_GROUP = 4  # Of the discriminators that are trained.
RULES: dict[str, Rule] = {
  'precision': _one_of('float32', 'bfloat16'),
  'generator.fmaps': WIDTHS,
  'generator.latent_size': COUNT_FROM_1,
  'generator.w_size': COUNT_FROM_1,
  'generator.mapping_layers': COUNT_FROM_1,
  'generator.mapping_lr_multiplier': ABOVE_0,
  'generator.total_kimg': ABOVE_0,
  'generator.batch_size': (_is_batch, 'a multiple of 4, above 0'),
  'generator.learning_rate': ABOVE_0,
  'generator.r1_gamma': AT_LEAST_0,
  'generator.r1_interval': COUNT_FROM_1,
  'generator.style_mixing_prob': SHARE,
  'generator.style_mixing_cut': _one_of('sample', 'batch'),
  'generator.style_mixing_level': COUNT,
  'generator.ema_kimg': ABOVE_0,
  'generator.sample_kimg': ABOVE_0,
  'generator.architecture': _one_of(*(name for name, kind in ARCHITECTURES.items() if kind.discriminator)),
  'generator.path_length_weight': AT_LEAST_0,
  'generator.path_length_interval': COUNT_FROM_1,
  'generator.loss': _one_of(*GAN_LOSSES),
  'generator.adam': _one_of(*ADAMS),
  'generator.structure': _one_of(*STRUCTURES),
  'generator.initial_resolution': COUNT_FROM_1,
  'generator.stable_kimg': AT_LEAST_0,
  'generator.fading_kimg': ABOVE_0,
  'generator.batch_sizes': (lambda v: all(_is_batch(x) for x in v), 'multiples of 4, above 0'),
  'generator.micro_batch': COUNT,
  'generator.micro_batches': (lambda v: all(COUNT[0](x) for x in v), 'whole numbers of at least 0'),
  'generator.learning_rates': (lambda v: all(ABOVE_0[0](x) for x in v), 'numbers above 0'),
  'encode.init': _one_of('encoder', 'mean'),
  'encode.init_kimg': ABOVE_0,
  'encode.init_batch_size': COUNT_FROM_1,
  'encode.init_fmaps': WIDTHS,
  'encode.init_learning_rate': ABOVE_0,
  'encode.num_steps': COUNT,
  'encode.learning_rate': ABOVE_0,
  'encode.final_learning_rate': ABOVE_0,
  'encode.rule': _one_of('adam', 'whitened_adam'),
  'encode.schedule': _one_of(*SCHEDULES),
  'encode.target_error': AT_LEAST_0,
  'encode.tolerance': BELOW_1,
  'encode.patience': COUNT_FROM_1,
  'encode.features': _one_of('discriminator', 'vgg16', 'pixel'),
  'encode.feature_layers': NAMES,
  'encode.vgg16_convention': _one_of('auto', 'caffe', 'torchvision'),
  'encode.vgg16_resize': COUNT,
  'encode.resolution': SIDE,
  'encode.pixel_weight': AT_LEAST_0,
  'encode.feature_weight': AT_LEAST_0,
  'encode.mixing_weight': AT_LEAST_0,
  'encode.mixing_share': SHARE,
  'encode.layer_weights': (lambda v: all(AT_LEAST_0[0](x) for x in v), 'numbers of at least 0'),
  'encode.batch_size': COUNT_FROM_1,
  'encode.shard_size': COUNT_FROM_1,
  'attack.mixing_level': COUNT_FROM_1,
  'attack.epsilon': AT_LEAST_0,
  'attack.step_size': AT_LEAST_0,
  'attack.num_restarts': COUNT_FROM_1,
  'attack.num_steps': COUNT,
  'attack.update': _one_of('sign', 'gradient'),
  'attack.select': _one_of('highest_loss', 'first_error'),
  'attack.start_from': _one_of('reconstruction', 'original'),
  'attack.typical_delta': AT_LEAST_0,
  'attack.ramp_steps': COUNT,
  'train.classifier': _one_of('cnn', 'linear'),
  'train.fmaps': (lambda v: len(v) == 4 and WIDTHS[0](v), 'four whole numbers above 0'),
  'train.batch_size': COUNT_FROM_1,
  'train.micro_batch': COUNT,
  'train.num_epochs': ABOVE_0,
  'train.learning_rate': ABOVE_0,
  'train.seed': (lambda v: isinstance(v, int) and v >= -1, 'a whole number of at least -1'),
  'train.num_seeds': COUNT_FROM_1,
  'train.ema_decay': BELOW_1,
  'mixup.alpha': ABOVE_0,
  'cutout.size': AT_LEAST_0,
  'cutmix.alpha': ABOVE_0,
  'at.epsilon': AT_LEAST_0,
  'at.num_steps': COUNT,
  'at.step_size': AT_LEAST_0,
  'at.ramp_steps': COUNT,
  'evaluate.split': _one_of('test', 'validation'),
  'evaluate.num_restarts': COUNT,
  'evaluate.num_steps': COUNT,
  'evaluate.num_examples': COUNT,
  'evaluate.batch_size': COUNT_FROM_1,
  'evaluate.start_from': _one_of('original', 'reconstruction'),
  'evaluate.select': _one_of('first_error', 'highest_loss'),
  'report.num_examples': COUNT_FROM_1,
  'diagnose.reference': (lambda v: isinstance(v, str) and v != '', 'auto | recoloured | a method | a folder'),
  'diagnose.reference_epochs': ABOVE_0,
  'diagnose.num_images': COUNT_FROM_1,
  'diagnose.num_draws': COUNT_FROM_1,
  'diagnose.tolerance': SHARE,
  'diagnose.colour_distance': ABOVE_0,
  'diagnose.num_attacked': COUNT_FROM_1,
  'diagnose.restarts': (
    lambda v: len(v) > 0 and all(COUNT_FROM_1[0](x) for x in v),
    'whole numbers of at least 1',
  ),
  'diagnose.steps': (lambda v: len(v) > 0 and all(COUNT[0](x) for x in v), 'whole numbers of at least 0'),
  'diagnose.epsilons': (lambda v: len(v) > 0 and all(AT_LEAST_0[0](x) for x in v), 'numbers of at least 0'),
  'report.explorer_examples': COUNT_FROM_1,
  'checkpoint.seconds': ABOVE_0,
  'checkpoint.keep': COUNT_FROM_1,
  'devices': COUNT,
  'distributed.heartbeat_seconds': COUNT_FROM_1,
  'distributed.start_seconds': COUNT_FROM_1,
  'distributed.wait_seconds': COUNT_FROM_1,
  'watchdog.first_step_seconds': AT_LEAST_0,
  'watchdog.step_seconds': AT_LEAST_0,
  'log_every_steps': COUNT_FROM_1,
}


def check_config(config: ConfigDict) -> None:
  """Raises `BadInputError` for the first key that no run could work with.

  Reads no data; of files only what `generator.path` and, where used, `encode.vgg16_weights` name.
  """
  check_values(config)
  data.check_config(config)
  check_seeds(config)
  if 'toy' in config:
    toy.check_config(config.toy)
  check_features(config, check_sizes(config))


def check_values(config: ConfigDict) -> None:
  """Raises `BadInputError` for a value that no run could work with, whatever its data and networks are."""
  check_rules(config)
  values = flatten(config.to_dict())
  for part in (
    'generator.batch_size',
    'encode.init_batch_size',
    'encode.batch_size',
    'train.batch_size',
    'evaluate.batch_size',
  ):
    parallel.check_divisible(values[part], f'config.{part}')
  for size in config.generator.batch_sizes:
    parallel.check_divisible(size, 'an entry of config.generator.batch_sizes')
  check_parts(config)
  for part in ('train', 'diagnose'):
    names = config[part].methods
    unknown = [name for name in names if name not in METHODS]
    if unknown or not names:
      found = ', '.join(unknown) or 'none'
      raise BadInputError(f'config.{part}.methods: found {found}, expected some of {", ".join(METHODS)}')


def check_seeds(config: ConfigDict) -> None:
  """A seed from 2**32 would repeat the keys of a smaller one."""
  last = classifier_seeds(config)[-1]
  if last >= 2**32:
    raise BadInputError(
      f'config.train.num_seeds is {config.train.num_seeds}: the last seed of a classifier is {last}, '
      f'expected at most {2**32 - 1}'
    )


def check_rules(config: ConfigDict) -> None:
  """Raises `BadInputError` for a value that is wrong by itself; jax is not used."""
  values = flatten(config.to_dict())
  for key, (accepts, expected) in RULES.items():
    if not accepts(values[key]):
      raise BadInputError(f'config.{key} is {values[key]!r}, expected {expected}')


def check_parts(config: ConfigDict) -> None:
  """Minibatches must be whole numbers of parts, and parts of the discriminator whole numbers of groups."""
  train, generator = config.train, config.generator
  check_part('train.micro_batch', train.micro_batch, train.batch_size)
  if has_path_length(generator) and generator.batch_size // parallel.num_devices() % 2:
    raise BadInputError(
      f'config.generator.batch_size is {generator.batch_size}, expected an even number of images on each of '
      f'{parallel.num_devices()} devices: path lengths are of every second one'
    )
  sizes, parts = generator.batch_sizes, generator.micro_batches
  for i in range(min((len(given) for given in (sizes, parts) if given), default=1)):
    key = f'generator.micro_batches[{i}]' if parts else 'generator.micro_batch'
    part = parts[i] if parts else generator.micro_batch
    check_part(key, part, sizes[i] if sizes else generator.batch_size)
    of_all = part * parallel.num_devices()
    if of_all > STDDEV_GROUP and of_all % STDDEV_GROUP:
      raise BadInputError(
        f'config.{key} is {part}, {of_all} on all devices, expected a multiple of {STDDEV_GROUP} there, or '
        f'less: the discriminator compares groups of {STDDEV_GROUP} images'
      )


def check_part(key: str, part: int, batch_size: int) -> None:
  """Raises `BadInputError` if the part size named `key` does not divide the batch of a device."""
  own = batch_size // parallel.num_devices()
  if part and own % part:
    raise BadInputError(
      f'config.{key} is {part}, expected 0 or a divisor of {own}, the images of a minibatch on each device'
    )


def split_names(config: ConfigDict) -> None:
  """Lets lists of names be written `a,b` on the command line, as well as `('a', 'b')`."""
  for owner, key in (
    (config, 'stages'),
    (config.train, 'methods'),
    (config.diagnose, 'methods'),
    (config.encode, 'feature_layers'),
  ):
    value = owner[key]
    parts = [value] if isinstance(value, str) else value
    owner[key] = tuple(name.strip() for part in parts for name in str(part).split(',') if name.strip())
