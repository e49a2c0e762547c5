"""Pictures of one's own: layouts, what is refused and named, the cache, and safety from strangers' files."""

import json
import os
import pathlib
import shutil
import zipfile

import numpy as np
import pytest

from advmix_jax import data
from advmix_jax.data import file_tree, packed
from advmix_jax.types import BadInputError
from launch import check_data
from tests.pictures import (
  encoded,
  folder_config,
  shape_picture,
  stylegan_files,
  write,
  write_split,
  write_zip,
)


@pytest.fixture
def root(tmp_path) -> pathlib.Path:
  return write_split(tmp_path / 'data', train=6, test=3)


@pytest.fixture
def cache(tmp_path) -> pathlib.Path:
  return tmp_path / 'cache'


def complaint(config) -> str:
  with pytest.raises(BadInputError) as error:
    data.load(config)
  assert '\n' not in str(error.value)
  return str(error.value)


def test_split_class_folders_with_names_of_classes_and_files(root, cache):
  splits = data.load(folder_config(root, cache, resolution=32))
  assert splits.train.class_names == ('cross', 'disc') and splits.train.num_classes == 2
  assert (len(splits.train), len(splits.validation), len(splits.test)) == (12, 0, 6)
  assert splits.generator is splits.train and splits.train.colours is None
  for dataset, first in ((splits.train, 0), (splits.test, 1000)):
    assert (dataset.images.dtype, dataset.labels.dtype, dataset.index.dtype) == (np.uint8, np.int32, np.int64)
    for image, label, file in zip(dataset.images, dataset.labels, dataset.files, strict=True):
      _, folder, name = file.split('/')
      assert folder == dataset.class_names[label]
      assert np.array_equal(image, shape_picture(('disc', 'cross').index(folder), first + int(name[:3])))


@pytest.mark.parametrize('name', ['validation', 'val'])
def test_a_validation_part_is_used_and_may_be_cut_by_the_split_seed(root, cache, name):
  write_split(root, **{name: 4})
  assert len(data.load(folder_config(root, cache)).validation) == 8
  drawn = [
    data.load(folder_config(root, cache, num_validation=4, split_seed=s)).validation for s in (0, 0, 1)
  ]
  assert list(np.bincount(drawn[0].labels)) == [2, 2] and len(drawn[0]) == 4
  assert np.array_equal(drawn[0].index, drawn[1].index)
  assert not np.array_equal(drawn[0].index, drawn[2].index)


def test_without_a_validation_part_it_is_drawn_out_of_training(root, cache):
  splits = data.load(folder_config(root, cache, num_validation=4))
  assert (len(splits.train), len(splits.validation)) == (8, 4)
  assert not set(splits.train.files) & set(splits.validation.files)


def test_numbers_choose_the_same_pictures_at_any_resolution(root, cache):
  config = folder_config(root, cache, num_train=4, num_test=2, num_generator=8)
  small, large = data.load(config), data.load(config, resolution=32)
  assert small.train.images.shape == (4, 16, 16, 3) and large.train.images.shape == (4, 32, 32, 3)
  assert small.train.files == large.train.files and small.test.files == large.test.files
  assert list(np.bincount(small.train.labels)) == [2, 2] and len(small.generator) == 8
  assert set(small.train.files) <= set(small.generator.files)


def test_stylegan_zips_and_folders_give_the_same_data(tmp_path, cache):
  files = stylegan_files(20)
  archive = write_zip(tmp_path / 'data.zip', files)
  with zipfile.ZipFile(archive) as z:
    z.extractall(tmp_path / 'unpacked')
  one, other = (data.load(folder_config(p, cache)) for p in (archive, tmp_path / 'unpacked'))
  for part in ('train', 'test'):
    a, b = getattr(one, part), getattr(other, part)
    assert np.array_equal(a.images, b.images) and np.array_equal(a.labels, b.labels) and a.files == b.files
  assert one.train.class_names == ('3', '7')
  assert (len(one.train), len(one.test)) == (16, 4)  # A fifth, drawn evenly.
  assert list(np.bincount(one.test.labels)) == [2, 2]
  assert not set(one.train.files) & set(one.test.files)


def test_grey_stylegan_pictures_and_one_hot_labels(tmp_path, cache):
  files = stylegan_files(20, grey=True)
  labels = [
    [name, [0.0, 1.0] if k == 3 else [1.0, 0.0]] for name, k in json.loads(files['dataset.json'])['labels']
  ]
  files['dataset.json'] = json.dumps({'labels': labels}).encode()
  train = data.load(folder_config(write_zip(tmp_path / 'grey.zip', files), cache)).train
  assert train.class_names == ('0', '1')
  assert (train.images == train.images[..., :1]).all()


