"""The cache of decoded pictures: filled once, made again when a file changes, the same by any workers."""

import os

import numpy as np

from advmix_jax import data
from advmix_jax.data import packed
from tests.pictures import folder_config, shape_picture, write, write_split


def test_pictures_are_decoded_once_and_again_when_a_file_changes(split_folder, cache_dir, monkeypatch):
  config = folder_config(split_folder, cache_dir)
  first = data.load(config)
  decode, calls = packed.decode, []
  monkeypatch.setattr(packed, 'decode', lambda *arguments: calls.append(1) or decode(*arguments))
  again = data.load(config)
  assert not calls and np.array_equal(first.train.images, again.train.images)
  assert not again.train.images.flags.owndata and not again.train.images.flags.writeable
  write(split_folder / 'train/cross/000.png', shape_picture(1, 77))
  changed = data.load(config)
  assert calls and not np.array_equal(first.train.images, changed.train.images)
  assert len(list(cache_dir.glob('*.npy'))) == 2 and len(list(cache_dir.iterdir())) == 2


def test_a_cache_that_was_cut_off_is_made_again(split_folder, cache_dir):
  config = folder_config(split_folder, cache_dir)
  first = np.array(data.load(config).train.images)
  (path,) = cache_dir.glob('*.npy')
  path.write_bytes(path.read_bytes()[:-100])
  assert np.array_equal(data.load(config).train.images, first)


def test_threads_and_processes_give_the_same_pictures_in_the_same_order(tmp_path):
  root = write_split(tmp_path / 'data', side=16, train=80, test=2)
  one, two = (data.load(folder_config(root, tmp_path / str(n), num_workers=n)) for n in (0, 2))
  assert np.array_equal(one.train.images, two.train.images)
  assert len({image.tobytes() for image in one.train.images}) == len(one.train)


def test_what_killed_processes_left_of_a_file_is_removed_but_not_what_others_write(tmp_path):
  root = write_split(tmp_path / 'data', side=16, train=3, test=2)
  config = folder_config(root, tmp_path / 'cache')
  data.load(config)
  made = list((tmp_path / 'cache').glob('*.npy'))
  left, written = ([path.with_name(f'.{path.name}.{pid}.tmp.npy') for path in made] for pid in (11, 12))
  for path in (*left, *written):
    path.touch()
  for path in left:
    os.utime(path, (0, 0))
  for path in made:
    path.unlink()
  data.load(config)
  assert all(path.exists() for path in (*made, *written)) and not any(path.exists() for path in left)
