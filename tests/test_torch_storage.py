"""Files of torch.save: read as torch reads them, and never more than tensors."""

import os
import resource
import sys
import zipfile

import numpy as np
import pytest

from advmix_jax.interop.torch_storage import read_torch_file, storage_from_bytes
from advmix_jax.interop.torch_tensor import rebuild_tensor
from advmix_jax.types import BadInputError
from tests import torch_bytes
from tests.torch_bytes import call, named, plain, state_dict, storage, tensor
from tests.work import counted_calls

WRITERS = [torch_bytes.write_zip, torch_bytes.write_legacy]
SEVEN = np.arange(7, dtype=np.float32)
OF_SEVEN = storage('0', 'FloatStorage', 7)
CALLS = 1_000_000  # Far less than a second.


def arrays_of_every_type() -> dict[str, np.ndarray]:
  return {
    kind: np.array([[0, 1, 2], [3, 4, 100]]).astype(code) for code, kind in torch_bytes.KINDS.items()
  } | {'one number': np.array(2.5, np.float32), 'nothing': np.zeros(0, np.float32)}


@pytest.mark.parametrize('write', WRITERS)
def test_tensors_of_every_type_are_read(tmp_path, write):
  arrays = arrays_of_every_type()
  found = read_torch_file(write(tmp_path / 'a.pth', *torch_bytes.contiguous(arrays)))
  assert list(found) == list(arrays)
  for name, array in arrays.items():
    np.testing.assert_array_equal(found[name], array)
    assert found[name].dtype == array.dtype and not found[name].flags.writeable


@pytest.mark.parametrize('write', WRITERS)
def test_tensors_may_share_a_storage_and_lie_in_it_as_they_like(tmp_path, write):
  opcodes = state_dict(
    {
      'turned': tensor(OF_SEVEN, 1, (2, 3), (1, 2)),
      'last': tensor(OF_SEVEN, 6, (1,), (1 << 62,), '_rebuild_tensor'),
      'parameter': call('torch._utils', '_rebuild_parameter', tensor(OF_SEVEN, 0, (7,), (1,)), True, None),
    }
  )
  found = read_torch_file(write(tmp_path / 'a.pth', opcodes, {'0': SEVEN}))
  np.testing.assert_array_equal(found['turned'], [[1, 3, 5], [2, 4, 6]])
  np.testing.assert_array_equal(found['last'], [6])
  np.testing.assert_array_equal(found['parameter'], SEVEN)


@pytest.mark.parametrize('write', WRITERS)
def test_a_checkpoint_gives_its_state_dict_and_only_what_is_wanted(tmp_path, write):
  inner = state_dict({name: tensor(OF_SEVEN, i, (1,), (1,)) for i, name in enumerate(('a.x', 'a.y', 'b.x'))})
  momentum = tensor(storage('1', 'DoubleStorage', 2), 0, (2,), (1,))
  opcodes = plain({'epoch': 3, 'optimizer': {'state': momentum}, 'state_dict': inner})
  path = write(tmp_path / 'a.pth', opcodes, {'0': SEVEN, '1': np.zeros(2)})
  assert read_torch_file(path, lambda name: name.endswith('x')) == {'a.x': [0], 'b.x': [2]}


def test_a_storage_inside_another_pickle_is_read():
  found = storage_from_bytes(torch_bytes.legacy(storage('0', 'FloatStorage', 7, None), {'0': SEVEN}))
  np.testing.assert_array_equal(found, SEVEN)
  with pytest.raises(BadInputError, match='found Tensor, expected one torch storage'):
    storage_from_bytes(torch_bytes.legacy(tensor(OF_SEVEN, 0, (7,), (1,)), {'0': SEVEN}))


@pytest.mark.parametrize(
  'offset, size, stride',
  [
    (0, (8,), (1,)),
    (7, (1,), (1,)),
    (8, (0,), (1,)),
    (1, (2, 4), (3, 1)),
    (0, (2,), (1 << 62,)),
    (1 << 70, (1,), (1,)),
    (-1, (1,), (1,)),
    (0, (3,), (-1,)),
    (0, (1 << 40,), (0,)),  # A few bytes of file, terabytes of memory.
    (0, (1 << 62, 0), (0, 0)),
    (0, (2, 2), (1,)),
    (0, (1,) * 64, (1,) * 64),
    (0, (True,), (1,)),
    (0.0, (1,), (1,)),
    (0, 7, 1),
    (0, ('1',), (1,)),
    (0, (2.0,), (1,)),
  ],
)
def test_a_tensor_outside_its_storage_is_refused(tmp_path, offset, size, stride):
  with pytest.raises(BadInputError, match='a tensor '):
    rebuild_tensor(SEVEN, offset, size, stride)
  if not any(isinstance(part, float) for part in (offset, *np.ravel(size))):
    opcodes = state_dict({'a': tensor(OF_SEVEN, offset, size, stride)})
    path = torch_bytes.write_zip(tmp_path / 'a.pth', opcodes, {'0': SEVEN})
    with pytest.raises(BadInputError, match=r'a\.pth: a: a tensor '):
      read_torch_file(path)


