"""Configurations: each file is whole and stands the checks; each bad value is named before any work."""

import importlib
import math
import re

import jax
import jax.numpy as jnp
import pytest
from ml_collections import ConfigDict

from advmix_jax import config_check, parallel
from advmix_jax.config_check import ABOVE_0, AT_LEAST_0, COUNT, COUNT_FROM_1, RULES, SHARE, WIDTHS
from advmix_jax.config_keys import flatten
from advmix_jax.models.discriminator import Discriminator
from advmix_jax.types import BadInputError
from configs import default


def load(name: str, variant: str | None = None) -> ConfigDict:
  arguments = () if variant is None else (variant,)
  return importlib.import_module(f'configs.{name}').get_config(*arguments)


def changed(changes: dict, name: str = 'digits') -> ConfigDict:
  config = load(name)
  config.update_from_flattened_dict(changes)
  return config


def complaint(config: ConfigDict) -> str:
  with pytest.raises(BadInputError) as error:
    config_check.check_config(config)
  text = str(error.value)
  assert len(text.splitlines()) == 1
  return text


def test_every_key_has_a_rule():
  """`data.*` and `seed` are checked with the data, names of stages and methods against their tables."""
  values = flatten(default.get_config().to_dict())
  elsewhere = {key for key in values if key.startswith('data.')} | {
    'seed',
    'stages',
    'train.methods',
    'diagnose.methods',
  }
  elsewhere |= {'encode.vgg16_weights', 'generator.path'}  # Checked together with what they replace.
  flags = {key for key, value in values.items() if isinstance(value, bool)}
  assert set(RULES) == set(values) - elsewhere - flags


BAD_BY_RULE = {
  AT_LEAST_0: (-0.01, math.nan, math.inf),
  ABOVE_0: (0.0, -1.0, math.nan, math.inf),
  COUNT: (-1,),
  COUNT_FROM_1: (0, -1),
  SHARE: (-0.1, 1.1, math.nan),
  WIDTHS: ((), (8, 0, 8), (8, -8, 8), (8, 'a', 8), (8, 1.5, 8)),
}
BAD_BY_KEY = {
  'generator.batch_size': (0, -4, 6),
  'generator.batch_sizes': ((8, 8, 6), (8, 0, 8), (8, 8.0, 8)),
  'generator.micro_batches': ((4, -1, 0), (4.0,)),
  'generator.learning_rates': ((1e-3, 0.0, 1e-3), (-1.0,), (math.nan,)),
  'train.fmaps': ((16, 16, 32), (16, 16, 32, 0), ()),
  'train.ema_decay': (1.0, -0.1, math.nan),
  'encode.feature_layers': ((4,),),
  'encode.tolerance': (1.0, -0.1, math.nan),
  'encode.resolution': (4, 12, -8),
  'encode.layer_weights': ((-1.0,), (math.nan, 1.0), ('a',)),
  'cutout.size': (-1,),
  'train.seed': (-2,),
  'diagnose.reference': ('',),
  'diagnose.restarts': ((), (1, 0), (1.5,)),
  'diagnose.steps': ((), (-1,), (2.5,)),
  'diagnose.epsilons': ((), (0.03, -0.1), (math.nan,)),
}


def bad_values() -> list[tuple[str, object]]:
  """Of every key with a rule; those that choose among names share one."""
  return [
    (key, value)
    for key, rule in RULES.items()
    for value in BAD_BY_KEY.get(key) or BAD_BY_RULE.get(rule) or ('sideways',)
  ]


@pytest.mark.parametrize('key, value', bad_values())
def test_a_bad_value_is_named_with_what_is_expected(key, value):
  text = complaint(changed({key: value}))
  assert text == f'config.{key} is {value!r}, expected {RULES[key][1]}'


