"""VGG-16 features against plain NumPy, and reading its weights."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advmix_jax import config_check
from advmix_jax.interop.vgg16_weights import read_vgg16
from advmix_jax.models import vgg16
from advmix_jax.models.vgg16 import LAYERS, preprocess, vgg16_features
from advmix_jax.types import BadInputError
from configs import digits
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


def plain_features(params, images: np.ndarray, size: int) -> dict[str, np.ndarray]:
  """All layers of `params`, in float64."""
  x = np.asarray(images, np.float64)
  x = resized(x, size) if size else x
  x = np.stack([127.5 * x[..., c] + 127.5 - m for c, m in ((2, 103.939), (1, 116.779), (0, 123.68))], axis=-1)
  found = {}
  for name, layer in params.items():
    if name in ('block2_conv1', 'block3_conv1', 'block4_conv1', 'block5_conv1'):
      height, width = x.shape[1] // 2, x.shape[2] // 2
      x = x[:, : 2 * height, : 2 * width].reshape(len(x), height, 2, width, 2, -1).max((2, 4))
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
  ],
)
def test_wrong_arrays_are_named(tmp_path, change, words):
  path = tmp_path / 'vgg16.npz'
  np.savez(path, **arrays_of(3) | change)
  with pytest.raises(BadInputError, match=words) as error:
    read_vgg16(path)
  assert str(error.value).startswith(str(path))


@pytest.mark.parametrize('damage', ['absent', 'folder', 'empty', 'text', 'npy', 'cut'])
def test_what_is_no_such_file_is_refused(file, damage):
  content = file.read_bytes()
  file.unlink()
  if damage == 'folder':
    file.mkdir()
  elif damage == 'npy':
    with file.open('wb') as out:
      np.save(out, np.zeros(3))
  elif damage != 'absent':
    file.write_bytes({'empty': b'', 'text': b'weights', 'cut': content[: len(content) // 2]}[damage])
  with pytest.raises(BadInputError, match=str(file)):
    read_vgg16(file)


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
