"""The page on speed, made from measurements: tables, the curves, and where each number is from."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from advmix_jax.bench import markdown
from advmix_jax.bench.figures import save_cost_curves
from advmix_jax.bench.pipeline import COUNTED

TEMPLATE = 'performance.md.j2'
PARTS = ('cases', 'curves', 'profiles', 'start_times')  # What a file of measurements may hold.


def read_measurements(path: Path) -> dict[str, Any]:
  """A file that `launch.benchmark --out` wrote. Raises `BadInputError` if it is none."""
  parts = ' or '.join(PARTS)
  return markdown.read_figures(path, 'launch.benchmark', parts, lambda found: any(p in found for p in PARTS))


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
  markdown.write_page(
    page,
    TEMPLATE,
    FILTERS,
    timed=[(m, cases) for m, cases in timed if cases],
    pipelines=[(m, c, stages_of(c)) for m in of['cases'] for c in m['cases'] if c['name'] == 'pipeline'],
    curves=of['curves'],
    profiles=of['profiles'],
    start_times=of['start_times'],
    figure=figure,
  )


def stages_of(case: dict[str, Any]) -> list[str]:
  """In the order of a run; files of JSON have their keys in that of the alphabet."""
  return [stage for stage in COUNTED if stage in case['seconds_by_stage']]


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
  """The settings among the values of a case, and what its quality is beside that of the plain algorithm."""
  shown = ['restarts', 'steps', 'mixing_share', 'plain_steps', 'classifier', 'r1', 'features', 'broken']
  shown += ['median_error', 'plain_median_error', 'median_mixing_loss', 'plain_median_mixing_loss']

  def setting(key: str, value: Any) -> str:
    number = f'{value:.0%}' if key == 'broken' else f'{value:.3g}' if isinstance(value, float) else value
    return f'{key.replace("_", " ")} {number}'

  return ', '.join(setting(key, case[key]) for key in shown if key in case)


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


FILTERS: markdown.Filters = {
  'rate': rate,
  'percent': percent,
  'ratio': ratio,
  'time': seconds,
  'settings': settings,
  'by_value': by_value,
}
