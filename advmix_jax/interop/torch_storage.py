"""Tensors of files that `torch.save` wrote, without torch and without running anything stored in them.

    tensors = read_torch_file('vgg16-397923af.pth', wanted=lambda name: name.startswith('features.'))

Both formats are read: the zip archive (torch 1.6 and later) and the older row of pickles followed by raw
storages. The pickles may name a few functions and classes by their exact names, each with a stand-in that
only notes its arguments; tensors are built afterwards, when every number is checked against the bytes that
are there. `storage_from_bytes` is for torch storages inside other pickles.
"""

import io
import mmap
import os
import struct
import zipfile
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from advmix_jax.interop import pickle_machine
from advmix_jax.interop.pickle_values import Ended, Function, Refused
from advmix_jax.interop.torch_tensor import rebuild_tensor
from advmix_jax.types import BadInputError

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
# Of the part that is unpickled, in bytes. A state dict takes about 150 for each tensor.
_MAX_PICKLED = 1 << 16
_ZIP_ERRORS = (zipfile.BadZipFile, struct.error)


class _StorageType(NamedTuple):
  code: str


_STORAGE_TYPES = {
  'DoubleStorage': '<f8',
  'FloatStorage': '<f4',
  'HalfStorage': '<f2',
  'LongStorage': '<i8',
  'IntStorage': '<i4',
  'ShortStorage': '<i2',
  'CharStorage': '<i1',
  'ByteStorage': '<u1',
  'BoolStorage': '?',
}


class _Storage(NamedTuple):
  """What a pickle says of a storage: its name in the file, the type and number of its elements."""

  key: str
  dtype: np.dtype
  size: int


class _Tensor(NamedTuple):
  storage: _Storage
  offset: Any
  size: Any
  stride: Any


class _StateDict(dict):
  """Stands for `OrderedDict`. Torch hangs notes on it (`_metadata`), which nothing here needs."""

  def __setstate__(self, state: object) -> None:
    pass


def read_torch_file(
  path: str | os.PathLike[str], wanted: Callable[[str], bool] = lambda name: True
) -> dict[str, np.ndarray]:
  """Reads a state dict, `torch.save(model.state_dict(), path)`.

  Args:
    path: of the file, in either format.
    wanted: which tensors are read, by name. The values of the others are not looked at.

  Returns:
    Arrays by name, read-only, of the types that the file has. A dict `state_dict` within the dict is taken in
    its place.

  Raises:
    BadInputError: the file cannot be read, is damaged, names anything beyond tensors, or holds
      something else.
  """
  try:
    with open(path, 'rb') as file:
      is_zip = file.read(4) == b'PK\x03\x04'
      if is_zip:
        return _read_zip(file, wanted)
      if not os.fstat(file.fileno()).st_size:
        raise BadInputError('the file is empty')
      data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    return _read_legacy(data, wanted)
  except OSError as error:
    reason = error.strerror or 'damaged'
    raise BadInputError(f'{path}: cannot be read ({reason}), expected a file of torch.save') from None
  except BadInputError as error:
    raise BadInputError(f'{path}: {error}, expected a state dict as torch.save writes it') from None
  except (ValueError, LookupError, EOFError, RuntimeError, OverflowError, *_ZIP_ERRORS) as error:
    raise BadInputError(
      f'{path}: found a damaged zip archive ({ascii(str(error))[:100]}), expected a file of torch.save'
    ) from None


def storage_from_bytes(data: bytes) -> np.ndarray:
  """The storage that `torch.storage._load_from_bytes(data)` would give; that function is never called.

  Args:
    data: a whole file of `torch.save` in the old format whose one object is a storage.

  Returns:
    `[N]`, a read-only view of `data`; N and the type are the file's.

  Raises:
    BadInputError: the bytes are damaged, name anything but a storage, or hold something else.
  """
  found, storages = _parse_legacy(memoryview(data))
  if not isinstance(found, _Storage):
    raise BadInputError(f'found {_kind(found)}, expected one torch storage')
  return _view(found, storages)


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *unused_flags: object) -> _Tensor:
  if not isinstance(storage, _Storage):
    raise Refused('a tensor has no storage')
  return _Tensor(storage, offset, size, stride)


_ALLOWED: dict[tuple[str, str], Any] = {
  ('collections', 'OrderedDict'): Function(_StateDict),
  ('torch._utils', '_rebuild_tensor'): Function(_tensor),
  ('torch._utils', '_rebuild_tensor_v2'): Function(_tensor),
  ('torch._utils', '_rebuild_parameter'): Function(lambda tensor, *unused_flags: tensor),
}
_ALLOWED |= {('torch', name): _StorageType(code) for name, code in _STORAGE_TYPES.items()}


class _Reader:
  """Reads pickles one after the other, and notes the storages that they refer to by name."""

  def __init__(self, data: bytes):
    self.position = 0
    self.storages: dict[str, _Storage] = {}
    self._data = data

  def next(self) -> Any:
    try:
      value, self.position = pickle_machine.run(self._data, _ALLOWED, self._storage, self.position)
    except Ended as error:
      if len(self._data) < _MAX_PICKLED:
        raise BadInputError(f'found a damaged pickle ({error})') from None
      raise BadInputError(
        f'found more than {_MAX_PICKLED} bytes of pickled structure or a damaged pickle'
      ) from None
    except Exception as error:  # What damaged numbers and texts raise is not documented; all means the same.
      raise BadInputError(f'found a damaged or refused pickle ({error or type(error).__name__})') from None
    return value

  def _storage(self, pid: Any) -> _Storage:
    """`('storage', type, key, location, number of elements[, view])`; the location is a device's name."""
    if not isinstance(pid, tuple) or not 5 <= len(pid) <= 6 or pid[0] != 'storage':
      raise Refused('it refers to something outside that is no storage')
    _, kind, key, _, size, *view = pid
    if not isinstance(kind, _StorageType) or type(size) is not int or size < 0:
      raise Refused('it refers to a storage without type or size')
    if not isinstance(key, str) or len(key) > 100:
      raise Refused('it refers to a storage without a name')
    if view not in ([], [None]):
      raise Refused('a storage is part of another one, as only torch before 0.4 wrote it')
    storage = _Storage(key, np.dtype(kind.code), size)
    if self.storages.setdefault(key, storage) != storage:
      raise Refused('it gives a storage two types or sizes')
    return storage


