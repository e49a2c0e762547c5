"""Digits with colours: from `config.data` to the four parts of a data set."""

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from advmix_jax.data import colouring, digits, mnist, subsets
from advmix_jax.data.errors import bad_key
from advmix_jax.types import BadInputError, Dataset, Splits

if TYPE_CHECKING:
  import ml_collections

NUM_CLASSES = 10


@dataclasses.dataclass(frozen=True)
class _Pool:
  """Grey images `[N, H, W]` uint8 and labels `[N]` int32 of one source, and the positions one may use."""

  grey: np.ndarray
  labels: np.ndarray
  index: np.ndarray

  def subset(self, positions: np.ndarray) -> '_Pool':
    return dataclasses.replace(self, index=self.index[positions])

  @property
  def used_labels(self) -> np.ndarray:
    return self.labels[self.index]


@dataclasses.dataclass(frozen=True)
class _Source:
  """A data set by name: its size, its smallest resolution, how to read it, and how it is coloured."""

  num_pool: int
  num_test: int
  min_resolution: int
  read: Callable[['ml_collections.ConfigDict', int], tuple[_Pool, _Pool]]
  is_rgb: bool


def load(config: 'ml_collections.ConfigDict', resolution: int) -> Splits:
  """Reads, splits and colours digits.

  Everything is fixed by `config.data.split_seed` (split, test colours, which test images) and `config.seed`
  (training and validation colours, which training images, the generator's data).

  Args:
    config: the whole configuration; `data.*` and `seed` are read.
    resolution: side of the images in pixels.

  Returns:
    The four parts. `validation` is coloured like training, never like the test. `generator` has
    `data.generator_classes` and `data.generator_colours` applied.

  Raises:
    BadInputError: a file is wrong, or a class is left without images.
  """
  data = config.data
  source = SOURCES[data.name]
  pool, test = source.read(config, resolution)
  chosen = subsets.select(config, pool.used_labels, test.used_labels)
  _check_classes(pool.used_labels[chosen.rest])
  train, validation = pool.subset(chosen.train), pool.subset(chosen.validation)
  test, generator = test.subset(chosen.test), pool.subset(chosen.generator)

  if source.is_rgb:
    train_colours = colouring.rgb_train_colours(pool.labels)
    test_colours = colouring.rgb_test_colours(len(test.labels), data.split_seed)
    generator_colours = colouring.rgb_generator_colours(len(pool.labels), data.generator_colours, config.seed)
  else:
    train_colours = colouring.train_colours(pool.labels, mean_colours(config), data.sigma, config.seed)
    test_colours = colouring.test_colours(len(test.labels), data.split_seed)
    generator_colours = train_colours

  train_set = _coloured(train, train_colours)
  same = np.array_equal(generator.index, train.index) and generator_colours is train_colours
  return Splits(
    train=train_set,
    validation=_coloured(validation, train_colours),
    test=_coloured(test, test_colours),
    generator=train_set if same else _coloured(generator, generator_colours),
  )


def recolourer(config: 'ml_collections.ConfigDict', part: Dataset) -> Callable[[np.ndarray, int], np.ndarray]:
  """Gives images of the training pool other colours, which do not depend on the label.

  Args:
    config: the whole configuration, of digits.
    part: `train` or `validation`, as `load` gives it.

  Returns:
    `(positions [B] in the part, draw) -> images [B, H, W, 3]` uint8, in colours drawn as for the test by
    `config.seed` and the number `draw`.
  """
  source = SOURCES[config.data.name]
  grey = source.read(config, config.data.resolution)[0].grey

  def recoloured(positions: np.ndarray, draw: int) -> np.ndarray:
    colours = colouring.independent_colours(len(positions), source.is_rgb, config.seed, draw)
    return colouring.colour_digits(grey[part.index[positions]], colours)

  return recoloured


