"""The figures of the stage diagnose that have axes, each function writing one PNG from the stage's numbers.

    save_classes            classes of generated images, and of their data
    save_levels             agreement of the reference, and what mixing changes, by level
    save_reconstructions    accuracy on originals and on reconstructions, by the encoder's error
    save_colours            colours of training images, random mixes and test; share of the test's reached
    save_strength           accuracy under perturbation by restarts, steps and radius
    save_losses             loss along the first restart

Shares are given in [0, 1] and shown in per cent.
"""

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import rgb_to_hsv

from advmix_jax.report import style

MARKERS = ('o', 's', '^', 'D')


def save_classes(path: str | os.PathLike, found: Mapping[str, Any]) -> pathlib.Path:
  """Draws how often each class is generated, beside how often the data has it.

  Args:
    path: file to write.
    found: of the part classes of `diagnostics.json`.

  Returns:
    The path.
  """
  figure = style.new_figure(8.0, 3.6)
  axes = figure.subplots()
  _panel(axes, 'class')
  at = np.arange(len(found['names']))
  axes.bar(at - 0.2, _percent(found['data']), 0.4, color=style.QUIET, label="the generator's data")
  axes.bar(at + 0.2, _percent(found['drawn']), 0.4, color=style.CYCLE[0], label='generated images')
  axes.set_xticks(at, found['names'])
  axes.set_ylabel('share, %')
  axes.set_title(f'{100 * found["overlap"]:.0f} % of the two distributions is in common', fontsize=10)
  _legend(figure, axes)
  return style.save(path, figure)


def save_levels(path: str | os.PathLike, found: Mapping[str, Any]) -> pathlib.Path:
  """Draws agreement, and how much of the picture changes, against the mixing level.

  Args:
    path: file to write.
    found: of the part levels of `diagnostics.json`.

  Returns:
    The path.
  """
  figure = style.new_figure(11.0, 4.3)
  left, right = figure.subplots(1, 2, squeeze=False)[0]
  levels = np.array(found['levels'])
  for i, (name, line) in enumerate(found['lines'].items()):
    look: dict[str, Any] = {'color': style.CYCLE[i], 'linestyle': style.LINE_STYLES[i], 'marker': MARKERS[i]}
    agreement, error = 100 * np.array(line['agreement']), 100 * np.array(line['standard_error'])
    left.errorbar(levels, agreement, yerr=1.96 * error, capsize=2.5, markersize=5, label=name, **look)
    right.plot(levels, 100 * np.array(line['changed']), markersize=5, **look)
  control = found['recoloured_originals']
  if control is not None:
    title = 'originals, truly recoloured'
    left.axhline(100 * control, color=style.QUIET, linewidth=1.2, linestyle='--', label=title)
  left.axhline(
    100 * found['threshold'], color=style.WRONG, linewidth=1.2, linestyle=':', label='enough for a suggestion'
  )
  suggested = found['suggested_level']
  words = f'this run: {found["run_level"]}' + (
    f', suggested: {suggested}'
    if suggested is not None
    else f', none suggested; most is lost below {found["falls_most_below"]}'
  )
  for axes in (left, right):
    _panel(axes, 'mixing level: rows of the latents that are kept')
    axes.axvspan(found['run_level'] - 0.12, found['run_level'] + 0.12, color=style.GRID, zorder=0)
    axes.set_xticks(levels, [*map(str, levels[:-1]), f'{levels[-1]}\n(all)'])
    axes.set_ylim(0, None)
  left.set_ylim(0, 103)
  left.set_ylabel('reference sees the same class, %')
  right.set_ylabel('change, % of that between two images')
  left.set_title(f'Does the class survive? ({words})', fontsize=10)
  right.set_title('What does mixing change?', fontsize=10)
  _legend(figure, left)
  return style.save(path, figure)