def test_each_part_may_be_a_zip(tmp_path, cache):
  (tmp_path / 'parts').mkdir()
  for part in ('train', 'test'):
    write_zip(tmp_path / 'parts' / f'{part}.zip', stylegan_files(6))
  splits = data.load(folder_config(tmp_path / 'parts', cache))
  assert (len(splits.train), len(splits.test)) == (6, 6)


def test_classes_are_in_the_order_of_their_numbers(tmp_path, cache):
  for name in ('class 10', 'class 9', 'b', '2'):
    write(tmp_path / 'd' / 'train' / name / 'x.png', shape_picture(0, 0))
    write(tmp_path / 'd' / 'test' / name / 'x.jpg', shape_picture(0, 1), 'JPEG')
  names = data.load(folder_config(tmp_path / 'd', cache)).train.class_names
  assert names == ('2', 'b', 'class 9', 'class 10')


def test_odd_files_are_all_named_with_the_option_that_takes_them(root, cache):
  write(root / 'train/disc/flat.png', np.zeros((16, 40, 3), np.uint8))
  write(root / 'train/disc/grey.png', np.zeros((32, 32), np.uint8))
  write(root / 'train/cross/clear.png', np.zeros((32, 32, 4), np.uint8))
  write(root / 'test/cross/forty.jpg', np.zeros((40, 40, 3), np.uint8), 'JPEG')
  (root / 'test/cross/.hidden.png').write_bytes(b'')
  text = complaint(folder_config(root, cache))
  for name, reason in (
    ('train/disc/flat.png', '40x16 pixels, not square'),
    ('train/disc/grey.png', 'grey among coloured pictures, expected RGB'),
    ('train/cross/clear.png', 'colour mode RGBA, expected RGB without transparency'),
    ('test/cross/forty.jpg', '40x40 pixels, not a power of two'),
  ):
    assert f'{name} ({reason})' in text
  assert 'found 4 files' in text and '--config.data.fit=crop, pad or resize' in text and '.hidden' not in text
  assert not list(cache.glob('*'))
  for fit in ('crop', 'pad', 'resize'):
    assert len(data.load(folder_config(root, cache, fit=fit)).train) == 15


def test_damaged_and_misplaced_files_are_all_named_whatever_the_option(root, cache):
  whole = (root / 'train/disc/000.png').read_bytes()
  (root / 'train/disc/half.png').write_bytes(whole[: len(whole) // 2])
  (root / 'train/disc/page.png').write_bytes(b'<html></html>')
  (root / 'train/disc/notes.txt').write_text('mine')
  write(root / 'train/disc/deeper/x.png', shape_picture(0, 0))
  write(root / 'train/loose.png', shape_picture(0, 0))
  write(root / 'other/disc/x.png', shape_picture(0, 0))
  (root / 'README.md').write_text('not a picture, and not beside pictures')
  text = complaint(folder_config(root, cache, fit='crop'))
  for name in ('disc/half.png', 'disc/page.png', 'disc/notes.txt', 'disc/deeper/x.png', 'loose.png'):
    assert f'train/{name} (' in text
  assert 'other/disc/x.png (in none of' in text and 'found 6 files' in text and 'README' not in text


def test_hidden_files_are_left_out_with_a_warning(root, cache, caplog):
  for name in ('.DS_Store', 'train/disc/._000.png', 'train/disc/Thumbs.db', '__MACOSX/train/disc/x.png'):
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes(b'?')
  assert len(data.load(folder_config(root, cache)).train) == 12
  assert 'left out 4 hidden files' in caplog.text and 'Thumbs.db' in caplog.text


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
    (b'{"labels": [["none.png", 1], ["00000/img00000000.png", 2]]}', 'none.png (not found, but listed in'),
    (b'{"labels": [["00000/img00000000.png", 2]]}', 'img00000001.png (without a label in dataset.json)'),
  ],
  ids=range(8),
)
def test_bad_label_lists_are_named(tmp_path, cache, labels, reason):
  files = stylegan_files(2) | {'dataset.json': labels}
  assert reason in complaint(folder_config(write_zip(tmp_path / 'data.zip', files), cache))


