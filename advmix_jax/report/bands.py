"""Accuracy against a setting, one line for each method, with the spread over seeds (Figure 7)."""

import os
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from advmix_jax.report import style

MOST_TICKS = 10  # More settings than this are not marked singly.


def save_bands(
  path: str | os.PathLike,
  panels: Mapping[str, Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]]],
  *,
  xlabel: str,
  ticks: Sequence[str] | None = None,
  looks: Mapping[str, tuple[str, int]] | None = None,
) -> pathlib.Path:
  """Draws a panel for each kind of accuracy, a line for each name, a band of one standard deviation.

  Args:
    path: file to write.
    panels: title to name to (`[T]` setting, `[T]` mean in [0, 1], `[T]` standard deviation; NaN where it is
      not known, of one run).
    xlabel: what the settings are.
    ticks: names of the settings 0, 1, ... where they are no numbers: points with bars then, and no lines.
    looks: of a name, the method whose colour it has, and the number of its line style; None = its own.

  Returns:
    The path.
  """
  figure = style.new_figure(4.4 * len(panels) + 1.4, 3.9)
  all_axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
  for axes, (title, lines) in zip(all_axes, panels.items(), strict=True):
    style.plain_axes(axes)
    for i, (name, (x, mean, sd)) in enumerate(lines.items()):
      method, number = (looks or {}).get(name, (name, i))
      colour = style.METHOD_COLOURS.get(method, style.CYCLE[i % len(style.CYCLE)])
      dashes = style.LINE_STYLES[number % len(style.LINE_STYLES)] if ticks is None else 'none'
      x, mean, spread = np.asarray(x, float), 100 * np.asarray(mean), 100 * np.nan_to_num(np.asarray(sd))
      if ticks is None:
        axes.fill_between(x, mean - spread, mean + spread, color=colour, alpha=0.18, linewidth=0)
      else:
        x = x + 0.6 * ((i + 0.5) / len(lines) - 0.5)  # Side by side.
        axes.errorbar(x, mean, yerr=spread, fmt='none', ecolor=colour, elinewidth=1.2, capsize=2.5)
      axes.plot(x, mean, color=colour, linestyle=dashes, marker='o', markersize=4, label=name)
    axes.set_title(title, fontsize=10, color=style.TEXT)
    axes.set_xlabel(xlabel)
    axes.set_ylim(0, 103)
    axes.grid(axis='y', color=style.GRID, linewidth=0.8)
    settings = sorted({float(x) for line in lines.values() for x in line[0]})
    if ticks is None and len(settings) <= MOST_TICKS:
      axes.set_xticks(settings)
    if ticks is not None:
      axes.set_xticks(range(len(ticks)), ticks, rotation=20 if len(ticks) > 3 else 0)
  all_axes[0].set_ylabel('accuracy, %')
  handles, names = all_axes[0].get_legend_handles_labels()
  if handles:
    figure.legend(handles, names, loc='outside right center', frameon=False, fontsize=9, handlelength=3.2)
  return style.save(path, figure)
