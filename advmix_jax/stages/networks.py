"""The networks of a run: as the configuration describes them, or as in a folder; no data is read."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from advmix_jax.interop import generator_folder
from advmix_jax.models.architectures import ARCHITECTURES
from advmix_jax.models.classifier import make_classifier
from advmix_jax.models.decoder import generator_decoder, init_generator
from advmix_jax.models.discriminator import init_discriminator
from advmix_jax.training.classifier import create_train_state
from advmix_jax.types import Array, Decoder, PyTree, TrainState

Module = Any  # A Flax module.
CHANNELS = 3  # Of all images.


class Networks:
  """Modules and functions without weights.

  Attributes:
    config: the resolved configuration.
    generator_model, discriminator_model, classifier_model: Flax modules; no discriminator where
      `generator.path` has none.
    classifier_tx: its optimiser.
    decoder: the generator cut at the mixing level, with images as the classifier sees them.
    encode_decoder: the same with images as Algorithm 1 compares them.
    encode_resolution: their side in pixels.
  """

  def __init__(self, config: ConfigDict, adopted: Path, num_classes: int, generator_classes: int):
    """Args:
    config: of the run.
    adopted: the run's own copy of `generator.path`, used instead once it is there.
    num_classes: that the classifier tells apart.
    generator_classes: of the generator's data.
    """
    self.config = config
    self.generator_model, self.discriminator_model = make_networks(config, adopted, generator_classes)
    self.encode_resolution: int = config.encode.resolution or self.generator_model.resolution
    decoder_of = functools.cache(
      functools.partial(generator_decoder, self.generator_model, config.attack.mixing_level, None)
    )
    self.decoder: Decoder = decoder_of(config.data.resolution)
    self.encode_decoder: Decoder = decoder_of(self.encode_resolution)
    self.classifier_model = make_classifier(
      config.train.classifier, tuple(config.train.fmaps), num_classes, compute_dtype(config)
    )
    self.classifier_tx = optax.adam(config.train.learning_rate)

  @property
  def image_shape(self) -> tuple[int, int, int]:
    """Of what the classifier sees."""
    return self.config.data.resolution, self.config.data.resolution, CHANNELS

  @functools.cached_property
  def generator_shapes(self) -> PyTree:
    """Shapes of the decoder's parameters, as a template for reading them."""
    return shapes(init_generator, self.generator_model)

  @functools.cached_property
  def discriminator_shapes(self) -> PyTree:
    """Shapes of the discriminator's parameters."""
    size = self.generator_model.resolution
    return shapes(init_discriminator, self.discriminator_model, (size, size, CHANNELS))

  @functools.cached_property
  def classifier_shapes(self) -> TrainState:
    """Shapes of a classifier and what trains it."""
    return shapes(self.create_classifier)

  def create_classifier(self, key: Array) -> TrainState:
    """A fresh classifier. The key is consumed."""
    return create_train_state(
      key, self.classifier_model, self.image_shape, self.classifier_tx, ema=self.config.train.ema_decay > 0
    )

  @functools.cached_property
  def classify(self):
    """`(params, images [B, H, W, C] in [-1, 1]) -> logits [B, K]`; one function per process."""
    return lambda params, images: self.classifier_model.apply({'params': params}, images)


def jit_init(init_fn: Callable[..., PyTree]) -> Callable[..., PyTree]:
  """`jax.jit` for what draws parameters: it runs once, and on a CPU LLVM's optimisations would take six times
  as long as compiling it without."""
  options = {'xla_backend_optimization_level': 0} if jax.default_backend() == 'cpu' else None
  return jax.jit(init_fn, compiler_options=options)


def shapes(init_fn: Callable[..., PyTree], *args: PyTree) -> PyTree:
  """Shapes and dtypes of `init_fn(key, *args)`, as a template for reading it; nothing is computed."""
  return jax.eval_shape(lambda key: init_fn(key, *args), jax.random.key(0))


def compute_dtype(config: ConfigDict) -> jnp.dtype:
  """What `precision` asks of convolutions and activations."""
  return jnp.dtype(config.precision)


def make_networks(config: ConfigDict, adopted: Path, num_classes: int) -> tuple[Module, Module]:
  """Both networks, without weights. The discriminator is None where `generator.path` has none.

  Args:
    config: of the run.
    adopted: the run's own copy of `generator.path`, used instead once it is there.
    num_classes: of the generator's data.
  """
  modules = build_networks(config.generator, adopted, num_classes)
  generator, discriminator = (m and m.clone(dtype=compute_dtype(config), remat=config.remat) for m in modules)
  return generator, discriminator


def build_networks(generator: ConfigDict, adopted: Path, num_classes: int) -> tuple[Module, Module]:
  """What the networks are, as their description in a folder says it."""
  if generator.path:
    has_copy = (adopted / generator_folder.DESCRIPTION).exists()
    return generator_folder.load_modules(adopted if has_copy else Path(generator.path))
  architecture = ARCHITECTURES[generator.architecture]
  assert architecture.discriminator is not None  # `config_check` lets no other be trained.
  both: dict[str, Any] = {
    'fmaps': tuple(generator.fmaps),
    'label_size': num_classes if generator.conditional else 0,
  }
  if generator.architecture == 'stylegan1':
    both['structure'] = generator.structure
  keys = ('latent_size', 'w_size', 'mapping_layers', 'mapping_lr_multiplier')
  of_generator = {key: generator[key] for key in keys}
  return architecture.generator(**of_generator, **both), architecture.discriminator(**both)
