"""VGG-16 in plain NumPy, and random parameters of it with few feature maps."""

import functools

import numpy as np

from advmix_jax.models.vgg16 import LAYERS


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
