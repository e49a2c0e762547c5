"""Floating-point arrays of any file as the float32 that everything here computes with."""

import numpy as np

from advmix_jax.types import BadInputError


def as_float32(name: str, array: np.ndarray) -> np.ndarray:
  """Raises `BadInputError` if it is not of floating-point numbers, or some of them are not finite float32."""
  if array.dtype.kind != 'f':
    raise BadInputError(f'found {name} of {array.dtype}, expected floating-point numbers')
  with np.errstate(over='ignore'):
    array = array.astype(np.float32, copy=False)
  if not np.isfinite(array).all():
    raise BadInputError(f'found values in {name} that are not finite float32, expected numbers')
  return array
