"""VGG-16 features against plain NumPy and torch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advmix_jax.interop.vgg16_weights import read_vgg16
from advmix_jax.models.vgg16 import LAYERS, NAMES, POOLS, preprocess, vgg16_features
from tests.tiny import uniform
from tests.vgg16_by_hand import plain_features, tiny_params

FILE = 'vgg16_imagenet_block1_block2_f32_hwio_bgr.npz'


# To 225 pixels as the paper, odd after one pooling, smaller than the images, and as they are.
@pytest.mark.parametrize('resolution, size', [(8, 22), (32, 13), (9, 0), (8, 0)])
def test_activations_are_those_of_plain_numpy(resolution, size):
  images, layers = uniform(1, 2, resolution, resolution, 3), ('block3_conv2', 'block1_conv2', 'block2_conv1')
  params, images = jax.tree.map(lambda x: np.asarray(x, np.float64), (tiny_params(), images))
  with jax.enable_x64(True):
    found = jax.jit(lambda p, x: vgg16_features(p, x, layers, size, np.float64))(params, images)
  expected = plain_features(params, images, size)
  assert set(found) == set(layers)
  for name in layers:
    scale = np.abs(expected[name]).max()
    np.testing.assert_allclose(
      np.asarray(found[name]) / scale, expected[name] / scale, atol=1e-12, err_msg=name
    )


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
