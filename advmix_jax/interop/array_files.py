"""Arrays by name from .npz, .safetensors, torch's .pth and Keras' .h5, without running anything in them.

    arrays = read_arrays('vgg16-397923af.pth', wanted=lambda name: name.startswith('features.'))

What a file is, its first bytes tell; its name does not matter.
"""

import os
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import safetensors

from advmix_jax.interop.torch_storage import read_torch_file
from advmix_jax.types import BadInputError

Wanted = Callable[[str], bool]

_KINDS = '.npz, .safetensors, torch .pth or Keras .h5'
_PLAIN_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # Others unpack without a bound.

# Of one file, unpacked. The 13 convolutions of VGG-16 in float64 are a ninth of it.
_MAX_BYTES = 1 << 30
_MAX_DEPTH = 8  # Groups within groups of an .h5 file. Keras needs five.


def read_arrays(path: str | os.PathLike[str], wanted: Wanted = lambda name: True) -> dict[str, np.ndarray]:
  """Reads the arrays whose names are `wanted`.

  Args:
    path: of the file.
    wanted: says of a name whether its array is read. In an .h5 file names are paths, `a/b/c`.

  Returns:
    Arrays by name, in the file's order, some of them read-only.

  Raises:
    BadInputError: the file cannot be read, is none of the four kinds, is damaged, or holds anything beyond
      plain arrays where those wanted are; or h5py is needed and not installed.
  """
  try:
    with open(path, 'rb') as file:
      start = file.read(9)
  except FileNotFoundError:
    raise BadInputError(f'{path}: found no such file, expected arrays as {_KINDS}') from None
  except OSError as error:
    raise BadInputError(f'{path}: cannot be read ({error.strerror}), expected {_KINDS}') from None
  try:
    if start.startswith(b'\x89HDF\r\n\x1a\n'):
      return _read_h5(path, wanted)
    if start[8:] == b'{':  # After eight bytes that tell its length, a header in JSON.
      return _read_safetensors(path, wanted)
    if start.startswith(b'PK\x03\x04') and _is_npz(path):
      return _read_npz(path, wanted)
  except BadInputError as error:
    raise BadInputError(f'{path}: {error}') from None
  if start.startswith((b'PK\x03\x04', b'\x80\x02', b'\x80\x03', b'\x80\x04', b'\x80\x05')):
    return read_torch_file(path, wanted)
  raise BadInputError(f'{path}: found {start[:4]!r} at its start, expected a file of {_KINDS}')


def _is_npz(path: str | os.PathLike[str]) -> bool:
  try:
    with zipfile.ZipFile(path) as archive:
      return all(name.endswith('.npy') for name in archive.namelist())
  except (zipfile.BadZipFile, ValueError, RuntimeError, OSError):
    return False


def _read_npz(path: str | os.PathLike[str], wanted: Wanted) -> dict[str, np.ndarray]:
  try:
    with zipfile.ZipFile(path) as archive:
      entries = [i for i in archive.infolist() if wanted(i.filename.removesuffix('.npy'))]
    _check_total(sum(entry.file_size for entry in entries))
    for entry in entries:
      if entry.compress_type not in _PLAIN_METHODS:
        raise BadInputError(f'{entry.filename} is packed by method {entry.compress_type}, expected deflated')
    with np.load(path, allow_pickle=False) as file:
      # What has no header of an array comes as bytes.
      return {name: np.asarray(file[name]) for name in file.files if wanted(name)}
  except BadInputError:
    raise
  except Exception as error:  # A header is Python, parsed and evaluated: it can end in any error.
    raise BadInputError(f'cannot be read as .npz without pickles ({_short(error)})') from None


def _read_safetensors(path: str | os.PathLike[str], wanted: Wanted) -> dict[str, np.ndarray]:
  try:
    with safetensors.safe_open(path, 'numpy') as file:
      return {name: file.get_tensor(name) for name in file.keys() if wanted(name)}  # noqa: SIM118
  except (safetensors.SafetensorError, OSError, TypeError, ValueError, AttributeError) as error:
    raise BadInputError(f'cannot be read as safetensors ({_short(error)})') from None


def _read_h5(path: str | os.PathLike[str], wanted: Wanted) -> dict[str, np.ndarray]:
  try:
    import h5py
  except ImportError:
    raise BadInputError(
      "found an HDF5 file, which needs h5py: pip install h5py, or 'advmix_jax[h5]'; the other formats do not"
    ) from None
  try:
    with h5py.File(path, 'r') as file:
      found = _datasets(h5py, file, '', _MAX_DEPTH, set())
      datasets = {name: data for name, data in found if wanted(name)}
      _check_total(sum(data.nbytes for data in datasets.values()))
      return {name: data[()] for name, data in datasets.items()}
  except BadInputError:
    raise
  except (OSError, ValueError, TypeError, KeyError, RuntimeError, MemoryError) as error:
    raise BadInputError(f'cannot be read as HDF5 ({_short(error)})') from None


def _datasets(h5py: Any, group: Any, prefix: str, depth: int, met: set[Any]) -> Iterator[tuple[str, Any]]:
  """The datasets of numbers in a group and in those within it. Links to other files are not followed."""
  if group in met:
    raise BadInputError(f'{prefix} is a group that is also elsewhere, expected each in one place')
  met.add(group)
  for name in group:
    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
      raise BadInputError(f'{prefix}{name} is a link, expected arrays of the file itself')
    value = group[name]
    if isinstance(value, h5py.Group):
      if not depth:
        raise BadInputError(f'found groups within groups deeper than {_MAX_DEPTH}')
      yield from _datasets(h5py, value, f'{prefix}{name}/', depth - 1, met)
    elif isinstance(value, h5py.Dataset):
      if value.external or value.is_virtual:
        raise BadInputError(f'{prefix}{name} lies in another file, expected arrays of the file itself')
      if value.dtype.kind in 'biuf' and value.shape is not None:
        yield f'{prefix}{name}', value


def _check_total(num_bytes: int) -> None:
  if num_bytes > _MAX_BYTES:
    raise BadInputError(f'found arrays of {num_bytes} bytes, expected at most {_MAX_BYTES}')


def _short(error: BaseException) -> str:
  return ascii(str(error))[1:-1][:200] or type(error).__name__
