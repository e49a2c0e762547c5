"""What all stages of a run share, built once per process: data, networks, keys, paths."""

import functools
import zlib
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import optax
from ml_collections import ConfigDict

from advmix_jax import data
from advmix_jax.interop.weights import load_tree
from advmix_jax.models.classifier import make_classifier
from advmix_jax.models.decoder import generator_decoder, init_generator
from advmix_jax.models.discriminator import init_discriminator
from advmix_jax.stages.networks import compute_dtype, make_networks
from advmix_jax.training.classifier import create_train_state
from advmix_jax.types import Array, BadInputError, Dataset, Decoder, PyTree, Splits, TrainState
from advmix_jax.workdir import Workdir

CHANNELS = 3  # Of all images.


class Experiment:
  """A configuration made concrete.

  Attributes:
    config: the resolved configuration.
    workdir: the opened run folder.
    splits: the data.
    generator_model, discriminator_model, classifier_model: Flax modules; no discriminator where
      `generator.path` has none.
    decoder: the generator cut at the mixing level, with images as the classifier sees them.
    encode_decoder: the same with images as Algorithm 1 compares them.
  """

  def __init__(self, workdir: Workdir):
    config: ConfigDict = workdir.config
    self.config = config
    self.workdir = workdir
    self.splits: Splits = data.load(config)
    self.generator_model, self.discriminator_model = make_networks(
      config, self.generator_file.parent, self.splits.generator.num_classes
    )
    self.encode_resolution: int = config.encode.resolution or self.generator_model.resolution
    decoder_of = functools.cache(
      functools.partial(generator_decoder, self.generator_model, config.attack.mixing_level, None)
    )
    self.decoder: Decoder = decoder_of(config.data.resolution)
    self.encode_decoder: Decoder = decoder_of(self.encode_resolution)
    self.classifier_model = make_classifier(
      config.train.classifier,
      tuple(config.train.fmaps),
      self.splits.train.num_classes,
      compute_dtype(config),
    )
    self.classifier_tx = optax.adam(config.train.learning_rate)
    self._init_classifier = jax.jit(self._create_classifier)  # Compiled once for all methods.

  @property
  def image_shape(self) -> tuple[int, int, int]:
    return self.splits.train.images.shape[1:]

  @functools.cached_property
  def encode_splits(self) -> Splits:
    """The same examples as Algorithm 1 compares them."""
    same = self.encode_resolution == self.config.data.resolution
    return self.splits if same else data.load(self.config, self.encode_resolution)

  @property
  def generator_file(self) -> Path:
    return self.workdir.path / 'gan' / 'generator.safetensors'

  @property
  def discriminator_file(self) -> Path:
    return self.workdir.path / 'gan' / 'discriminator.safetensors'

  def classifier_file(self, method: str) -> Path:
    return self.workdir.path / 'train' / method / 'classifier.safetensors'

  def latents_file(self, part: str) -> Path:
    return self.workdir.path / 'encode' / part / 'manifest.json'

  def key(self, name: str) -> Array:
    """The key of a stage or of something in it; other names give independent keys."""
    return jax.random.fold_in(jax.random.key(self.config.seed), zlib.crc32(name.encode()))

  def load_generator(self) -> PyTree:
    """The trained generator's decoder parameters."""
    require(self.generator_file, 'train_gan')
    return load_tree(self.generator_file, shapes(init_generator, self.generator_model))

  def load_discriminator(self) -> PyTree:
    """The trained discriminator's parameters."""
    require(self.discriminator_file, 'train_gan')
    return load_tree(self.discriminator_file, self.discriminator_shapes())

  def discriminator_shapes(self) -> PyTree:
    """Shapes of the discriminator's parameters."""
    size = self.generator_model.resolution
    return shapes(init_discriminator, self.discriminator_model, (size, size, CHANNELS))

  def new_classifier(self, *, with_generator: bool) -> TrainState:
    """A fresh classifier. All methods start from the same parameters and see the same order of images."""
    state = self._init_classifier(self.key('classifier'))
    if with_generator:
      state = state.replace(decoder=self.decoder, generator=self.load_generator())
    return state

  def _create_classifier(self, key: Array) -> TrainState:
    return create_train_state(
      key, self.classifier_model, self.image_shape, self.classifier_tx, ema=self.config.train.ema_decay > 0
    )

  @functools.cached_property
  def classify(self):
    """`(params, images [B, H, W, C] in [-1, 1]) -> logits [B, K]`; one function per process."""
    return lambda params, images: self.classifier_model.apply({'params': params}, images)

  def load_classifier(self, method: str) -> PyTree:
    """The trained parameters that are evaluated."""
    require(self.classifier_file(method), 'train')
    return load_tree(self.classifier_file(method), shapes(self._create_classifier).params)

  @functools.cached_property
  def evaluated(self) -> Dataset:
    """The split that accuracy is measured on."""
    return getattr(self.splits, self.config.evaluate.split)

  @functools.cached_property
  def attacked_positions(self) -> np.ndarray:
    """Which examples of the evaluated split are attacked, ascending; drawn by `data.split_seed`.

    Raises:
      BadInputError: if there are not as many, or none of some class.
    """
    total = len(self.evaluated)
    wanted = self.config.evaluate.num_examples or total
    if wanted > total:
      raise BadInputError(
        f'config.evaluate.num_examples is {wanted}, expected at most the {total} images there are'
      )
    rng = np.random.default_rng((self.config.data.split_seed, total))
    positions = np.sort(rng.choice(total, wanted, replace=False))
    missing = set(range(self.evaluated.num_classes)) - set(self.evaluated.labels[positions].tolist())
    if missing:
      raise BadInputError(
        f'config.evaluate.num_examples is {wanted}: found no {self.config.evaluate.split} image of the '
        f'classes {sorted(missing)} among them, expected some of each'
      )
    return positions


def shapes(init_fn: Callable[..., PyTree], *args: PyTree) -> PyTree:
  """Shapes and dtypes of `init_fn(key, *args)`, as a template for reading it; nothing is computed."""
  return jax.eval_shape(lambda key: init_fn(key, *args), jax.random.key(0))


def require(path: Path, stage: str) -> None:
  """Raises `BadInputError` if what another stage makes is not there yet."""
  if not path.exists():
    raise BadInputError(f'{path} is missing: run the stage {stage} first')