def test_layouts_that_are_none_are_told_what_is_expected(tmp_path, cache):
  empty = tmp_path / 'empty'
  empty.mkdir()
  assert 'no labelled pictures, expected train/CLASS/*.png' in complaint(folder_config(empty, cache))
  assert 'not found, expected train/CLASS' in complaint(folder_config(tmp_path / 'nowhere', cache))
  assert "config.data.dir is ''" in complaint(folder_config('', cache))
  (tmp_path / 'text').write_text('no zip')
  assert 'neither a folder nor a readable zip' in complaint(folder_config(tmp_path / 'text', cache))
  one = write_split(tmp_path / 'one', ('disc', 'disc'), train=2, test=2)
  assert "the only class 'disc'" in complaint(folder_config(one, cache))
  late = write_split(tmp_path / 'late', test=2)
  assert 'found no train/' in complaint(folder_config(late, cache))
  both = write_split(tmp_path / 'both', train=1, val=1, validation=1, test=1)
  assert 'both val and validation' in complaint(folder_config(both, cache))


def test_a_class_without_images_in_a_part_is_named(root, cache):
  shutil.rmtree(root / 'test' / 'disc')
  assert "found no test images of 'disc'" in complaint(folder_config(root, cache))


@pytest.mark.parametrize(
  'overrides, message',
  [
    ({'fit': 'stretch'}, 'config.data.fit: found stretch, expected none | crop | pad | resize'),
    ({'resolution': 24}, 'config.data.resolution: found 24, expected a power of two from 8'),
    ({'sigma': 0.1}, 'config.data.sigma: found 0.1, expected 0.0: folder has colours of its own'),
    ({'num_train': 13}, 'config.data.num_train: found 13, expected 2 to 12'),
    ({'num_generator': 1}, 'config.data.num_generator: found 1, expected 2 to 12'),
    ({'num_test': 7}, 'config.data.num_test: found 7, expected 0 to 6'),
    ({'num_test': -1}, 'config.data.num_test: found -1'),
    ({'num_validation': 11}, 'config.data.num_validation: found 11, expected 0 to 10'),
    ({'num_validation': 4, 'num_train': 9}, 'config.data.num_train: found 9, expected 2 to 8'),
    ({'generator_classes': (0.5, 0.2, 0.3)}, 'config.data.generator_classes: .* expected 2 shares'),
    ({'num_generator': 4, 'generator_classes': (0.5, 0.5)}, 'config.data.num_generator: found 4, expected 0'),
    ({'num_workers': -2}, 'config.data.num_workers: found -2'),
    ({'cache_dir': '/proc/none'}, 'config.data.cache_dir=/proc/none: .*expected a folder to write to'),
  ],
  ids=str,
)
def test_bad_keys_are_named(root, cache, overrides, message):
  with pytest.raises(BadInputError, match=message.replace('|', r'\|')):
    data.load(folder_config(root, cache, **overrides))


# --- files of strangers -----------------------------------------------------------------------------------


def test_links_are_not_followed_out_of_the_folder(root, cache, tmp_path):
  outside = write_split(tmp_path / 'outside', train=1)
  (root / 'train/disc/out.png').symlink_to(outside / 'train/disc/000.png')
  (root / 'train/disc/circle.png').symlink_to('circle.png')
  (root / 'train/third').symlink_to(outside / 'train/disc')
  text = complaint(folder_config(root, cache))
  assert 'train/disc/out.png (a link that leads out of the folder, not followed)' in text
  assert 'train/disc/circle.png (a link that leads nowhere)' in text
  assert 'train/third (a link to a folder, not followed)' in text
  for name in ('disc/out.png', 'disc/circle.png', 'third'):
    (root / 'train' / name).unlink()
  (root / 'train/disc/within.png').symlink_to('000.png')
  assert len(data.load(folder_config(root, cache)).train) == 13


def test_a_pipe_is_not_read(root, cache):
  os.mkfifo(root / 'train/disc/pipe.png')
  assert 'train/disc/pipe.png (not a plain file)' in complaint(folder_config(root, cache))


def test_a_zip_is_read_and_never_unpacked(tmp_path, cache):
  files = {f'../../{name}' if i == 0 else name: v for i, (name, v) in enumerate(stylegan_files(20).items())}
  archive = write_zip(tmp_path / 'data.zip', files)
  with zipfile.ZipFile(archive, 'a') as z:
    link = zipfile.ZipInfo('00001/link.png')
    link.external_attr = 0o120777 << 16
    z.writestr(link, '/etc/passwd')
    z.writestr('00001/other.png', encoded(shape_picture(0, 0)), zipfile.ZIP_LZMA)
  text = complaint(folder_config(archive, cache))
  assert '00001/link.png (a link inside a zip, not followed)' in text
  assert '00001/other.png (packed by method 14' in text
  assert '00000/img00000000.png (not found, but listed in dataset.json)' in text
  assert sorted(p.name for p in tmp_path.iterdir()) == ['data.zip']


