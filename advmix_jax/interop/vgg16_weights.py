"""ImageNet weights of VGG-16, from whatever software; a file may hold the first layers only.

    params = read_vgg16('vgg16-397923af.pth', ('block1_conv2', 'block3_conv2'))

Read are .npz, .safetensors, torch's .pth (both formats) and Keras' .h5. The arrays' names tell whose weights
they are, and so what input they expect:

* 'caffe': the original release, and Keras. BGR on [0, 255] minus the mean. Names such as `block1_conv1_W` and
  `block1_conv1_b` (.npz, .safetensors), or Keras' groups; kernels `[3, 3, I, O]`.
* 'torchvision': RGB on [0, 1], minus the mean, divided by the standard deviation. Names such as
  `features.0.weight`; kernels `[O, I, 3, 3]`.

Both become the first. Order and scale of the channels go into the first kernel, which is exact. The mean
does not: a convolution pads with zeros, that is with the mean, so one folded into the bias would change the
borders. It stays with the weights, and `models.vgg16.preprocess` subtracts it.
"""

import os
import re
from collections.abc import Mapping, Sequence

import numpy as np

from advmix_jax.interop.array_files import read_arrays
from advmix_jax.interop.floats import as_float32
from advmix_jax.models.vgg16 import LAYERS, MEAN_BGR, POOLS
from advmix_jax.types import BadInputError, PyTree

# Of RGB images on [0, 1]: what torchvision's ImageNet networks were trained with.
TORCHVISION_MEAN = (0.485, 0.456, 0.406)
TORCHVISION_STD = (0.229, 0.224, 0.225)
# Where torchvision's list of convolutions, rectifiers and poolings has the 13 convolutions.
_TORCHVISION_INDEX = dict(zip(LAYERS, (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28), strict=True))

# The dense layers, four fifths of a file, and what an optimiser keeps.
_NOT_CONVOLUTIONS = re.compile(r'classifier|dense|predictions|optimizer|(?:^|/)fc\d')

_Named = dict[str, tuple[str, str]]  # Layer to the names of its kernel and its bias.


def read_vgg16(path: str | os.PathLike[str], layers: Sequence[str] = (), convention: str = 'auto') -> PyTree:
  """Reads the convolutions that a file holds without a gap from the first on.

  Args:
    path: of the file.
    layers: activations that they must suffice for, of `models.vgg16.NAMES`.
    convention: 'caffe' or 'torchvision', what input the weights expect; 'auto' = as their names tell. There
      are files of Caffe's weights under torchvision's names: only where they come from tells.

  Returns:
    `{layer: {'weight': [3, 3, I, O], 'bias': [O]}}` float32, as `models.vgg16.vgg16_features` takes them; the
    first also holds `'mean_bgr': [3]`.

  Raises:
    BadInputError: the file cannot be read, an array has another shape or is not of finite numbers, or the
      file lacks some of `layers`: the text names these and those it has.
  """
  arrays = read_arrays(path, lambda name: not _NOT_CONVOLUTIONS.search(name))
  try:
    params = from_named(arrays, convention)
  except BadInputError as error:
    raise BadInputError(f'{path}: {error}') from None
  missing = [name for name in layers if POOLS.get(name, name) not in params]
  if missing:
    raise BadInputError(
      f'{path}: the layers {", ".join(missing)} are not in it, found {", ".join(params) or "none"}, '
      'expected kernel and bias of each layer up to the last that is asked for'
    )
  return params


