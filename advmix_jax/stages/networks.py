"""The generator and the discriminator of a run: as the configuration describes them, or as in a folder."""

from pathlib import Path
from typing import Any

import jax.numpy as jnp
from ml_collections import ConfigDict

from advmix_jax.interop import generator_folder
from advmix_jax.models.architectures import ARCHITECTURES

Module = Any  # A Flax module.


def make_networks(config: ConfigDict, adopted: Path, num_classes: int) -> tuple[Module, Module]:
  """Both networks, without weights. The discriminator is None where `generator.path` has none.

  Args:
    config: of the run.
    adopted: the run's own copy of `generator.path`, used instead once it is there.
    num_classes: of the generator's data.
  """
  modules = build_networks(config.generator, adopted, num_classes)
  generator, discriminator = (m and m.clone(dtype=compute_dtype(config)) for m in modules)
  return generator, discriminator


def compute_dtype(config: ConfigDict) -> jnp.dtype:
  """What `precision` asks of convolutions and activations."""
  return jnp.dtype(config.precision)


def build_networks(generator: ConfigDict, adopted: Path, num_classes: int) -> tuple[Module, Module]:
  """What the networks are, as their description in a folder says it."""
  if generator.path:
    has_copy = (adopted / generator_folder.DESCRIPTION).exists()
    return generator_folder.load_modules(adopted if has_copy else Path(generator.path))
  architecture = ARCHITECTURES[generator.architecture]
  both: dict[str, Any] = {
    'fmaps': tuple(generator.fmaps),
    'label_size': num_classes if generator.conditional else 0,
  }
  if generator.architecture == 'stylegan1':
    both['structure'] = generator.structure
  sizes = {key: generator[key] for key in ('latent_size', 'w_size', 'mapping_layers')}
  return architecture.generator(**sizes, **both), architecture.discriminator(**both)
