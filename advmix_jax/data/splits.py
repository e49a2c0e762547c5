"""From `config.data` to the four parts of a coloured data set."""

import dataclasses
import os
import pathlib
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from advmix_jax.data import colouring, digits, mnist, subsets
from advmix_jax.types import BadInputError, Dataset, Splits

if TYPE_CHECKING:
  import ml_collections

NUM_CLASSES = 10

# Streams of random numbers, so that no two draws of one seed are the same.
_TEST, _VALIDATION, _NUM_TEST, _NUM_TRAIN, _GENERATOR = 1, 2, 3, 4, 5


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
  read: Callable[['ml_collections.ConfigDict'], tuple[_Pool, _Pool]]
  is_rgb: bool


def load(config: 'ml_collections.ConfigDict') -> Splits:
  """Reads, splits and colours the data set that `config.data` describes.

  Everything is fixed by `config.data.split_seed` (split, test colours, which test images) and `config.seed`
  (training and validation colours, which training images, the generator's data).

  Args:
    config: the whole configuration; `data.*` and `seed` are read.

  Returns:
    The four parts. `validation` is coloured like training, never like the test. `generator` is the whole
    training set, also when `data.num_train` is smaller, with `data.generator_classes` and
    `data.generator_colours` applied; it is the object `train` itself where nothing differs.

  Raises:
    BadInputError: a key or a file is wrong; the text names it, what was found and what is expected.
  """
  check_config(config)
  data = config.data
  source = _SOURCES[data.name]
  pool, test = source.read(config)

  validation_at = subsets.stratified(
    pool.used_labels, data.num_validation, np.random.default_rng((_VALIDATION, data.split_seed))
  )
  validation = pool.subset(validation_at)
  full = pool.subset(np.setdiff1d(np.arange(len(pool.index)), validation_at))
  _check_classes(full)

  train = full
  if data.num_train:
    train = full.subset(
      subsets.balanced(full.used_labels, data.num_train, np.random.default_rng((_NUM_TRAIN, config.seed)))
    )
  if data.num_test:
    test = test.subset(
      subsets.stratified(test.used_labels, data.num_test, np.random.default_rng((_NUM_TEST, data.split_seed)))
    )
  generator = full
  if len(data.generator_classes):
    generator = full.subset(
      subsets.by_class_shares(
        full.used_labels, data.generator_classes, np.random.default_rng((_GENERATOR, config.seed))
      )
    )

  if source.is_rgb:
    train_colours = colouring.rgb_train_colours(pool.labels)
    test_colours = colouring.rgb_test_colours(len(test.labels), data.split_seed)
    generator_colours = colouring.rgb_generator_colours(len(pool.labels), data.generator_colours, config.seed)
  else:
    train_colours = colouring.train_colours(pool.labels, mean_colours(config), data.sigma, config.seed)
    test_colours = colouring.test_colours(len(test.labels), data.split_seed)
    generator_colours = train_colours

  train_set = _coloured(train, train_colours)
  same = generator is train and generator_colours is train_colours
  return Splits(
    train=train_set,
    validation=_coloured(validation, train_colours),
    test=_coloured(test, test_colours),
    generator=train_set if same else _coloured(generator, generator_colours),
  )


def check_config(config: 'ml_collections.ConfigDict') -> None:
  """Checks `config.data` without reading any file.

  Raises:
    BadInputError: naming the key, what was found and what is expected.
  """
  data = config.data
  if data.name not in _SOURCES:
    _fail('name', data.name, 'one of ' + ', '.join(_SOURCES))
  source = _SOURCES[data.name]
  resolution = data.resolution
  if resolution < source.min_resolution or resolution & (resolution - 1):
    _fail('resolution', resolution, f'a power of two from {source.min_resolution} for {data.name}')
  if not (np.isfinite(data.sigma) and data.sigma >= 0):
    _fail('sigma', data.sigma, 'a number from 0')
  if not 0 <= config.seed < 2**32:  # A larger one would repeat the keys of a smaller one.
    raise BadInputError(f'config.seed: found {config.seed}, expected a number from 0 to {2**32 - 1}')
  if data.split_seed < 0:
    _fail('split_seed', data.split_seed, 'a number from 0')

  if len(data.mean_colours):
    _check_mean_colours(data.mean_colours)
  if len(data.generator_classes):
    _check_shares('generator_classes', data.generator_classes, NUM_CLASSES)
  if len(data.generator_colours):
    _check_shares('generator_colours', data.generator_colours, 3)
  if source.is_rgb and data.sigma:
    _fail('sigma', data.sigma, f'0: {data.name} has pure colours only')
  if source.is_rgb and len(data.mean_colours):
    _fail('mean_colours', data.mean_colours, f'(): {data.name} has pure red, green and blue')
  if not source.is_rgb and len(data.generator_colours):
    _fail('generator_colours', data.generator_colours, f'(): only the rgb data sets use it, not {data.name}')

  most = source.num_pool - NUM_CLASSES
  if not 0 <= data.num_validation <= most:
    _fail(
      'num_validation', data.num_validation, f'0 to {most}: {data.name} has {source.num_pool} training images'
    )
  left = source.num_pool - data.num_validation
  if data.num_train and not NUM_CLASSES <= data.num_train <= left:
    _fail(
      'num_train',
      data.num_train,
      f'0 (all) or {NUM_CLASSES} to {left}, what validation leaves of {data.name}',
    )
  if not 0 <= data.num_test <= source.num_test:
    _fail('num_test', data.num_test, f'0 (all) to {source.num_test}, the test images of {data.name}')


