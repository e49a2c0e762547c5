"""Reading pickles of arrays without running anything they contain.

A pickle names functions and classes to call. Here a name is looked up in an exact table and nowhere else: no
module is imported, and numpy's own constructors are replaced by functions that only take bytes apart.

    allowed = numpy_globals() | {('collections', 'OrderedDict'): dict}
    tree = load('weights.pkl', allowed)
    weight = to_array(tree['weight'])
"""

import math
import os
import pickle
import re
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

import numpy as np

from advmix_jax.types import BadInputError

Globals = Mapping[tuple[str, str], Any]

_NUMBERS = re.compile('b1|[iu][1248]|f[248]')


class Function:
  """An allowed function. Unlike a plain one, a pickle cannot set attributes on it."""

  __slots__ = ('_function',)

  def __init__(self, function: Callable[..., Any]):
    self._function = function

  def __call__(self, *args: Any) -> Any:
    return self._function(*args)

  def __setstate__(self, state: object) -> None:
    raise pickle.UnpicklingError('a state is given to a function')


def load(path: str | os.PathLike[str], allowed: Globals) -> Any:
  """Reads the first object of a pickle file.

  Args:
    path: of the file.
    allowed: `(module, name)` as written in the file to what stands for it here: a `Function`, or a class
      whose construction has no effect beyond the object itself.

  Returns:
    The object. Arrays in it are read with `to_array`.

  Raises:
    BadInputError: the file cannot be read, is damaged, or names something that is not allowed.
  """
  try:
    with open(path, 'rb') as file:
      return _Unpickler(file, allowed).load()
  except OSError as error:
    raise BadInputError(f'{path}: cannot be read ({error.strerror}), expected a pickle file') from None
  except Exception as error:  # What damaged opcodes raise is not documented, and any of it means the same.
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


class _Unpickler(pickle.Unpickler):
  """Looks names up in the table only. `persistent_load` and out-of-band buffers stay refused."""

  def __init__(self, file: BinaryIO, allowed: Globals):
    super().__init__(file)
    self._allowed = allowed

  def find_class(self, module: str, name: str) -> Any:
    try:
      return self._allowed[module, name]
    except KeyError:
      raise pickle.UnpicklingError(f'it names {module}.{name}, which is not allowed') from None


class _PendingDtype:
  """`numpy.dtype(code, align, copy)` followed by its state, which holds the byte order."""

  __slots__ = ('dtype',)

  def __init__(self, code: str, *unused_options: object):
    if not isinstance(code, str) or not _NUMBERS.fullmatch(code):
      raise pickle.UnpicklingError(f'an array has the type {code!r}, which is not numeric')
    self.dtype = np.dtype(code)

  def __setstate__(self, state: Any) -> None:
    order = state[1]
    if order not in ('<', '>', '|', '=') or any(part is not None for part in state[2:5]):
      raise pickle.UnpicklingError('an array has a structured type, which is not numeric')
    self.dtype = self.dtype.newbyteorder(order)


class _PendingArray:
  """`numpy._reconstruct(type, shape, code)`, an empty array, followed by its state, which holds all."""

  __slots__ = ('array',)

  def __init__(self, *unused_arguments: object):
    self.array: np.ndarray | None = None

  def __setstate__(self, state: Any) -> None:
    _, shape, dtype, is_fortran, data = state
    self.array = _from_buffer(data, dtype, shape, 'F' if is_fortran else 'C')


def _from_buffer(data: Any, dtype: Any, shape: Any, order: Any = 'C') -> np.ndarray:
  if not isinstance(dtype, _PendingDtype) or not isinstance(data, bytes | bytearray):
    raise pickle.UnpicklingError('an array holds objects instead of numbers')
  if not isinstance(shape, tuple) or not all(type(size) is int and size >= 0 for size in shape):
    raise pickle.UnpicklingError(f'an array has the shape {shape!r}')
  expected = math.prod(shape) * dtype.dtype.itemsize
  if len(data) != expected:
    raise pickle.UnpicklingError(
      f'an array of shape {shape} has {len(data)} bytes where {expected} are needed'
    )
  array = np.frombuffer(data, dtype.dtype).reshape(shape, order='F' if order == 'F' else 'C')
  return array.astype(dtype.dtype.newbyteorder('='), copy=False)


def _scalar(dtype: Any, data: Any) -> np.ndarray:
  return _from_buffer(data, dtype, ())


def _latin1_bytes(text: Any, encoding: Any) -> bytes:
  """How Python 3 writes bytes up to protocol 2."""
  if not isinstance(text, str) or encoding != 'latin1':
    raise pickle.UnpicklingError(f'it encodes text as {encoding!r}')
  return text.encode('latin1')


def _not_callable(*unused_arguments: object) -> None:
  raise pickle.UnpicklingError('it constructs an array directly')
