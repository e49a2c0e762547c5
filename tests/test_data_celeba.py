"""CelebA from its official files: parts, attributes, framing, and every file that is missing or broken."""

import numpy as np
import pytest
from PIL import Image

from advmix_jax import data
from advmix_jax.data import celeba
from configs import default
from launch import check_data
from tests.pictures import CELEBA_NAMES, complaint, write_celeba


@pytest.fixture
def root(tmp_path):
  return write_celeba(tmp_path / 'celeba')


def celeba_config(directory, cache, **overrides):
  config = default.get_config()
  settings = {'name': 'celeba', 'num_validation': 0, 'cache_dir': str(cache), 'num_workers': 0}
  config.data.update({**settings, 'dir': str(directory), **overrides})
  return config


def test_parts_are_the_official_ones_and_labels_the_attribute(root, tmp_path):
  splits = data.load(celeba_config(root, tmp_path))
  assert (len(splits.train), len(splits.validation), len(splits.test)) == (16, 8, 8)
  assert splits.train.files[0] == '000001.jpg' and splits.test.files[-1] == '000032.jpg'
  assert splits.train.class_names == ('not Smiling', 'Smiling')
  for part in (splits.train, splits.validation, splits.test):
    assert [(int(name[:6]) - 1) >> 2 & 1 for name in part.files] == list(part.labels)
    assert list(part.index) == [int(name[:6]) - 1 for name in part.files]


def test_several_attributes_make_a_class_of_each_combination(root, tmp_path, caplog):
  splits = data.load(celeba_config(root, tmp_path, attribute='Smiling, Eyeglasses'))
  assert splits.train.class_names == (
    'not Smiling, not Eyeglasses',
    'not Smiling, Eyeglasses',
    'Smiling, not Eyeglasses',
    'Smiling, Eyeglasses',
  )
  numbers = [int(name[:6]) - 1 for name in splits.train.files]
  assert list(splits.train.labels) == [2 * (n >> 2 & 1) + (n & 1) for n in numbers]
  assert not caplog.text


@pytest.mark.parametrize(
  'crop, middle, edge',
  [('centre', 'yellow', 'red'), ('face', 'yellow', 'yellow'), ('none', 'yellow', 'black')],
)
def test_crops(root, tmp_path, crop, middle, edge):
  colours = {'yellow': (255, 255, 0), 'red': (255, 0, 0), 'black': (0, 0, 0)}
  image = data.load(celeba_config(root, tmp_path, resolution=32, crop=crop)).train.images[0].astype(int)
  assert image.shape == (32, 32, 3)
  assert abs(image[16, 16] - colours[middle]).max() < 20
  for y, x in ((1, 16), (30, 16)):
    assert abs(image[y, x] - colours[edge]).max() < 20


def test_the_cache_serves_every_attribute_and_number(root, tmp_path):
  for settings in ({}, {'attribute': 'Eyeglasses'}, {'num_train': 4, 'num_test': 2, 'num_validation': 2}):
    data.load(celeba_config(root, tmp_path / 'cache', **settings))
  assert len(list((tmp_path / 'cache').iterdir())) == 1


def test_numbers_work_as_for_digits(root, tmp_path):
  splits = data.load(celeba_config(root, tmp_path, num_train=6, num_test=2, num_validation=2))
  assert list(np.bincount(splits.train.labels)) == [3, 3]
  assert (len(splits.validation), len(splits.test), len(splits.generator)) == (2, 2, 16)
  assert set(splits.validation.index) <= set(range(16, 24))
  both = data.load(celeba_config(root, tmp_path, num_train=6, num_generator=6))
  assert both.generator is both.train
  assert 'config.data.num_validation: found 9, expected 0 to 8' in complaint(
    celeba_config(root, tmp_path, num_validation=9)
  )


def test_a_uniform_draw_gives_every_attribute_the_same_images(root, tmp_path):
  numbers = {'num_train': 6, 'num_generator': 8, 'num_test': 4, 'num_validation': 4}

  def drawn(attribute, draw):
    splits = data.load(celeba_config(root, tmp_path, attribute=attribute, draw=draw, **numbers))
    parts = splits.train, splits.generator, splits.validation, splits.test
    assert [len(part) for part in parts] == [6, 8, 4, 4]
    return [part.files for part in parts], [list(part.labels) for part in parts]

  files, labels = drawn('Smiling', 'uniform')
  others, other_labels = drawn('Eyeglasses', 'uniform')
  assert files == others and labels != other_labels
  assert drawn('Smiling', 'by_class')[0] != drawn('Eyeglasses', 'by_class')[0]


def test_attributes_of_colour_and_texture_get_a_warning(root, tmp_path, caplog):
  data.load(celeba_config(root, tmp_path, attribute='Pale_Skin'))
  assert 'Pale_Skin is decided by colour or fine texture' in caplog.text
  assert {'Black_Hair', 'Blond_Hair', 'Wearing_Lipstick', 'Heavy_Makeup', 'Pale_Skin'} <= celeba.FRAGILE
  assert not {'Smiling', 'Wearing_Hat', 'Mouth_Slightly_Open', 'High_Cheekbones'} & celeba.FRAGILE


