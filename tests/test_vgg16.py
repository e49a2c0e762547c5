"""VGG-16 features against plain NumPy and torch, and reading its weights from every kind of file."""

import functools
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from advmix_jax import config_check
from advmix_jax.interop.vgg16_weights import read_vgg16
from advmix_jax.models import vgg16
from advmix_jax.models.vgg16 import LAYERS, NAMES, POOLS, preprocess, vgg16_features
from advmix_jax.types import BadInputError
from configs import digits
from tests import torch_bytes
from tests.tiny import uniform

FILE = 'vgg16_imagenet_block1_block2_f32_hwio_bgr.npz'


@functools.cache
def tiny_params(num_layers: int = 7):
  """The first convolutions, of a few feature maps each."""
  rng = np.random.default_rng(0)
  params, channels = {}, 3
  for i, name in enumerate(list(LAYERS)[:num_layers]):
    fmaps = 4 + i
    weight = rng.standard_normal((3, 3, channels, fmaps)) / np.sqrt(9 * channels)
    params[name] = {
      'weight': weight.astype(np.float32),
      'bias': rng.standard_normal(fmaps).astype(np.float32),
    }
    channels = fmaps
  return params


def resized(images: np.ndarray, size: int) -> np.ndarray:
  """Bilinear, pixel centres at half-integers, edges repeated; one axis at a time."""
  for axis in (1, 2):
    old = images.shape[axis]
    position = np.clip((np.arange(size) + 0.5) * old / size - 0.5, 0, old - 1)
    low = np.floor(position).astype(int)
    high = np.minimum(low + 1, old - 1)
    share = (position - low).reshape([-1 if a == axis else 1 for a in range(4)])
    images = images.take(low, axis) * (1 - share) + images.take(high, axis) * share
  return images


def caffe_input(x: np.ndarray) -> np.ndarray:
  """RGB in [-1, 1] to BGR on [0, 255] minus the mean."""
  return np.stack(
    [127.5 * x[..., c] + 127.5 - m for c, m in ((2, 103.939), (1, 116.779), (0, 123.68))], axis=-1
  )


def torchvision_input(x: np.ndarray) -> np.ndarray:
  """RGB in [-1, 1] to RGB on [0, 1] minus the mean, over the standard deviation."""
  return ((x + 1) / 2 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])


def plain_features(params, images: np.ndarray, size: int, to_input=caffe_input) -> dict[str, np.ndarray]:
  """All layers of `params`, in float64."""
  x = np.asarray(images, np.float64)
  x = to_input(resized(x, size) if size else x)
  found = {}
  for name, layer in params.items():
    if name in ('block2_conv1', 'block3_conv1', 'block4_conv1', 'block5_conv1'):
      height, width = x.shape[1] // 2, x.shape[2] // 2
      x = x[:, : 2 * height, : 2 * width].reshape(len(x), height, 2, width, 2, -1).max((2, 4))
      found[name.replace('conv1', 'before')] = x
    height, width = x.shape[1:3]
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    x = layer['bias'] + sum(
      padded[:, i : i + height, j : j + width] @ np.float64(layer['weight'][i, j])
      for i in range(3)
      for j in range(3)
    )
    x = np.maximum(x, 0)
    found[name] = x
  return found


# To 225 pixels as the paper, odd after one pooling, smaller than the images, and as they are.
@pytest.mark.parametrize('resolution, size', [(8, 22), (32, 13), (9, 0), (8, 0)])
def test_activations_are_those_of_plain_numpy(resolution, size):
  images, layers = uniform(1, 2, resolution, resolution, 3), ('block3_conv2', 'block1_conv2', 'block2_conv1')
  found = jax.jit(lambda p, x: vgg16_features(p, x, layers, size))(tiny_params(), images)
  expected = plain_features(tiny_params(), images, size)
  assert set(found) == set(layers)
  for name in layers:
    scale = np.abs(expected[name]).max()
    np.testing.assert_allclose(found[name] / scale, expected[name] / scale, atol=2e-6, err_msg=name)


