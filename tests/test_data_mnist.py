"""MNIST: damaged files are named, downloads keep nothing unchecked, and the real files read."""

import gzip
import hashlib
import io
import shutil
import struct
import urllib.error

import numpy as np
import pytest

from advmix_jax import data
from advmix_jax.data import mnist
from advmix_jax.types import BadInputError, RunError
from configs import default
from launch import check_data

IMAGES = 'train-images-idx3-ubyte'
LABELS = 'train-labels-idx1-ubyte'


def idx_labels(labels, magic=2049):
  return struct.pack('>2I', magic, len(labels)) + bytes(labels)


def idx_images(num, magic=2051, side=28):
  return struct.pack('>4I', magic, num, side, side) + bytes(num * side * side)


def test_parse_reads_labels_and_images():
  assert list(mnist.parse(idx_labels([3, 9, 0]), LABELS, 3)) == [3, 9, 0]
  assert mnist.parse(idx_images(2), IMAGES, 2).shape == (2, 28, 28)


@pytest.mark.parametrize(
  'content, name, message',
  [
    (idx_labels([1, 2])[:6], LABELS, 'found 6 bytes, expected a header of 8: truncated'),
    (idx_labels([1, 2], magic=2051), LABELS, 'found the magic number 2051, expected 2049'),
    (idx_labels([1, 2, 3]), LABELS, r'found the shape \(3,\) in its header, expected \(2,\)'),
    (idx_labels([1, 2])[:-1], LABELS, 'found 9 bytes, expected 10: truncated'),
    (idx_labels([1, 2]) + b'x', LABELS, 'found 11 bytes, expected 10: bytes too many'),
    (idx_labels([1, 17]), LABELS, 'found the label 17 at position 1, expected 0 to 9'),
    (idx_images(2, side=32), IMAGES, r'found the shape \(2, 32, 32\)'),
    (idx_images(2)[:-5], IMAGES, 'found 1579 bytes, expected 1584: truncated'),
  ],
)
def test_parse_names_what_is_wrong(content, name, message):
  with pytest.raises(BadInputError, match=f'{name}: {message}'):
    mnist.parse(content, name, 2)


@pytest.fixture
def tiny(tmp_path, monkeypatch):
  """A folder whose four tiny files are taken for the official ones; yields it and the files' bytes."""
  contents = {
    'train-images-idx3-ubyte': idx_images(20),
    'train-labels-idx1-ubyte': idx_labels([i % 10 for i in range(20)]),
    't10k-images-idx3-ubyte': idx_images(10),
    't10k-labels-idx1-ubyte': idx_labels(list(range(10))),
  }
  sizes = {name: 20 if name.startswith('train') else 10 for name in contents}
  files = {name: (sizes[name], hashlib.md5(content).hexdigest()) for name, content in contents.items()}
  monkeypatch.setattr(mnist, 'FILES', files)
  for name, content in contents.items():
    (tmp_path / f'{name}.gz').write_bytes(gzip.compress(content))
  return tmp_path, contents


def test_files_are_found_in_the_folder_or_its_mnist_subfolder(tiny, monkeypatch):
  folder, _ = tiny
  (folder / 'mnist').mkdir()
  for path in folder.glob('*.gz'):
    path.rename(folder / 'mnist' / path.name)
  for directory, variable in ((str(folder), ''), (str(folder / 'mnist'), ''), ('', str(folder))):
    monkeypatch.setenv('ADVMIX_DATA_DIR', variable)
    images, labels = mnist.read(directory, 'train', 32)
    assert images.shape == (20, 32, 32) and labels.dtype == np.int32


def test_unpacked_files_read_and_larger_resolutions_enlarge(tiny):
  folder, contents = tiny
  for name, content in contents.items():
    (folder / f'{name}.gz').unlink()
    (folder / name).write_bytes(content)
  assert mnist.read(str(folder), 'test', 64)[0].shape == (10, 64, 64)


def test_missing_folder_says_how_to_get_the_files(tmp_path, monkeypatch):
  monkeypatch.delenv('ADVMIX_DATA_DIR', raising=False)
  with pytest.raises(BadInputError, match='data.dir: found nothing.*--download'):
    mnist.find_folder()
  with pytest.raises(BadInputError, match=f'data.dir: found no MNIST files in {tmp_path}.*--download'):
    mnist.find_folder(str(tmp_path))


def test_missing_and_damaged_files_are_named(tiny):
  folder, _ = tiny
  path = folder / f'{LABELS}.gz'
  path.write_bytes(path.read_bytes()[:-9])
  with pytest.raises(BadInputError, match=f'{path.name}: found a gzip file .* does not unpack'):
    mnist.read(str(folder), 'train', 32)
  path.write_bytes(b'not gzip')
  with pytest.raises(BadInputError, match='does not unpack'):
    mnist.read(str(folder), 'train', 32)
  path.write_bytes(gzip.compress(idx_labels([1] * 20)))
  with pytest.raises(BadInputError, match='found md5 .* expected .* not the official MNIST file'):
    mnist.read(str(folder), 'train', 32)
  path.unlink()
  with pytest.raises(BadInputError, match=f'{LABELS}: not found'):
    mnist.read(str(folder), 'train', 32)


