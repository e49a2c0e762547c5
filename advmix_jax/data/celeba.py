"""CelebA from its official files (Liu et al. 2015): aligned images, attribute list, partition list.

Images are 178 pixels wide and 218 high. CelebA is for non-commercial research only.
"""

import collections
import logging
import os
import pathlib
from typing import TYPE_CHECKING

import numpy as np

from advmix_jax.data.collection import Collection, Problem
from advmix_jax.data.errors import bad_key
from advmix_jax.data.file_tree import File, list_files
from advmix_jax.data.framing import Framing
from advmix_jax.types import BadInputError

if TYPE_CHECKING:
  import ml_collections

IMAGES = 'img_align_celeba'
ATTRIBUTES = 'list_attr_celeba.txt'
PARTITION = 'list_eval_partition.txt'
SIZE = (178, 218)
# (left, top, right, bottom): the middle square; 128 pixels around (89, 121), as StyleGAN's own code does.
CROPS = {'centre': (0, 20, 178, 198), 'face': (25, 57, 153, 185), 'none': None}
MAX_ATTRIBUTES = 5
# Decided by colour or fine texture, which the mixing is to change freely (Eq. 2 does not hold for them).
FRAGILE = frozenset({
  '5_o_Clock_Shadow', 'Bags_Under_Eyes', 'Black_Hair', 'Blond_Hair', 'Blurry', 'Brown_Hair', 'Gray_Hair',
  'Heavy_Makeup', 'Pale_Skin', 'Rosy_Cheeks', 'Wearing_Lipstick',
})  # fmt: skip
_SUBFOLDERS = ('', 'Anno', 'Eval', 'Img')  # Where the official archive has the lists and the images.


def check_config(config: 'ml_collections.ConfigDict') -> None:
  """Checks the keys of CelebA alone. Raises `BadInputError`, naming the key."""
  if config.data.crop not in CROPS:
    raise bad_key('crop', config.data.crop, ' | '.join(CROPS))
  names = attribute_names(config)
  if not 1 <= len(names) <= MAX_ATTRIBUTES or len(set(names)) < len(names):
    raise bad_key('attribute', repr(config.data.attribute), f'1 to {MAX_ATTRIBUTES} different names')


def attribute_names(config: 'ml_collections.ConfigDict') -> tuple[str, ...]:
  """The names in `data.attribute`."""
  value = config.data.attribute
  parts = [value] if isinstance(value, str) else value
  return tuple(name.strip() for part in parts for name in str(part).split(',') if name.strip())


def scan(config: 'ml_collections.ConfigDict', resolution: int) -> Collection:
  """Reads the lists and finds the images; decodes none.

  With one attribute the classes are its absence and its presence. With several, each combination is a class:
  the first name changes slowest.

  Raises:
    BadInputError: a list is missing, damaged or does not fit the other; an attribute does not exist.
  """
  names = attribute_names(config)
  folder = find_folder(config.data.dir)
  present = _read_attributes(_find(folder, ATTRIBUTES), names)
  partition = _read_partition(_find(folder, PARTITION))
  if odd := sorted(present.keys() ^ partition.keys()):
    raise BadInputError(
      f'{folder}: found {", ".join(odd[:20])}{", ..." if len(odd) > 20 else ""} in only one of {ATTRIBUTES} '
      f'and {PARTITION}, expected the same images in both'
    )
  listed = sorted(partition, key=partition.__getitem__)  # Keeps the order within a part.
  images = _find(folder, IMAGES)
  found = {file.name: file for file in list_files(images)}
  missing = File(str(images), '', 0, 0, 'not found')
  files = [found.get(name, missing)._replace(name=name) for name in listed]
  if fragile := sorted(FRAGILE.intersection(names)):
    logging.warning(
      'config.data.attribute: %s is decided by colour or fine texture, which AdvMix and RandMix change: '
      'the labels of their images will not hold',
      ', '.join(fragile),
    )
  return Collection(
    place=str(folder),
    files=tuple(files),
    labels=np.asarray([present[name] for name in listed], np.int32),
    parts=np.asarray([partition[name] for name in listed], np.int8),
    has_test=True,
    class_names=class_names(names),
    framing=Framing(resolution, 'resize', SIZE, CROPS[config.data.crop]),
    problems=tuple(Problem(file.name, file.problem) for file in files if file.problem),
  )


