"""Tensors as views of their storage, every number checked against it."""

import math
from typing import Any

import numpy as np

from advmix_jax.types import BadInputError

_MAX_AXES = 32


def rebuild_tensor(storage: np.ndarray, offset: Any, size: Any, stride: Any) -> np.ndarray:
  """The tensor that `torch._utils._rebuild_tensor_v2` would make of a storage; nothing is copied.

  Args:
    storage: `[N]`.
    offset: of the first element, in elements.
    size: shape of the tensor, a tuple.
    stride: elements from one index to the next along each axis, a tuple.

  Returns:
    A read-only view of `storage`, of shape `size`; not contiguous where the strides are not.

  Raises:
    BadInputError: a number is none, is negative, or lies outside the storage. A tensor of more elements than
      the storage has is refused too: it takes no space in a file but any amount once it is copied.
  """
  numbers = (offset, *size, *stride) if isinstance(size, tuple) and isinstance(stride, tuple) else (None,)
  if not all(type(number) is int and 0 <= number < 1 << 63 for number in numbers):
    raise BadInputError('a tensor has an offset, sizes or strides that are no whole numbers from 0')
  if not len(size) == len(stride) <= _MAX_AXES:
    raise BadInputError(f'a tensor has {len(size)} sizes and {len(stride)} strides')
  count = math.prod(size)
  end = offset + 1 + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) if count else offset
  if end > storage.size or max(size, default=0) > storage.size or count > storage.size:
    raise BadInputError(
      f'a tensor of sizes {size} and strides {stride} at {offset} lies outside its storage of {storage.size} '
      'elements'
    )
  if not count:
    return storage[:0].reshape(size)
  # The stride of a single index means nothing, and may be any number.
  num_bytes = [storage.dtype.itemsize * step if n > 1 else 0 for n, step in zip(size, stride, strict=True)]
  return np.lib.stride_tricks.as_strided(storage[offset:], size, num_bytes, writeable=False)