def save_reconstructions(path: str | os.PathLike, found: Mapping[str, Any]) -> pathlib.Path:
  """Draws accuracy on originals and reconstructions against the pixel error, a panel for each part.

  Args:
    path: file to write.
    found: of the part encoder of `diagnostics.json`.

  Returns:
    The path.
  """
  figure = style.new_figure(11.0, 4.3)
  for axes, (part, numbers) in zip(
    figure.subplots(1, len(found), squeeze=False)[0], found.items(), strict=True
  ):
    _panel(axes, 'pixel error of the reconstruction: medians of quarters of the images')
    at = np.arange(len(numbers['error_of_group']))
    for i, (name, accuracy) in enumerate(numbers['accuracy'].items()):
      look: dict[str, Any] = {'color': _colour(name, i), 'marker': MARKERS[i % len(MARKERS)], 'markersize': 5}
      title = style.method_title(name)
      axes.plot(at, _percent(accuracy['reconstructions_by_group']), label=f'{title}, reconstructions', **look)
      axes.plot(
        at,
        _percent(accuracy['originals_by_group']),
        label=f'{title}, originals',
        linestyle=':',
        **look | {'markerfacecolor': 'white'},
      )
    axes.set_xticks(at, [f'{error:.2g}' for error in numbers['error_of_group']])
    axes.set_ylim(0, 103)
    axes.set_ylabel('accuracy, %')
    axes.set_title(
      f'{part}: {numbers["num_images"]} images\nmedian error of all {numbers["num_encoded"]}: '
      f'{numbers["quantiles"]["0.5"]:.2g} of a variance of {numbers["variance_of_images"]:.2g}',
      fontsize=9,
    )
  _legend(figure, axes)
  return style.save(path, figure)


def save_colours(
  path: str | os.PathLike, points: Mapping[str, np.ndarray], found: Mapping[str, Any]
) -> pathlib.Path:
  """Draws colours as points in their own colours, and the share of those of the test that are reached.

  Args:
    path: file to write.
    points: `[N, 3]` RGB in [0, 1] by name.
    found: of the part nuisance of `diagnostics.json`.

  Returns:
    The path.
  """
  figure = style.new_figure(11.0, 6.6)
  all_axes = figure.subplots(2, 3, squeeze=False)
  for axes, (name, rgb) in zip(all_axes[0], points.items(), strict=True):
    hsv = rgb_to_hsv(np.clip(rgb, 0, 1))
    _panel(axes, 'hue, degrees')
    axes.scatter(360 * hsv[:, 0], hsv[:, 1], c=np.clip(rgb, 0, 1), s=9, linewidths=0)
    axes.set_xlim(-5, 365)
    axes.set_ylim(-0.03, 1.03)
    axes.set_xticks(range(0, 361, 60))
    told = found['class_from_colour'][name]
    axes.set_title(f'{name} ({len(rgb)})\ncolour tells the class of {100 * told:.0f} %', fontsize=9)
  all_axes[0, 0].set_ylabel('saturation')
  covered, values, hues = all_axes[1]
  for i, (name, line) in enumerate(found['covered_by_distance'].items()):
    look: dict[str, Any] = {'color': style.CYCLE[i], 'linestyle': style.LINE_STYLES[i]}
    label = f'{name}: {100 * found["covered"][name]:.0f} %'
    covered.plot(found['distances'], _percent(line), label=label, **look)
  _panel(covered, 'distance to the nearest colour (RGB in [0, 1])')
  covered.axvline(found['distance'], color=style.QUIET, linewidth=1, linestyle=':')
  covered.set_ylim(0, 103)
  covered.set_ylabel('share of test colours, %')
  covered.set_title(f'Reached within {found["distance"]:g}', fontsize=9)
  covered.legend(loc='lower right', framealpha=0.9, edgecolor='white', fontsize=8)
  for axes, channel, words in ((values, 2, 'value (brightness)'), (hues, 0, 'hue, degrees')):
    _panel(axes, words)
    scale = 360 if channel == 0 else 1
    for i, (name, rgb) in enumerate(points.items()):
      shares, edges = np.histogram(rgb_to_hsv(np.clip(rgb, 0, 1))[:, channel], 18, (0, 1))
      axes.stairs(
        100 * shares / len(rgb),
        scale * edges,
        color=style.CYCLE[i],
        linestyle=style.LINE_STYLES[i],
        linewidth=1.5,
        label=name,
      )
    axes.set_ylabel('share of images, %')
  values.legend(loc='upper left', frameon=False, fontsize=8)
  return style.save(path, figure)


