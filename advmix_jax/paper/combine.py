"""Records of the same table whose seeds were run apart, such as on machines that share no folder, as one."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from advmix_jax.paper import claims
from advmix_jax.paper.record import distinct, read_record
from advmix_jax.paper.rows import make_row
from advmix_jax.types import BadInputError

Record = Mapping[str, Any]


def with_recorded(file: Path, new: Record) -> Record:
  """`new`, and those seeds of the same configuration that `file` has already.

  Args:
    file: a record, or nothing: of another configuration, or without a seed that `new` lacks, it adds nothing.
    new: as `record.make_record` makes it.

  Raises:
    BadInputError: `file` is no record, or has some of the seeds, with other accuracies or others besides.
  """
  if not file.exists():
    return new
  old = read_record(file)
  before, now = seeds_of(old), seeds_of(new)
  if old.get('configuration') != new['configuration'] or before <= now:
    return new
  if accuracies(new).items() <= accuracies(old).items():
    return old  # They were added before.
  if before & now:
    raise BadInputError(
      f'{file} has the seeds {listed(before)} of this configuration, here are {listed(now)}: expected '
      'none of them, or all, or the accuracies that it has'
    )
  return combined(old, new)


def seeds_of(record: Record) -> set[int]:
  return {seed for row in record['rows'] for seed in row['seeds']}


def accuracies(record: Record) -> dict[tuple[str, str, int], float]:
  """By setting, method and seed."""
  return {
    (row['setting'], row['method'], seed): accuracy
    for row in record['rows']
    for seed, accuracy in zip(row['seeds'], row['accuracies'], strict=True)
  }


def listed(seeds: set[int]) -> str:
  return ', '.join(map(str, sorted(seeds)))


def combined(old: Record, new: Record) -> Record:
  """One record of two that have no seed in common."""
  rows = combined_rows([*old['rows'], *new['rows']])
  first, *others = distinct(
    [given for record in (old, new) for given in (record['versions'], *record['other_versions'])]
  )
  stages = sorted(old['seconds'].keys() | new['seconds'].keys())
  return dict(new) | {
    'rows': rows,
    'claims': claims.check(new['name'], rows),
    'commit': joined(', ', old['commit'], new['commit']),
    'machine': joined('; ', old['machine'], new['machine']),
    'versions': first,
    'other_versions': others,
    'wall_seconds': old['wall_seconds'] + new['wall_seconds'],
    'seconds': {stage: old['seconds'].get(stage, 0.0) + new['seconds'].get(stage, 0.0) for stage in stages},
    'runs': [a + b for a, b in zip(old['runs'], new['runs'], strict=True)],
  }


def joined(separator: str, *lists: str) -> str:
  """What stands in lists that are written with `separator`, each once."""
  return separator.join(dict.fromkeys(separator.join(lists).split(separator)))


def combined_rows(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
  """A row for each setting and method, in the order in which settings first come."""
  places: dict[tuple[str, str], list[dict[str, Any]]] = {}
  for row in rows:
    places.setdefault((row['setting'], row['method']), []).append(row)
  settings = list(dict.fromkeys(setting for setting, _ in places))
  return [
    make_row(
      *place,
      sorted(pair for part in parts for pair in zip(part['seeds'], part['accuracies'], strict=True)),
      sum(part['planned'] for part in parts),
      parts[0]['num_examples'],
      parts[0]['paper'],
    )
    for place, parts in sorted(places.items(), key=lambda item: settings.index(item[0][0]))
  ]
