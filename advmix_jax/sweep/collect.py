"""What a sweep came to: mean and standard deviation over seeds, as CSV, Markdown and a figure.

Members that differ in their seed alone are one setting. Only those that are done count; n says how many.
"""

import csv
import io
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from advmix_jax.config_keys import classifier_seeds, flatten
from advmix_jax.methods import METHODS
from advmix_jax.sweep.plan import Plan, Task
from advmix_jax.sweep.state import DONE, Seen
from advmix_jax.types import BadInputError
from advmix_jax.workdir import read_json

SEED_KEYS = ('seed', 'train.seed')
COLUMNS = {
  'clean': 'clean_accuracy',
  'worst class': 'worst_class_accuracy',
  'under perturbation': 'perturbed_accuracy',
}


class Row(NamedTuple):
  """One method in one setting.

  Attributes:
    setting: the keys in which settings differ, and their values here.
    method: of training.
    seeds: of the runs that are done.
    planned: number of runs there will be.
    values: by name of the result, one for each seed, in [0, 1].
  """

  setting: dict[str, Any]
  method: str
  seeds: tuple[int, ...]
  planned: int
  values: dict[str, tuple[float, ...]]


def write(out: Path, plan: Plan, seen: Mapping[str, Seen]) -> str:
  """Writes `results.csv`, `results.md` and `results.png` into the sweep's folder; the Markdown.

  Raises:
    BadInputError: no member is done, or results are not those of the member's configuration.
  """
  if not any(task.products for task in plan.members):
    raise BadInputError(f'--out={out}: no member has the stage evaluate, which makes the results to collect')
  done = [task for task in plan.members if seen[task.name].state == DONE and task.products]
  if not done:
    raise BadInputError(f'--out={out}: no member is done, expected at least one with results to collect')
  rows = collect_rows(out, plan, done)
  text = markdown(plan, rows, len(done))
  (out / 'results.md').write_text(text + '\n')
  (out / 'results.csv').write_text(table(rows))
  draw(out / 'results.png', rows)
  return f'{text}\n\n{out}/results.csv, results.md, results.png'


def settings(plan: Plan) -> dict[str, dict[str, Any]]:
  """By member, the keys but for the seeds in which members differ; all that a member's setting is."""
  keys = list(dict.fromkeys(key for task in plan.members for key in task.changes))
  flats = {task.name: flatten(plan.configs[task.name]) for task in plan.members}
  differing = [
    key for key in keys if key not in SEED_KEYS and len({str(flat.get(key)) for flat in flats.values()}) > 1
  ]
  return {name: {key: flat.get(key) for key in differing} for name, flat in flats.items()}


def collect_rows(out: Path, plan: Plan, done: list[Task]) -> list[Row]:
  """A row for each setting and method of which at least one run is done, in the order of the plan."""
  setting_of = settings(plan)
  groups: dict[str, list[Task]] = {}
  planned: dict[str, int] = {}
  for task in plan.members:
    group = str(setting_of[task.name])
    planned[group] = planned.get(group, 0) + len(classifier_seeds(plan.configs[task.name]))
    if task in done:
      groups.setdefault(group, []).append(task)
  rows = []
  for group, tasks in groups.items():
    found = [read_json(out / task.folder / 'results.json') for task in tasks]
    setting = setting_of[tasks[0].name]
    seeds = [classifier_seeds(plan.configs[task.name]) for task in tasks]
    for method in sorted({m for results in found for m in results['methods']}, key=list(METHODS).index):
      having = [i for i, results in enumerate(found) if method in results['methods']]
      measured = [found[i]['methods'][method] for i in having]
      each = [seed for one in measured for seed in one.get('per_seed', [one])]
      values = {key: tuple(float(seed[key]) for seed in each) for key in COLUMNS.values()}
      rows.append(
        Row(setting, method, tuple(seed for i in having for seed in seeds[i]), planned[group], values)
      )
  return rows


def seed_keys(plan: Plan) -> list[str]:
  """Those of the seeds in which the runs of a setting differ; of one seed, those that the members set."""
  flats = [flatten(plan.configs[task.name]) for task in plan.members]
  several = {'train.seed'} if any(flat['train.num_seeds'] > 1 for flat in flats) else set()
  differing = [key for key in SEED_KEYS if key in several or len({flat[key] for flat in flats}) > 1]
  return differing or [key for key in SEED_KEYS if any(key in task.changes for task in plan.members)]


