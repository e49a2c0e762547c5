"""People's own pictures: `split/class/*.png|jpg`, or StyleGAN's layout with `dataset.json`; folders and zips.

DIR/train/CLASS/*.png   DIR/test/CLASS/*.png   DIR/validation/CLASS/*.png (or val/, may be missing)
DIR/train/dataset.json  ...                    the same, with StyleGAN's labels
DIR/train.zip           DIR/test.zip           a part may be a zip of either layout
DIR/dataset.json, FILE.zip, DIR/CLASS/*.png    one whole, out of which test images are drawn
"""

import json
import pathlib
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from advmix_jax.data.collection import PARTS, Collection, Problem, problems_error
from advmix_jax.data.errors import bad_key
from advmix_jax.data.file_tree import File, is_hidden, list_files, read_file
from advmix_jax.data.framing import FITS, Framing
from advmix_jax.types import BadInputError

if TYPE_CHECKING:
  import ml_collections

LABELS = 'dataset.json'
_NAMES = {'train': 'train', 'validation': 'validation', 'val': 'validation', 'test': 'test'}
PLACES = {name + end: part for name, part in _NAMES.items() for end in ('/', '.zip')}
_PARTS = 'train, validation (or val) and test, each a folder or a zip'
SUFFIXES = ('.png', '.jpg', '.jpeg')
EXPECTED = (
  'train/CLASS/*.png or *.jpg and test/CLASS/..., or a folder or zip with the dataset.json of StyleGAN; '
  'see docs/own_pictures.md'
)


class _Labelled(NamedTuple):
  """Files of one part with the names of their classes."""

  files: list[File]
  classes: list[str]
  problems: list[Problem]


def check_config(config: 'ml_collections.ConfigDict') -> None:
  """Checks the keys of folders alone. Raises `BadInputError`, naming the key."""
  if config.data.fit not in FITS:
    raise bad_key('fit', config.data.fit, ' | '.join(FITS))


def scan(config: 'ml_collections.ConfigDict', resolution: int) -> Collection:
  """Finds the pictures and their classes; decodes none.

  Raises:
    BadInputError: there is no such folder or zip, it has neither layout, or fewer than two classes.
  """
  if not config.data.dir:
    raise BadInputError(f"config.data.dir is '', expected the path of {EXPECTED}")
  root = pathlib.Path(config.data.dir)
  if not root.exists():
    raise BadInputError(f'config.data.dir={root}: not found, expected {EXPECTED}')
  hidden: list[str] = []
  parts, problems = _split_parts(root, hidden)
  labelled = {part: _labelled(files, prefix) for part, (files, prefix) in parts.items()}
  names = _class_names(c for part in labelled.values() for c in part.classes)
  number = {name: i for i, name in enumerate(names)}
  problems += [
    Problem(part, 'a part without pictures') for part, found in labelled.items() if names and not any(found)
  ]
  ordered = [(PARTS.index(part), labelled[part]) for part in PARTS if part in labelled]
  collection = Collection(
    place=str(root),
    files=tuple(file for _, part in ordered for file in part.files),
    labels=np.asarray([number[c] for _, part in ordered for c in part.classes], np.int32),
    parts=np.repeat([i for i, _ in ordered], [len(part.files) for _, part in ordered]).astype(np.int8),
    has_test='test' in labelled,
    class_names=names,
    framing=Framing(resolution, config.data.fit),
    problems=(*problems, *(problem for _, part in ordered for problem in part.problems)),
    hidden=tuple(hidden),
  )
  if (len(names) < 2 or 'train' not in labelled) and collection.problems:
    raise problems_error(collection, collection.problems)
  if len(names) < 2:
    found = f'the only class {names[0]!r}' if names else 'no labelled pictures'
    raise BadInputError(f'config.data.dir={root}: found {found}, expected {EXPECTED}')
  if 'train' not in labelled:
    raise BadInputError(f'config.data.dir={root}: found no train/, expected {EXPECTED}')
  return collection


