"""Data sets of picture files, CelebA and people's own: from `config.data` to the four parts."""

import logging
from typing import TYPE_CHECKING

import numpy as np

from advmix_jax.data import celeba, folder, packed, subsets
from advmix_jax.data.collection import PARTS, Collection, Problem, problems_error
from advmix_jax.data.errors import bad_key
from advmix_jax.types import BadInputError, Dataset, Splits

if TYPE_CHECKING:
  import ml_collections

SCANS = {'celeba': celeba.scan, 'folder': folder.scan}
CHECKS = {'celeba': celeba.check_config, 'folder': folder.check_config}
MIN_RESOLUTION = 8
TEST_SHARE = 0.2  # Of data without a test part, with data.num_test=0.
_COLOURING = ('sigma', 'mean_colours', 'generator_colours')
_NUMBERS = ('num_train', 'num_generator', 'num_validation', 'num_test')


def load(config: 'ml_collections.ConfigDict', resolution: int) -> Splits:
  """Scans, decodes and splits a data set of files.

  Training, validation and test are the data's own parts, or drawn out of one whole by `data.split_seed`.

  Args:
    config: the whole configuration; `data.*` and `seed` are read.
    resolution: side of the images in pixels.

  Returns:
    The four parts, with class and file names, without colours. `index` counts all files of the data set.
    Where a part is used as a whole, its images are a view of a memory-mapped file.

  Raises:
    BadInputError: files cannot be used, all of which are named; or there are not as many as asked for.
  """
  collection = SCANS[config.data.name](config, resolution)
  if collection.problems:
    raise problems_error(collection, all_problems(config, collection))
  pool_at, validation_at, test_at = split(config, collection)
  labels = collection.labels
  chosen = subsets.select(
    config, labels[pool_at], labels[test_at], None if validation_at is None else labels[validation_at]
  )
  whole = {
    'train': pool_at[chosen.train],
    'generator': pool_at[chosen.generator],
    'validation': (pool_at if validation_at is None else validation_at)[chosen.validation],
    'test': test_at[chosen.test],
  }
  for part in ('train', 'test'):
    _check_classes(collection, part, labels[whole[part]])
  if collection.hidden:
    names = ', '.join(collection.hidden[:10])
    logging.warning(
      'config.data.dir=%s: left out %d hidden files: %s', collection.place, len(collection.hidden), names
    )
  data = config.data
  images, problems = packed.load(collection.files, collection.framing, data.cache_dir, data.num_workers)
  if problems:
    raise problems_error(collection, problems)

  def dataset(positions: np.ndarray) -> Dataset:
    return Dataset(
      images=images[_as_slice(positions)],
      labels=labels[positions],
      index=positions,
      colours=None,
      num_classes=len(collection.class_names),
      class_names=collection.class_names,
      files=tuple(collection.files[i].name for i in positions),
    )

  same = np.array_equal(whole['train'], whole['generator'])
  train = dataset(whole['train'])
  return Splits(
    train=train,
    validation=dataset(whole['validation']),
    test=dataset(whole['test']),
    generator=train if same else dataset(whole['generator']),
  )


def check_config(config: 'ml_collections.ConfigDict') -> None:
  """Checks the keys that matter to files, without reading any. Raises `BadInputError`, naming the key."""
  data = config.data
  CHECKS[data.name](config)
  if data.resolution < MIN_RESOLUTION or data.resolution & (data.resolution - 1):
    raise bad_key('resolution', data.resolution, f'a power of two from {MIN_RESOLUTION}')
  for key in _COLOURING:
    if data[key]:
      raise bad_key(key, data[key], f'{0.0 if key == "sigma" else ()}: {data.name} has colours of its own')
  for key in _NUMBERS:
    if data[key] < 0:
      raise bad_key(key, data[key], 'a number from 0')
  if data.num_workers < -1:
    raise bad_key('num_workers', data.num_workers, 'a number from 0, or -1')


def mean_colours(config: 'ml_collections.ConfigDict') -> None:
  """None: pictures have colours of their own."""


def facts(config: 'ml_collections.ConfigDict') -> dict[str, object]:
  """How the images of a data set are framed, and what its classes are made of."""
  data = config.data
  if data.name == 'celeba':
    return {'attribute': ', '.join(celeba.attribute_names(config)), 'crop': data.crop}
  return {'fit': data.fit}


def inspect(config: 'ml_collections.ConfigDict') -> tuple[Collection, list[Problem]]:
  """Scans and decodes everything, keeps no picture; returns every file that cannot be used.

  Raises:
    BadInputError: the data set as a whole cannot be read.
  """
  check_config(config)
  collection = SCANS[config.data.name](config, config.data.resolution)
  return collection, all_problems(config, collection)


def all_problems(config: 'ml_collections.ConfigDict', collection: Collection) -> list[Problem]:
  """Those that the scan found, and those that decoding every other file finds, by name."""
  usable = [file for file in collection.files if not file.problem]
  found = packed.check(usable, collection.framing, config.data.num_workers)
  return sorted({*collection.problems, *found})


def split(
  config: 'ml_collections.ConfigDict', collection: Collection
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
  """Positions of the training pool, of the own validation part (None = there is none), and of the test part.

  Raises:
    BadInputError: a `data.num_*` asks for more than there is.
  """
  data, labels = config.data, collection.labels
  pool, validation, test = (np.flatnonzero(collection.parts == i) for i in range(len(PARTS)))
  num_classes = len(collection.class_names)
  needed = num_classes if collection.has_test else 2 * num_classes
  if len(pool) < needed:
    raise BadInputError(
      f'config.data.dir={collection.place}: found {len(pool)} images to learn from, '
      f'expected at least {needed}, as there are {num_classes} classes'
    )
  own_test = None
  if not collection.has_test:
    num_test = data.num_test or max(num_classes, round(TEST_SHARE * len(pool)))
    _check_number('num_test', num_test, len(pool) - num_classes, num_classes)
    own_test = subsets.stratified(labels[pool], num_test, subsets.rng('test', data.split_seed))
    test, pool = pool[own_test], np.delete(pool, own_test)
  own_validation = validation if len(validation) else None
  most = len(pool) - num_classes if own_validation is None else len(validation)
  _check_number('num_validation', data.num_validation, most, 0)
  left = len(pool) - (data.num_validation if own_validation is None else 0)
  for key in ('num_train', 'num_generator'):
    if data[key]:
      _check_number(key, data[key], left, num_classes)
  _check_number('num_test', data.num_test, len(test), 0)
  if len(data.generator_classes):
    subsets.check_shares('generator_classes', data.generator_classes, num_classes)
  return pool, own_validation, test


def _check_number(key: str, found: int, most: int, least: int) -> None:
  if not least <= found <= most:
    raise bad_key(key, found, f'{least} to {most}, of the images there are')


def _check_classes(collection: Collection, part: str, labels: np.ndarray) -> None:
  counts = np.bincount(labels, minlength=len(collection.class_names))
  empty = [name for name, count in zip(collection.class_names, counts, strict=True) if not count]
  if empty:
    raise BadInputError(
      f'config.data.dir={collection.place}: found no {part} images of {", ".join(map(repr, empty))}, '
      f'expected some of each of the {len(collection.class_names)} classes'
    )


def _as_slice(positions: np.ndarray) -> np.ndarray | slice:
  """The same positions as a slice, which copies nothing, where they follow each other."""
  if len(positions) and np.array_equal(positions, np.arange(positions[0], positions[0] + len(positions))):
    return slice(int(positions[0]), int(positions[0]) + len(positions))
  return positions