@pytest.mark.parametrize(
  'changes, found, expected',
  [
    ({'seed': -1}, 'config.seed: found -1', 'a number from 0 to 4294967295'),
    ({'seed': 2**32}, 'config.seed: found 4294967296', 'a number from 0 to 4294967295'),
    (
      {'train.seed': 2**32 - 2, 'train.num_seeds': 3},
      'config.train.num_seeds is 3: the last seed of a classifier is 4294967296',
      'at most 4294967295',
    ),
    (
      {'generator.conditional': True, 'attack.typical_delta': 1.0},
      'config.attack.typical_delta is 1.0',
      '0 with a conditional generator',
    ),
    ({'data.name': 'cifar'}, 'config.data.name: found cifar', 'one of digits'),
    ({'data.resolution': 20}, 'config.data.resolution: found 20', 'a power of two from 8'),
    ({'data.sigma': math.nan}, 'config.data.sigma: found nan', 'a number from 0'),
    (
      {'data.generator_classes': (0.2,) * 10},
      'config.data.generator_classes: found .*which sum to 2',
      '10 shares from 0 that sum to 1',
    ),
    (
      {'generator.fmaps': (48, 32)},
      'config.generator.fmaps has 2 entries, for images of 8 pixels; config.data.resolution is 16',
      'one entry for each of 4, 8, ... 16 pixels',
    ),
    ({'data.resolution': 32}, 'config.generator.fmaps has 3 entries', 'one entry for each of 4, 8, ... 32'),
    (
      {'generator.architecture': 'stylegan2', 'generator.structure': 'linear'},
      "config.generator.structure is 'linear'",
      'fixed: config.generator.architecture=stylegan2 does not grow',
    ),
    (
      {'generator.batch_sizes': (8, 8)},
      'config.generator.batch_sizes has 2 entries',
      'none, or one for each of 4, 8, 16 pixels',
    ),
    (
      {'generator.learning_rates': (1e-3,) * 4},
      'config.generator.learning_rates has 4 entries',
      'none, or one for each of 4, 8, 16 pixels',
    ),
    (
      {'generator.structure': 'linear', 'generator.initial_resolution': 32},
      'config.generator.initial_resolution is 32',
      'one of 4, 8, 16',
    ),
    (
      {'generator.structure': 'linear', 'generator.initial_resolution': 4},
      'config.generator.total_kimg is 90.0',
      'at least 2400, when 16 pixels are reached',
    ),
    (
      {'generator.micro_batches': (8, 8)},
      'config.generator.micro_batches has 2 entries',
      'none, or one for each of 4, 8, 16 pixels',
    ),
    ({'train.micro_batch': 5}, 'config.train.micro_batch is 5', '0 or a divisor of 32, the images of'),
    ({'train.micro_batch': 64}, 'config.train.micro_batch is 64', '0 or a divisor of 32'),
    ({'generator.micro_batch': 3}, 'config.generator.micro_batch is 3', '0 or a divisor of 8'),
    (
      {'generator.micro_batches': (4, 0, 5)},
      r'config.generator.micro_batches\[2\] is 5',
      '0 or a divisor of 8',
    ),
    (
      {'generator.micro_batch': 8, 'generator.batch_sizes': (16, 16, 8)},
      'config.generator.micro_batch is 8',
      '0 or a divisor of 4',
    ),
    (
      {'generator.micro_batch': 3, 'generator.batch_size': 12},
      'config.generator.micro_batch is 3, 6 on all devices',
      'a multiple of 4 there, or less: the discriminator compares groups of 4',
    ),
    ({'attack.mixing_level': 6}, 'config.attack.mixing_level is 6', '1 to 5'),
    ({'generator.style_mixing_level': 6}, 'config.generator.style_mixing_level is 6', '0 to 5'),
    ({'encode.init_fmaps': (8,) * 6}, 'config.encode.init_fmaps has 6 entries', 'at most 5'),
    (
      {'encode.feature_layers': ('block_8', 'block_32')},
      'config.encode.feature_layers: found block_32',
      'some of block_16, block_8, block_4',
    ),
    (
      {'encode.features': 'vgg16', 'encode.feature_layers': ('block_8',)},
      'config.encode.feature_layers: found block_8',
      'some of block1_conv1, block1_conv2',
    ),
    (
      {'encode.features': 'vgg16', 'encode.feature_layers': ('block5_conv1',), 'encode.vgg16_resize': 15},
      'config.encode.vgg16_resize is 15, for images of 15 pixels',
      'at least 16 for the layers block5_conv1',
    ),
    ({'encode.features': 'vgg16'}, "config.encode.vgg16_weights is ''", 'the path of a file of weights'),
    (
      {'encode.features': 'vgg16', 'encode.vgg16_weights': 'none.npz'},
      'config.encode.vgg16_weights: none.npz: found no such file',
      'arrays as .npz, .safetensors, torch .pth or Keras .h5',
    ),
    (
      {'encode.layer_weights': (1.0, 1.0)},
      'config.encode.layer_weights has 2 entries',
      'none or one for each of the layers block_16, block_8, block_4',
    ),
    (
      {'train.methods': ('nominal', 'mixmix')},
      'config.train.methods: found mixmix',
      'some of nominal, mixup',
    ),
    ({'train.methods': ()}, 'config.train.methods: found none', 'some of nominal, mixup'),
  ],
  ids=lambda value: next(iter(value)) if isinstance(value, dict) else '',
)
def test_values_that_do_not_fit_each_other_are_named(changes, found, expected):
  before, after = complaint(changed(changes)).split(', expected ', 1)
  assert re.match(found, before), before
  assert after.startswith(expected), after