def from_named(arrays: Mapping[str, np.ndarray], convention: str = 'auto') -> PyTree:
  """Parameters from arrays under the names of one of the conventions; what follows a gap is left out.

  Raises:
    BadInputError: the names are of no convention or of another network, or an array has another shape than
      VGG-16's or is not of finite numbers.
  """
  torch_names = _torchvision_names(arrays)
  named = torch_names or _keras_names(arrays)
  if not named:
    shown = ', '.join(list(arrays)[:4])
    raise BadInputError(
      f'found {len(arrays)} arrays ({shown[:200]}), expected block1_conv1_W, ... or features.0.weight, ...'
    )
  params: dict[str, dict[str, np.ndarray]] = {}
  channels = 3
  for layer, fmaps in LAYERS.items():
    kernel, bias = named.get(layer, ('', ''))
    if kernel not in arrays or bias not in arrays:
      break
    if torch_names:
      weight = _checked(arrays, kernel, (fmaps, channels, 3, 3)).transpose(2, 3, 1, 0)
    else:
      weight = _checked(arrays, kernel, (3, 3, channels, fmaps))
    params[layer] = {'weight': weight, 'bias': _checked(arrays, bias, (fmaps,))}
    channels = fmaps
  if not params:
    raise BadInputError('found no kernel and bias of the first convolution')
  first = params['block1_conv1']
  if convention == 'torchvision' or (convention == 'auto' and torch_names):
    std = np.array(TORCHVISION_STD)[:, None]
    first['weight'] = (first['weight'] / (255.0 * std)).astype(np.float32)[:, :, ::-1]
    first['mean_bgr'] = np.array([255.0 * mean for mean in TORCHVISION_MEAN[::-1]], np.float32)
  else:
    first['mean_bgr'] = np.array(MEAN_BGR, np.float32)
  return params


def _torchvision_names(arrays: Mapping[str, np.ndarray]) -> _Named:
  """Names such as `features.0.weight`, whatever stands before the 0; none if there are no such."""
  first = [name for name in arrays if re.search(r'(?:^|\.)0\.weight$', name)]
  if len(first) != 1:
    return {}
  prefix = first[0].removesuffix('0.weight')
  known = {f'{prefix}{i}.{part}' for i in _TORCHVISION_INDEX.values() for part in ('weight', 'bias')}
  unknown = [name for name in arrays if name.startswith(prefix) and name not in known]
  if unknown:
    numbers = ', '.join(map(str, _TORCHVISION_INDEX.values()))
    raise BadInputError(
      f'found {", ".join(unknown[:3])[:200]}, which VGG-16 without batch normalisation does not have; '
      f'expected {prefix}N.weight and {prefix}N.bias for N = {numbers}'
    )
  return {layer: (f'{prefix}{i}.weight', f'{prefix}{i}.bias') for layer, i in _TORCHVISION_INDEX.items()}


def _keras_names(arrays: Mapping[str, np.ndarray]) -> _Named:
  """Names of .npz files, and the paths that Keras 2 and 3 write into .h5 files.

  Keras 2 and saved models have `block1_conv1/.../kernel:0` (at first `block1_conv1_W_1:0`) under the layer's
  name; Keras 3's `.weights.h5` count the convolutions: `layers/conv2d_4/vars/0` is the kernel of the fifth.
  """
  named = {}
  for i, layer in enumerate(LAYERS):
    counted = f'layers/conv2d_{i}' if i else 'layers/conv2d'
    patterns = (
      (
        rf'{layer}_W',
        rf'(?:.*/)?{layer}/(?:kernel|{layer}_W\w*)(?::0)?',
        rf'{counted}/vars/0',
      ),
      (
        rf'{layer}_b',
        rf'(?:.*/)?{layer}/(?:bias|{layer}_b\w*)(?::0)?',
        rf'{counted}/vars/1',
      ),
    )
    kernel, bias = ([name for name in arrays if re.fullmatch('|'.join(p), name)] for p in patterns)
    if len(kernel) != 1 or len(bias) != 1:
      break
    named[layer] = kernel[0], bias[0]
  return named


def _checked(arrays: Mapping[str, np.ndarray], name: str, shape: tuple[int, ...]) -> np.ndarray:
  array = arrays[name]
  if array.shape != shape or array.dtype.kind != 'f':
    raise BadInputError(f'{name} is {array.dtype} {array.shape}, expected floating-point numbers {shape}')
  return as_float32(name, array)
