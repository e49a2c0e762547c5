"""StyleGAN's data sets, as zips and unpacked: their labels, and safety from strangers' zips."""

import json
import shutil
import zipfile

import numpy as np
import pytest

from advmix_jax import data
from advmix_jax.data import file_tree
from tests.pictures import (
  complaint,
  encoded,
  folder_config,
  shape_picture,
  stylegan_files,
  write_split,
  write_zip,
)


def test_stylegan_zips_and_folders_give_the_same_data(tmp_path, cache_dir):
  files = stylegan_files(20)
  archive = write_zip(tmp_path / 'data.zip', files)
  with zipfile.ZipFile(archive) as z:
    z.extractall(tmp_path / 'unpacked')
  one, other = (data.load(folder_config(p, cache_dir)) for p in (archive, tmp_path / 'unpacked'))
  for part in ('train', 'test'):
    a, b = getattr(one, part), getattr(other, part)
    assert np.array_equal(a.images, b.images) and np.array_equal(a.labels, b.labels) and a.files == b.files
  assert one.train.class_names == ('3', '7')
  assert (len(one.train), len(one.test)) == (16, 4)  # A fifth, drawn evenly.
  assert list(np.bincount(one.test.labels)) == [2, 2]
  assert not set(one.train.files) & set(one.test.files)


def test_grey_stylegan_pictures_and_one_hot_labels(tmp_path, cache_dir):
  files = stylegan_files(20, grey=True)
  labels = [
    [name, [0.0, 1.0] if k == 3 else [1.0, 0.0]] for name, k in json.loads(files['dataset.json'])['labels']
  ]
  files['dataset.json'] = json.dumps({'labels': labels}).encode()
  train = data.load(folder_config(write_zip(tmp_path / 'grey.zip', files), cache_dir)).train
  assert train.class_names == ('0', '1')
  assert (train.images == train.images[..., :1]).all()


def test_each_part_may_be_a_zip(tmp_path, cache_dir):
  (tmp_path / 'parts').mkdir()
  for part in ('train', 'test'):
    write_zip(tmp_path / 'parts' / f'{part}.zip', stylegan_files(6))
  splits = data.load(folder_config(tmp_path / 'parts', cache_dir))
  assert (len(splits.train), len(splits.test)) == (6, 6)


@pytest.mark.parametrize('zipped, other', [('train', 'test'), ('test', 'train')])
def test_a_zip_may_be_one_part_and_a_folder_another(split_folder, cache_dir, zipped, other):
  shutil.rmtree(split_folder / zipped)
  files = {f'{c}/{i}.png': encoded(shape_picture(0, i)) for c in ('disc', 'cross') for i in range(5)}
  write_zip(split_folder / f'{zipped}.zip', files)
  splits = data.load(folder_config(split_folder, cache_dir))
  assert len(getattr(splits, zipped)) == 10
  assert {name.split('/')[0] for name in getattr(splits, other).files} == {other}


def test_what_lies_beside_zips_of_parts_is_named(tmp_path, cache_dir):
  root = write_split(tmp_path / 'parts', test=2, other=1)
  outside = write_zip(tmp_path / 'outside.zip', stylegan_files(6))
  (root / 'train.zip').symlink_to(outside)
  for name in ('Train.zip', 'val.zip'):
    write_zip(root / name, {})
  text = complaint(folder_config(root, cache_dir))
  assert 'train.zip (a link that leads out of the folder, not followed)' in text
  assert 'other/disc/000.png (in none of train, validation' in text and 'Train.zip (in none of' in text
  assert 'validation (a part without pictures)' in text
  (root / 'train.zip').unlink()
  write_zip(root / 'train.zip', {'a/0.png': b''})
  (root / 'train').mkdir()
  assert 'found the part train twice' in complaint(folder_config(root, cache_dir))


def test_an_empty_folder_in_a_zip_is_named(tmp_path, cache_dir):
  files = {f'{c}/{i}.png': encoded(shape_picture(0, i)) for c in ('a', 'b') for i in range(5)}
  archive = write_zip(tmp_path / 'a.zip', files | {'a/': b'', 'bird/': b''})
  text = complaint(folder_config(archive, cache_dir))
  assert 'found 1 file ' in text and 'bird/ (an empty folder)' in text