def test_what_unpacks_to_too_much_is_not_unpacked(tmp_path, cache, monkeypatch):
  monkeypatch.setattr(file_tree, 'MAX_FILE_BYTES', 10_000)
  files = stylegan_files(4) | {'00000/img00000000.png': bytes(10_001)}
  text = complaint(folder_config(write_zip(tmp_path / 'data.zip', files), cache))
  assert '00000/img00000000.png (10001 bytes, expected at most 10000)' in text


def test_a_damaged_zip_entry_is_named(tmp_path, cache):
  archive = write_zip(tmp_path / 'data.zip', stylegan_files(20))
  with zipfile.ZipFile(archive) as z:
    info = z.getinfo('00000/img00000003.png')
    at = info.header_offset + 30 + len(info.filename) + info.compress_size // 2
  contents = bytearray(archive.read_bytes())
  contents[at] ^= 255
  archive.write_bytes(contents)
  assert '00000/img00000003.png (does not unpack' in complaint(folder_config(archive, cache))


# --- the cache --------------------------------------------------------------------------------------------


def test_pictures_are_decoded_once_and_again_when_a_file_changes(root, cache, monkeypatch):
  config = folder_config(root, cache)
  first = data.load(config)
  decode, calls = packed.decode, []
  monkeypatch.setattr(packed, 'decode', lambda *arguments: calls.append(1) or decode(*arguments))
  again = data.load(config)
  assert not calls and np.array_equal(first.train.images, again.train.images)
  assert not again.train.images.flags.owndata and not again.train.images.flags.writeable
  write(root / 'train/cross/000.png', shape_picture(1, 77))
  changed = data.load(config)
  assert calls and not np.array_equal(first.train.images, changed.train.images)
  assert len(list(cache.glob('*.npy'))) == 2 and len(list(cache.iterdir())) == 2


def test_a_cache_that_was_cut_off_is_made_again(root, cache):
  config = folder_config(root, cache)
  first = np.array(data.load(config).train.images)
  (path,) = cache.glob('*.npy')
  path.write_bytes(path.read_bytes()[:-100])
  assert np.array_equal(data.load(config).train.images, first)


def test_threads_and_processes_give_the_same_pictures_in_the_same_order(tmp_path):
  root = write_split(tmp_path / 'data', side=16, train=80, test=2)
  one, two = (data.load(folder_config(root, tmp_path / str(n), num_workers=n)) for n in (0, 2))
  assert np.array_equal(one.train.images, two.train.images)
  assert len({image.tobytes() for image in one.train.images}) == len(one.train)


def test_the_record_names_files_and_classes(root, cache, tmp_path):
  config = folder_config(root, cache)
  splits = data.load(config)
  with np.load(data.save_record(tmp_path, splits, config)) as record:
    assert tuple(record['test_files']) == splits.test.files
    assert list(record['class_names']) == ['cross', 'disc']
    assert not {'train_colours', 'sigma', 'mean_colours'} & set(record)
  assert data.mean_colours(config) is None
  assert data.facts(config, splits) == {'class_names': ['cross', 'disc'], 'fit': 'none'}


# --- launch.check_data ------------------------------------------------------------------------------------


def test_check_data_counts_what_is_there(root, capsys):
  assert check_data.main([f'--dir={root}']) == 0
  out = capsys.readouterr().out
  assert "folder train: 12 images: 'cross' 6, 'disc' 6" in out and 'folder test: 6 images' in out


def test_check_data_lists_every_bad_file_on_a_line_of_its_own(root, capsys):
  for i in range(300):
    (root / f'train/disc/bad{i}.png').write_bytes(b'')
  (root / 'train/disc/.DS_Store').write_bytes(b'')
  write(root / 'test/disc/flat.png', np.zeros((16, 40, 3), np.uint8))
  assert check_data.main([f'--dir={root}']) == 2
  out, err = capsys.readouterr()
  lines = out.splitlines()
  assert all(f'cannot be used: train/disc/bad{i}.png (empty)' in lines for i in range(300))
  assert 'cannot be used: test/disc/flat.png (40x16 pixels, not square)' in lines
  assert 'hidden, left out: train/disc/.DS_Store' in lines
  assert 'found 301 files' in err and '--fit=crop, pad or resize' in err
  assert check_data.main([f'--dir={root}', '--fit=pad']) == 2
  assert 'flat.png' not in capsys.readouterr().out


def test_check_data_reads_zips(tmp_path, capsys):
  assert check_data.main([f'--dir={write_zip(tmp_path / "a.zip", stylegan_files(6))}']) == 0
  assert "folder train: 6 images: '3' 3, '7' 3" in capsys.readouterr().out
