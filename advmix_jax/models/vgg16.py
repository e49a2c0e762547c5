"""VGG-16 (Simonyan and Zisserman 2015) up to any convolution, as features of images for the encoder.

    params = read_vgg16('vgg16.npz', layers)  # interop.vgg16_weights
    activations = vgg16_features(params, images, layers, size=225)

Layers are named `block<b>_conv<c>`; an activation is what follows the rectifier of its convolution. The
weights are those of the original Caffe release and of Keras: they expect what `preprocess` makes, here and
nowhere else.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from advmix_jax.models import conv
from advmix_jax.types import Array, PyTree

BLOCKS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
# All 13 convolutions in order, with the number of feature maps each makes.
LAYERS: dict[str, int] = {
  f'block{b}_conv{c}': fmaps for b, block in enumerate(BLOCKS, 1) for c, fmaps in enumerate(block, 1)
}
# The paper's listing. Its pseudo-code has blocks 1, 2, 3 (open).
PAPER_LAYERS = ('block1_conv2', 'block3_conv2', 'block4_conv2')
MEAN_BGR = (103.939, 116.779, 123.68)  # Of ImageNet, on [0, 255].


def block_of(layer: str) -> int:
  """The block of a layer, from 1; one pooling less stands before it."""
  return int(layer.removeprefix('block').split('_')[0])


def preprocess(images: Array, size: int = 0) -> Array:
  """RGB images to what the weights expect: BGR on [0, 255], minus the mean of ImageNet.

  Args:
    images: `[B, H, W, 3]` float32 in [-1, 1].
    size: they are resized to so many pixels a side, bilinearly and without antialiasing; 0 = as they are.
  """
  if size:
    shape = (images.shape[0], size, size, images.shape[3])
    images = jax.image.resize(images, shape, 'bilinear', antialias=False)
  return (images[..., ::-1] + 1.0) * 127.5 - jnp.array(MEAN_BGR, images.dtype)[None, None, None]


def vgg16_features(params: PyTree, images: Array, layers: Sequence[str], size: int = 0) -> dict[str, Array]:
  """Activations of the named layers; nothing is computed beyond the last of them.

  Args:
    params: `{layer: {'weight': [3, 3, I, O], 'bias': [O]}}` float32, at least up to the last layer named.
    images: `[B, H, W, 3]` float32, RGB in [-1, 1].
    layers: names, of `LAYERS`.
    size: see `preprocess`; 0 = as the images are.

  Returns:
    `{layer: [B, H', W', O]}`, in the order of `layers`. Each block halves the pixels of the one before it; of
    an odd number the last row and column are dropped.

  Raises:
    ValueError: `params` has no such layer.
  """
  missing = [name for name in layers if name not in params]
  if missing:
    raise ValueError(f'layers: found {", ".join(missing)}, expected some of {", ".join(params)}')
  found: dict[str, Array] = {}
  x = preprocess(images, size)
  for name in LAYERS:
    if len(found) == len(set(layers)):
      break
    if name.endswith('conv1') and block_of(name) > 1:
      x = conv.max_pool(x)
    x = jax.nn.relu(conv.conv2d(x, params[name]['weight']) + params[name]['bias'][None, None, None])
    if name in layers:
      found[name] = x
  return {name: found[name] for name in layers}
