"""Weights of VGG-16, random ones, under the names and in the files of other software."""

import numpy as np
import pytest
import safetensors.numpy

from advmix_jax.models.vgg16 import LAYERS
from tests import torch_bytes


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
