"""The page on speed, made from measurements: tables, the curves, and where each number is from."""

import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2

from advmix_jax.bench.figures import save_cost_curves
from advmix_jax.bench.pipeline import COUNTED
from advmix_jax.types import BadInputError
from advmix_jax.workdir import atomic

TEMPLATE = 'performance.md.j2'
PARTS = ('cases', 'curves', 'profiles', 'start_times')  # What a file of measurements may hold.


def read_measurements(path: Path) -> dict[str, Any]:
  """A file that `launch.benchmark --out` wrote.

  Raises:
    BadInputError: if it is none.
  """
  try:
    found = json.loads(path.read_text())
  except (OSError, ValueError) as error:
    raise BadInputError(f'--from={path}: {error}, expected a file of launch.benchmark --out') from error
  if not isinstance(found, dict) or not any(part in found for part in PARTS) or 'command' not in found:
    raise BadInputError(
      f'--from={path}: found neither of {", ".join(PARTS)} with their command, expected a file of '
      'launch.benchmark --out'
    )
  return found


def write_page(page: Path, files: Sequence[Path]) -> None:
  """Writes the page, and beside it `NAME-curves.png` if curves were measured.

  Args:
    page: Markdown file to write.
    files: measurements; each part of the page says which command of which file it is from.

  Raises:
    BadInputError: for a file that holds no measurements.
  """
  measurements = [read_measurements(file) for file in files]
  of = {part: [m for m in measurements if m.get(part)] for part in PARTS}
  figure = None
  curves = [row for m in of['curves'] for row in m['curves']]
  if curves:
    figure = save_cost_curves(page.with_name(f'{page.stem}-curves.png'), curves).name
  timed = [(m, [c for c in m['cases'] if c['name'] != 'pipeline']) for m in of['cases']]
  text = template().render(
    timed=[(m, cases) for m, cases in timed if cases],
    pipelines=[(m, c, stages_of(c)) for m in of['cases'] for c in m['cases'] if c['name'] == 'pipeline'],
    curves=of['curves'],
    profiles=of['profiles'],
    start_times=of['start_times'],
    figure=figure,
  )
  with atomic(page) as temporary:
    temporary.write_text(''.join(f'{line.rstrip()}\n' for line in text.splitlines()))


def stages_of(case: dict[str, Any]) -> list[str]:
  """In the order of a run; files of JSON have their keys in that of the alphabet."""
  return [stage for stage in COUNTED if stage in case['seconds_by_stage']]


def template() -> jinja2.Template:
  environment = jinja2.Environment(
    loader=jinja2.FunctionLoader(lambda name: resources.files(__package__).joinpath(name).read_text()),
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
  )
  environment.filters |= {'rate': rate, 'percent': percent, 'ratio': ratio, 'time': seconds}
  environment.filters |= {'settings': settings, 'by_value': by_value}
  return environment.get_template(TEMPLATE)


def rate(value: float) -> str:
  """Images per second with three digits that count."""
  return f'{value:.0f}' if value >= 100 else f'{value:.1f}' if value >= 10 else f'{value:.2f}'


def percent(value: float | None) -> str:
  return '' if value is None else f'{value:.0%}'


def seconds(value: float) -> str:
  return f'{value:.3f} s' if value < 0.1 else f'{value:.1f} s' if value < 120 else f'{value / 60:.1f} min'


def ratio(case: dict[str, Any]) -> str:
  """`2.31 (2.25 to 2.40)`; nothing where nothing was compared."""
  if case.get('ratio_vs_torch') is None:
    return ''
  text = f'{case["ratio_vs_torch"]:.2f}'
  ends = case.get('ratio_quartiles')
  return f'{text} ({ends[0]:.2f} to {ends[1]:.2f})' if ends else text


def settings(case: dict[str, Any]) -> str:
  """The settings among the values of a case."""
  shown = ('restarts', 'steps', 'classifier', 'r1', 'features', 'broken')
  return ', '.join(
    f'{key} {case[key]:.0%}' if key == 'broken' else f'{key} {case[key]}' for key in shown if key in case
  )


def by_value(rows: Sequence[dict[str, Any]]) -> list[tuple[str, list[int], dict[str, dict[int, float]]]]:
  """Curves as tables: `(curve, values, {case: {value: images per second}})`."""
  tables = []
  for curve in dict.fromkeys(row['curve'] for row in rows):
    own = [row for row in rows if row['curve'] == curve]
    lines: dict[str, dict[int, float]] = {}
    for row in own:
      lines.setdefault(row['case'], {})[row['value']] = row['images_per_sec']
    tables.append((curve, sorted({row['value'] for row in own}), lines))
  return tables