ONE = {'a': tensor(OF_SEVEN, 0, (7,), (1,))}
# What a pickle says, and the words of the refusal.
HOSTILE = [
  (call('os', 'system', 'true'), 'names os.system, which is not allowed'),
  (call('posix', 'getcwd'), 'names posix.getcwd'),
  (call('builtins', 'eval', '1'), 'names builtins.eval'),
  (call('builtins', 'getattr', 'a', 'b'), 'names builtins.getattr'),
  (call('torch.storage', '_load_from_bytes', b'C\x01.'), 'names torch.storage._load_from_bytes'),
  (named('torch._utils', '_rebuild_tensor.__globals__'), 'names torch._utils._rebuild_tensor.__globals__'),
  (plain('torch') + plain('a\nb') + b'\x93', r'names torch.a\\nb, which'),
  (plain('torch') + plain('x' * 9999) + b'\x93', 'names torch.x{90,100}, which'),
  (b'\x82\x01', 'refused pickle'),  # An extension code.
  (named('torch', 'FloatStorage') + b')R', 'refused pickle'),
  (named('torch', 'FloatStorage') + plain({'code': 'O'}) + b'b', 'refused pickle'),
  (named('torch._utils', '_rebuild_tensor_v2') + plain({'_function': 1}) + b'b', 'refused pickle'),
  (named('collections', 'OrderedDict') + plain({'x': 1}) + b'b', 'refused pickle'),
  (plain('evil') + b'Q', 'something outside that is no storage'),
  (plain(('storage', 'FloatStorage', '0', 'cpu', 7)) + b'Q', 'without type or size'),
  (storage('0', 'FloatStorage', -1), 'without type or size'),
  (storage('0', 'QUInt8Storage', 7), 'names torch.QUInt8Storage'),
  (storage('0', 'FloatStorage', 7, ('1', 0, 7)), 'part of another'),
  (plain((OF_SEVEN, storage('0', 'FloatStorage', 8))), 'two types or sizes'),
  (call('torch._utils', '_rebuild_tensor_v2', 'storage', 0, (1,), (1,)), 'a tensor has no storage'),
  (b')' + b'\x85' * (1 << 20) + b'}' + b'0', 'more than 65536 bytes'),
  (b'\x8b' + b'\xff\xff\xff\x7f', 'damaged'),
  (b'\x8e' + b'\xff' * 8, 'damaged'),
  (b'(' * 1000, 'damaged'),
  (b'0', 'damaged'),
  (plain({'a': OF_SEVEN}), 'found Storage under a'),
  (OF_SEVEN, 'found Storage instead of a dict'),
]

# The same where it names no storage.
WITHOUT_TENSORS = [
  (plain([1, 2]), 'found list instead of a dict'),
  (plain({}), 'found dict instead of a dict'),
  (plain({'a': 1}), 'found int under a, which is no tensor'),
  # A back reference for which the reader written in C takes gigabytes.
  (b'N' + b'\x72\xff\xff\xff\x7f', 'found NoneType instead of a dict'),
  # A key so deep that its hash would overflow the stack if more of it were read.
  (b'}' + b')' + b'\x85' * 60000 + b'Ns', 'a key that is no text'),
]


@pytest.mark.parametrize('write', WRITERS)
@pytest.mark.parametrize(
  'opcodes, words, storages',
  [(*case, {'0': SEVEN}) for case in HOSTILE] + [(*case, {}) for case in WITHOUT_TENSORS],
  ids=range(len(HOSTILE) + len(WITHOUT_TENSORS)),
)
def test_anything_but_tensors_is_refused_in_a_sentence_at_once(tmp_path, write, opcodes, words, storages):
  path = write(tmp_path / 'a.pth', opcodes, storages)
  memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  with counted_calls() as calls, pytest.raises(BadInputError, match=words) as error:
    read_torch_file(path)
  text = str(error.value)
  assert text.startswith(str(path)) and ', expected ' in text
  assert len(text.splitlines()) == 1 and len(text) < len(str(path)) + 400
  assert calls.number < CALLS
  assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 200_000  # KiB.


def test_a_refused_name_is_neither_imported_nor_called(tmp_path):
  trap = tmp_path / 'advmix_torch_trap.py'
  trap.write_text('raise SystemExit("imported")')
  sys.path.insert(0, str(tmp_path))
  try:
    for opcodes in (call('advmix_torch_trap', 'run'), call('os', 'mkdir', str(tmp_path / 'made'))):
      for write in WRITERS:
        with pytest.raises(BadInputError, match='which is not allowed'):
          read_torch_file(write(tmp_path / 'a.pth', opcodes, {}))
  finally:
    sys.path.remove(str(tmp_path))
  assert 'advmix_torch_trap' not in sys.modules and not (tmp_path / 'made').exists()