def mean_and_sd(values: tuple[float, ...]) -> tuple[float, float]:
  """The standard deviation is of the sample; NaN of one value."""
  return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else float('nan')


def table(rows: list[Row]) -> str:
  """CSV: a line for each row; accuracies in [0, 1], a deviation that is not known is empty."""
  buffer = io.StringIO()
  writer = csv.writer(buffer, lineterminator='\n')
  keys = list(rows[0].setting)
  names = list(COLUMNS.values())
  writer.writerow(
    [
      *keys,
      'method',
      'n',
      'planned',
      'seeds',
      *(f'{name}_{part}' for name in names for part in ('mean', 'sd')),
    ]
  )
  for row in rows:
    figures = []
    for name in names:
      mean, sd = mean_and_sd(row.values[name])
      figures += [f'{mean:.6f}', f'{sd:.6f}' if len(row.seeds) > 1 else '']
    seeds = ' '.join(map(str, row.seeds))
    writer.writerow([*row.setting.values(), row.method, len(row.seeds), row.planned, seeds, *figures])
  return buffer.getvalue()


def markdown(plan: Plan, rows: list[Row], num_done: int) -> str:
  """The table for people: accuracy in %, mean ± standard deviation."""
  keys = list(rows[0].setting)
  scope = ' (of the classifier alone)' if seed_keys(plan) == ['train.seed'] else ''
  lines = [
    f'`{plan.source}`: {num_done} of {len(plan.members)} runs are done. Accuracy in %, mean ± standard '
    f'deviation over n runs that differ in their {" and ".join(seed_keys(plan)) or "seed"}{scope}.',
    '',
    '| ' + ' | '.join([*keys, 'method', *COLUMNS, 'n']) + ' |',
    '|' + '---|' * (len(keys) + 1) + '---:|' * (len(COLUMNS) + 1),
  ]
  for row in rows:
    cells = []
    for name in COLUMNS.values():
      mean, sd = mean_and_sd(row.values[name])
      spread = f' ± {100 * sd:.1f}' if len(row.seeds) > 1 else ''
      cells.append(f'{100 * mean:.1f}{spread}')
    n = str(len(row.seeds)) + (f' of {row.planned}' if len(row.seeds) < row.planned else '')
    lines.append('| ' + ' | '.join([*map(str, row.setting.values()), row.method, *cells, n]) + ' |')
  return '\n'.join(lines)


def draw(path: Path, rows: list[Row]) -> None:
  """The figure: against the first number in which settings differ, or else a place for each setting."""
  import numpy as np

  from advmix_jax.report.bands import save_bands
  from advmix_jax.report.style import method_title

  keys = list(rows[0].setting)
  numeric = [key for key in keys if all(is_number(row.setting[key]) for row in rows)]
  x_key = numeric[0] if numeric else None
  ticks = None if x_key else list(dict.fromkeys(label(row.setting) for row in rows))
  points: dict[str, list[tuple[float, Row]]] = {}
  looks: dict[str, tuple[str, int]] = {}
  others = list(dict.fromkeys(label(row.setting, x_key) for row in rows)) if x_key else ['']
  for row in rows:
    other = label(row.setting, x_key) if x_key else ''
    name = method_title(row.method) + (f', {other}' if other else '')
    looks[name] = (row.method, others.index(other))
    x = float(row.setting[x_key]) if x_key else float((ticks or []).index(label(row.setting)))
    points.setdefault(name, []).append((x, row))
  panels = {}
  for title, key in (('clean', 'clean_accuracy'), ('under perturbation', 'perturbed_accuracy')):
    lines = {}
    for name, at in points.items():
      at = sorted(at, key=lambda point: point[0])
      means, sds = zip(*(mean_and_sd(row.values[key]) for _, row in at), strict=True)
      lines[name] = np.array([x for x, _ in at]), np.array(means), np.array(sds)
    panels[title] = lines
  save_bands(path, panels, xlabel=x_key or '', ticks=ticks, looks=looks)


def is_number(value: Any) -> bool:
  return isinstance(value, int | float) and not isinstance(value, bool)


def label(setting: dict[str, Any], without: str | None = None) -> str:
  """A setting in a few words."""
  return ', '.join(f'{key.rpartition(".")[2]} {value}' for key, value in setting.items() if key != without)
