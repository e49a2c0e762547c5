"""Plain PNG grids of images, without words or axes: cheap enough to be written while a GAN trains.

    save_grid('samples.png', images)                        # images [R, C, H, W, 3] uint8
    save_style_mixing('mixing.png', coarse, fine, mixed)    # row r, column c: coarse r, fine c

Images are uint8 NHWC, as everywhere at the edges; one pixel becomes `scale` by `scale` pixels, nothing is
interpolated. Files appear whole or not at all.
"""

import io
import os
import pathlib
from collections.abc import Callable

import numpy as np
import PIL.Image

from advmix_jax.workdir import atomic

_BACKGROUND = 255
_GAP = 2  # Pixels between cells.
_WIDE_GAP = 6  # Pixels between the sources of a style-mixing grid and their mixtures.
_CELL_PIXELS = 64  # A cell is about this wide when no scale is given.


def write_atomically(path: str | os.PathLike, data: bytes) -> pathlib.Path:
  """Writes `data` to `path` through a temporary file in the same folder, which is made if it is missing."""
  path = pathlib.Path(path)
  with atomic(path) as temporary:
    temporary.write_bytes(data)
  return path


def check_images(name: str, images: np.ndarray, rank: int) -> np.ndarray:
  """Returns `images` as an array if it is uint8, of this rank, and ends in three channels.

  Args:
    name: what the array is called in the error.
    images: `[..., H, W, 3]` uint8.
    rank: number of axes wanted.

  Raises:
    ValueError: with what was found and what was expected.
  """
  images = np.asarray(images)
  if images.dtype != np.uint8 or images.ndim != rank or images.shape[-1] != 3 or 0 in images.shape:
    raise ValueError(
      f'{name} is {images.dtype} {list(images.shape)}, expected uint8 with {rank} axes, none of them empty, '
      'the last of size 3'
    )
  return images


def upscale(images: np.ndarray, scale: int) -> np.ndarray:
  """Repeats every pixel of `[..., H, W, C]` `scale` times in both directions."""
  return np.repeat(np.repeat(images, scale, axis=-3), scale, axis=-2)


def save_grid(path: str | os.PathLike, images: np.ndarray, *, scale: int | None = None) -> pathlib.Path:
  """Writes a grid of images as PNG.

  Args:
    path: file to write; its folder is made.
    images: `[R, C, H, W, 3]` uint8.
    scale: pixels per image pixel; None makes cells about 64 pixels wide, and never shrinks.

  Returns:
    The path. The picture is `[R*(H*scale + 2) + 2, C*(W*scale + 2) + 2]`.
  """
  images = check_images('images', images, 5)
  rows, columns, height, width, _ = images.shape
  scale = _choose_scale(scale, width)
  canvas, place = _canvas(rows, columns, height * scale, width * scale, wide=False)
  for r in range(rows):
    for c in range(columns):
      place(r, c, upscale(images[r, c], scale))
  return _save(path, canvas)


def save_style_mixing(
  path: str | os.PathLike,
  coarse: np.ndarray,
  fine: np.ndarray,
  mixed: np.ndarray,
  *,
  scale: int | None = None,
) -> pathlib.Path:
  """Writes a style-mixing grid: row r, column c shows `dec(w_par of coarse r, w_perp of fine c)` (Eq. 11).

  Where the split is right, the class is constant along a row and everything else along a column.

  Args:
    path: file to write; its folder is made.
    coarse: `[R, H, W, 3]` uint8, left column, the images that give the label-carrying layers.
    fine: `[C, H, W, 3]` uint8, top row, the images that give the other layers.
    mixed: `[R, C, H, W, 3]` uint8.
    scale: pixels per image pixel; None makes cells about 64 pixels wide.

  Returns:
    The path.
  """
  coarse = check_images('coarse', coarse, 4)
  fine = check_images('fine', fine, 4)
  mixed = check_images('mixed', mixed, 5)
  expected = (len(coarse), len(fine), *coarse.shape[1:])
  if mixed.shape != expected or fine.shape[1:] != coarse.shape[1:]:
    raise ValueError(
      f'mixed is {list(mixed.shape)} and fine {list(fine.shape)}; for {len(coarse)} coarse and {len(fine)} '
      f'fine images of {list(coarse.shape[1:])}, expected mixed {list(expected)}'
    )
  rows, columns, height, width, _ = mixed.shape
  scale = _choose_scale(scale, width)
  canvas, place = _canvas(rows + 1, columns + 1, height * scale, width * scale, wide=True)
  for c in range(columns):
    place(0, c + 1, upscale(fine[c], scale))
  for r in range(rows):
    place(r + 1, 0, upscale(coarse[r], scale))
    for c in range(columns):
      place(r + 1, c + 1, upscale(mixed[r, c], scale))
  return _save(path, canvas)


def _choose_scale(scale: int | None, width: int) -> int:
  if scale is None:
    return max(1, round(_CELL_PIXELS / width))
  if scale < 1:
    raise ValueError(f'scale is {scale}, expected at least 1')
  return scale


def _canvas(
  rows: int, columns: int, height: int, width: int, *, wide: bool
) -> tuple[np.ndarray, Callable[[int, int, np.ndarray], None]]:
  """A white canvas and a function that puts cell (r, c) on it; `wide` sets the first row and column apart."""
  extra = _WIDE_GAP - _GAP if wide else 0
  size = (rows * (height + _GAP) + _GAP + extra, columns * (width + _GAP) + _GAP + extra, 3)
  canvas = np.full(size, _BACKGROUND, np.uint8)

  def place(r: int, c: int, image: np.ndarray) -> None:
    top = _GAP + r * (height + _GAP) + (extra if r else 0)
    left = _GAP + c * (width + _GAP) + (extra if c else 0)
    canvas[top : top + height, left : left + width] = image

  return canvas, place


def _save(path: str | os.PathLike, canvas: np.ndarray) -> pathlib.Path:
  buffer = io.BytesIO()
  PIL.Image.fromarray(canvas).save(buffer, format='PNG')
  return write_atomically(path, buffer.getvalue())