@pytest.mark.parametrize(
  'labels, reason',
  [
    (b'{"labels": null}', 'found no list of labels'),
    (b'{}', 'found no list of labels (KeyError'),
    (b'[' * 100_000, 'found no list of labels (RecursionError'),
    (
      b'{"labels": [["a.png", 1.5]]}',
      "found 'a.png' with label 1.5, expected each name once, with a whole number",
    ),
    (b'{"labels": [["a.png", [1, 1]]]}', "found 'a.png' with label [1, 1]"),
    (b'{"labels": [["a.png", 1], ["a.png", 2]]}', "found 'a.png' with label 2"),
    (b'{"labels": [["a/b.png", 1], ["a\\\\b.png", 2]]}', "found 'a/b.png' with label 2"),
    (b'{"labels": [["none.png", 1], ["00000/img00000000.png", 2]]}', 'none.png (not found, but listed in'),
    (b'{"labels": [["00000/img00000000.png", 2]]}', 'img00000001.png (without a label in dataset.json)'),
  ],
  ids=range(9),
)
def test_bad_label_lists_are_named(tmp_path, cache_dir, labels, reason):
  files = stylegan_files(2) | {'dataset.json': labels}
  assert reason in complaint(folder_config(write_zip(tmp_path / 'data.zip', files), cache_dir))


def test_a_zip_is_read_and_never_unpacked(tmp_path, cache_dir):
  files = {f'../../{name}' if i == 0 else name: v for i, (name, v) in enumerate(stylegan_files(20).items())}
  archive = write_zip(tmp_path / 'data.zip', files)
  with zipfile.ZipFile(archive, 'a') as z:
    link = zipfile.ZipInfo('00001/link.png')
    link.external_attr = 0o120777 << 16
    z.writestr(link, '/etc/passwd')
    z.writestr('00001/other.png', encoded(shape_picture(0, 0)), zipfile.ZIP_LZMA)
  text = complaint(folder_config(archive, cache_dir))
  assert '00001/link.png (a link inside a zip, not followed)' in text
  assert '00001/other.png (packed by method 14' in text
  assert '00000/img00000000.png (not found, but listed in dataset.json)' in text
  assert sorted(p.name for p in tmp_path.iterdir()) == ['data.zip']


def test_what_unpacks_to_too_much_is_not_unpacked(tmp_path, cache_dir, monkeypatch):
  monkeypatch.setattr(file_tree, 'MAX_FILE_BYTES', 10_000)
  files = stylegan_files(4) | {'00000/img00000000.png': bytes(10_001)}
  text = complaint(folder_config(write_zip(tmp_path / 'data.zip', files), cache_dir))
  assert '00000/img00000000.png (10001 bytes, expected at most 10000)' in text


def test_a_damaged_zip_entry_is_named(tmp_path, cache_dir):
  archive = write_zip(tmp_path / 'data.zip', stylegan_files(20))
  with zipfile.ZipFile(archive) as z:
    info = z.getinfo('00000/img00000003.png')
    at = info.header_offset + 30 + len(info.filename) + info.compress_size // 2
  contents = bytearray(archive.read_bytes())
  contents[at] ^= 255
  archive.write_bytes(contents)
  assert '00000/img00000003.png (does not unpack' in complaint(folder_config(archive, cache_dir))


def test_a_zip_entry_whose_name_is_damaged_is_named(tmp_path, cache_dir):
  files = {f'{c}/ä{i}.png': encoded(shape_picture(0, i)) for c in ('a', 'b') for i in range(5)}
  archive = write_zip(tmp_path / 'data.zip', files)
  contents = archive.read_bytes().replace('ä'.encode(), b'\xff\xff', 1)
  archive.write_bytes(contents)
  assert 'found 1 file that cannot be used: a/ä0.png (does not unpack' in complaint(
    folder_config(archive, cache_dir)
  )


def test_a_class_may_have_a_name_of_any_length(tmp_path, cache_dir):
  """Longer than Python turns into a number."""
  files = {f'{c}/{i}.png': encoded(shape_picture(0, i)) for c in ('9' * 5000, '10') for i in range(5)}
  names = data.load(folder_config(write_zip(tmp_path / 'a.zip', files), cache_dir)).train.class_names
  assert names == ('10', '9' * 5000)
