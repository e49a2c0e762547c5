"""Weights of VGG-16 from every kind of file: what is taken, whose conventions, and what is refused."""

import functools
import sys

import jax
import numpy as np
import pytest

from advmix_jax import config_check
from advmix_jax.interop.vgg16_weights import read_vgg16
from advmix_jax.models import vgg16
from advmix_jax.models.vgg16 import LAYERS, vgg16_features
from advmix_jax.types import BadInputError
from configs import digits
from tests import torch_bytes
from tests.tiny import uniform
from tests.vgg16_by_hand import plain_features, torchvision_input
from tests.vgg16_files import (
  caffe_arrays,
  keras_paths,
  random_arrays,
  torch_arrays,
  write_h5,
  write_npz,
  write_safetensors,
  write_torch_legacy,
  write_torch_zip,
)


def arrays_of(num_layers: int) -> dict[str, np.ndarray]:
  """As a file holds them; the biases of all layers, the kernels of the first."""
  arrays, channels = {}, 3
  for i, (name, fmaps) in enumerate(LAYERS.items()):
    arrays[f'{name}_b'] = np.full(fmaps, i, np.float32)
    if i < num_layers:
      arrays[f'{name}_W'] = np.full((3, 3, channels, fmaps), i, np.float32)
    channels = fmaps
  return arrays


@pytest.fixture
def file(tmp_path):
  path = tmp_path / 'vgg16.npz'
  np.savez(path, **arrays_of(4))
  return path


def test_a_file_of_the_first_blocks_serves_the_layers_it_has(file):
  params = read_vgg16(file, ('block1_conv2', 'block2_conv2'))
  assert list(params) == ['block1_conv1', 'block1_conv2', 'block2_conv1', 'block2_conv2']
  assert params['block2_conv1']['weight'].shape == (3, 3, 64, 128)
  assert (params['block2_conv1']['weight'] == 2).all() and (params['block2_conv2']['bias'] == 3).all()


def test_layers_that_the_file_lacks_are_named_with_those_it_has(file):
  with pytest.raises(BadInputError) as error:
    read_vgg16(file, vgg16.PAPER_LAYERS)
  assert 'the layers block3_conv2, block4_conv2 are not in it' in str(error.value)
  assert 'found block1_conv1, block1_conv2, block2_conv1, block2_conv2, expected' in str(error.value)
  read_vgg16(file, ('block1_pool', 'block2_pool'))
  with pytest.raises(BadInputError, match='the layers block3_pool are not in it'):
    read_vgg16(file, ('block1_pool', 'block3_pool'))


def test_a_run_is_told_before_any_work(file):
  config = digits.get_config()
  config.encode.features, config.encode.vgg16_weights = 'vgg16', str(file)
  with pytest.raises(
    BadInputError, match=r'config.encode.vgg16_weights: .* block3_conv2, block4_conv2 are not'
  ):
    config_check.check_config(config)
  config.encode.feature_layers = ('block1_conv2', 'block2_conv2')
  config_check.check_config(config)


@pytest.mark.parametrize(
  'change, words',
  [
    ({'block1_conv2_W': np.zeros((64, 64, 3, 3), np.float32)}, r'block1_conv2_W is float32 \(64, 64, 3, 3\)'),
    ({'block2_conv1_b': np.zeros(128, np.int32)}, 'block2_conv1_b is int32'),
    ({'block1_conv1_b': np.full(64, np.nan, np.float32)}, 'found values in block1_conv1_b that are'),
    ({'block1_conv1_b': np.full(64, 1e300)}, 'found values in block1_conv1_b that are not finite float32'),
    ({'block1_conv1_b': np.array([None] * 64)}, 'without pickles'),
    ({'block1_conv1_W': np.array('no array')}, 'block1_conv1_W is <U8'),
  ],
)
def test_wrong_arrays_are_named(tmp_path, change, words):
  path = tmp_path / 'vgg16.npz'
  np.savez(path, **arrays_of(3) | change)
  with pytest.raises(BadInputError, match=words) as error:
    read_vgg16(path)
  assert str(error.value).startswith(str(path))


