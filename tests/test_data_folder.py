"""Folders of pictures of one's own: layouts, what is refused and named, and links that are not followed."""

import os
import shutil

import numpy as np
import pytest

from advmix_jax import data
from advmix_jax.types import BadInputError
from tests.pictures import complaint, folder_config, shape_picture, write, write_split


def test_split_class_folders_with_names_of_classes_and_files(split_folder, cache_dir):
  splits = data.load(folder_config(split_folder, cache_dir, resolution=32))
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
def test_a_validation_part_is_used_and_may_be_cut_by_the_split_seed(split_folder, cache_dir, name):
  write_split(split_folder, **{name: 4})
  assert len(data.load(folder_config(split_folder, cache_dir)).validation) == 8
  drawn = [
    data.load(folder_config(split_folder, cache_dir, num_validation=4, split_seed=s)).validation
    for s in (0, 0, 1)
  ]
  assert list(np.bincount(drawn[0].labels)) == [2, 2] and len(drawn[0]) == 4
  assert np.array_equal(drawn[0].index, drawn[1].index)
  assert not np.array_equal(drawn[0].index, drawn[2].index)


def test_without_a_validation_part_it_is_drawn_out_of_training(split_folder, cache_dir):
  splits = data.load(folder_config(split_folder, cache_dir, num_validation=4))
  assert (len(splits.train), len(splits.validation)) == (8, 4)
  assert not set(splits.train.files) & set(splits.validation.files)


def test_numbers_choose_the_same_pictures_at_any_resolution(split_folder, cache_dir):
  config = folder_config(split_folder, cache_dir, num_train=4, num_test=2, num_generator=8)
  small, large = data.load(config), data.load(config, resolution=32)
  assert small.train.images.shape == (4, 16, 16, 3) and large.train.images.shape == (4, 32, 32, 3)
  assert small.train.files == large.train.files and small.test.files == large.test.files
  assert list(np.bincount(small.train.labels)) == [2, 2] and len(small.generator) == 8
  assert set(small.train.files) <= set(small.generator.files)


def test_classes_are_in_the_order_of_their_numbers(tmp_path, cache_dir):
  order = ('0', '2', '007', '10', '9' * 200, '1' + '0' * 200, 'b', 'class 9', 'class 10')
  for name in order[::-1]:
    write(tmp_path / 'd' / 'train' / name / 'x.png', shape_picture(0, 0))
    write(tmp_path / 'd' / 'test' / name / 'x.jpg', shape_picture(0, 1), 'JPEG')
  names = data.load(folder_config(tmp_path / 'd', cache_dir)).train.class_names
  assert names == order


def test_the_record_names_files_and_classes(split_folder, cache_dir, tmp_path):
  config = folder_config(split_folder, cache_dir)
  splits = data.load(config)
  with np.load(data.save_record(tmp_path, splits, config)) as record:
    assert tuple(record['test_files']) == splits.test.files
    assert list(record['class_names']) == ['cross', 'disc']
    assert not {'train_colours', 'sigma', 'mean_colours'} & set(record)
  assert data.mean_colours(config) is None
  assert data.facts(config, splits) == {'class_names': ['cross', 'disc'], 'fit': 'none'}


def test_odd_files_are_all_named_with_the_option_that_takes_them(split_folder, cache_dir):
  write(split_folder / 'train/disc/flat.png', np.zeros((16, 40, 3), np.uint8))
  write(split_folder / 'train/disc/grey.png', np.zeros((32, 32), np.uint8))
  write(split_folder / 'train/cross/clear.png', np.zeros((32, 32, 4), np.uint8))
  write(split_folder / 'test/cross/forty.jpg', np.zeros((40, 40, 3), np.uint8), 'JPEG')
  (split_folder / 'test/cross/.hidden.png').write_bytes(b'')
  text = complaint(folder_config(split_folder, cache_dir))
  for name, reason in (
    ('train/disc/flat.png', '40x16 pixels, not square'),
    ('train/disc/grey.png', 'grey among coloured pictures, expected RGB'),
    ('train/cross/clear.png', 'colour mode RGBA, expected RGB without transparency'),
    ('test/cross/forty.jpg', '40x40 pixels, not a power of two'),
  ):
    assert f'{name} ({reason})' in text
  assert 'found 4 files' in text and '--config.data.fit=crop, pad or resize' in text and '.hidden' not in text
  assert not list(cache_dir.glob('*'))
  for fit in ('crop', 'pad', 'resize'):
    assert len(data.load(folder_config(split_folder, cache_dir, fit=fit)).train) == 15


