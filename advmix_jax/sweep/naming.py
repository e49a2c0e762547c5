"""Names of members: the keys in which they differ."""

import hashlib
import itertools
import json
import re
from collections import Counter
from typing import Any

from ml_collections import ConfigDict

from advmix_jax.config_keys import flatten
from advmix_jax.types import BadInputError

LONGEST_NAME = 150  # Of a folder; file systems take 255 bytes, and logs have an ending.

Changes = dict[str, Any]


def hash_of(flat: dict[str, Any]) -> str:
  """A short name for the values of these keys."""
  return hashlib.sha256(json.dumps(flat, sort_keys=True).encode()).hexdigest()[:12]


def name_members(base: ConfigDict, changes: list[Changes]) -> list[str]:
  """Folder names that say what differs: `data.sigma=0.1,seed=1`."""
  flat = flatten(base.to_dict())
  keys = list(dict.fromkeys(key for given in changes for key in given))

  def value(given: Changes, key: str) -> Any:
    return given.get(key, flat.get(key))

  differing = [key for key in keys if any(value(g, key) != value(changes[0], key) for g in changes)] or keys
  names = []
  for given in changes:
    parts = [f'{key}={spelled(value(given, key))}' for key in differing]
    name = ','.join(parts) or 'member'
    if len(name) > LONGEST_NAME:
      name = f'{name[: LONGEST_NAME - 13]}-{hash_of({"name": name})}'
    names.append(name)
  counts = Counter(names)
  twice = [name for name, count in counts.items() if count > 1]
  if twice:
    raise BadInputError(f'{counts[twice[0]]} members have the name {twice[0]}, expected one')
  return names


def spelled(value: Any) -> str:
  """A value as part of a file name; of equal neighbours in a list one, and how many."""
  if isinstance(value, float):
    short = f'{value:.6g}'
    text = str(float(short)) if abs(float(short) - value) <= 1e-12 * abs(value) else repr(value)
  elif isinstance(value, list | tuple):
    runs = [(part, len(list(same))) for part, same in itertools.groupby(map(spelled, value))]
    text = '+'.join(part if count == 1 else f'{part}x{count}' for part, count in runs)
  else:
    text = str(value)
  return re.sub(r'[^\w.+-]', '_', text)
