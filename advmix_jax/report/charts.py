"""The figures of a report that have axes, each function writing one PNG.

    save_method_bars        Tables 3 and 4 as bars: clean accuracy and accuracy under perturbation
    save_curves             a quantity against time, one line per name (classifier and GAN losses)
    save_scatter_panels     Figure 4: points of the plane, coloured by label

Accuracies are given in [0, 1] and shown in per cent.
"""

import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.container import BarContainer
from matplotlib.lines import Line2D
from matplotlib.patches import Ellipse

from advmix_jax.report import style


def wilson_interval(accuracy: float, num_examples: int) -> tuple[float, float]:
  """Where the true accuracy lies with 95 % confidence, given the share found (Wilson's score).

  Args:
    accuracy: share found, in [0, 1].
    num_examples: number of examples it was found on, at least 1.

  Returns:
    Lower and upper end, in [0, 1].
  """
  if num_examples < 1 or not 0 <= accuracy <= 1:
    raise ValueError(f'accuracy is {accuracy} of {num_examples} examples, expected [0, 1] of at least 1')
  z2 = 1.959963984540054**2
  centre = (accuracy + z2 / (2 * num_examples)) / (1 + z2 / num_examples)
  spread = accuracy * (1 - accuracy) / num_examples + z2 / (4 * num_examples**2)
  half = math.sqrt(z2 * spread) / (1 + z2 / num_examples)
  return max(0.0, min(accuracy, centre - half)), min(1.0, max(accuracy, centre + half))


def save_method_bars(
  path: str | os.PathLike,
  names: Sequence[str],
  clean: Sequence[float],
  perturbed: Sequence[float],
  *,
  worst_class: Sequence[float] | None = None,
  num_clean: int | None = None,
  num_perturbed: int | None = None,
  chance: float | None = None,
) -> pathlib.Path:
  """Draws accuracy by method (Tables 3 and 4): a clean and a perturbed bar each.

  Args:
    path: file to write.
    names: keys of the methods, in the order to be drawn.
    clean: `[len(names)]` in [0, 1], accuracy on the original test images.
    perturbed: `[len(names)]` in [0, 1], accuracy under the evaluation attack.
    worst_class: `[len(names)]` in [0, 1], clean accuracy of the worst class, drawn as a mark; None for none.
    num_clean: test images behind `clean`: draws 95 % intervals; None for none.
    num_perturbed: the same for `perturbed`.
    chance: accuracy of guessing, drawn as a line; None for none.

  Returns:
    The path.
  """
  figure = style.new_figure(max(6.0, 1.15 * len(names) + 1.2), 4.0)
  axes = figure.add_subplot()
  style.plain_axes(axes)
  x = np.arange(len(names))
  _bars(axes, x - 0.2, clean, num_clean, label='clean', color=style.CLEAN_COLOUR)
  attacked = 'under perturbation'
  _bars(axes, x + 0.2, perturbed, num_perturbed, label=attacked, color=style.PERTURBED_COLOUR, hatch='///')
  if worst_class is not None:
    mark: dict[str, Any] = {'marker': 'D', 'markersize': 5.5, 'color': 'white', 'markeredgecolor': style.TEXT}
    worst, label = 100 * np.asarray(worst_class), 'worst class, clean'
    axes.plot(x - 0.2, worst, linestyle='none', label=label, zorder=4, clip_on=False, **mark)
  if chance is not None:
    label = f'guessing ({100 * chance:.0f} %)'
    axes.axhline(100 * chance, color=style.QUIET, linewidth=1, linestyle=':', label=label)
  axes.set_xticks(x, [style.method_title(name) for name in names])
  axes.set_ylim(0, 108)
  axes.set_yticks(range(0, 101, 20))
  axes.set_ylabel('test accuracy, %')
  axes.grid(axis='y', color=style.GRID, linewidth=0.8)
  entries = sorted(
    zip(*axes.get_legend_handles_labels(), strict=True),
    key=lambda entry: not isinstance(entry[0], BarContainer),
  )
  place: dict[str, Any] = {'loc': 'lower center', 'bbox_to_anchor': (0.5, 1.0), 'ncols': 4}
  axes.legend(*zip(*entries, strict=True), frameon=False, fontsize=9, **place)
  return style.save(path, figure)


def _bars(axes: Axes, x: np.ndarray, shares: Sequence[float], count: int | None, **look: Any) -> None:
  """Bars of shares in [0, 1] with their numbers, and intervals where it is known how many were counted."""
  percent = 100 * np.asarray(shares, np.float64)
  axes.bar(x, percent, 0.36, edgecolor='white', linewidth=0, **look)
  tops = percent
  if count:
    ends = 100 * np.array([wilson_interval(share, count) for share in shares])
    errors = np.abs(ends.T - percent)
    axes.errorbar(x, percent, yerr=errors, fmt='none', ecolor=style.TEXT, elinewidth=1, capsize=2.5)
    tops = ends[:, 1]
  for xi, value, top in zip(x, percent, tops, strict=True):
    axes.text(xi, top + 1.2, f'{value:.1f}', ha='center', va='bottom', fontsize=8, color=style.TEXT)