def mean_colours(config: 'ml_collections.ConfigDict') -> np.ndarray:
  """The training colour of each class, without spread (Figure 6): `[10, 3]` float32 in [0, 1]."""
  if config.data.name.startswith('rgb_'):
    return colouring.rgb_train_colours(np.arange(NUM_CLASSES))
  if len(config.data.mean_colours):
    return np.asarray(config.data.mean_colours, np.float32)
  return colouring.default_mean_colours()


def save_record(
  directory: str | os.PathLike[str], splits: Splits, config: 'ml_collections.ConfigDict'
) -> pathlib.Path:
  """Stores what was drawn, so that every image of a run can be made again.

  Args:
    directory: an existing folder; `data.npz` is written there, whole or not at all.
    splits: the result of `load`.
    config: the configuration it was loaded with.

  Returns:
    The path of the file: `{train,validation,test,generator}_{index,labels,colours}`, `seed`, `split_seed`,
    `sigma` and `mean_colours`. Equal data gives equal bytes.
  """
  arrays: dict[str, np.ndarray] = {}
  for part in ('train', 'validation', 'test', 'generator'):
    dataset = getattr(splits, part)
    arrays[f'{part}_index'] = dataset.index
    arrays[f'{part}_labels'] = dataset.labels
    arrays[f'{part}_colours'] = dataset.colours
  arrays['seed'] = np.asarray(config.seed)
  arrays['split_seed'] = np.asarray(config.data.split_seed)
  arrays['sigma'] = np.asarray(config.data.sigma)
  arrays['mean_colours'] = mean_colours(config)
  path = pathlib.Path(directory) / 'data.npz'
  temporary = path.with_name(f'.{path.name}.{os.getpid()}')
  with temporary.open('wb') as file:
    np.savez(file, **arrays)  # type: ignore[arg-type]
  os.replace(temporary, path)
  return path


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


def _read_digits(config: 'ml_collections.ConfigDict') -> tuple[_Pool, _Pool]:
  grey, labels = digits.read(config.data.resolution)
  rng = np.random.default_rng((_TEST, config.data.split_seed))
  test = subsets.stratified(labels, digits.NUM_TEST, rng)
  rest = np.setdiff1d(np.arange(len(labels)), test)
  return _Pool(grey, labels, rest), _Pool(grey, labels, test)


def _read_mnist(config: 'ml_collections.ConfigDict') -> tuple[_Pool, _Pool]:
  parts = []
  for part in ('train', 'test'):
    grey, labels = mnist.read(config.data.dir, part, config.data.resolution)
    parts.append(_Pool(grey, labels, np.arange(len(labels))))
  return parts[0], parts[1]


_DIGITS_POOL = digits.NUM_IMAGES - digits.NUM_TEST
_SOURCES = {
  'digits': _Source(_DIGITS_POOL, digits.NUM_TEST, 8, _read_digits, is_rgb=False),
  'mnist': _Source(mnist.NUM_TRAIN, mnist.NUM_TEST, 32, _read_mnist, is_rgb=False),
  'rgb_digits': _Source(_DIGITS_POOL, digits.NUM_TEST, 8, _read_digits, is_rgb=True),
  'rgb_mnist': _Source(mnist.NUM_TRAIN, mnist.NUM_TEST, 32, _read_mnist, is_rgb=True),
}


def _check_classes(pool: _Pool) -> None:
  empty = np.flatnonzero(np.bincount(pool.used_labels, minlength=NUM_CLASSES) == 0)
  if len(empty):
    raise BadInputError(
      f'data.num_validation: found no training images left of class {empty[0]}, expected some of each class'
    )


def _check_mean_colours(value: object) -> None:
  expected = 'ten (r, g, b) with each in [0, 1]'
  try:
    means = np.asarray(value, np.float64)
  except (TypeError, ValueError):
    _fail('mean_colours', value, expected)
  if means.shape != (NUM_CLASSES, 3):
    _fail('mean_colours', f'shape {means.shape}', expected)
  if not np.all((means >= 0) & (means <= 1)):
    _fail('mean_colours', f'a value of {means[~((means >= 0) & (means <= 1))][0]:g}', expected)


def _check_shares(key: str, shares: tuple[float, ...], num: int) -> None:
  expected = f'{num} shares from 0 that sum to 1'
  if len(shares) != num or not all(isinstance(share, int | float) and 0 <= share <= 1 for share in shares):
    _fail(key, tuple(shares), expected)
  if abs(sum(shares) - 1) > 1e-6:
    _fail(key, f'{tuple(shares)}, which sum to {sum(shares):g}', expected)


def _fail(key: str, found: object, expected: str) -> NoReturn:
  raise BadInputError(f'config.data.{key}: found {found}, expected {expected}')
