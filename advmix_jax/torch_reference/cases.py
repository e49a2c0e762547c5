"""`bench.reference_cases` in PyTorch: built from the same arguments, as fast as PyTorch makes them."""

import functools
import os
import shutil
import statistics
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import torch
from torch import Tensor, nn

from advmix_jax import mixing
from advmix_jax.bench import reference_cases
from advmix_jax.bench.timing import Fastest, Run, in_turns
from advmix_jax.torch_reference import algorithms, networks
from advmix_jax.types import PyTree

TURNS = 3  # Of each variant, to find the fastest.


class Variant(NamedTuple):
  """How PyTorch runs a case.

  Attributes:
    channels_last: layout of images and kernels.
    compiled: by torch.compile.
  """

  channels_last: bool = False
  compiled: bool = False

  def module(self, module: Any) -> Any:
    return module.to(memory_format=torch.channels_last) if self.channels_last else module

  def images(self, images: PyTree) -> Tensor:
    """`[B, H, W, C]` as `[B, C, H, W]`."""
    layout = torch.channels_last if self.channels_last else torch.contiguous_format
    return tensor(images).permute(0, 3, 1, 2).contiguous(memory_format=layout)

  def wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
    return torch.compile(function) if self.compiled else function

  def generator(self, params: PyTree) -> networks.Generator:
    """From the parameters of a decoder."""
    return self.module(networks.Generator(params['params'], params['noise']))

  def discriminator(self, params: PyTree) -> networks.Discriminator:
    return self.module(networks.Discriminator(params))

  def classifier(self, params: PyTree, resolution: int) -> nn.Module:
    kind = networks.CNN if 'conv_0' in params else networks.LinearClassifier
    return self.module(kind(params, resolution))


VARIANTS = {
  'eager': Variant(),
  'channels_last': Variant(channels_last=True),
  'compile': Variant(compiled=True),
}


def tensor(array: PyTree) -> Tensor:
  return torch.tensor(np.asarray(array))


def draw_z(keys: jax.Array, count: int, latent_size: int) -> Tensor:
  """The z `[count, B, Z]` that keys `[B]`, folded with 0, 1, ... give."""
  fold = jax.vmap(jax.random.fold_in, in_axes=(0, None))
  return torch.stack([tensor(mixing.draw_z(fold(keys, i), latent_size)) for i in range(count)])


def attack(select: str, case: reference_cases.Case, sizes: reference_cases.Networks, variant: Variant) -> Run:
  """`select` as for `attack.objective`; in evaluation one batch after the other, each until it is broken."""
  classifier_params, params, keys, batch = case.arguments
  program = algorithms.Attack(
    variant.generator(params),
    variant.classifier(classifier_params, batch.images.shape[1]),
    mixing_level=sizes.mixing_level,
    epsilon=reference_cases.EPSILON,
    num_steps=case.settings['steps'],
    step_size=reference_cases.STEP_SIZE,
    through_uint8=select == 'first_error',
    wrap=variant.wrap,
  )
  z = draw_z(keys, case.settings['restarts'], sizes.w_size)
  w, labels = tensor(batch.latents), tensor(batch.labels).long()
  if select == 'highest_loss':
    return lambda: program.highest_loss(w, labels, z)
  size = sizes.batch_size
  batches = list(zip(w.split(size), labels.split(size), z.split(size, dim=1), strict=True))
  return lambda: torch.cat([program.first_error(*batch) for batch in batches])


def encoder(case: reference_cases.Case, sizes: reference_cases.Networks, variant: Variant) -> Run:
  params, feature_params, keys, images, start = case.arguments
  s = reference_cases.ENCODE
  program = algorithms.Encoder(
    variant.generator(params),
    variant.discriminator(feature_params['params']),
    mixing_level=sizes.mixing_level,
    learning_rate=lambda n: s.learning_rate if n < 3 * s.num_steps // 4 else s.final_learning_rate,
    pixel_weight=s.pixel_weight,
    feature_weight=s.feature_weight,
    mixing_weight=s.mixing_weight,
    wrap=variant.wrap,
  )
  z = draw_z(keys, s.num_steps, sizes.w_size)
  targets, w = variant.images(images), tensor(start)
  return lambda: program(targets, w, z)


def gan(case: reference_cases.Case, sizes: reference_cases.Networks, variant: Variant) -> Run:
  state, batch = case.arguments
  s = reference_cases.GAN
  program = algorithms.GanTraining(
    variant.generator({'params': state.generator, 'noise': state.noise}),
    variant.discriminator(state.discriminator),
    learning_rate=reference_cases.LEARNING_RATE,
    betas=reference_cases.GAN_BETAS,
    r1_weight=0.5 * s.r1_gamma * s.r1_interval * case.settings['r1'],
    style_mixing_prob=s.style_mixing_prob,
    ema_decay=s.ema_decay,
    wrap=variant.wrap,
  )
  images = variant.images(batch.images)
  return lambda: program.step(images)


def classifier(case: reference_cases.Case, sizes: reference_cases.Networks, variant: Variant) -> Run:
  state, batch = case.arguments
  program = algorithms.ClassifierTraining(
    variant.classifier(state.params, batch.images.shape[1]),
    learning_rate=reference_cases.LEARNING_RATE,
    wrap=variant.wrap,
  )
  images, labels = variant.images(batch.images), tensor(batch.labels).long()
  return lambda: program.step(images, labels)


BUILDERS: dict[str, Callable[[reference_cases.Case, reference_cases.Networks, Variant], Run]] = {
  'gan_step': gan,
  'gan_step_r1': gan,
  'encoder_step': encoder,
  'attack_train_cnn': functools.partial(attack, 'highest_loss'),
  'attack_train_linear': functools.partial(attack, 'highest_loss'),
  'attack_eval_cnn': functools.partial(attack, 'first_error'),
  'classifier_step': classifier,
}


def fastest(name: str, case: reference_cases.Case, sizes: reference_cases.Networks) -> Fastest:
  """The fastest variant of a case; each is warmed up, then they are timed in turns."""
  runs: dict[str, Run] = {}
  tried: dict[str, float | str] = {}
  for kind, variant in VARIANTS.items():
    if variant.compiled and not has_compiler():
      tried[kind] = 'found no C++ compiler'
      continue
    torch.compiler.reset()
    run = BUILDERS[name](case, sizes, variant)
    try:
      run()
    except RuntimeError as error:
      if not variant.compiled:
        raise
      tried[kind] = f'{type(error).__name__}: {error}'.splitlines()[0]
      continue
    runs[kind] = run
  for kind, seconds in zip(runs, in_turns(list(runs.values()), TURNS), strict=True):
    tried[kind] = statistics.median(seconds)
  best = min(runs, key=lambda kind: tried[kind])
  return Fastest(runs[best], best, tried)


def has_compiler() -> bool:
  return any(shutil.which(name) for name in (os.environ.get('CXX', 'c++'), 'g++', 'clang++'))


def matmul(size: int) -> Run:
  """A product of two matrices."""
  x = torch.ones(size, size)
  return lambda: x @ x


def environment() -> dict[str, Any]:
  return {'version': torch.__version__, 'threads': torch.get_num_threads()}
