"""The figure of the curves of cost."""

import os
import pathlib
from collections.abc import Sequence
from typing import Any

from advmix_jax.report import style

TITLES = {
  'batch': 'images in a batch',
  'restarts': 'restarts, 7 steps each',
  'steps': 'steps, 5 restarts',
  'resolution': 'pixels of a side',
  'devices': 'devices, one batch',
}
LOOKS = {'attack': (style.CYCLE[1], '-', 'o'), 'GAN step': (style.CYCLE[0], '--', 's')}


def save_cost_curves(path: str | os.PathLike, rows: Sequence[dict[str, Any]]) -> pathlib.Path:
  """One panel for each curve: images per second, both axes logarithmic, quartiles as bars.

  Args:
    path: PNG to write.
    rows: as `curves.curves` returns them, at least one.

  Returns:
    The path.
  """
  names = list(dict.fromkeys(row['curve'] for row in rows))
  figure = style.new_figure(3.1 * len(names) + 0.4, 3.2)
  for i, name in enumerate(names):
    axes = figure.add_subplot(1, len(names), i + 1)
    style.plain_axes(axes)
    for line in dict.fromkeys(row['case'] for row in rows if row['curve'] == name):
      points = [row for row in rows if (row['curve'], row['case']) == (name, line)]
      values, rates = [row['value'] for row in points], [row['images_per_sec'] for row in points]
      # The lower quartile of the seconds is the upper one of the rate.
      images = [row['images_per_sec'] * row['seconds'] for row in points]
      ends = [[n / q for q in row['seconds_quartiles']] for n, row in zip(images, points, strict=True)]
      errors = [
        [max(0.0, rate - low) for rate, (_, low) in zip(rates, ends, strict=True)],
        [max(0.0, high - rate) for rate, (high, _) in zip(rates, ends, strict=True)],
      ]
      colour, dashes, marker = LOOKS[line]
      axes.errorbar(
        values, rates, yerr=errors, color=colour, linestyle=dashes, marker=marker, capsize=2.5, label=line
      )
    axes.set_xscale('log', base=2)
    axes.set_yscale('log')
    axes.set_xticks(ticks := sorted({row['value'] for row in rows if row['curve'] == name}), map(str, ticks))
    axes.minorticks_off()
    axes.grid(color=style.GRID, linewidth=0.8)
    is_simulated = any(row.get('simulated') for row in rows if row['curve'] == name)
    axes.set_xlabel(TITLES[name] + (' (simulated: they share the cores)' if is_simulated else ''), fontsize=9)
    if i == 0:
      axes.set_ylabel('images per second')
      axes.legend(frameon=False, fontsize=9)
  return style.save(path, figure)
