"""The labelled figures of a report, one function per figure of the paper, each writing one PNG.

    save_method_bars            Tables 3 and 4 as bars: clean accuracy and accuracy under perturbation
    save_curves                 a quantity against time, one line per name (classifier and GAN losses)
    save_mixed_pairs            Figure 2: mixup, Cutout and CutMix side by side
    save_scatter_panels         Figure 4: points of the plane, coloured by label
    save_encoder_progress       Figure 5: images, their reconstruction by Algorithm 1, mixed variants
    save_mean_colours           Figure 6: the mean colour of each class
    save_attack_panel           Figures 8, 9, 10: original, variant and rescaled difference
    save_generated_panel        Figure 11: the same for generated images, with probabilities

Images are uint8 NHWC and drawn without interpolation; accuracies and probabilities are given in [0, 1] and
shown in per cent. Colours are told apart with any kind of colour vision (Okabe and Ito's palette); nothing is
said by colour alone. Figures are built from matplotlib's objects: there is no global state, so drawing is
safe in threads and beside a user's own pyplot.
"""

import dataclasses
import io
import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Ellipse, Rectangle

from advmix_jax.report import grids

_DPI = 144
_TEXT = '#222222'
_QUIET = '#666666'
_WRONG = '#b54600'  # Vermilion, dark enough for text on white.
CLEAN_COLOUR = '#0072b2'
PERTURBED_COLOUR = '#e69f00'
METHOD_COLOURS = {
  'nominal': '#4d4d4d',
  'mixup': '#56b4e9',
  'cutout': '#009e73',
  'cutmix': '#e69f00',
  'at': '#0072b2',
  'randmix': '#cc79a7',
  'advmix': '#d55e00',
}
_CYCLE = ('#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9', '#4d4d4d')
_LINE_STYLES = ('-', '--', '-.', (0, (1, 1)), (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)), (0, (3, 3)))
METHOD_TITLES = {
  'nominal': 'Nominal',
  'mixup': 'mixup',
  'cutout': 'Cutout',
  'cutmix': 'CutMix',
  'at': 'AT',
  'randmix': 'RandMix',
  'advmix': 'AdvMix',
}


@dataclasses.dataclass(frozen=True)
class Variants:
  """One method's changed versions of the originals of an attack panel.

  Attributes:
    name: the method as readers know it.
    images: `[C, H, W, 3]` uint8.
    predicted: `[C]` int, the class the attacked net gives each, or None to leave it out.
  """

  name: str
  images: np.ndarray
  predicted: np.ndarray | None = None


def method_title(name: str) -> str:
  """A method's name as the paper writes it; names it does not know are returned as they are."""
  return METHOD_TITLES.get(name, name)


