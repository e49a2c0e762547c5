"""ImageNet weights of VGG-16 from files of plain arrays; a file may hold the first layers only.

    params = read_vgg16('vgg16.npz', ('block1_conv2', 'block2_conv2'))

An .npz holds `block<b>_conv<c>_W [3, 3, I, O]` and `block<b>_conv<c>_b [O]` for inputs as
`models.vgg16.preprocess` makes them (BGR, mean subtracted). Pickles in it are refused.
"""

import os
import zipfile
import zlib
from collections.abc import Mapping, Sequence

import numpy as np

from advmix_jax.models.vgg16 import LAYERS
from advmix_jax.types import BadInputError, PyTree


def read_vgg16(path: str | os.PathLike[str], layers: Sequence[str] = ()) -> PyTree:
  """Reads the convolutions that a file holds without a gap from the first on.

  Args:
    path: of an .npz file.
    layers: that must be among them.

  Returns:
    `{layer: {'weight': [3, 3, I, O], 'bias': [O]}}` float32, as `models.vgg16.vgg16_features` takes them.

  Raises:
    BadInputError: the file cannot be read, an array has another shape or is not of finite numbers, or the
      file lacks some of `layers`: the text names these and those it has.
  """
  try:
    params = from_named(_read_npz(path))
  except BadInputError as error:
    raise BadInputError(f'{path}: {error}') from None
  missing = [name for name in layers if name not in params]
  if missing:
    raise BadInputError(
      f'{path}: the layers {", ".join(missing)} are not in it, found {", ".join(params) or "none"}, '
      'expected both arrays, LAYER_W and LAYER_b, of each layer up to the last that is asked for'
    )
  return params


def from_named(arrays: Mapping[str, np.ndarray]) -> PyTree:
  """Parameters from arrays named `block<b>_conv<c>_W` and `..._b`; what follows a gap is left out.

  Raises:
    BadInputError: an array has another shape than VGG-16's or is not of finite numbers.
  """
  params = {}
  channels = 3
  for name, fmaps in LAYERS.items():
    if f'{name}_W' not in arrays or f'{name}_b' not in arrays:
      break
    params[name] = {
      'weight': _checked(arrays, f'{name}_W', (3, 3, channels, fmaps)),
      'bias': _checked(arrays, f'{name}_b', (fmaps,)),
    }
    channels = fmaps
  return params


def _checked(arrays: Mapping[str, np.ndarray], name: str, shape: tuple[int, ...]) -> np.ndarray:
  array = arrays[name]
  if array.shape != shape or array.dtype.kind != 'f':
    raise BadInputError(f'{name} is {array.dtype} {array.shape}, expected floating-point numbers {shape}')
  if not np.isfinite(array).all():
    raise BadInputError(f'{name} holds numbers that are not finite')
  return array.astype(np.float32)


def _read_npz(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
  try:
    with np.load(path, allow_pickle=False) as file:
      wanted = {f'{name}_{part}' for name in LAYERS for part in 'Wb'}
      return {name: file[name] for name in file.files if name in wanted}
  except FileNotFoundError:
    raise BadInputError('found no such file, expected an .npz file') from None
  except (OSError, ValueError, TypeError, AttributeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
    # np.load gives a bare array, which is no context manager, for an .npy file.
    raise BadInputError(f'cannot be read as .npz without pickles ({error})') from None
