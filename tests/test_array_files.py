"""Arrays from strangers' files: whatever is wrong with one is named, and nothing is read without a bound."""

import itertools
import struct
import zipfile

import numpy as np
import pytest

from advmix_jax.interop.array_files import read_arrays
from advmix_jax.interop.floats import as_float32
from advmix_jax.types import BadInputError

GOOD = "{'descr': '<f4', 'fortran_order': False, 'shape': (4, 4), }"


def npy(header: str) -> bytes:
  """Bytes of an .npy file with this header and 16 numbers."""
  text = header.encode('latin1') + b'\n'
  return b'\x93NUMPY\x01\x00' + struct.pack('<H', len(text)) + text + bytes(64)


def write(path, contents: bytes, method: int = zipfile.ZIP_DEFLATED):
  with zipfile.ZipFile(path, 'w', method) as archive:
    archive.writestr('w.npy', contents)
  return path


def test_a_good_header_is_read(tmp_path):
  np.testing.assert_array_equal(read_arrays(write(tmp_path / 'a', npy(GOOD)))['w'], np.zeros((4, 4), 'f4'))


@pytest.mark.parametrize(
  'header',
  [
    GOOD.replace('(4, 4)', '(4, 4'),
    GOOD.replace('(4, 4)', '(1000000, 1000000000)'),
    GOOD.replace('(4, 4)', f'({"9" * 40},)'),
    GOOD.replace('(4, 4)', '(4611686018427387904, 8)'),
    GOOD.replace('<f4', '|O'),
    "  {'a': 1}\n {'b': 2}",
    '(' * 300,
    "{'descr': 'a",
  ],
)
def test_a_damaged_header_is_refused(tmp_path, header):
  path = write(tmp_path / 'a', npy(header))
  with pytest.raises(BadInputError, match=f'{path}: cannot be read as .npz without pickles'):
    read_arrays(path)


def test_what_would_unpack_without_a_bound_is_refused(tmp_path):
  for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
    with pytest.raises(BadInputError, match=f'w.npy is packed by method {method}, expected deflated'):
      read_arrays(write(tmp_path / 'a', npy(GOOD), method))


def test_what_is_no_array_is_bytes(tmp_path):
  assert read_arrays(write(tmp_path / 'a', b'text'))['w'].dtype.kind == 'S'


def test_groups_that_are_linked_over_and_over_are_refused(tmp_path):
  """Seven levels of eight links each would be two million groups."""
  h5py = pytest.importorskip('h5py')
  with h5py.File(tmp_path / 'a', 'w') as file:
    groups = [file.create_group(f'g{i}') for i in range(8)]
    for outer, inner in itertools.pairwise(groups):
      for i in range(8):
        outer[f'l{i}'] = inner
  with pytest.raises(BadInputError, match='is a group that is also elsewhere'):
    read_arrays(tmp_path / 'a')


def test_numbers_too_large_for_float32_are_refused():
  np.testing.assert_array_equal(as_float32('x', np.array([0.5])), np.array([0.5], np.float32))
  with pytest.raises(BadInputError, match='found values in x that are not finite float32'):
    as_float32('x', np.array([1e300]))
  with pytest.raises(BadInputError, match='found x of int64, expected floating-point numbers'):
    as_float32('x', np.array([1]))