def rescaled_difference(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """`b - a`, centred at grey and scaled so that the largest absolute difference of each image is full scale.

  Args:
    a: `[..., H, W, 3]` uint8.
    b: the same shape, uint8.

  Returns:
    pictures: `[..., H, W, 3]` uint8; 128 is no change, 255 and 0 are plus and minus `scale`.
    scale: `[...]` int64, each image's largest absolute difference in grey levels of 255; 0 where `a` is `b`.

  Raises:
    ValueError: if the two do not match.
  """
  a, b = np.asarray(a), np.asarray(b)
  if a.shape != b.shape or a.dtype != np.uint8 or b.dtype != np.uint8 or a.ndim < 3:
    raise ValueError(
      f'a is {a.dtype} {list(a.shape)} and b {b.dtype} {list(b.shape)}, expected uint8 [..., H, W, 3] twice'
    )
  difference = b.astype(np.int64) - a.astype(np.int64)
  scale = np.abs(difference).max(axis=(-3, -2, -1))
  unit = difference / np.maximum(scale, 1)[..., None, None, None]
  return np.rint(127.5 + 127.5 * unit).astype(np.uint8), scale


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
  figure = _figure(max(6.0, 1.15 * len(names) + 1.2), 4.0)
  axes = figure.add_subplot()
  _plain(axes)
  x = np.arange(len(names))
  groups = (
    ('clean', clean, CLEAN_COLOUR, None, -0.2, num_clean),
    ('under perturbation', perturbed, PERTURBED_COLOUR, '///', 0.2, num_perturbed),
  )
  for label, values, colour, hatch, offset, count in groups:
    shares = np.asarray(values, np.float64)
    percent = 100 * shares
    axes.bar(
      x + offset, percent, 0.36, color=colour, hatch=hatch, edgecolor='white', linewidth=0, label=label
    )
    tops = percent
    if count:
      ends = 100 * np.array([wilson_interval(share, count) for share in shares])
      errors = np.abs(ends.T - percent)
      axes.errorbar(x + offset, percent, yerr=errors, fmt='none', ecolor=_TEXT, elinewidth=1, capsize=2.5)
      tops = ends[:, 1]
    for xi, value, top in zip(x + offset, percent, tops, strict=True):
      axes.text(xi, top + 1.2, f'{value:.1f}', ha='center', va='bottom', fontsize=8, color=_TEXT)
  if worst_class is not None:
    worst = 100 * np.asarray(worst_class)
    axes.plot(
      x - 0.2,
      worst,
      linestyle='none',
      marker='D',
      markersize=5.5,
      color='white',
      markeredgecolor=_TEXT,
      label='worst class, clean',
      zorder=4,
      clip_on=False,
    )
  if chance is not None:
    axes.axhline(
      100 * chance, color=_QUIET, linewidth=1, linestyle=':', label=f'guessing ({100 * chance:.0f} %)'
    )
  axes.set_xticks(x, [method_title(name) for name in names])
  axes.set_ylim(0, 108)
  axes.set_yticks(range(0, 101, 20))
  axes.set_ylabel('test accuracy, %')
  axes.grid(axis='y', color='#e5e5e5', linewidth=0.8)
  handles, labels = axes.get_legend_handles_labels()
  order = sorted(range(len(labels)), key=lambda i: not isinstance(handles[i], BarContainer))
  axes.legend(
    [handles[i] for i in order],
    [labels[i] for i in order],
    loc='lower center',
    bbox_to_anchor=(0.5, 1.0),
    ncols=4,
    frameon=False,
    fontsize=9,
  )
  return _save(path, figure)


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
  figure = _figure(7.4, 3.8)
  axes = figure.add_subplot()
  _plain(axes)
  for i, (name, (position, value)) in enumerate(curves.items()):
    position, value = np.asarray(position, np.float64), np.asarray(value, np.float64)
    if position.shape != value.shape or position.ndim != 1:
      raise ValueError(f'curve {name!r} has positions {list(position.shape)} and values {list(value.shape)}')
    colour = METHOD_COLOURS.get(name, _CYCLE[i % len(_CYCLE)])
    smooth = _moving_average(value, max(1, len(value) // 25))
    if len(value) >= 50:
      axes.plot(position, value, color=colour, linewidth=0.6, alpha=0.25)
    style = _LINE_STYLES[i % len(_LINE_STYLES)]
    axes.plot(position, smooth, color=colour, linewidth=1.8, linestyle=style, label=method_title(name))
  if log_y:
    axes.set_yscale('log')
  axes.set_xlabel(xlabel)
  axes.set_ylabel(ylabel)
  axes.grid(color='#e5e5e5', linewidth=0.8)
  axes.margins(x=0.01)
  if curves:
    axes.legend(loc='center left', bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=9, handlelength=3.2)
  return _save(path, figure)


def save_mean_colours(
  path: str | os.PathLike, colours: np.ndarray, class_names: Sequence[str], *, per_row: int = 10
) -> pathlib.Path:
  """Draws the mean colour of each class as a swatch with its class (Figure 6).

  Args:
    path: file to write.
    colours: `[K, 3]` in [0, 1], red, green, blue.
    class_names: `[K]` names.
    per_row: swatches in a row.

  Returns:
    The path.
  """
  colours = np.asarray(colours, np.float64)
  if colours.ndim != 2 or colours.shape[1] != 3 or len(colours) != len(class_names):
    raise ValueError(f'colours are {list(colours.shape)} for {len(class_names)} classes, expected [K, 3]')
  swatches = np.rint(255 * np.clip(colours, 0, 1)).astype(np.uint8)[:, None, None, :]
  rows = []
  for start in range(0, len(swatches), per_row):
    part = slice(start, start + per_row)
    captions = [
      f'{name}\n#{r:02x}{g:02x}{b:02x}'
      for name, (r, g, b) in zip(class_names[part], swatches[part, 0, 0], strict=True)
    ]
    rows.append(_Row('Class' if not start else '', list(swatches[part]), captions))
  return _save(path, _panel(rows, cell=96))


def save_mixed_pairs(
  path: str | os.PathLike,
  first: np.ndarray,
  second: np.ndarray,
  mixup: np.ndarray,
  cutout: np.ndarray,
  cutmix: np.ndarray,
) -> pathlib.Path:
  """Draws what the three augmentations make of two images (Figure 2), one pair per row.

  Args:
    path: file to write.
    first, second: `[R, H, W, 3]` uint8, the sources.
    mixup, cutout, cutmix: `[R, H, W, 3]` uint8, the results; Cutout's comes from `first` alone.

  Returns:
    The path.
  """
  given = (first, second, mixup, cutout, cutmix)
  columns = [grids.check_images('an image column', column, 4) for column in given]
  if len({column.shape for column in columns}) != 1:
    raise ValueError(f'columns are {[list(column.shape) for column in columns]}, expected equal shapes')
  headings = ['Image A', 'Image B', 'mixup', 'Cutout', 'CutMix']
  rows = [_Row('', [column[r] for column in columns]) for r in range(len(first))]
  return _save(path, _panel(rows, headings=headings, wide_gaps=(2,)))


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
  figure = _figure(4.0 * len(panels), 4.1)
  colours = LinearSegmentedColormap.from_list('labels', [CLEAN_COLOUR, '#b8b8b8', METHOD_COLOURS['advmix']])
  all_axes = figure.subplots(1, len(panels), sharex=True, sharey=True, squeeze=False)[0]
  for axes, (title, (points, labels)) in zip(all_axes, panels.items(), strict=True):
    _plain(axes)
    points, labels = np.asarray(points), np.asarray(labels)
    for mean in means:
      size = 6 * np.asarray(deviations)
      axes.add_patch(
        Ellipse(mean, *size, fill=False, edgecolor=_QUIET, linestyle='--', linewidth=1, zorder=3)
      )
    for heavier, marker in ((0, 'o'), (1, '^')):
      chosen = (labels > 0.5) == bool(heavier)
      style = {'c': colours(labels[chosen]), 'marker': marker, 's': 14, 'alpha': 0.6, 'linewidths': 0}
      axes.scatter(points[chosen, 0], points[chosen, 1], **style)
    axes.set_title(title, fontsize=10, color=_TEXT)
    axes.set_xlabel('x1 (does not depend on the label)', fontsize=9)
  all_axes[0].set_ylabel('x2 (carries the label)', fontsize=9)
  keys = [
    Line2D([], [], linestyle='none', marker='o', color=CLEAN_COLOUR, label='class 0'),
    Line2D([], [], linestyle='none', marker='^', color=METHOD_COLOURS['advmix'], label='class 1'),
    Line2D([], [], linestyle='none', marker='D', color='#b8b8b8', label='label in between'),
    Line2D([], [], linestyle='--', color=_QUIET, label='3 standard deviations'),
  ]
  figure.legend(handles=keys, loc='outside lower center', ncols=4, frameon=False, fontsize=9)
  return _save(path, figure)


def save_encoder_progress(
  path: str | os.PathLike,
  originals: np.ndarray,
  reconstructions: np.ndarray,
  steps: Sequence[int],
  variants: np.ndarray,
  *,
  labels: Sequence[str] | None = None,
) -> pathlib.Path:
  """Draws Algorithm 1 at work (Figure 5): image, reconstructions at some steps, then mixed variants.

  Args:
    path: file to write.
    originals: `[R, H, W, 3]` uint8.
    reconstructions: `[R, S, H, W, 3]` uint8, `dec(w)` after `steps[s]` steps.
    steps: `[S]` step numbers.
    variants: `[R, V, H, W, 3]` uint8, `dec(w_par, map(z)_perp)` for V draws of z, w from the last step.
    labels: `[R]` words before each row; None for none.

  Returns:
    The path.
  """
  originals = grids.check_images('originals', originals, 4)
  reconstructions = grids.check_images('reconstructions', reconstructions, 5)
  variants = grids.check_images('variants', variants, 5)
  num, size = originals.shape[0], originals.shape[1:]
  if reconstructions.shape != (num, len(steps), *size) or (num, *size) != (
    len(variants),
    *variants.shape[2:],
  ):
    raise ValueError(
      f'reconstructions are {list(reconstructions.shape)} and variants {list(variants.shape)}; '
      f'for {num} originals of {list(size)} and {len(steps)} steps, '
      f'expected {[num, len(steps), *size]} and {[num, "V", *size]}'
    )
  rows = [
    _Row(labels[r] if labels else '', [originals[r], *reconstructions[r], *variants[r]]) for r in range(num)
  ]
  headings = ['Original', *(f'Step {step}' for step in steps)]
  headings += [f'Variant {v + 1}' for v in range(variants.shape[1])]
  return _save(path, _panel(rows, headings=headings, wide_gaps=(1, 1 + len(steps))))


def save_attack_panel(
  path: str | os.PathLike,
  originals: np.ndarray,
  labels: np.ndarray,
  variants: Sequence[Variants],
  *,
  predicted: np.ndarray | None = None,
  class_names: Sequence[str] | None = None,
) -> pathlib.Path:
  """Draws originals, and for each method its variants over their rescaled differences (Figures 8, 9, 10).

  Args:
    path: file to write.
    originals: `[C, H, W, 3]` uint8, one column each.
    labels: `[C]` int, true classes; a prediction that differs is marked.
    variants: blocks of two rows, one per method.
    predicted: `[C]` int, what the attacked net says of the originals; None leaves it out.
    class_names: names of the classes; None writes numbers.

  Returns:
    The path.
  """
  originals = grids.check_images('originals', originals, 4)
  captions, wrong = _predictions(labels, predicted, class_names)
  rows = [_Row('Original', list(originals), captions, wrong)]
  for variant in variants:
    difference, scale = rescaled_difference(originals, variant.images)
    captions, wrong = _predictions(labels, variant.predicted, class_names)
    rows.append(_Row(variant.name, list(variant.images), captions, wrong, separate=True))
    rows.append(_Row('difference,\nrescaled', list(difference), _scales(scale), quiet=True))
  return _save(path, _panel(rows))


def save_generated_panel(
  path: str | os.PathLike,
  generated: np.ndarray,
  variants: np.ndarray,
  labels: np.ndarray,
  generated_probabilities: np.ndarray,
  variant_probabilities: np.ndarray,
  *,
  class_names: Sequence[str] | None = None,
) -> pathlib.Path:
  """Draws generated images, their adversarial variants with probabilities, and differences (Figure 11).

  Args:
    path: file to write.
    generated: `[C, H, W, 3]` uint8, `dec(map(z))`.
    variants: `[C, H, W, 3]` uint8.
    labels: `[C]` int, the class each generated image is taken to be.
    generated_probabilities: `[C, K]`, the attacked net's softmax on `generated`.
    variant_probabilities: `[C, K]`, the same on `variants`.
    class_names: names of the classes; None writes numbers.

  Returns:
    The path.
  """
  generated = grids.check_images('generated', generated, 4)
  difference, scale = rescaled_difference(generated, variants)
  rows = []
  blocks = (
    ('Generated', generated, generated_probabilities),
    ('Adversarial\nvariant', variants, variant_probabilities),
  )
  for name, images, probabilities in blocks:
    probabilities = np.asarray(probabilities)
    true = probabilities[np.arange(len(labels)), labels]
    seen = probabilities.argmax(axis=1)
    captions = [
      f'p({_class(label, class_names)}) {_percent(p)}\n{_seen(s, label, class_names)}'
      for label, p, s in zip(labels, true, seen, strict=True)
    ]
    rows.append(_Row(name, list(images), captions, seen != np.asarray(labels)))
  rows.append(_Row('difference,\nrescaled', list(difference), _scales(scale), quiet=True))
  return _save(path, _panel(rows))


@dataclasses.dataclass(frozen=True)
class _Row:
  """One row of a panel: a label on the left, images, and a caption of at most two lines under each."""

  label: str
  images: Sequence[np.ndarray]
  captions: Sequence[str] | None = None
  wrong: np.ndarray | None = None  # [C] bool: captions and frames drawn as errors.
  separate: bool = False  # Leave more room above.
  quiet: bool = False  # Label and captions in grey.


def _panel(
  rows: Sequence[_Row],
  *,
  headings: Sequence[str] | None = None,
  wide_gaps: Sequence[int] = (),
  cell: int | None = None,
) -> Figure:
  """Lays images out on whole pixels: constrained layouts would stretch the gaps and blur the images."""
  columns = max(len(row.images) for row in rows)
  if cell is None:
    width = rows[0].images[0].shape[1]
    cell = width * max(1, round(128 / width))
  gap, margin, line = 10, 14, 19
  label_lengths = [len(part) for row in rows for part in row.label.split('\n')]
  left = margin + (round(10.5 * max(label_lengths)) + 14 if any(label_lengths) else 0)
  lefts = [left + c * (cell + gap) + 16 * sum(c >= w for w in wide_gaps) for c in range(columns)]
  right = lefts[-1] + cell + margin
  y = margin + (line + 8 if headings else 0)
  tops = []
  for row in rows:
    y += 16 if row.separate else 0
    tops.append(y)
    y += cell + gap
    if row.captions:
      y += line * max(caption.count('\n') + 1 for caption in row.captions) + 6
  height = y - gap + margin
  figure = _figure(right / _DPI, height / _DPI, layout=None)
  lines = [part for row in rows for caption in row.captions or () for part in caption.split('\n')]
  longest = max((len(part) for part in lines), default=0) * 128 / cell
  caption_size = 8 * min(1.0, 16 / max(longest, 1))  # Long class names are drawn smaller.

  def write(x: float, top: float, text: str, **style: Any) -> None:
    figure.text(x / right, 1 - top / height, text, **{'fontsize': 8, 'color': _TEXT, **style})

  for c, heading in enumerate(headings or ()):
    write(lefts[c] + cell / 2, margin, heading, ha='center', va='top', fontsize=9)
  for row, top in zip(rows, tops, strict=True):
    write(
      left - 12,
      top + cell / 2,
      row.label,
      ha='right',
      va='center',
      fontsize=9,
      color=_QUIET if row.quiet else _TEXT,
    )
    for c, image in enumerate(row.images):
      axes = figure.add_axes((lefts[c] / right, 1 - (top + cell) / height, cell / right, cell / height))
      axes.imshow(image, interpolation='nearest', aspect='auto')
      axes.set_axis_off()
      wrong = row.wrong is not None and bool(row.wrong[c])
      if wrong:
        frame = Rectangle((0, 0), 1, 1, transform=axes.transAxes, fill=False, edgecolor=_WRONG, linewidth=2.5)
        frame.set_clip_on(False)
        axes.add_patch(frame)
      if row.captions:
        colour = _WRONG if wrong else _QUIET if row.quiet else _TEXT
        write(
          lefts[c] + cell / 2,
          top + cell + 6,
          row.captions[c],
          ha='center',
          va='top',
          color=colour,
          linespacing=1.25,
          fontsize=caption_size,
        )
  return figure


def _predictions(
  labels: np.ndarray, predicted: np.ndarray | None, class_names: Sequence[str] | None
) -> tuple[list[str] | None, np.ndarray | None]:
  if predicted is None:
    return None, None
  captions = [_seen(p, label, class_names) for p, label in zip(predicted, labels, strict=True)]
  return captions, np.asarray(predicted) != np.asarray(labels)


def _seen(predicted: int, label: int, class_names: Sequence[str] | None) -> str:
  mark = '✓' if predicted == label else '✗'
  return f'{mark} seen as {_class(predicted, class_names)}'


def _class(label: int, class_names: Sequence[str] | None) -> str:
  return str(class_names[label]) if class_names else str(int(label))


def _scales(scale: np.ndarray) -> list[str]:
  return [f'±{s}/255' if s else 'no change' for s in scale]


def _percent(share: float) -> str:
  """How a share relates to a number of per cent; what is not 0 or 1 is never rounded to it."""
  percent = 100 * float(share)
  if 0 < percent < 0.1:
    return '< 0.1 %'
  if 99.9 < percent < 100:
    return '> 99.9 %'
  return f'= {percent:.1f} %'


def _moving_average(values: np.ndarray, width: int) -> np.ndarray:
  """Centred mean over `width` values, fewer at the ends, leaving out what is not finite."""
  if width <= 1:
    return values
  finite = np.isfinite(values)
  kernel = np.ones(width)
  total = np.convolve(np.where(finite, values, 0), kernel, mode='same')
  count = np.convolve(finite.astype(float), kernel, mode='same')
  return np.where(finite, total / np.maximum(count, 1), np.nan)


def _figure(width: float, height: float, layout: Literal['constrained'] | None = 'constrained') -> Figure:
  figure = Figure(figsize=(width, height), dpi=_DPI, layout=layout, facecolor='white')
  FigureCanvasAgg(figure)
  return figure


def _plain(axes: Axes) -> None:
  axes.set_axisbelow(True)
  axes.spines[['top', 'right']].set_visible(False)
  axes.spines[['left', 'bottom']].set_color('#999999')
  axes.tick_params(colors=_TEXT, labelsize=9)


def _save(path: str | os.PathLike, figure: Figure) -> pathlib.Path:
  buffer = io.BytesIO()
  figure.savefig(buffer, format='png', metadata={'Software': None})
  return grids.write_atomically(path, buffer.getvalue())