def test_missing_and_broken_images_are_all_named(root, tmp_path):
  images = root / 'img_align_celeba'
  (images / '000003.jpg').unlink()
  (images / '000021.jpg').unlink()
  (images / '000005.jpg').write_bytes((images / '000005.jpg').read_bytes()[:700])
  (images / '000010.jpg').write_bytes(b'<html>')
  Image.new('RGB', (100, 100)).save(images / '000017.jpg')
  text = complaint(celeba_config(root, tmp_path))
  assert 'found 5 files' in text
  for name, reason in (
    ('000003', 'not found'),
    ('000005', 'damaged or truncated'),
    ('000010', 'neither PNG nor JPEG'),
    ('000017', '100x100 pixels, expected 178x218'),
    ('000021', 'not found'),
  ):
    assert f'{name}.jpg ({reason}' in text
  assert 'data.fit' not in text


@pytest.mark.parametrize(
  'overrides, message',
  [
    (
      {'attribute': 'Happy'},
      'config.data.attribute: found Happy, expected some of ' + ', '.join(CELEBA_NAMES),
    ),
    ({'attribute': ''}, "config.data.attribute: found '', expected 1 to 5 different names"),
    ({'attribute': 'Smiling,Smiling'}, "config.data.attribute: found 'Smiling,Smiling'"),
    ({'crop': 'middle'}, 'config.data.crop: found middle, expected centre | face | none'),
  ],
)
def test_bad_keys_are_named(root, tmp_path, overrides, message):
  assert message in complaint(celeba_config(root, tmp_path, **overrides))


def edit(path, old, new):
  text = path.read_text()
  assert old in text
  path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
  'file, old, new, message',
  [
    ('attr', '32\n', '33\n', "its first line is '33', expected the number of the 32 rows"),
    ('attr', '32\n', '²\n', "its first line is '²', expected the number of the 32 rows"),
    ('attr', '32\n', '3' * 5000 + '\n', 'expected the number of the 32 rows'),
    ('attr', 'Pale_Skin', 'Smiling', 'line 2 names Smiling more than once'),
    ('attr', '000002.jpg  1 -1 -1', '000002.jpg  1 -1', 'line 4 has 2 values, expected a name and 3'),
    ('attr', '000002.jpg  1 -1 -1', '000002.jpg  1 -1 0', '000002.jpg has the values 0, expected 1 or -1'),
    ('attr', '000002.jpg', '000001.jpg', "line 4 names '000001.jpg', expected each file once"),
    (
      'attr',
      '000002.jpg',
      '../02.jpg',
      "line 4 names '../02.jpg', expected each file once, without a folder",
    ),
    ('part', '000002.jpg 0', '000002.jpg 3', "000002.jpg is in part '3', expected 0, 1 or 2"),
    ('part', '000002.jpg 0\n', '', '000002.jpg in only one of list_attr_celeba.txt and'),
  ],
)
def test_damaged_lists_are_named(root, tmp_path, file, old, new, message):
  edit(root / {'attr': 'list_attr_celeba.txt', 'part': 'list_eval_partition.txt'}[file], old, new)
  assert message in complaint(celeba_config(root, tmp_path))


def test_files_are_found_where_the_official_archive_has_them(root, tmp_path, monkeypatch):
  for folder, name in (
    ('Anno', 'list_attr_celeba.txt'),
    ('Eval', 'list_eval_partition.txt'),
    ('Img', 'img_align_celeba'),
  ):
    (root / folder).mkdir()
    (root / name).rename(root / folder / name)
  monkeypatch.setenv('ADVMIX_DATA_DIR', str(tmp_path))
  assert len(data.load(celeba_config('', tmp_path)).train) == 16


def test_missing_files_are_named(root, tmp_path, monkeypatch):
  monkeypatch.delenv('ADVMIX_DATA_DIR', raising=False)
  assert '$ADVMIX_DATA_DIR is unset' in complaint(celeba_config('', tmp_path))
  assert 'found no list_attr_celeba.txt' in complaint(celeba_config(tmp_path / 'none', tmp_path))
  (root / 'list_eval_partition.txt').unlink()
  assert 'list_eval_partition.txt: not found' in complaint(celeba_config(root, tmp_path))


def test_check_data_finds_celeba_by_itself(root, capsys):
  assert check_data.main([f'--dir={root}', '--attribute=Eyeglasses']) == 0
  assert "celeba train: 16 images: 'not Eyeglasses' 8, 'Eyeglasses' 8" in capsys.readouterr().out
  (root / 'img_align_celeba' / '000003.jpg').unlink()
  assert check_data.main([f'--dir={root}']) == 2
  assert 'cannot be used: 000003.jpg (not found)' in capsys.readouterr().out


def test_real_files_load(data_dir, tmp_path):
  if not (data_dir / 'celeba').is_dir():
    pytest.skip(f'{data_dir} has no celeba')
  splits = data.load(celeba_config(data_dir, tmp_path, resolution=32, num_train=2000, num_test=300))
  assert (len(splits.train), len(splits.test)) == (2000, 300)
  assert len(splits.generator) >= 10_000 and len(splits.validation) >= 1000
  assert list(np.bincount(splits.train.labels)) == [1000, 1000]
  skin = splits.train.images[:, 12:20, 12:20].mean(axis=(0, 1, 2))
  assert skin[0] > skin[1] > skin[2] > 60  # Faces are in the middle, in RGB order.