def test_damaged_and_misplaced_files_are_all_named_whatever_the_option(split_folder, cache_dir):
  whole = (split_folder / 'train/disc/000.png').read_bytes()
  (split_folder / 'train/disc/half.png').write_bytes(whole[: len(whole) // 2])
  (split_folder / 'train/disc/page.png').write_bytes(b'<html></html>')
  (split_folder / 'train/disc/notes.txt').write_text('mine')
  write(split_folder / 'train/disc/deeper/x.png', shape_picture(0, 0))
  write(split_folder / 'train/loose.png', shape_picture(0, 0))
  write(split_folder / 'other/disc/x.png', shape_picture(0, 0))
  (split_folder / 'README.md').write_text('not a picture, and not beside pictures')
  text = complaint(folder_config(split_folder, cache_dir, fit='crop'))
  for name in ('disc/half.png', 'disc/page.png', 'disc/notes.txt', 'disc/deeper/x.png', 'loose.png'):
    assert f'train/{name} (' in text
  assert 'other/disc/x.png (in none of' in text and 'found 6 files' in text and 'README' not in text


def test_hidden_files_are_left_out_with_a_warning(split_folder, cache_dir, caplog):
  for name in ('.DS_Store', 'train/disc/._000.png', 'train/disc/Thumbs.db', '__MACOSX/train/disc/x.png'):
    (split_folder / name).parent.mkdir(parents=True, exist_ok=True)
    (split_folder / name).write_bytes(b'?')
  assert len(data.load(folder_config(split_folder, cache_dir)).train) == 12
  assert 'left out 4 hidden files' in caplog.text and 'Thumbs.db' in caplog.text


def test_layouts_that_are_none_are_told_what_is_expected(tmp_path, cache_dir):
  empty = tmp_path / 'empty'
  empty.mkdir()
  assert 'no labelled pictures, expected train/CLASS/*.png' in complaint(folder_config(empty, cache_dir))
  assert 'not found, expected train/CLASS' in complaint(folder_config(tmp_path / 'nowhere', cache_dir))
  assert "config.data.dir is ''" in complaint(folder_config('', cache_dir))
  (tmp_path / 'text').write_text('no zip')
  assert 'neither a folder nor a readable zip' in complaint(folder_config(tmp_path / 'text', cache_dir))
  one = write_split(tmp_path / 'one', ('disc', 'disc'), train=2, test=2)
  assert "the only class 'disc'" in complaint(folder_config(one, cache_dir))
  late = write_split(tmp_path / 'late', test=2)
  assert 'found no train/' in complaint(folder_config(late, cache_dir))
  both = write_split(tmp_path / 'both', train=1, val=1, validation=1, test=1)
  assert 'found the part validation twice' in complaint(folder_config(both, cache_dir))


def test_a_class_without_images_in_a_part_is_named(split_folder, cache_dir):
  shutil.rmtree(split_folder / 'test' / 'disc')
  assert "found no test images of 'disc'" in complaint(folder_config(split_folder, cache_dir))


def test_empty_folders_are_named(split_folder, cache_dir):
  for name in ('train/bird', 'test/bird', 'val'):
    (split_folder / name).mkdir()
  (split_folder / 'test/bird/.DS_Store').write_bytes(b'?')
  text = complaint(folder_config(split_folder, cache_dir))
  for name in ('train/bird/', 'test/bird/', 'val/'):
    assert f'{name} (an empty folder)' in text


def test_a_part_without_pictures_is_not_drawn_out_of_training(split_folder, cache_dir):
  (split_folder / 'val').mkdir()
  (split_folder / 'val/README.md').write_text('to come')
  text = complaint(folder_config(split_folder, cache_dir, num_validation=2))
  assert 'validation (a part without pictures)' in text


def test_a_test_part_that_is_drawn_leaves_some_to_learn_from(tmp_path, cache_dir):
  root = write_split(tmp_path / 'whole', **{'': 3})
  assert 'num_test: found 6, expected 2 to 4' in complaint(folder_config(root, cache_dir, num_test=6))
  assert len(data.load(folder_config(root, cache_dir)).test) == 2  # A fifth would be one.
  shutil.rmtree(root / 'disc')
  write(root / 'disc/0.png', shape_picture(0, 0))
  for i in (1, 2):
    (root / f'cross/00{i}.png').unlink()
  text = complaint(folder_config(root, cache_dir))
  assert 'found 2 images to learn from, expected at least 4, as there are 2 classes' in text


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
def test_bad_keys_are_named(split_folder, cache_dir, overrides, message):
  with pytest.raises(BadInputError, match=message.replace('|', r'\|')):
    data.load(folder_config(split_folder, cache_dir, **overrides))


def test_links_are_not_followed_out_of_the_folder(split_folder, cache_dir, tmp_path):
  outside = write_split(tmp_path / 'outside', train=1)
  (split_folder / 'train/disc/out.png').symlink_to(outside / 'train/disc/000.png')
  (split_folder / 'train/disc/circle.png').symlink_to('circle.png')
  (split_folder / 'train/third').symlink_to(outside / 'train/disc')
  text = complaint(folder_config(split_folder, cache_dir))
  assert 'train/disc/out.png (a link that leads out of the folder, not followed)' in text
  assert 'train/disc/circle.png (a link that leads nowhere)' in text
  assert 'train/third (a link to a folder, not followed)' in text
  for name in ('disc/out.png', 'disc/circle.png', 'third'):
    (split_folder / 'train' / name).unlink()
  (split_folder / 'train/disc/within.png').symlink_to('000.png')
  assert len(data.load(folder_config(split_folder, cache_dir)).train) == 13


def test_a_pipe_is_not_read(split_folder, cache_dir):
  os.mkfifo(split_folder / 'train/disc/pipe.png')
  assert 'train/disc/pipe.png (not a plain file)' in complaint(folder_config(split_folder, cache_dir))