@pytest.mark.parametrize('damage', ['absent', 'folder', 'empty', 'text', 'npy', 'zip', 'cut', 'swapped'])
def test_what_is_no_such_file_is_refused(file, damage):
  content = file.read_bytes()
  file.unlink()
  if damage == 'folder':
    file.mkdir()
  elif damage == 'npy':
    with file.open('wb') as out:
      np.save(out, np.zeros(3))
  elif damage != 'absent':
    changed = {'empty': b'', 'text': b'weights', 'zip': b'PK\x03\x04', 'cut': content[: len(content) // 2]}
    file.write_bytes(changed.get(damage, content[:50000] + b'?' * 50 + content[50050:]))
  with pytest.raises(BadInputError, match=str(file)):
    read_vgg16(file)


DENSE = {'classifier.0.weight': np.zeros((7, 5), np.float32), 'classifier.0.bias': np.zeros(7, np.float32)}


@pytest.mark.parametrize(
  'write, prefix',
  [
    (write_torch_zip, 'features.'),
    (write_torch_legacy, 'features.'),
    (write_safetensors, 'features.'),
    (write_npz, 'features.'),
    (write_torch_zip, 'module.features.'),
    (write_torch_zip, ''),
  ],
)
def test_weights_of_torchvision_give_its_activations(tmp_path, write, prefix):
  """Borders included, where the padding stands for the mean. The name of the file does not matter."""
  path = write(tmp_path / 'weights', torch_arrays(4, prefix) | DENSE)
  params = read_vgg16(path, ('block2_pool',))
  assert list(params) == list(LAYERS)[:4]
  images = uniform(1, 2, 9, 9, 3)
  plain = {name: {'weight': kernel, 'bias': bias} for name, (kernel, bias) in random_arrays(4).items()}
  found = jax.jit(lambda p, x: vgg16_features(p, x, list(plain), 12))(params, images)
  expected = plain_features(plain, images, 12, torchvision_input)
  for name in plain:
    np.testing.assert_allclose(found[name], expected[name], atol=3e-6 * expected[name].max(), err_msg=name)


@pytest.mark.parametrize(
  'write, named',
  [
    (write_npz, caffe_arrays),
    (write_safetensors, caffe_arrays),
    *((write_h5, functools.partial(keras_paths, kind=k)) for k in ('first', 'keras 2', 'model', 'keras 3')),
  ],
  ids=['npz', 'safetensors', 'first', 'keras 2', 'model', 'keras 3'],
)
def test_weights_of_caffe_and_keras_are_taken_as_they_are(tmp_path, write, named):
  params = read_vgg16(write(tmp_path / 'weights', named(5)), ('block3_conv1',))
  assert list(params) == list(LAYERS)[:5]
  for name, (kernel, bias) in random_arrays(5).items():
    np.testing.assert_array_equal(params[name]['weight'], kernel)
    np.testing.assert_array_equal(params[name]['bias'], bias)
  np.testing.assert_allclose(params['block1_conv1']['mean_bgr'], [103.939, 116.779, 123.68])


def test_weights_of_caffe_under_torchvisions_names_are_taken_as_said(tmp_path):
  path = write_torch_zip(tmp_path / 'weights.pth', torch_arrays(1))
  params = read_vgg16(path, convention='caffe')['block1_conv1']
  np.testing.assert_array_equal(params['weight'], random_arrays(1)['block1_conv1'][0])
  np.testing.assert_allclose(params['mean_bgr'], vgg16.MEAN_BGR)


@pytest.mark.parametrize(
  'named, words',
  [
    ({'features.1.running_mean': np.zeros(64, np.float32)}, r'found features.1.running_mean, which VGG-16'),
    ({'features.16.weight': np.zeros((256, 256, 3, 3), np.float32)}, 'found features.16.weight'),
    ({'features.2.weight': np.zeros((3, 3, 64, 64), np.float32)}, 'features.2.weight is float32'),
    ({'features.2.bias': np.full(64, np.inf, np.float32)}, 'found values in features.2.bias that are not'),
  ],
)
def test_other_networks_are_refused_by_name(tmp_path, named, words):
  path = write_torch_legacy(tmp_path / 'weights.pth', torch_arrays(2) | named)
  with pytest.raises(BadInputError, match=words) as error:
    read_vgg16(path)
  assert str(error.value).startswith(f'{path}: ') and 'expected' in str(error.value)


@pytest.mark.parametrize(
  'write', [write_npz, write_safetensors, write_torch_zip, write_torch_legacy, write_h5]
)
def test_a_file_of_other_arrays_is_told_the_names_expected(tmp_path, write):
  path = write(tmp_path / 'weights', {'conv/kernel': np.zeros(3, np.float32)})
  with pytest.raises(BadInputError, match=r'found 1 arrays \(conv/kernel\), expected block1_conv1_W'):
    read_vgg16(path)


def test_layers_that_a_torch_file_lacks_are_named(tmp_path):
  path = write_torch_legacy(tmp_path / 'weights.pth', torch_arrays(4))
  with pytest.raises(
    BadInputError, match='the layers block3_conv2, block4_conv2 are not in it, found block1_'
  ):
    read_vgg16(path, vgg16.PAPER_LAYERS)


def test_a_hostile_file_of_weights_is_refused(tmp_path):
  path = tmp_path / 'weights.pth'
  torch_bytes.write_zip(path, torch_bytes.call('os', 'mkdir', str(tmp_path / 'made')), {})
  with pytest.raises(BadInputError, match='names os.mkdir, which is not allowed'):
    read_vgg16(path)
  assert not (tmp_path / 'made').exists()


def test_h5py_is_asked_for_only_where_it_is_needed(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, 'h5py', None)
  path = tmp_path / 'weights.h5'
  path.write_bytes(b'\x89HDF\r\n\x1a\n' + bytes(100))
  with pytest.raises(
    BadInputError, match=r'weights.h5: found an HDF5 file, which needs h5py: .*advmix_jax\[h5\]'
  ):
    read_vgg16(path)
  read_vgg16(write_npz(tmp_path / 'weights', caffe_arrays(1)))


def test_an_h5_file_reaches_no_other_file(tmp_path):
  h5py = pytest.importorskip('h5py')
  secret = write_h5(tmp_path / 'secret.h5', keras_paths(1, 'keras 2'))
  path = tmp_path / 'weights.h5'
  with h5py.File(path, 'w') as file:
    file['block1_conv1'] = h5py.ExternalLink(secret, 'block1_conv1')
  with pytest.raises(BadInputError, match='block1_conv1 is a link'):
    read_vgg16(path)
  with h5py.File(path, 'w') as file:
    file.create_dataset('a/kernel', (64,), 'f4', external=[(str(secret), 0, 256)])
  with pytest.raises(BadInputError, match='a/kernel lies in another file'):
    read_vgg16(path)
  with h5py.File(path, 'w') as file:
    file.create_dataset('huge', (1 << 20, 1 << 20), 'f4', chunks=True)  # No bytes in the file.
  with pytest.raises(BadInputError, match='found arrays of 4398046511104 bytes'):
    read_vgg16(path)
  with h5py.File(path, 'w') as file:
    file['loop'] = file  # Groups within groups without end.
  with pytest.raises(BadInputError, match='loop/ is a group that is also elsewhere'):
    read_vgg16(path)
  path.write_bytes(path.read_bytes()[:300])
  with pytest.raises(BadInputError, match='cannot be read as HDF5'):
    read_vgg16(path)
