"""Grey images on their way in: enlarging and padding, uint8 to uint8."""

import numpy as np
from PIL import Image


def resize(grey: np.ndarray, resolution: int) -> np.ndarray:
  """Enlarges square grey images by bicubic interpolation.

  Args:
    grey: `[N, H, H]` float32 or uint8 in [0, 255].
    resolution: side of the result in pixels; equal to H only rounds.

  Returns:
    `[N, resolution, resolution]` uint8.
  """
  out = np.empty((len(grey), resolution, resolution), np.uint8)
  for i, image in enumerate(grey):
    pixels = image.astype(np.float32)
    if image.shape[0] != resolution:
      pixels = np.asarray(Image.fromarray(pixels).resize((resolution, resolution), Image.Resampling.BICUBIC))
    out[i] = np.rint(np.clip(pixels, 0, 255))
  return out


def pad(grey: np.ndarray, resolution: int) -> np.ndarray:
  """Centres `[N, H, H]` uint8 images in `[N, resolution, resolution]` zeros."""
  before = (resolution - grey.shape[1]) // 2
  after = resolution - grey.shape[1] - before
  return np.pad(grey, ((0, 0), (before, after), (before, after)))