def test_all_13_convolutions_and_5_poolings():
  assert len(LAYERS) == 13 and len(POOLS) == 5
  assert list(LAYERS.values()) == [64, 64, 128, 128] + [256] * 3 + [512] * 6
  images = uniform(1, 1, 32, 32, 3)
  found = jax.jit(lambda p, x: vgg16_features(p, x, NAMES))(tiny_params(13), images)
  assert list(found) == sorted(NAMES)  # jit sorts names; these are in order.
  sizes = [32, 32, 16, 16, 16, 8, 8, 8, 8, 4, 4, 4, 4, 2, 2, 2, 2, 1]
  assert [x.shape[1] for x in found.values()] == sizes
  expected = plain_features(tiny_params(13), images, 0)
  for name in NAMES:
    if name != 'block5_pool':
      other = f'block{int(name[5]) + 1}_before' if name in POOLS else name
      scale = np.abs(expected[other]).max()
      np.testing.assert_allclose(found[name] / scale, expected[other] / scale, atol=2e-6, err_msg=name)
  np.testing.assert_array_equal(found['block5_pool'], found['block5_conv3'].max((1, 2), keepdims=True))


def test_the_gradient_inside_a_loop_is_finite_and_that_of_the_function():
  images, layers = uniform(1, 1, 9, 9, 3), ('block1_conv2', 'block3_conv1')

  def loss(x):
    return sum(jnp.mean(jnp.square(a)) for a in vgg16_features(tiny_params(), x, layers, 11).values())

  gradient = jax.jit(
    lambda x: jax.lax.fori_loop(0, 1, lambda _, y: jax.grad(lambda z: loss(x + z))(y), 0.0 * x)
  )(images)
  assert np.isfinite(gradient).all() and np.abs(gradient).min() > 0
  direction, h = uniform(2, *images.shape), 0.01

  def plain_loss(x):
    found = plain_features(tiny_params(), x, 11)
    return sum(np.mean(np.square(found[name])) for name in layers)

  images, direction = np.float64(images), np.float64(direction)
  slope = (plain_loss(images + h * direction) - plain_loss(images - h * direction)) / (2 * h)
  np.testing.assert_allclose(np.vdot(gradient, direction), slope, rtol=1e-2)


def test_preprocessing_of_known_pixels():
  pixels = jnp.array([[-1.0, -1.0, -1.0], [1.0, 0.0, -1.0]]).reshape(1, 1, 2, 3)
  expected = [[-103.939, -116.779, -123.68], [-103.939, 127.5 - 116.779, 255 - 123.68]]
  np.testing.assert_allclose(preprocess(pixels)[0, 0], expected, atol=1e-4)
  np.testing.assert_allclose(preprocess(pixels[:, :, 1:], 3), np.full((1, 3, 3, 3), expected[1]), atol=1e-4)


def test_layers_that_the_parameters_lack_are_named():
  with pytest.raises(ValueError, match='layers: found block4_conv2, expected some of block1_conv1, '):
    vgg16_features(tiny_params(), uniform(1, 1, 8, 8, 3), ('block1_conv2', 'block4_conv2'))
  with pytest.raises(ValueError, match='layers: found block4_pool, expected'):
    vgg16_features(tiny_params(), uniform(1, 1, 8, 8, 3), ('block3_pool', 'block4_pool'))


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
    ({'block1_conv1_b': np.full(64, np.nan, np.float32)}, 'block1_conv1_b holds numbers that are not finite'),
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