def _split_parts(
  root: pathlib.Path, hidden: list[str]
) -> tuple[dict[str, tuple[list[File], str]], list[Problem]]:
  """Files of each part with the folder in front of their names; hidden ones are moved to `hidden`.

  Data without parts is all 'train'.
  """
  files = _visible(list_files(root), hidden)
  tops: dict[str, list[File]] = {}
  for file in files:
    tops.setdefault(file.name[: file.name.find('/') + 1] or file.name, []).append(file)
  if LABELS in tops or not tops.keys() & PLACES.keys():
    return {'train': (files, '')}, []
  parts: dict[str, tuple[list[File], str]] = {}
  problems: list[Problem] = []
  for top, inside in tops.items():
    part, is_zip = PLACES.get(top), top.endswith('.zip')
    if part is None or (is_zip and (inside[0].problem or not root.is_dir())):
      # At the top only pictures, zips and links matter; anything else is a README or a licence.
      odd = [file for file in inside if '/' in file.name or _matters(file)]
      problems += [Problem(file.name, file.problem or f'in none of {_PARTS}') for file in odd]
    elif part in parts:
      raise BadInputError(f'config.data.dir={root}: found the part {part} twice, expected {_PARTS} once each')
    else:
      parts[part] = (_visible(list_files(root / top), hidden), '') if is_zip else (inside, top)
  return parts, problems


def _visible(files: list[File], hidden: list[str]) -> list[File]:
  hidden += [file.name for file in files if is_hidden(file.name)]
  return [file for file in files if not is_hidden(file.name)]


def _matters(file: File) -> bool:
  return bool(file.problem) or file.name.lower().endswith((*SUFFIXES, '.zip'))


def _labelled(files: list[File], prefix: str) -> _Labelled:
  labels = next((file for file in files if file.name == prefix + LABELS), None)
  return _by_folder(files, prefix) if labels is None else _by_list(files, prefix, labels)


def _by_folder(files: list[File], prefix: str) -> _Labelled:
  """`CLASS/FILE`: the class is the folder."""
  result = _Labelled([], [], [])
  for file in files:
    label, *rest = file.name.removeprefix(prefix).split('/')
    if file.problem:
      result.problems.append(Problem(file.name, file.problem))
    elif len(rest) == 1 and file.name.lower().endswith(SUFFIXES):
      result.files.append(file)
      result.classes.append(label)
    elif rest or _matters(file):
      wanted = 'outside of a class folder' if len(rest) != 1 else 'neither .png, .jpg nor .jpeg'
      result.problems.append(Problem(file.name, wanted))
  return result


def _by_list(files: list[File], prefix: str, labels: File) -> _Labelled:
  """StyleGAN's `dataset.json`: `{"labels": [["00000/img00000000.png", 3], ...]}`."""
  classes = _read_labels(labels)
  result = _Labelled([], [], [])
  for file in files:
    name = file.name.removeprefix(prefix)
    label = classes.pop(name, None)
    if file.problem:
      result.problems.append(Problem(file.name, file.problem))
    elif label is not None:
      result.files.append(file)
      result.classes.append(label)
    elif _matters(file):
      result.problems.append(Problem(file.name, f'without a label in {labels.name}'))
  result.problems.extend(
    Problem(prefix + name, f'not found, but listed in {labels.name}') for name in classes
  )
  return result


def _read_labels(file: File) -> dict[str, str]:
  """The class of each file in a `dataset.json`: whole numbers, or lists with one 1 among zeros."""
  where = f'{file.root}: {file.name}'
  if file.problem:
    raise BadInputError(f'{where}: {file.problem}, expected a plain file')
  try:
    value = json.loads(read_file(file.root, file.name))
    pairs = [(name, label) for name, label in value['labels']]
  except (OSError, ValueError, RecursionError, KeyError, TypeError) as error:
    raise BadInputError(
      f'{where}: found no list of labels ({type(error).__name__}: {error}), expected '
      '{"labels": [["name.png", 0], ...]}'
    ) from None
  classes = {}
  for name, label in pairs:
    name = name.replace('\\', '/') if isinstance(name, str) else name
    if isinstance(label, list) and all(x in (0, 1) for x in label) and sum(label) == 1:
      label = label.index(1)
    if not isinstance(name, str) or not isinstance(label, int) or isinstance(label, bool) or name in classes:
      raise BadInputError(
        f'{where}: found {name!r} with label {label!r}, expected each name once, with a whole number'
      )
    classes[name] = str(label)
  return classes


def _class_names(classes: Iterable[str]) -> tuple[str, ...]:
  """Each class once; numbers within names, of any length, count as numbers, so that 10 follows 9."""

  def natural(name: str) -> list[tuple[bool, int, str]]:
    parts = [p.lstrip('0') if p.isdecimal() else p for p in re.split(r'(\d+)', name) if p]
    return [(False, len(p), p) if not p or p.isdecimal() else (True, 0, p) for p in parts]

  return tuple(sorted(set(classes), key=lambda name: (natural(name), name)))
