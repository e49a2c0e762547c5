"""Pickles of arrays are read as numpy would read them; nothing that they name is run."""

import collections
import pickle
import sys
import types

import numpy as np
import pytest

from advmix_jax.interop import safe_pickle
from advmix_jax.types import BadInputError
from tests import official_files


def write(path, value, protocol=4):
  with open(path, 'wb') as file:
    pickle.dump(value, file, protocol)
  return path


@pytest.mark.parametrize('protocol', [2, 3, 4, 5])
def test_arrays_of_every_protocol_and_number_read(tmp_path, protocol):
  values = [
    np.arange(6).reshape(2, 3).astype(dtype)
    for dtype in ('<f4', '>f4', '<f8', '<f2', '<i8', 'u1', '>u2', '?')
  ]
  values += [np.asfortranarray(values[0]), np.float32(2.5), np.int64(3)]
  if protocol > 2:  # There an empty array is written as a call of `bytes`, which is not in the table.
    values.append(np.zeros((0, 3), np.float32))
  path = write(tmp_path / 'a.pkl', collections.OrderedDict(values=values), protocol)
  allowed = safe_pickle.numpy_globals() | {('collections', 'OrderedDict'): dict}
  found = safe_pickle.load(path, allowed)['values']
  for value, expected in zip(found, values, strict=True):
    array = safe_pickle.to_array(value)
    np.testing.assert_array_equal(array, expected)
    assert array.dtype == np.asarray(expected).dtype.newbyteorder('=') and array.shape == expected.shape


def test_names_outside_the_table_are_refused_and_not_called(tmp_path):
  called = []
  sys.modules['advmix_trap'] = trap = types.ModuleType('advmix_trap')
  trap.run = types.FunctionType(
    (lambda: called.append(1)).__code__, {}, 'run', None, (types.CellType(called),)
  )
  trap.run.__module__, trap.run.__qualname__ = 'advmix_trap', 'run'
  try:
    path = write(tmp_path / 'a.pkl', official_files.Call(trap.run))
    with open(path, 'rb') as file:
      pickle.load(file)
    assert called == [1], 'the file is harmful when it is read carelessly'
    with pytest.raises(BadInputError, match='it names advmix_trap.run, which is not allowed'):
      safe_pickle.load(path, safe_pickle.numpy_globals())
    assert called == [1]
  finally:
    del sys.modules['advmix_trap']


def stack_global(module, name):
  return b'\x8c' + bytes([len(module)]) + module + b'\x8c' + bytes([len(name)]) + name + b'\x93'


@pytest.mark.parametrize(
  'opcodes, message',
  [
    (stack_global(b'numpy', b'ndarray') + b')R', 'constructs an array directly'),
    (stack_global(b'numpy', b'dtype.__class__'), 'numpy.dtype.__class__, which is not allowed'),
    (stack_global(b'numpy', b'dtype') + b'\x8c\x01O\x85R', "type 'O', which is not numeric"),
    (stack_global(b'numpy', b'dtype') + b'\x8c\x02V8\x85R', "type 'V8'"),
    (stack_global(b'numpy', b'dtype') + b'}\x8c\x01aK\x01sb', 'a state is given to a function'),
    (b'\x8c\x04evilQ', 'persistent'),
    (b'', 'Ran out of input|damaged'),
    (b'K\x01K\x02R', 'damaged'),
    (b'0', 'damaged'),
  ],
)
def test_hostile_opcodes_are_refused(tmp_path, opcodes, message):
  path = tmp_path / 'a.pkl'
  path.write_bytes(b'\x80\x04' + opcodes + (b'.' if opcodes else b''))
  with pytest.raises(BadInputError, match=message):
    safe_pickle.load(path, safe_pickle.numpy_globals())


def test_objects_in_arrays_and_wrong_lengths_are_refused(tmp_path):
  allowed = safe_pickle.numpy_globals()
  with pytest.raises(BadInputError, match="'O8', which is not numeric"):
    safe_pickle.load(write(tmp_path / 'a.pkl', np.array([{}], object)), allowed)
  with pytest.raises(BadInputError, match='not numeric'):
    safe_pickle.load(write(tmp_path / 'a.pkl', np.zeros(2, [('a', 'f4')])), allowed)
  content = pickle.dumps(np.zeros((3, 5), np.float32), 4)
  changed = content.replace(b'K\x03K\x05\x86', b'K\x03K\x06\x86')
  assert changed != content
  (tmp_path / 'a.pkl').write_bytes(changed)
  with pytest.raises(BadInputError, match=r'shape \(3, 6\) has 60 bytes where 72 are needed'):
    safe_pickle.load(tmp_path / 'a.pkl', allowed)
  with pytest.raises(BadInputError, match='found str where an array'):
    safe_pickle.to_array('text')
