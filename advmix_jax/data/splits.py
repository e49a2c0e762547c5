"""From `config.data` to the four parts of a data set, whichever it is."""

import os
import pathlib
from typing import TYPE_CHECKING

import numpy as np

from advmix_jax.data import coloured, pictures, subsets
from advmix_jax.data.errors import bad_key
from advmix_jax.types import BadInputError, Splits
from advmix_jax.workdir import write_arrays

if TYPE_CHECKING:
  import ml_collections

# By name, the module that holds a data set's `load`, `check_config`, `mean_colours` and `facts`.
SOURCES = dict.fromkeys(coloured.SOURCES, coloured) | dict.fromkeys(pictures.SCANS, pictures)


def load(config: 'ml_collections.ConfigDict', resolution: int | None = None) -> Splits:
  """Reads and splits the data set that `config.data` describes.

  Everything is fixed by `config.data.split_seed` (what is held out, which test images, test colours) and
  `config.seed` (training colours, which training images, the generator's data).

  Args:
    config: the whole configuration; `data.*` and `seed` are read.
    resolution: side of the images in pixels; None = `data.resolution`. The choice of examples is the same for
      each, so that a generator of another resolution can be given the same images.

  Returns:
    The four parts. `generator` is the whole training set, also when `data.num_train` is smaller, unless
    `data.num_generator` or `data.generator_classes` say otherwise; it is the object `train` itself where
    nothing differs. Images of large data sets are views of a memory-mapped file.

  Raises:
    BadInputError: a key or a file is wrong; the text names it, what was found and what is expected.
  """
  check_config(config)
  return SOURCES[config.data.name].load(config, resolution or config.data.resolution)


def check_config(config: 'ml_collections.ConfigDict') -> None:
  """Checks `config.data` without reading any file.

  Raises:
    BadInputError: naming the key, what was found and what is expected.
  """
  data = config.data
  if data.name not in SOURCES:
    raise bad_key('name', data.name, 'one of ' + ', '.join(SOURCES))
  if not 0 <= config.seed < 2**32:  # A larger one would repeat the keys of a smaller one.
    raise BadInputError(f'config.seed: found {config.seed}, expected a number from 0 to {2**32 - 1}')
  if not 0 <= data.split_seed < 2**32:
    raise bad_key('split_seed', data.split_seed, f'a number from 0 to {2**32 - 1}')
  if data.draw not in subsets.DRAWS:
    raise bad_key('draw', data.draw, ' | '.join(subsets.DRAWS))
  if data.num_generator and len(data.generator_classes):
    raise bad_key('num_generator', data.num_generator, '0: config.data.generator_classes sets the number')
  SOURCES[data.name].check_config(config)


def mean_colours(config: 'ml_collections.ConfigDict') -> np.ndarray | None:
  """The training colour of each class, without spread (Figure 6): `[10, 3]` float32 in [0, 1].

  None for data that is not coloured here.
  """
  return SOURCES[config.data.name].mean_colours(config)


def facts(config: 'ml_collections.ConfigDict', splits: Splits) -> dict[str, object]:
  """What is said beside results: names of the classes, where they have any, and what the source adds."""
  names = splits.train.class_names
  return ({'class_names': list(names)} if names else {}) | SOURCES[config.data.name].facts(config)


def save_record(
  directory: str | os.PathLike[str], splits: Splits, config: 'ml_collections.ConfigDict'
) -> pathlib.Path:
  """Stores what was drawn, so that every image of a run can be made again.

  Args:
    directory: an existing folder; `data.npz` is written there, whole or not at all.
    splits: the result of `load`.
    config: the configuration it was loaded with.

  Returns:
    The path of the file: `{train,validation,test,generator}_{index,labels}`, `seed` and `split_seed`; of
    coloured data also `*_colours`, `sigma` and `mean_colours`; of files `*_files` and `class_names`. Equal
    data gives equal bytes.
  """
  arrays: dict[str, np.ndarray] = {}
  for part in ('train', 'validation', 'test', 'generator'):
    dataset = getattr(splits, part)
    arrays[f'{part}_index'] = dataset.index
    arrays[f'{part}_labels'] = dataset.labels
    if dataset.colours is not None:
      arrays[f'{part}_colours'] = dataset.colours
    if dataset.files:
      arrays[f'{part}_files'] = np.asarray(dataset.files)
  arrays['seed'] = np.asarray(config.seed)
  arrays['split_seed'] = np.asarray(config.data.split_seed)
  means = mean_colours(config)
  if means is not None:
    arrays['sigma'] = np.asarray(config.data.sigma)
    arrays['mean_colours'] = means
  if splits.train.class_names:
    arrays['class_names'] = np.asarray(splits.train.class_names)
  path = pathlib.Path(directory) / 'data.npz'
  write_arrays(path, **arrays)
  return path
