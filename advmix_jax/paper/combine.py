"""Records of the same table whose runs were made apart, such as on machines that share no folder, as one."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from advmix_jax.paper.record import distinct, read_record
from advmix_jax.paper.rows import Measured, make_row
from advmix_jax.types import BadInputError

Record = Mapping[str, Any]


def with_recorded(file: Path, new: Record) -> Record:
  """`new`, and those runs of the same configuration that `file` has already.

  Args:
    file: a record, or nothing; without a run that `new` lacks it adds nothing.
    new: as `record.make_record` makes it, of runs that `file` lacks, or of all that it has and perhaps more.

  Raises:
    BadInputError: as of `recorded`, or `file` has some of the runs, with other accuracies or others besides.
  """
  old = recorded(file, new['configuration'])
  if old is None:
    return new
  before, now = accuracies(old), accuracies(new)
  if before.keys() <= now.keys():
    return new
  if now.items() <= before.items():
    return old  # They were added before.
  if before.keys() & now.keys():
    raise BadInputError(
      f'{file} has the seeds {listed(old)} of this configuration, here are {listed(new)}: expected runs that '
      'it lacks, or all that it has, or the accuracies that it has'
    )
  return combined(old, new)


def recorded(file: Path, configuration: str) -> Record | None:
  """What `file` has of this configuration; None if there is no such file.

  Raises:
    BadInputError: `file` is no record, or of another configuration.
  """
  if not file.exists():
    return None
  found = read_record(file)
  if found.get('configuration') != configuration:
    raise BadInputError(
      f'{file} has the seeds {listed(found)} of the configuration {found.get("configuration")}, expected '
      f'{configuration}, as the runs here: choose another folder for --record, or delete the file'
    )
  return found


def accuracies(record: Record) -> dict[tuple[str, str, int], float]:
  """By setting, method and seed."""
  return {
    (row['setting'], row['method'], seed): accuracy
    for row in record['rows']
    for seed, accuracy in zip(row['seeds'], row['accuracies'], strict=True)
  }


def listed(record: Record) -> str:
  return ', '.join(map(str, sorted({seed for row in record['rows'] for seed in row['seeds']})))


def combined(old: Record, new: Record) -> Record:
  """One record of two that have no run in common."""
  first, *others = distinct(
    [given for record in (old, new) for given in (record['versions'], *record['other_versions'])]
  )
  stages = sorted(old['seconds'].keys() | new['seconds'].keys())
  return dict(new) | {
    'rows': combined_rows([*old['rows'], *new['rows']]),
    'commit': joined(', ', old['commit'], new['commit']),
    'machine': joined('; ', old['machine'], new['machine']),
    'versions': first,
    'other_versions': others,
    'wall_seconds': old['wall_seconds'] + new['wall_seconds'],
    'seconds': {stage: old['seconds'].get(stage, 0.0) + new['seconds'].get(stage, 0.0) for stage in stages},
    'runs': {key: sorted({*old['runs'][key], *new['runs'][key]}) for key in ('done', 'planned')},
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
      sorted(one for part in parts for one in measurements(part)),
      sorted({seed for part in parts for seed in part['planned']}),
      parts[0]['num_examples'],
      parts[0]['paper'],
    )
    for place, parts in sorted(places.items(), key=lambda item: settings.index(item[0][0]))
  ]


def measurements(row: Mapping[str, Any]) -> list[Measured]:
  """Of each seed; an older record lacks what later ones keep."""
  count = len(row['seeds'])
  outcomes, one_class = row.get('outcomes', [''] * count), row.get('one_class', [False] * count)
  return [Measured(*one) for one in zip(row['seeds'], row['accuracies'], outcomes, one_class, strict=True)]
