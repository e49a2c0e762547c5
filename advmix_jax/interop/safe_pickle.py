"""Reading pickles of arrays without running anything they contain.

A pickle names functions and classes to call. Here a name is looked up in an exact table and nowhere else: no
module is imported, and numpy's own constructors are replaced by functions that only take bytes apart.

    allowed = numpy_globals() | {('collections', 'OrderedDict'): dict}
    tree = load('weights.pkl', allowed)
    weight = to_array(tree['weight'])
"""

import math
import os
import re
from pathlib import Path
from typing import Any

import numpy as np

from advmix_jax.interop.pickle_machine import run
from advmix_jax.interop.pickle_values import Function, Globals, Refused, shorten
from advmix_jax.types import BadInputError

MAX_FILE_BYTES = 1 << 32

_NUMBERS = re.compile('b1|[iu][1248]|f[248]')
# What people pass by mistake, by the bytes it begins with.
_OTHER_FILES = (
  (b'PK\x03\x04', 'a zip archive, as torch.save and numpy write them'),
  (b'\x93NUMPY', 'a numpy array'),
  (b'\x89HDF', 'an HDF5 file'),
  (b'\x1f\x8b', 'a gzip file: unpack it first'),
  (b'version https://git-lfs', 'a Git LFS pointer instead of the file it stands for'),
  (b'<', 'a web page, perhaps of a failed download'),
)


def load(path: str | os.PathLike[str], allowed: Globals) -> Any:
  """Reads the first object of a pickle file.

  Args:
    path: of the file.
    allowed: `(module, name)` as written in the file to what stands for it here: a `Function`, or a class
      that is made without arguments and whose making has no effect.

  Returns:
    The object. Arrays in it are read with `to_array`.

  Raises:
    BadInputError: the file cannot be read, is damaged, or names something that is not allowed.
  """
  return loads(path, read_bytes(path), allowed)


def read_bytes(path: str | os.PathLike[str]) -> bytes:
  """The content of a file that may be a pickle.

  Raises:
    BadInputError: it cannot be read, is larger than any official file, or is a file of another kind.
  """
  try:
    size = os.path.getsize(path)
    if size > MAX_FILE_BYTES:
      raise BadInputError(f'{path}: found {size} bytes, expected a pickle of at most {MAX_FILE_BYTES}')
    content = Path(path).read_bytes()
  except OSError as error:
    raise BadInputError(f'{path}: cannot be read ({error.strerror}), expected a pickle file') from None
  for beginning, kind in _OTHER_FILES:
    if content[:64].lstrip().startswith(beginning):
      raise BadInputError(f'{path}: found {kind}, expected a pickle file')
  return content


def loads(path: str | os.PathLike[str], content: bytes, allowed: Globals) -> Any:
  """As `load`, of a file's content; `path` is for the messages."""
  try:
    return run(content, allowed)[0]
  except (
    Exception
  ) as error:  # What damaged numbers and texts raise is not documented; any of it means the same.
    raise BadInputError(
      f'{path}: found a damaged or refused pickle ({error or type(error).__name__}), '
      'expected numeric arrays in plain containers'
    ) from None


def numpy_globals() -> dict[tuple[str, str], Any]:
  """The names under which numpy 1 and 2 pickle arrays and scalars, each with a pure stand-in."""
  table: dict[tuple[str, str], Any] = {
    ('numpy', 'ndarray'): Function(_not_callable),
    ('numpy', 'dtype'): Function(_PendingDtype),
    ('_codecs', 'encode'): Function(_latin1_bytes),
    ('__builtin__', 'bytes'): Function(_no_bytes),
    ('builtins', 'bytes'): Function(_no_bytes),
  }
  for core in ('numpy.core', 'numpy._core'):
    table[f'{core}.multiarray', '_reconstruct'] = Function(_PendingArray)
    table[f'{core}.multiarray', 'scalar'] = Function(_scalar)
    table[f'{core}.numeric', '_frombuffer'] = Function(_from_buffer)
  return table


def to_array(value: Any) -> np.ndarray:
  """The array (or scalar, as `[]`) that `value` of a loaded pickle stands for.

  Raises:
    BadInputError: it is no array of numbers.
  """
  if isinstance(value, _PendingArray) and value.array is not None:
    return value.array
  if isinstance(value, np.ndarray):
    return value
  if isinstance(value, bool | int | float):
    return np.asarray(value)
  raise BadInputError(f'found {type(value).__name__.strip("_")} where an array of numbers is expected')


def check_shape(shape: Any) -> None:
  """Raises `Refused` if it is no tuple of a few sizes."""
  if (
    not isinstance(shape, tuple)
    or len(shape) > 8
    or not all(type(n) is int and 0 <= n < 1 << 40 for n in shape)
  ):
    raise Refused(f'an array has the shape {shorten(shape)}')


class _PendingDtype:
  """`numpy.dtype(code, align, copy)` followed by its state, which holds the byte order."""

  __slots__ = ('dtype',)

  def __init__(self, code: str, *unused_options: object):
    if not isinstance(code, str) or not _NUMBERS.fullmatch(code):
      raise Refused(f'an array has the type {shorten(code)!r}, which is not numeric')
    self.dtype = np.dtype(code)

  def __setstate__(self, state: Any) -> None:
    order = state[1]
    if order not in ('<', '>', '|', '=') or any(part is not None for part in state[2:5]):
      raise Refused('an array has a structured type, which is not numeric')
    self.dtype = self.dtype.newbyteorder(order)


class _PendingArray:
  """`numpy._reconstruct(type, shape, code)`, an empty array, followed by its state, which holds all."""

  __slots__ = ('array',)

  def __init__(self, *unused_arguments: object):
    self.array: np.ndarray | None = None

  def __setstate__(self, state: Any) -> None:
    _, shape, dtype, is_fortran, data = state
    self.array = _from_buffer(data, dtype, shape, 'F' if is_fortran else 'C')


def _from_buffer(data: Any, dtype: Any, shape: Any, order: Any = 'C', axes: Any = None) -> np.ndarray:
  """`axes`: with order 'K', how the axes of `shape` are to be transposed, as newer numpy writes."""
  if not isinstance(dtype, _PendingDtype) or not isinstance(data, bytes | bytearray):
    raise Refused('an array holds objects instead of numbers')
  check_shape(shape)
  expected = math.prod(shape) * dtype.dtype.itemsize
  if len(data) != expected:
    raise Refused(f'an array of shape {shape} has {len(data)} bytes where {expected} are needed')
  flat = np.frombuffer(data, dtype.dtype)
  if order == 'K' and axes is not None:
    check_shape(axes)
    array = flat.reshape(shape).transpose(axes)
  else:
    array = flat.reshape(shape, order='F' if order == 'F' else 'C')
  return array.astype(dtype.dtype.newbyteorder('='), copy=False)


def _scalar(dtype: Any, data: Any) -> np.ndarray:
  return _from_buffer(data, dtype, ())


def _latin1_bytes(text: Any, encoding: Any) -> bytes:
  """How Python 3 writes bytes up to protocol 2."""
  if not isinstance(text, str) or encoding != 'latin1':
    raise Refused(f'it encodes text as {shorten(encoding)}')
  return text.encode('latin1')


def _no_bytes() -> bytes:
  """How Python 3 writes no bytes at all up to protocol 2."""
  return b''


def _not_callable(*unused_arguments: object) -> None:
  raise Refused('it constructs an array directly')
