"""What all diagnostics look at: images and latents drawn by the run's seed, and programs compiled once."""

import functools
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from advmix_jax import batched, interruption, mixing, parallel
from advmix_jax.data import subsets
from advmix_jax.evaluation import predictions
from advmix_jax.ranges import to_uint8
from advmix_jax.stages.encoded import load_latents
from advmix_jax.stages.experiment import Experiment
from advmix_jax.types import PyTree

_STREAM = 31  # Of random numbers, so that no two draws of one seed are the same.


class Examples(NamedTuple):
  """Images with their latents.

  Attributes:
    images: `[N, H, W, 3]` uint8, the originals.
    labels: `[N]` int32.
    w: `[N, L, D]` float32.
  """

  images: np.ndarray
  labels: np.ndarray
  w: np.ndarray


class Subject:
  """A run as it is diagnosed. What another stage has not made yet raises `BadInputError` where it is needed.

  Attributes:
    experiment: of the run.
    settings: `config.diagnose`.
    folder: where numbers and figures go.
    batch_size: images that a device decodes or attacks at a time.
  """

  def __init__(self, experiment: Experiment):
    self.experiment = experiment
    self.settings = experiment.config.diagnose
    self.folder = experiment.workdir.path / 'diagnostics'
    self.batch_size = max(1, experiment.config.evaluate.batch_size // parallel.num_devices())
    self.latents = functools.cache(functools.partial(load_latents, experiment))
    decoder, classify = experiment.decoder, experiment.classify
    self._predict = jax.jit(functools.partial(predictions, classify))
    self._draw_w = jax.jit(
      lambda params, keys: decoder.map_z(
        params, mixing.draw_z(keys, decoder.latent_size, experiment.config.attack.typical_delta)
      )
    )
    self._mix = jax.jit(
      lambda params, w, other, level: to_uint8(
        decoder.decode(params, jnp.where(jnp.arange(decoder.num_layers)[None, :, None] < level, w, other))
      )
    )

  @functools.cached_property
  def generator(self) -> PyTree:
    """Parameters of the decoder."""
    return self.experiment.load_generator()

  @property
  def attacked_part(self) -> str:
    """Name of the split that is evaluated."""
    return str(self.experiment.config.evaluate.split)

  @property
  def has_latents(self) -> bool:
    """Whether the stage encode is done."""
    return all(self.experiment.latents_file(part).exists() for part in ('train', self.attacked_part))

  @functools.cached_property
  def methods(self) -> tuple[str, ...]:
    """The methods whose classifiers are measured, in the order of `diagnose.methods`."""
    trained = tuple(self.experiment.config.train.methods)
    return tuple(name for name in self.settings.methods if name in trained) or trained[:1]

  def classifier_file(self, method: str) -> Path:
    """Of a method's classifier that is measured: of several seeds, the first's."""
    return self.experiment.classifier_file(self.experiment.classifiers(method)[0])

  def classifier(self, method: str) -> PyTree:
    """Parameters of a method's classifier; of several seeds, of the first."""
    return self.experiment.load_classifier(self.experiment.classifiers(method)[0])

  def drawn(self, labels: np.ndarray, count: int, name: str) -> np.ndarray:
    """Positions of up to `count` examples, ascending, as evenly by class as there are."""
    names = ('train', 'attacked', 'strength')
    rng = np.random.default_rng((_STREAM, self.experiment.config.seed, names.index(name)))
    return subsets.balanced(labels, min(count, len(labels)), rng)

  @functools.cached_property
  def train_positions(self) -> np.ndarray:
    """Training images that are looked at, at most half of them: a reference learns from the others alone."""
    labels = self.experiment.splits.train.labels
    return self.drawn(labels, min(self.settings.num_images, len(labels) // 2), 'train')

  @functools.cached_property
  def train(self) -> Examples:
    """Those images."""
    at, train = self.train_positions, self.experiment.splits.train
    return Examples(train.images[at], train.labels[at], np.asarray(self.latents('train').w)[at])

  @functools.cached_property
  def attacked(self) -> Examples:
    """All images that are attacked."""
    at, part = self.experiment.attacked_positions, self.experiment.evaluated
    return Examples(part.images[at], part.labels[at], np.asarray(self.latents(self.attacked_part).w))

  @functools.cached_property
  def test_positions(self) -> np.ndarray:
    """Among the attacked images, those that are looked at."""
    labels = self.experiment.evaluated.labels[self.experiment.attacked_positions]
    return self.drawn(labels, self.settings.num_images, 'attacked')

  @functools.cached_property
  def test(self) -> Examples:
    """Those images."""
    return Examples(*(x[self.test_positions] for x in self.attacked))

  def fresh(self, name: str, count: int) -> np.ndarray:
    """`map(z) [count, L, D]` for fresh z; other names give independent draws."""
    keys = jax.random.split(self.experiment.key(f'diagnose/{name}'), count)

    def draw(at: np.ndarray) -> np.ndarray:
      interruption.check()
      return np.asarray(self._draw_w(self.generator, keys[at]))

    return batched.in_batches(draw, np.arange(count), self.batch_size)

  def mixed(self, w: np.ndarray, other: np.ndarray, level: int) -> np.ndarray:
    """Images `[N, H, W, 3]` uint8 with the first `level` rows of `w [N, L, D]` and the rest of `other`.

    Level L is the reconstruction of `w`. Every level runs the same program.
    """

    def mix_batch(at: np.ndarray) -> np.ndarray:
      interruption.check()
      return np.asarray(self._mix(self.generator, w[at], other[at], jnp.int32(level)))

    return batched.in_batches(mix_batch, np.arange(len(w)), self.batch_size)

  def decoded(self, w: np.ndarray) -> np.ndarray:
    """Reconstructions."""
    return self.mixed(w, w, self.experiment.decoder.num_layers)

  def random_mixes(self, examples: Examples, name: str, level: int) -> np.ndarray:
    """Eq. 17 at any level: `num_draws` for each example, `[num_draws, N, H, W, 3]` uint8.

    The draws of a name are the same for all levels.
    """
    return np.stack(
      [
        self.mixed(examples.w, self.fresh(f'{name}/{draw}', len(examples.w)), level)
        for draw in range(self.settings.num_draws)
      ]
    )

  def predict(self, classifier: PyTree, images: np.ndarray) -> np.ndarray:
    """What a classifier of the run sees in `[N, H, W, 3]` uint8 images: `[N]` int."""

    def predict_batch(images: np.ndarray) -> np.ndarray:
      interruption.check()
      return np.asarray(self._predict(classifier, images))

    return batched.in_batches(predict_batch, images, self.batch_size)
