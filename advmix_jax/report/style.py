"""How the figures of a report look: colours, names of the methods, and an empty figure in that style.

Colours are told apart with any kind of colour vision (Okabe and Ito's palette); nothing is said by colour
alone. Figures are built from matplotlib's objects: there is no global state, so drawing is safe in threads
and beside a user's own pyplot.
"""

import io
import os
import pathlib
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from advmix_jax.report import grids

DPI = 144
TEXT = '#222222'
QUIET = '#666666'
GRID = '#e5e5e5'
WRONG = '#b54600'  # Vermilion, dark enough for text on white.
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
CYCLE = ('#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9', '#4d4d4d')
LINE_STYLES = ('-', '--', '-.', (0, (1, 1)), (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)), (0, (3, 3)))
METHOD_TITLES = {
  'nominal': 'Nominal',
  'mixup': 'mixup',
  'cutout': 'Cutout',
  'cutmix': 'CutMix',
  'at': 'AT',
  'randmix': 'RandMix',
  'advmix': 'AdvMix',
}


def method_title(name: str) -> str:
  """A method's name as the paper writes it; names it does not know are returned as they are."""
  return METHOD_TITLES.get(name, name)


def new_figure(width: float, height: float, layout: Literal['constrained'] | None = 'constrained') -> Figure:
  """An empty figure of a size in inches; without a layout, places are the caller's."""
  return Figure(figsize=(width, height), dpi=DPI, layout=layout, facecolor='white')


def plain_axes(axes: Axes) -> None:
  """Takes away what says nothing: two of the four lines around, and their weight."""
  axes.set_axisbelow(True)
  axes.spines[['top', 'right']].set_visible(False)
  axes.spines[['left', 'bottom']].set_color('#999999')
  axes.tick_params(colors=TEXT, labelsize=9)


def save(path: str | os.PathLike, figure: Figure) -> pathlib.Path:
  """Writes a figure as PNG, the same bytes each time; the folder is made. Returns the path."""
  buffer = io.BytesIO()
  figure.savefig(buffer, format='png', metadata={'Software': None})
  return grids.write_atomically(path, buffer.getvalue())