@pytest.mark.parametrize('write', WRITERS)
def test_every_cut_and_many_changed_bytes_are_refused_or_harmless(tmp_path, write):
  content = write(tmp_path / 'a.pth', *torch_bytes.contiguous({'a': SEVEN, 'b': SEVEN[:2]})).read_bytes()
  path = tmp_path / 'b.pth'
  for length in range(len(content)):
    path.write_bytes(content[:length])
    with pytest.raises(BadInputError, match=r'b\.pth: '):
      read_torch_file(path)
  rng = np.random.default_rng(0)
  for _ in range(500):
    changed = bytearray(content)
    changed[rng.integers(len(content))] = rng.integers(256)
    path.write_bytes(changed)
    try:
      found = read_torch_file(path)
    except BadInputError:
      continue
    assert all(array.size <= 7 for array in found.values())


def test_a_legacy_file_whose_parts_disagree_is_refused(tmp_path):
  def refusal(content: bytes) -> str:
    (tmp_path / 'a.pth').write_bytes(content)
    with pytest.raises(BadInputError) as error:
      read_torch_file(tmp_path / 'a.pth')
    return str(error.value)

  whole = torch_bytes.legacy(state_dict(ONE), {'0': SEVEN})
  assert "storage '0' has another size" in refusal(torch_bytes.legacy(state_dict(ONE), {'0': SEVEN[:5]}))
  assert "storage '0' has 24 bytes left where 28 are needed" in refusal(whole[:-4])
  assert 'other storages than its tensors name' in refusal(torch_bytes.legacy(state_dict(ONE), {'1': SEVEN}))
  assert 'big-endian' in refusal(torch_bytes.legacy(state_dict(ONE), {'0': SEVEN}, {'little_endian': False}))
  assert 'torch.save did not write' in refusal(torch_bytes.pickled(plain({'a': 1})))
  assert 'the file is empty' in refusal(b'')


def test_a_zip_file_that_is_no_archive_of_torch_is_refused(tmp_path):
  path = tmp_path / 'a.pth'

  def refusal() -> str:
    with pytest.raises(BadInputError) as error:
      read_torch_file(path)
    return str(error.value)

  big = np.zeros(1 << 22, np.float32)  # Compresses a thousandfold.
  opcodes, storages = torch_bytes.contiguous({'a': big})
  torch_bytes.write_zip(path, opcodes, storages, compression=zipfile.ZIP_DEFLATED)
  assert 'compressed entries' in refusal()
  torch_bytes.write_zip(path, opcodes, storages, byteorder='big')
  assert 'big-endian' in refusal()
  torch_bytes.write_zip(path, opcodes, {})
  assert "no storage '0'" in refusal()
  torch_bytes.write_zip(path, opcodes, {'0': SEVEN})
  assert "the storage '0' has 28 bytes, expected 4194304 of float32" in refusal()
  with zipfile.ZipFile(path, 'w') as archive:
    archive.writestr('readme.txt', 'hello')
  assert 'zip archive with 0 files data.pkl' in refusal()
  torch_bytes.write_zip(path, *torch_bytes.contiguous({'a': SEVEN}))
  content = path.read_bytes()
  for entry in (content.rindex(b'PK\x01\x02'), content.index(b'PK\x01\x02')):
    forged = bytearray(content)
    forged[entry + 20 : entry + 28] = b'\xff\xff\xff\x7f' * 2  # The sizes in the directory.
    path.write_bytes(forged)
    assert 'entries are larger than the file' in refusal()


def test_a_missing_file_and_a_folder_are_named(tmp_path):
  with pytest.raises(BadInputError, match=r'none\.pth: cannot be read \(No such file'):
    read_torch_file(tmp_path / 'none.pth')
  with pytest.raises(BadInputError, match='cannot be read'):
    read_torch_file(tmp_path)


@pytest.mark.parametrize('in_zip', [True, False])
def test_files_of_torch_itself(tmp_path, in_zip):
  torch = pytest.importorskip('torch')
  whole = torch.arange(24.0).reshape(1, 4, 2, 3)
  values = {
    'plain': whole,
    'channels last': whole.contiguous(memory_format=torch.channels_last),
    'slice': whole[0, 1:, :, ::2],
    'half': whole.half(),
    'parameter': torch.nn.Parameter(whole),
    'count': torch.tensor(3),
    'flags': whole > 3,
  }
  path = tmp_path / 'a.pth'
  torch.save(values, path, _use_new_zipfile_serialization=in_zip)
  found = read_torch_file(os.fspath(path))
  assert list(found) == list(values)
  for name, value in values.items():
    np.testing.assert_array_equal(found[name], value.detach().numpy())
    assert found[name].dtype == value.detach().numpy().dtype
