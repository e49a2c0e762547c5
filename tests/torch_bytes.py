"""Files of torch.save, written opcode by opcode without torch."""

import pathlib
import struct
import zipfile

import numpy as np

MAGIC = 0x1950A86A20F9469CFC6C
SYSTEM = {'protocol_version': 1001, 'little_endian': True}
KINDS = {'<f4': 'FloatStorage', '<f8': 'DoubleStorage', '<f2': 'HalfStorage', '<i8': 'LongStorage'}
KINDS |= {'<i4': 'IntStorage', '<i2': 'ShortStorage', '|i1': 'CharStorage', '|u1': 'ByteStorage'}
KINDS |= {'|b1': 'BoolStorage'}


def named(module: str, name: str) -> bytes:
  return f'c{module}\n{name}\n'.encode()


def plain(value) -> bytes:
  """Texts, numbers and None, and tuples, lists and dicts of them. Bytes are opcodes already."""
  if isinstance(value, bytes):
    return value
  if isinstance(value, str):
    return b'X' + struct.pack('<I', len(value.encode())) + value.encode()
  if isinstance(value, bool) or value is None:
    return {True: b'\x88', False: b'\x89', None: b'N'}[value]
  if isinstance(value, int):
    size = value.bit_length() // 8 + 1
    return b'\x8a' + bytes([size]) + value.to_bytes(size, 'little', signed=True)
  if isinstance(value, dict):
    return b'}(' + b''.join(plain(key) + plain(part) for key, part in value.items()) + b'u'
  mark, end = (b'(', b't') if isinstance(value, tuple) else (b'](', b'e')
  return mark + b''.join(plain(part) for part in value) + end


def call(module: str, name: str, *args) -> bytes:
  return named(module, name) + plain(args) + b'R'


def storage(key: str, kind: str, size: int, *view) -> bytes:
  return plain(('storage', named('torch', kind), key, 'cuda:0', size, *view)) + b'Q'


def tensor(of: bytes, offset, size, stride, function: str = '_rebuild_tensor_v2') -> bytes:
  hooks = call('collections', 'OrderedDict')
  flags = () if function == '_rebuild_tensor' else (False, hooks)
  return call('torch._utils', function, of, offset, size, stride, *flags)


def state_dict(tensors: dict[str, bytes]) -> bytes:
  """As `OrderedDict` with torch's notes on it."""
  items = b''.join(plain(name) + part for name, part in tensors.items())
  notes = plain({'_metadata': {'version': 1}})
  return call('collections', 'OrderedDict') + b'(' + items + b'u' + notes + b'b'


def contiguous(arrays: dict[str, np.ndarray]) -> tuple[bytes, dict[str, np.ndarray]]:
  """A state dict of arrays, each in a storage of its own, and the storages."""
  tensors, storages = {}, {}
  for i, (name, array) in enumerate(arrays.items()):
    stride = tuple(step // array.itemsize for step in array.strides)
    of = storage(str(i), KINDS[array.dtype.str], array.size)
    tensors[name] = tensor(of, 0, array.shape, stride)
    storages[str(i)] = array
  return state_dict(tensors), storages


def pickled(opcodes: bytes, protocol: int = 2) -> bytes:
  return b'\x80' + bytes([protocol]) + opcodes + b'.'


def legacy(opcodes: bytes, storages: dict[str, np.ndarray], system: dict = SYSTEM) -> bytes:
  """The format of torch before 1.6, and of `_use_new_zipfile_serialization=False`."""
  parts = [pickled(part) for part in (plain(MAGIC), plain(1001), plain(system), opcodes, plain([*storages]))]
  raw = [struct.pack('<q', array.size) + array.tobytes() for array in storages.values()]
  return b''.join(parts + raw)


def write_legacy(path: pathlib.Path, opcodes: bytes, storages: dict[str, np.ndarray]) -> pathlib.Path:
  path.write_bytes(legacy(opcodes, storages))
  return path


def write_zip(
  path: pathlib.Path,
  opcodes: bytes,
  storages: dict[str, np.ndarray],
  compression: int = zipfile.ZIP_STORED,
  byteorder: str = 'little',
) -> pathlib.Path:
  """The format of torch from 1.6 on."""
  with zipfile.ZipFile(path, 'w', compression) as archive:
    archive.writestr('archive/data.pkl', pickled(opcodes))
    archive.writestr('archive/byteorder', byteorder)
    for key, array in storages.items():
      archive.writestr(f'archive/data/{key}', array.tobytes())
    archive.writestr('archive/version', '3\n')
  return path