def class_names(names: tuple[str, ...]) -> tuple[str, ...]:
  """A name for each combination of attributes, in the order of the labels."""
  combinations = ['']
  for name in names:
    combinations = [f'{c}, {word}' if c else word for c in combinations for word in (f'not {name}', name)]
  return tuple(combinations)


def find_folder(directory: str) -> pathlib.Path:
  """The folder with the attribute list: `config.data.dir` ('' = $ADVMIX_DATA_DIR), or `celeba` in it.

  Raises:
    BadInputError: neither has it; says what is expected there.
  """
  root = directory or os.environ.get('ADVMIX_DATA_DIR', '')
  expected = f'{IMAGES}/, {ATTRIBUTES} and {PARTITION} as CelebA is distributed'
  if not root:
    raise BadInputError(
      f'config.data.dir: found nothing and $ADVMIX_DATA_DIR is unset, expected a folder with {expected}'
    )
  for folder in (pathlib.Path(root), pathlib.Path(root) / 'celeba'):
    if any((folder / sub / ATTRIBUTES).exists() for sub in _SUBFOLDERS):
      return folder
  raise BadInputError(
    f'config.data.dir: found no {ATTRIBUTES} in {root} or {root}/celeba, expected {expected}'
  )


def _find(folder: pathlib.Path, name: str) -> pathlib.Path:
  for sub in _SUBFOLDERS:
    if (folder / sub / name).exists():
      return folder / sub / name
  raise BadInputError(f'{folder / name}: not found, expected it beside the other files of CelebA')


def _lines(path: pathlib.Path) -> list[str]:
  try:
    return path.read_text('utf-8').splitlines()
  except (OSError, UnicodeDecodeError) as error:
    raise BadInputError(f'{path}: {error}, expected a list in plain text') from None


def _rows(path: pathlib.Path, lines: list[str], first: int, width: int) -> dict[str, list[str]]:
  """The rows of a list by file name; `first` is the number of the first one, counted from 1."""
  rows = {}
  for number, line in enumerate(lines, first):
    name, *values = line.split() or ['']
    if len(values) != width:
      raise BadInputError(f'{path}: line {number} has {len(values)} values, expected a name and {width}')
    if name in rows or name != os.path.basename(name):
      raise BadInputError(f'{path}: line {number} names {name!r}, expected each file once, without a folder')
    rows[name] = values
  return rows


def _read_attributes(path: pathlib.Path, names: tuple[str, ...]) -> dict[str, int]:
  """The label of each image: the attributes as binary digits."""
  lines = _lines(path)
  if len(lines) < 2:
    raise BadInputError(f'{path}: found {len(lines)} lines, expected a number, the names, and one per image')
  count, header, *lines = lines
  known = header.split()
  if twice := [name for name, number in collections.Counter(known).items() if number > 1]:
    raise BadInputError(f'{path}: line 2 names {twice[0]} more than once, expected each attribute once')
  if unknown := [name for name in names if name not in known]:
    raise bad_key('attribute', ', '.join(unknown), f'some of {", ".join(known)}')
  if count.strip() != str(len(lines)):
    raise BadInputError(f'{path}: its first line is {count!r}, expected the number of the {len(lines)} rows')
  columns = [known.index(name) for name in names]
  labels = {}
  for name, values in _rows(path, lines, 3, len(known)).items():
    chosen = [values[column] for column in columns]
    if not set(chosen) <= {'1', '-1'}:
      raise BadInputError(f'{path}: {name} has the values {", ".join(chosen)}, expected 1 or -1')
    labels[name] = sum((value == '1') << i for i, value in enumerate(reversed(chosen)))
  return labels


def _read_partition(path: pathlib.Path) -> dict[str, int]:
  """0 training, 1 validation, 2 test, by file name."""
  rows = _rows(path, _lines(path), 1, 1)
  for name, (part,) in rows.items():
    if part not in ('0', '1', '2'):
      raise BadInputError(f'{path}: {name} is in part {part!r}, expected 0, 1 or 2')
  return {name: int(part) for name, (part,) in rows.items()}