@pytest.mark.parametrize(
  'key', ['encode.init_batch_size', 'encode.batch_size', 'train.batch_size', 'evaluate.batch_size']
)
def test_a_batch_must_be_shared_evenly_by_the_devices(key):
  assert jax.local_device_count() == 2
  assert complaint(changed({key: 63})) == f'config.{key} is 63, expected a multiple of the 2 devices'
  config_check.check_config(changed({key: 62}))


def test_path_lengths_take_every_second_image_of_a_device(monkeypatch):
  monkeypatch.setattr(parallel, 'num_devices', lambda: 4)
  config = changed({'generator.architecture': 'stylegan2', 'generator.batch_size': 12})
  assert complaint(config).startswith(
    'config.generator.batch_size is 12, expected an even number of images on'
  )
  config.generator.path_length_weight = 0.0
  config_check.check_config(config)


@pytest.mark.parametrize(
  'key, value, expected',
  [
    ('num_points', 0, 'at least 1'),
    ('num_samples', -3, 'at least 1'),
    ('par_sd', 0.0, 'a positive number'),
    ('perp_sd', math.inf, 'a positive number'),
    ('par_step', math.nan, 'a positive number'),
    ('perp_step', -1.0, 'a positive number'),
  ],
)
def test_bad_values_of_the_toy_are_named(key, value, expected):
  text = complaint(changed({f'toy.{key}': value}, 'toy'))
  assert text == f'config.toy.{key} is {value}, expected {expected}'


@pytest.mark.parametrize(
  'changes',
  [
    {'attack.num_steps': 0},  # The worst of some random mixes.
    {'attack.epsilon': 0.0},
    {'attack.mixing_level': 1},
    {'attack.mixing_level': 5},
    {'generator.style_mixing_level': 5},
    {'encode.num_steps': 0},
    {'encode.init_fmaps': (8,) * 5},
    {'encode.features': 'pixel', 'encode.feature_layers': ('unused',)},
    {'generator.r1_gamma': 0.0},
    {'data.resolution': 8, 'generator.fmaps': (8, 8), 'attack.mixing_level': 3},
    {'train.methods': ('advmix',)},
    {'generator.structure': 'linear', 'generator.initial_resolution': 16},
    {'generator.architecture': 'stylegan2', 'generator.path_length_weight': 0.0},
    {'generator.structure': 'linear', 'generator.stable_kimg': 0.0, 'generator.fading_kimg': 90.0},
    {'generator.batch_sizes': (32, 16, 8), 'generator.learning_rates': (1, 2, 3)},
  ],
  ids=str,
)
def test_values_at_the_edge_are_welcome(changes):
  config_check.check_config(changed(changes))


def test_the_layers_that_may_be_named_are_those_of_the_discriminator():
  config = load('digits')
  model = Discriminator(tuple(config.generator.fmaps))
  images = jnp.zeros((4, 16, 16, 3))
  names = jax.eval_shape(lambda: model.init_with_output(jax.random.key(0), images, method='features')[0])
  config.encode.feature_layers = tuple(names)
  config_check.check_config(config)


@pytest.mark.parametrize(
  'given, names',
  [
    (('nominal,at',), ('nominal', 'at')),  # What the command line makes of a,b.
    (('nominal', 'at'), ('nominal', 'at')),
    ((' nominal , at,',), ('nominal', 'at')),
    (('nominal',), ('nominal',)),
    ((), ()),
    ((1,), ('1',)),
  ],
)
@pytest.mark.parametrize('key', ['stages', 'train.methods', 'encode.feature_layers'])
def test_lists_of_names_may_be_written_with_commas(key, given, names):
  config = changed({key: given})
  config_check.split_names(config)
  assert flatten(config.to_dict())[key] == names
