"""Rows of images with words, laid out on whole pixels.

Constrained layouts would stretch the gaps and blur the images, so every place is counted in pixels here.
Images are uint8 and drawn without interpolation.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from advmix_jax.report import style

_CELL = 128  # Width of a cell, about, when none is given.
_GAP, _MARGIN, _LINE = 10, 14, 19


@dataclasses.dataclass(frozen=True)
class Row:
  """One row: a label on the left, images, and a caption of at most two lines under each.

  Attributes:
    label: words before the row.
    images: `[H, W, 3]` uint8 each.
    captions: one for each image, or None.
    wrong: `[C]` bool, whose captions and frames are drawn as errors, or None.
    separate: leave more room above.
    quiet: label and captions in grey.
  """

  label: str
  images: Sequence[np.ndarray]
  captions: Sequence[str] | None = None
  wrong: np.ndarray | None = None
  separate: bool = False
  quiet: bool = False

  @property
  def colour(self) -> str:
    return style.QUIET if self.quiet else style.TEXT


def lay_out(
  rows: Sequence[Row],
  *,
  headings: Sequence[str] = (),
  wide_gaps: Sequence[int] = (),
  cell: int | None = None,
) -> Figure:
  """A figure of rows of images.

  Args:
    rows: from top to bottom.
    headings: words above the columns.
    wide_gaps: columns with more room before them.
    cell: pixels a side of an image; None gives the multiple of its own width that is nearest to 128.

  Returns:
    The figure, not written yet.
  """
  if cell is None:
    width = rows[0].images[0].shape[1]
    cell = width * max(1, round(_CELL / width))
  label_lengths = [len(part) for row in rows for part in row.label.split('\n')]
  left = _MARGIN + (round(10.5 * max(label_lengths)) + 14 if any(label_lengths) else 0)
  columns = range(max(len(row.images) for row in rows))
  lefts = [left + c * (cell + _GAP) + 16 * sum(c >= w for w in wide_gaps) for c in columns]
  width = lefts[-1] + cell + _MARGIN
  tops, height = _tops(rows, cell, _MARGIN + (_LINE + 8 if headings else 0))
  figure = style.new_figure(width / style.DPI, height / style.DPI, layout=None)
  caption_size = _caption_size(rows, cell)

  def write(x: float, top: float, text: str, **words: Any) -> None:
    figure.text(x / width, 1 - top / height, text, **{'fontsize': 9, 'color': style.TEXT, **words})

  for x, heading in zip(lefts, headings, strict=False):
    write(x + cell / 2, _MARGIN, heading, ha='center', va='top')
  for row, top in zip(rows, tops, strict=True):
    write(left - 12, top + cell / 2, row.label, ha='right', va='center', color=row.colour)
    for c, image in enumerate(row.images):
      axes = figure.add_axes((lefts[c] / width, 1 - (top + cell) / height, cell / width, cell / height))
      axes.imshow(image, interpolation='nearest', aspect='auto')
      axes.set_axis_off()
      wrong = row.wrong is not None and bool(row.wrong[c])
      if wrong:
        frame: dict[str, Any] = {'fill': False, 'edgecolor': style.WRONG, 'linewidth': 2.5, 'clip_on': False}
        axes.add_patch(Rectangle((0, 0), 1, 1, transform=axes.transAxes, **frame))
      if row.captions:
        colour = style.WRONG if wrong else row.colour
        words = {'color': colour, 'linespacing': 1.25, 'fontsize': caption_size}
        write(lefts[c] + cell / 2, top + cell + 6, row.captions[c], ha='center', va='top', **words)
  return figure


def _tops(rows: Sequence[Row], cell: int, y: int) -> tuple[list[int], int]:
  """Where the images of each row begin, the first at `y`, and the height of the whole."""
  tops = []
  for row in rows:
    y += 16 if row.separate else 0
    tops.append(y)
    y += cell + _GAP
    if row.captions:
      y += _LINE * max(caption.count('\n') + 1 for caption in row.captions) + 6
  return tops, y - _GAP + _MARGIN


def _caption_size(rows: Sequence[Row], cell: int) -> float:
  """Points; long class names are drawn smaller."""
  lines = [part for row in rows for caption in row.captions or () for part in caption.split('\n')]
  longest = max((len(part) for part in lines), default=0) * 128 / cell
  return 8 * min(1.0, 15 / max(longest, 1))