def save_strength(path: str | os.PathLike, found: Mapping[str, Any]) -> pathlib.Path:
  """Draws accuracy under perturbation against restarts, steps and radius, a line for each classifier.

  Args:
    path: file to write.
    found: of the part attack of `diagnostics.json`.

  Returns:
    The path.
  """
  figure = style.new_figure(13.0, 4.1)
  axis = found['axes']
  restarts, steps, radius = figure.subplots(1, 3, sharey=True, squeeze=False)[0]
  for i, (method, numbers) in enumerate(found['methods'].items()):
    title = style.method_title(method)
    look: dict[str, Any] = {'color': _colour(method, i), 'marker': MARKERS[i % len(MARKERS)], 'markersize': 5}
    restarts.plot(axis['restarts'], _percent(numbers['by_restarts']), label=title, **look)
    restarts.plot(
      axis['restarts'],
      _percent(numbers['by_restarts_without_steps']),
      label=f'{title}, random mixes alone (K = 0)',
      linestyle=':',
      **look | {'markerfacecolor': 'white'},
    )
    steps.plot(np.arange(len(axis['steps'])), _percent(numbers['by_steps']), **look)
    radius.plot(np.arange(len(axis['epsilons'])), _percent(numbers['by_epsilon']), **look)
  _panel(restarts, f'restarts Nr, with K = {axis["num_steps"]}')
  _panel(steps, f'steps K, with Nr = {axis["num_restarts"]}')
  _panel(radius, f'radius epsilon, with Nr = {axis["num_restarts"]}, K = {axis["num_steps"]}')
  restarts.set_xscale('log')
  restarts.set_xticks(axis['restarts'], [str(n) for n in axis['restarts']])
  restarts.minorticks_off()
  steps.set_xticks(range(len(axis['steps'])), [str(k) for k in axis['steps']])
  radius.set_xticks(range(len(axis['epsilons'])), [f'{e:g}' for e in axis['epsilons']])
  here = (
    axis['num_restarts'],
    axis['steps'].index(axis['num_steps']),
    axis['epsilons'].index(axis['epsilon']),
  )
  for axes, x in zip((restarts, steps, radius), here, strict=True):
    axes.axvline(x, color=style.QUIET, linewidth=1, linestyle=(0, (1, 1)))
    axes.set_ylim(0, 103)
  restarts.set_ylabel('accuracy under perturbation, %')
  number = next(iter(found['methods'].values()))['num_images']
  steps.set_title(f'{number} images; vertical lines: as in the stage evaluate', fontsize=9)
  _legend(figure, restarts)
  return style.save(path, figure)


def save_losses(path: str | os.PathLike, found: Mapping[str, Any]) -> pathlib.Path:
  """Draws the loss at every step of the first restart: mean, median, and two bands, a panel each.

  Args:
    path: file to write.
    found: of the part attack of `diagnostics.json`.

  Returns:
    The path.
  """
  methods = found['methods']
  figure = style.new_figure(4.0 * len(methods) + 1.6, 3.8)
  for i, (axes, (method, numbers)) in enumerate(
    zip(figure.subplots(1, len(methods), squeeze=False)[0], methods.items(), strict=True)
  ):
    loss, colour = numbers['loss'], _colour(method, i)
    at = np.arange(len(loss['mean']))
    for low, high, alpha, name in (('0.05', '0.95', 0.13, '5 to 95 %'), ('0.25', '0.75', 0.28, '25 to 75 %')):
      ends = loss['quantiles'][low], loss['quantiles'][high]
      axes.fill_between(at, *ends, color=colour, alpha=alpha, linewidth=0, label=f'{name} of the images')
    axes.plot(at, loss['mean'], color=colour, linewidth=1.8, label='mean')
    axes.plot(at, loss['quantiles']['0.5'], color=colour, linewidth=1.2, linestyle='--', label='median')
    _panel(axes, 'step of the first restart')
    axes.axvline(found['axes']['num_steps'], color=style.QUIET, linewidth=1, linestyle=':')
    axes.set_title(style.method_title(method), fontsize=10)
    axes.set_ylim(0, None)
    if not i:
      axes.set_ylabel('loss (cross-entropy)')
  _legend(figure, axes)
  return style.save(path, figure)


def _panel(axes: Axes, xlabel: str) -> None:
  style.plain_axes(axes)
  axes.grid(axis='y', color=style.GRID, linewidth=0.8)
  axes.set_xlabel(xlabel, fontsize=9)


def _legend(figure: Any, axes: Axes) -> None:
  figure.legend(
    *axes.get_legend_handles_labels(), loc='outside right center', frameon=False, fontsize=8, handlelength=3.2
  )


def _percent(shares: Sequence[float]) -> np.ndarray:
  return 100 * np.asarray(shares, np.float64)


def _colour(name: str, number: int) -> str:
  own = {'reference': style.CYCLE[2]}
  return style.METHOD_COLOURS.get(name, own.get(name, style.CYCLE[number % len(style.CYCLE)]))