def random_arrays(num_layers: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
  """Kernels `[3, 3, I, O]` and biases of the first layers, of their real sizes."""
  rng = np.random.default_rng(0)
  arrays, channels = {}, 3
  for name, fmaps in list(LAYERS.items())[:num_layers]:
    kernel = rng.standard_normal((3, 3, channels, fmaps)) / np.sqrt(4.5 * channels)
    arrays[name] = kernel.astype(np.float32), 0.3 * rng.standard_normal(fmaps).astype(np.float32)
    channels = fmaps
  return arrays


def torch_arrays(num_layers: int, prefix: str = 'features.') -> dict[str, np.ndarray]:
  """The same as torchvision has them."""
  index = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
  named = {}
  for i, (kernel, bias) in zip(index, random_arrays(num_layers).values(), strict=False):
    named[f'{prefix}{i}.weight'] = np.ascontiguousarray(kernel.transpose(3, 2, 0, 1))
    named[f'{prefix}{i}.bias'] = bias
  return named


def caffe_arrays(num_layers: int) -> dict[str, np.ndarray]:
  arrays = random_arrays(num_layers)
  return {
    f'{name}_{part}': array for name, both in arrays.items() for part, array in zip('Wb', both, strict=True)
  }


def write_h5(path, named):
  h5py = pytest.importorskip('h5py')
  with h5py.File(path, 'w') as file:
    for name, array in named.items():
      file[name] = array
  return path


def write_npz(path, named):
  with path.open('wb') as file:
    np.savez(file, **named)
  return path


def write_safetensors(path, named):
  safetensors.numpy.save_file(named, path)
  return path


def write_torch_zip(path, named):
  return torch_bytes.write_zip(path, *torch_bytes.contiguous(named))


def write_torch_legacy(path, named):
  return torch_bytes.write_legacy(path, *torch_bytes.contiguous(named))


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


def keras_paths(num_layers: int, kind: str) -> dict[str, np.ndarray]:
  """As Keras 1, 2 and 3 lay out an .h5 file, and a whole model's with what its optimiser keeps."""
  named = {}
  for i, (name, both) in enumerate(random_arrays(num_layers).items()):
    for array, old, new in zip(both, 'Wb', ('kernel', 'bias'), strict=True):
      path = {
        'first': f'{name}/{name}_{old}_1:0',
        'keras 2': f'{name}/{name}/{new}:0',
        'model': f'model_weights/{name}/{name}/{new}',
        'keras 3': f'layers/conv2d{f"_{i}" if i else ""}/vars/{int(new == "bias")}',
      }[kind]
      named[path] = array
      if kind == 'model':
        named[f'optimizer_weights/adam/{name}/{new}'] = 0 * array
  return named


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
    (
      {'features.2.bias': np.full(64, np.inf, np.float32)},
      'features.2.bias holds numbers that are not finite',
    ),
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
  with pytest.raises(BadInputError, match='groups within groups'):
    read_vgg16(path)
  path.write_bytes(path.read_bytes()[:300])
  with pytest.raises(BadInputError, match='cannot be read as HDF5'):
    read_vgg16(path)


@pytest.mark.parametrize('in_zip, size', [(True, 0), (False, 225)])
def test_activations_are_those_of_an_independent_torch_network(tmp_path, in_zip, size):
  torch = pytest.importorskip('torch')
  torch.manual_seed(0)
  layers, channels = [], 3
  for i in (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0):
    if i:
      layers += [torch.nn.Conv2d(channels, i, 3, padding=1), torch.nn.ReLU()]
      torch.nn.init.kaiming_normal_(layers[-2].weight)
      channels = i
    else:
      layers += [torch.nn.MaxPool2d(2)]
  net = torch.nn.Module()
  net.features, net.classifier = torch.nn.Sequential(*layers), torch.nn.Sequential(torch.nn.Linear(8, 4))
  torch.save(net.state_dict(), tmp_path / 'vgg16.pth', _use_new_zipfile_serialization=in_zip)

  images = np.asarray(uniform(1, 1, 48, 48, 3))
  found = jax.jit(lambda p, x: vgg16_features(p, x, NAMES, size))(
    read_vgg16(tmp_path / 'vgg16.pth', NAMES), images
  )
  x = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
  if size:
    x = torch.nn.functional.interpolate(
      x, (size, size), mode='bilinear', align_corners=False, antialias=False
    )
  mean, std = (torch.tensor(v)[:, None, None] for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
  x = ((x + 1) / 2 - mean) / std
  names = iter(NAMES)
  with torch.no_grad():
    for layer in net.features:
      x = layer(x)
      if not isinstance(layer, torch.nn.Conv2d):
        name, expected = next(names), x.permute(0, 2, 3, 1).numpy()
        np.testing.assert_allclose(found[name], expected, rtol=1e-4, atol=1e-5 * expected.max(), err_msg=name)
  assert next(names, None) is None


def test_the_real_weights_give_finite_activations(weights_dir):
  path = weights_dir / FILE
  if not path.exists():
    pytest.skip(f'{path} is not there')
  layers = ('block1_conv2', 'block2_conv2')
  params = read_vgg16(path, layers)
  images = uniform(1, 2, 16, 16, 3)
  found = jax.jit(lambda p, x: vgg16_features(p, x, layers))(params, images)
  assert {name: x.shape for name, x in found.items()} == {
    'block1_conv2': (2, 16, 16, 64),
    'block2_conv2': (2, 8, 8, 128),
  }
  expected = plain_features(params, images, 0)
  for name in layers:
    assert np.isfinite(found[name]).all() and found[name].max() > 1
    np.testing.assert_allclose(found[name], expected[name], rtol=1e-4, atol=1e-4 * expected[name].max())