def test_download_tries_the_next_mirror_and_keeps_only_checked_files(tiny, monkeypatch, tmp_path_factory):
  _, contents = tiny
  asked = []

  def urlopen(url, timeout):
    asked.append(url)
    name = url.rsplit('/', 1)[1].removesuffix('.gz')
    if url.startswith(mnist.MIRRORS[0]):
      return io.BytesIO(gzip.compress(b'something else'))
    return io.BytesIO(gzip.compress(contents[name]))

  monkeypatch.setattr(mnist.urllib.request, 'urlopen', urlopen)
  folder = tmp_path_factory.mktemp('download') / 'new'
  assert sorted(path.name for path in mnist.download(folder)) == sorted(f'{name}.gz' for name in contents)
  assert len(asked) == 8 and len(list(folder.iterdir())) == 4
  assert mnist.read(str(folder), 'test', 32)[0].shape == (10, 32, 32)
  mnist.download(folder)
  assert len(asked) == 8, 'good files are not fetched again'
  (folder / f'{LABELS}.gz').write_bytes(b'damaged')
  mnist.download(folder)
  assert len(asked) == 10


def test_download_offline_names_the_mirrors(tmp_path, monkeypatch):
  def urlopen(url, timeout):
    raise urllib.error.URLError('no route')

  monkeypatch.setattr(mnist.urllib.request, 'urlopen', urlopen)
  with pytest.raises(RunError) as error:
    mnist.download(tmp_path)
  assert all(mirror in str(error.value) for mirror in mnist.MIRRORS)
  assert '\n' not in str(error.value) and list(tmp_path.iterdir()) == []


def test_no_more_is_read_or_unpacked_than_a_file_can_have(tiny, monkeypatch):
  folder, contents = tiny
  monkeypatch.setattr(mnist, '_MOST_BYTES', 2**14 + 10)
  for name, content in (
    (f'{LABELS}.gz', gzip.compress(contents[LABELS] + bytes(2**20))),
    (LABELS, contents[LABELS] + bytes(2**20)),
  ):
    (folder / name).write_bytes(content)
    with pytest.raises(BadInputError, match=f'{name}: found 16394 bytes, expected 28: bytes too many'):
      mnist.read(str(folder), 'train', 32)


class Endless(io.RawIOBase):
  """A mirror that never stops sending zeros."""

  def read(self, size=-1):
    assert 0 <= size <= mnist._MOST_BYTES
    return bytes(size)


def test_no_more_of_an_answer_is_read(tmp_path, monkeypatch):
  monkeypatch.setattr(mnist, '_MOST_BYTES', 2**14)
  monkeypatch.setattr(mnist.urllib.request, 'urlopen', lambda url, timeout: Endless())
  with pytest.raises(RunError, match='could not be downloaded from any mirror'):
    mnist.download(tmp_path)


def mnist_config(data_dir, **overrides):
  config = default.get_config()
  config.data.update({'name': 'mnist', 'dir': str(data_dir), 'resolution': 32, **overrides})
  return config


def test_real_files_load(data_dir):
  splits = data.load(mnist_config(data_dir, num_train=1000, num_validation=5000))
  assert len(splits.generator) == 55_000 and len(splits.test) == 10_000 and len(splits.validation) == 5000
  assert list(np.bincount(splits.train.labels)) == [100] * 10
  assert splits.train.images.shape == (1000, 32, 32, 3)
  assert not splits.train.images[:, [0, 1, 30, 31]].any() and splits.train.images.any()
  assert list(splits.test.labels[:5]) == [7, 2, 1, 0, 4]


def test_a_truncated_copy_of_the_real_file_is_refused(data_dir, tmp_path):
  for path in (data_dir / 'mnist').iterdir():
    shutil.copy(path, tmp_path)
  name = 't10k-images-idx3-ubyte'
  whole = gzip.decompress((tmp_path / f'{name}.gz').read_bytes())
  (tmp_path / name).write_bytes(whole[:-100])
  with pytest.raises(BadInputError, match=f'{name}: found 7839916 bytes, expected 7840016: truncated'):
    mnist.read(str(tmp_path), 'test', 32)


def test_check_data_exit_status(tiny, tmp_path_factory, monkeypatch, capsys):
  folder, _ = tiny
  assert check_data.main([f'--dir={folder}']) == 0
  assert 'MNIST train: 20 images' in capsys.readouterr().out
  assert check_data.main([f'--dir={tmp_path_factory.mktemp("empty")}']) == 2
  assert check_data.main(['--download']) == 2
  assert check_data.main(['--download', f'--dir={tmp_path_factory.mktemp("offline")}']) == 1
  assert 'could not be downloaded' in capsys.readouterr().err