def save_curves(
  path: str | os.PathLike,
  curves: Mapping[str, tuple[np.ndarray, np.ndarray]],
  *,
  xlabel: str,
  ylabel: str,
  log_y: bool = False,
) -> pathlib.Path:
  """Draws one line per name: the values faintly, their moving average over them where there are many.

  Args:
    path: file to write.
    curves: name to (`[T]` position, `[T]` value); values that are not finite leave a gap. Methods of the
      paper get their own colour.
    xlabel: what the positions are, with unit.
    ylabel: what the values are, with unit.
    log_y: draw values on a logarithmic axis.

  Returns:
    The path.
  """
  figure = style.new_figure(7.4, 3.8)
  axes = figure.add_subplot()
  style.plain_axes(axes)
  for i, (name, (position, value)) in enumerate(curves.items()):
    position, value = np.asarray(position, np.float64), np.asarray(value, np.float64)
    if position.shape != value.shape or position.ndim != 1:
      raise ValueError(f'curve {name!r} has positions {list(position.shape)} and values {list(value.shape)}')
    colour = style.METHOD_COLOURS.get(name, style.CYCLE[i % len(style.CYCLE)])
    smooth = _moving_average(value, max(1, len(value) // 25))
    if len(value) >= 50:
      axes.plot(position, value, color=colour, linewidth=0.6, alpha=0.25)
    dashes = style.LINE_STYLES[i % len(style.LINE_STYLES)]
    title = style.method_title(name)
    axes.plot(position, smooth, color=colour, linewidth=1.8, linestyle=dashes, label=title)
  if log_y:
    axes.set_yscale('log')
  axes.set_xlabel(xlabel)
  axes.set_ylabel(ylabel)
  axes.grid(color=style.GRID, linewidth=0.8)
  axes.margins(x=0.01)
  if curves:
    axes.legend(loc='center left', bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=9, handlelength=3.2)
  return style.save(path, figure)


def save_scatter_panels(
  path: str | os.PathLike,
  panels: Mapping[str, tuple[np.ndarray, np.ndarray]],
  means: np.ndarray,
  deviations: np.ndarray,
) -> pathlib.Path:
  """Draws points of two classes, one panel each, on the same axes (Figure 4).

  Args:
    path: file to write.
    panels: title to (`[N, 2]` points (x1, x2), `[N]` probability of class 1); a label between 0 and 1 takes
      a colour between those of the classes and the mark of the likelier one.
    means: `[M, 2]` true modes.
    deviations: `[2]` standard deviations of x1 and x2; three of them are drawn around each mode.

  Returns:
    The path.
  """
  figure = style.new_figure(4.0 * len(panels), 4.1)
  zero, between, one = style.CLEAN_COLOUR, '#b8b8b8', style.METHOD_COLOURS['advmix']
  colours = LinearSegmentedColormap.from_list('labels', [zero, between, one])
  spread: dict[str, Any] = {
    'edgecolor': style.QUIET,
    'linestyle': '--',
    'linewidth': 1,
    'fill': False,
    'zorder': 3,
  }
  all_axes = figure.subplots(1, len(panels), sharex=True, sharey=True, squeeze=False)[0]
  for axes, (title, (points, labels)) in zip(all_axes, panels.items(), strict=True):
    style.plain_axes(axes)
    points, labels = np.asarray(points), np.asarray(labels)
    for mean in means:
      axes.add_patch(Ellipse(mean, *(6 * np.asarray(deviations)), **spread))
    for chosen, marker in ((labels <= 0.5, 'o'), (labels > 0.5, '^')):
      look: dict[str, Any] = {
        'c': colours(labels[chosen]),
        'marker': marker,
        's': 14,
        'alpha': 0.6,
        'linewidths': 0,
      }
      axes.scatter(points[chosen, 0], points[chosen, 1], **look)
    axes.set_title(title, fontsize=10, color=style.TEXT)
    axes.set_xlabel('x1 (does not depend on the label)', fontsize=9)
  all_axes[0].set_ylabel('x2 (carries the label)', fontsize=9)
  keys = [
    Line2D([], [], linestyle='none', marker='o', color=zero, label='class 0'),
    Line2D([], [], linestyle='none', marker='^', color=one, label='class 1'),
    Line2D([], [], linestyle='none', marker='D', color=between, label='label in between'),
    Line2D([], [], linestyle='--', color=style.QUIET, label='3 standard deviations'),
  ]
  figure.legend(handles=keys, loc='outside lower center', ncols=4, frameon=False, fontsize=9)
  return style.save(path, figure)


def _moving_average(values: np.ndarray, width: int) -> np.ndarray:
  """Centred mean over `width` values, fewer at the ends, leaving out what is not finite."""
  if width <= 1:
    return values
  finite = np.isfinite(values)
  kernel = np.ones(width)
  total = np.convolve(np.where(finite, values, 0), kernel, mode='same')
  count = np.convolve(finite.astype(float), kernel, mode='same')
  return np.where(finite, total / np.maximum(count, 1), np.nan)
