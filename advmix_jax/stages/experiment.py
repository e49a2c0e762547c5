"""What all stages of a run share, built once per process: data, networks, keys, paths."""

import functools
import zlib
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from advmix_jax import data
from advmix_jax.config_keys import classifier_seeds
from advmix_jax.interop.weights import load_tree
from advmix_jax.stages.networks import Networks, jit_init
from advmix_jax.training import seeds
from advmix_jax.types import Array, BadInputError, Dataset, PyTree, Splits, TrainState
from advmix_jax.workdir import Workdir, classifier_names


class Experiment(Networks):
  """A configuration made concrete: its networks, its data and its folder.

  Attributes:
    workdir: the opened run folder.
    splits: the data.
  """

  def __init__(self, workdir: Workdir):
    config: ConfigDict = workdir.config
    self.workdir = workdir
    self.splits: Splits = data.load(config)
    classes = self.splits.train.num_classes, self.splits.generator.num_classes
    super().__init__(config, self.generator_file.parent, *classes)
    self._init_classifier = jit_init(self.create_classifier)  # Compiled once for all methods.

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

  def classifier_file(self, name: str) -> Path:
    return self.workdir.path / 'train' / name / 'classifier.safetensors'

  def latents_file(self, part: str) -> Path:
    return self.workdir.path / 'encode' / part / 'manifest.json'

  def key(self, name: str, seed: int | None = None) -> Array:
    """The key of a stage or of something in it; other names give independent keys. None = the run's seed."""
    chosen = self.config.seed if seed is None else seed
    return jax.random.fold_in(jax.random.key(chosen), zlib.crc32(name.encode()))

  @property
  def train_seeds(self) -> tuple[int, ...]:
    """The seeds of the classifiers of each method."""
    return tuple(classifier_seeds(self.config))

  def classifiers(self, method: str) -> tuple[str, ...]:
    """Names of the classifiers of a method, one for each seed."""
    return classifier_names(method, self.train_seeds)

  def load_generator(self) -> PyTree:
    """The trained generator's decoder parameters."""
    require(self.generator_file, 'train_gan')
    return load_tree(self.generator_file, self.generator_shapes)

  def load_discriminator(self) -> PyTree:
    """The trained discriminator's parameters."""
    require(self.discriminator_file, 'train_gan')
    return load_tree(self.discriminator_file, self.discriminator_shapes)

  def new_classifier(self, *, with_generator: bool) -> TrainState:
    """A fresh classifier, or all seeds in one state (`training.seeds`). All methods start from the same
    parameters and see the same order of images."""
    states = [self._init_classifier(self.key('classifier', seed)) for seed in self.train_seeds]
    state = states[0] if len(states) == 1 else seeds.stack(states)
    if with_generator:
      state = state.replace(decoder=self.decoder, generator=self.load_generator())
    return state

  def load_classifier(self, name: str) -> PyTree:
    """The trained parameters that are evaluated; `name` is one of `classifiers`."""
    require(self.classifier_file(name), 'train')
    return load_tree(self.classifier_file(name), self.classifier_shapes.params)

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


def require(path: Path, stage: str) -> None:
  """Raises `BadInputError` if what another stage makes is not there yet."""
  if not path.exists():
    raise BadInputError(f'{path} is missing: run the stage {stage} first')
