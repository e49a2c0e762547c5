"""The figure of a record: curves as in figure 7, or our accuracies beside the paper's, place by place."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.lines import Line2D

from advmix_jax.paper.published import RESULTS
from advmix_jax.report import style
from advmix_jax.report.bands import save_bands

PAPER: dict[str, Any] = {'linestyle': 'none', 'marker': '_', 'markersize': 13, 'color': style.TEXT}
MARKERS = 'osv^<>Xp'


def title_of(method: str) -> str:
  """`at 4/255` -> `AT 4/255`."""
  name, *strength = method.split()
  return ' '.join([style.method_title(name), *strength])


def save_curves(path: Path, record: Mapping[str, Any]) -> Path:
  """Accuracy against σ, a line for each method, a band of one standard deviation over the seeds."""
  points: dict[str, list[tuple[float, float, float]]] = {}
  for row in record['rows']:
    sd = float('nan') if row['accuracy_sd'] is None else row['accuracy_sd']
    sigma = float(row['setting'].split('=')[1])
    points.setdefault(row['method'], []).append((sigma, row['accuracy_mean'], sd))
  lines = {title_of(method): tuple(np.array(sorted(at)).T) for method, at in points.items()}
  looks = {title_of(method): (method, i) for i, method in enumerate(points)}
  caption = f'test digits in any colour ({record["variant"]})'
  return save_bands(path, {caption: lines}, xlabel='σ of the training colours', looks=looks)


def save_dots(path: Path, record: Mapping[str, Any]) -> Path:
  """A place for each setting, in it a mark for each method with one standard deviation, and the paper's."""
  rows, result = record['rows'], RESULTS[record['name']]
  settings = list(dict.fromkeys(row['setting'] for row in rows))
  methods = list(dict.fromkeys(row['method'] for row in rows))
  figure = style.new_figure(2.6 + 0.21 * len(settings) * (len(methods) + 2), 4.0)
  axes = figure.add_subplot()
  style.plain_axes(axes)
  for i, method in enumerate(methods):
    own = [row for row in rows if row['method'] == method]
    x = np.array([settings.index(row['setting']) for row in own]) + 0.8 * ((i + 0.5) / len(methods) - 0.5)
    colour = style.METHOD_COLOURS[method.split()[0]]
    fill = 'white' if '4/255' in method else colour
    means = 100 * np.array([row['accuracy_mean'] for row in own])
    sds = 100 * np.array([row['accuracy_sd'] or 0.0 for row in own])
    look: dict[str, Any] = {'fmt': MARKERS[i % len(MARKERS)], 'markersize': 6, 'capsize': 2.5}
    axes.errorbar(
      x, means, yerr=sds, color=colour, markerfacecolor=fill, label=title_of(method), **look, zorder=3
    )
    paper = [(at, 100 * row['paper']) for at, row in zip(x, own, strict=True) if row['paper'] is not None]
    if paper:
      axes.plot(*zip(*paper, strict=True), **PAPER, zorder=2)
  for edge in range(1, len(settings)):
    axes.axvline(edge - 0.5, color=style.GRID, linewidth=0.8)
  axes.set_xlim(-0.5, len(settings) - 0.5)
  axes.set_xticks(range(len(settings)), [setting.replace('_', ' ') for setting in settings])
  axes.set_xlabel(result.settings)
  axes.set_ylabel('accuracy, %')
  axes.set_title(f'{result.title} ({record["variant"]})', fontsize=10, color=style.TEXT)
  axes.grid(axis='y', color=style.GRID, linewidth=0.8)
  handles, names = axes.get_legend_handles_labels()
  if any(row['paper'] is not None for row in rows):
    handles.append(Line2D([], [], **PAPER))
    names.append('the paper')
  figure.legend(handles, names, loc='outside right center', frameon=False, fontsize=9)
  return style.save(path, figure)


def save_figure(path: Path, record: Mapping[str, Any], toy_picture: Path | None) -> Path:
  """The figure in the style of the paper's.

  Args:
    path: file to write.
    record: what it shows.
    toy_picture: figure 4's three scatter plots, which its run has drawn.
  """
  if record['name'] == 'figure4' and toy_picture is not None:
    path.write_bytes(toy_picture.read_bytes())
    return path
  return save_curves(path, record) if record['name'] == 'figure7' else save_dots(path, record)