def check_config(config: 'ml_collections.ConfigDict') -> None:
  """Checks the keys that matter to digits, without reading any file.

  Raises:
    BadInputError: naming the key, what was found and what is expected.
  """
  data = config.data
  source = SOURCES[data.name]
  resolution = data.resolution
  if resolution < source.min_resolution or resolution & (resolution - 1):
    raise bad_key('resolution', resolution, f'a power of two from {source.min_resolution} for {data.name}')
  if not (np.isfinite(data.sigma) and data.sigma >= 0):
    raise bad_key('sigma', data.sigma, 'a number from 0')
  if len(data.mean_colours):
    _check_mean_colours(data.mean_colours)
  if len(data.generator_classes):
    subsets.check_shares('generator_classes', data.generator_classes, NUM_CLASSES)
  if len(data.generator_colours):
    subsets.check_shares('generator_colours', data.generator_colours, 3)
  if source.is_rgb and data.sigma:
    raise bad_key('sigma', data.sigma, f'0: {data.name} has pure colours only')
  if source.is_rgb and len(data.mean_colours):
    raise bad_key('mean_colours', data.mean_colours, f'(): {data.name} has pure red, green and blue')
  if not source.is_rgb and len(data.generator_colours):
    raise bad_key(
      'generator_colours', data.generator_colours, f'(): only the rgb data sets use it, not {data.name}'
    )

  most = source.num_pool - NUM_CLASSES
  if not 0 <= data.num_validation <= most:
    raise bad_key(
      'num_validation', data.num_validation, f'0 to {most}: {data.name} has {source.num_pool} training images'
    )
  left = source.num_pool - data.num_validation
  for key in ('num_train', 'num_generator'):
    if data[key] and not NUM_CLASSES <= data[key] <= left:
      expected = f'0 (all) or {NUM_CLASSES} to {left}, what validation leaves of {data.name}'
      raise bad_key(key, data[key], expected)
  if not 0 <= data.num_test <= source.num_test:
    raise bad_key('num_test', data.num_test, f'0 (all) to {source.num_test}, the test images of {data.name}')


def mean_colours(config: 'ml_collections.ConfigDict') -> np.ndarray:
  """The training colour of each class, without spread (Figure 6): `[10, 3]` float32 in [0, 1]."""
  if config.data.name.startswith('rgb_'):
    return colouring.rgb_train_colours(np.arange(NUM_CLASSES))
  if len(config.data.mean_colours):
    return np.asarray(config.data.mean_colours, np.float32)
  return colouring.default_mean_colours()


def facts(config: 'ml_collections.ConfigDict') -> dict[str, object]:
  """Nothing is to be said beside results."""
  return {}


def _coloured(pool: _Pool, colours: np.ndarray) -> Dataset:
  """Colours the used examples; `colours` is `[N, 3]` for the whole source."""
  chosen = colours[pool.index]
  return Dataset(
    images=colouring.colour_digits(pool.grey[pool.index], chosen),
    labels=pool.used_labels,
    index=pool.index,
    colours=chosen,
    num_classes=NUM_CLASSES,
  )


def _read_digits(config: 'ml_collections.ConfigDict', resolution: int) -> tuple[_Pool, _Pool]:
  grey, labels = digits.read(resolution)
  rng = subsets.rng('test', config.data.split_seed)
  test = subsets.stratified(labels, digits.NUM_TEST, rng)
  rest = np.setdiff1d(np.arange(len(labels)), test)
  return _Pool(grey, labels, rest), _Pool(grey, labels, test)


def _read_mnist(config: 'ml_collections.ConfigDict', resolution: int) -> tuple[_Pool, _Pool]:
  parts = []
  for part in ('train', 'test'):
    grey, labels = mnist.read(config.data.dir, part, resolution)
    parts.append(_Pool(grey, labels, np.arange(len(labels))))
  return parts[0], parts[1]


_DIGITS_POOL = digits.NUM_IMAGES - digits.NUM_TEST
SOURCES = {
  'digits': _Source(_DIGITS_POOL, digits.NUM_TEST, 8, _read_digits, is_rgb=False),
  'mnist': _Source(mnist.NUM_TRAIN, mnist.NUM_TEST, 32, _read_mnist, is_rgb=False),
  'rgb_digits': _Source(_DIGITS_POOL, digits.NUM_TEST, 8, _read_digits, is_rgb=True),
  'rgb_mnist': _Source(mnist.NUM_TRAIN, mnist.NUM_TEST, 32, _read_mnist, is_rgb=True),
}


def _check_classes(labels: np.ndarray) -> None:
  empty = np.flatnonzero(np.bincount(labels, minlength=NUM_CLASSES) == 0)
  if len(empty):
    raise BadInputError(
      f'data.num_validation: found no training images left of class {empty[0]}, expected some of each class'
    )


def _check_mean_colours(value: object) -> None:
  expected = 'ten (r, g, b) with each in [0, 1]'
  try:
    means = np.asarray(value, np.float64)
  except (TypeError, ValueError):
    raise bad_key('mean_colours', value, expected) from None
  if means.shape != (NUM_CLASSES, 3):
    raise bad_key('mean_colours', f'shape {means.shape}', expected)
  if not np.all((means >= 0) & (means <= 1)):
    raise bad_key('mean_colours', f'a value of {means[~((means >= 0) & (means <= 1))][0]:g}', expected)
