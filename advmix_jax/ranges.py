"""The one place where image ranges are converted: uint8 at the edges, float32 in [-1, 1] inside."""

from types import ModuleType
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np

AnyArray = TypeVar('AnyArray', np.ndarray, jax.Array)


def _namespace(x: np.ndarray | jax.Array) -> ModuleType:
  return jnp if isinstance(x, jax.Array) else np


def to_float(images: AnyArray) -> AnyArray:
  """uint8 `[...]` in [0, 255] to float32 in [-1, 1]."""
  return images.astype(np.float32) / np.float32(127.5) - np.float32(1)


def to_uint8(images: AnyArray) -> AnyArray:
  """float32 `[...]`, clipped to [-1, 1], to the nearest uint8 in [0, 255]."""
  xp = _namespace(images)
  return xp.rint(xp.clip(images, -1, 1) * 127.5 + 127.5).astype(np.uint8)


def quantise(images: AnyArray) -> AnyArray:
  """What remains of float32 images in [-1, 1] after they were stored as uint8."""
  return to_float(to_uint8(images))


def pixel_distance(epsilon: float) -> float:
  """A distance on the [0, 1] pixel scale of the papers, in units of our [-1, 1]."""
  return 2.0 * epsilon