def _parse_legacy(data: memoryview) -> tuple[Any, dict[str, memoryview]]:
  """The object of a file in the old format, and the raw bytes of its storages by name."""
  head = _Reader(bytes(data[:_MAX_PICKLED]))
  if head.next() != _MAGIC:
    raise BadInputError('found a pickle that torch.save did not write')
  if head.next() != _PROTOCOL:
    raise BadInputError(f'found another version of the old format than {_PROTOCOL}')
  system = head.next()
  if not isinstance(system, dict) or system.get('little_endian') is not True:
    raise BadInputError('found a file of a big-endian machine')
  head.storages.clear()
  found = head.next()
  used = dict(head.storages)
  keys = head.next()
  if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys) or set(keys) != set(used):
    raise BadInputError('found other storages than its tensors name')
  storages: dict[str, memoryview] = {}
  position = head.position
  for key in keys:
    size, num_bytes = used[key].size, used[key].size * used[key].dtype.itemsize
    if int.from_bytes(data[position : position + 8], 'little', signed=True) != size:
      raise BadInputError(f'the storage {key!r} has another size than its tensors say, or is cut off')
    position += 8
    left = max(len(data) - position, 0)
    if left < num_bytes:
      raise BadInputError(f'the storage {key!r} has {left} bytes left where {num_bytes} are needed')
    storages[key] = data[position : position + num_bytes]
    position += num_bytes
  return found, storages


def _kind(value: object) -> str:
  return type(value).__name__.strip('_')


def _short(name: object) -> str:
  return ascii(name[:100])[1:-1] if isinstance(name, str) else f'a key of type {type(name).__name__}'


def _state_dict(found: Any) -> dict[str, _Tensor]:
  if isinstance(found, dict) and isinstance(found.get('state_dict'), dict):
    found = found['state_dict']
  if not isinstance(found, dict) or not found:
    raise BadInputError(f'found {_kind(found)} instead of a dict of tensors by name')
  for name, value in found.items():
    if not isinstance(name, str) or not isinstance(value, _Tensor):
      raise BadInputError(f'found {_kind(value)} under {_short(name)}, which is no tensor')
  return found


def _view(storage: _Storage, storages: Mapping[str, memoryview | bytes]) -> np.ndarray:
  data = storages[storage.key]
  if len(data) != storage.size * storage.dtype.itemsize:
    raise BadInputError(
      f'the storage {storage.key!r} has {len(data)} bytes, expected {storage.size} of {storage.dtype}'
    )
  return np.frombuffer(data, storage.dtype)


def _tensors(tensors: Mapping[str, _Tensor], view: Callable[[_Storage], np.ndarray]) -> dict[str, np.ndarray]:
  arrays = {}
  for name, tensor in tensors.items():
    try:
      arrays[name] = rebuild_tensor(view(tensor.storage), tensor.offset, tensor.size, tensor.stride)
    except BadInputError as error:
      raise BadInputError(f'{_short(name)}: {error}') from None
  return arrays


def _read_legacy(data: memoryview, wanted: Callable[[str], bool]) -> dict[str, np.ndarray]:
  found, storages = _parse_legacy(data)
  tensors = {name: tensor for name, tensor in _state_dict(found).items() if wanted(name)}
  return _tensors(tensors, lambda storage: _view(storage, storages))


def _read_zip(file: io.BufferedReader, wanted: Callable[[str], bool]) -> dict[str, np.ndarray]:
  """The zip format: `NAME/data.pkl`, and `NAME/data/KEY` for each storage, all of them uncompressed."""
  with zipfile.ZipFile(file) as archive:
    entries = {info.filename: info for info in archive.infolist()}
    roots = [name.removesuffix('data.pkl') for name in entries if name.endswith('/data.pkl')]
    if len(roots) != 1:
      raise BadInputError(f'found a zip archive with {len(roots)} files data.pkl')
    # Torch stores and never compresses; so nothing in the archive can be larger than the archive.
    size = os.fstat(file.fileno()).st_size
    if any(info.compress_type != zipfile.ZIP_STORED for info in entries.values()):
      raise BadInputError('found a zip archive with compressed entries')
    if sum(info.file_size for info in entries.values()) > size:
      raise BadInputError('found a zip archive whose entries are larger than the file')
    if f'{roots[0]}byteorder' in entries and archive.read(f'{roots[0]}byteorder') != b'little':
      raise BadInputError('found a file of a big-endian machine')
    if entries[f'{roots[0]}data.pkl'].file_size > _MAX_PICKLED:
      raise BadInputError(f'found more than {_MAX_PICKLED} bytes of pickled structure')
    found = _Reader(archive.read(f'{roots[0]}data.pkl')).next()
    tensors = _state_dict(found)
    tensors = {name: tensor for name, tensor in tensors.items() if wanted(name)}
    storages: dict[str, bytes] = {}
    for key in {tensor.storage.key for tensor in tensors.values()}:
      if f'{roots[0]}data/{key}' not in entries:
        raise BadInputError(f'found no storage {key!r} in the archive')
      storages[key] = archive.read(f'{roots[0]}data/{key}')
  return _tensors(tensors, lambda storage: _view(storage, storages))
