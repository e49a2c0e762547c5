"""VGG-16 (Simonyan and Zisserman 2015) up to any convolution or pooling, as features of images.

    params = read_vgg16('vgg16.npz', layers)  # interop.vgg16_weights
    activations = vgg16_features(params, images, layers, size=225)

The activation `block<b>_conv<c>` is what follows the rectifier of that convolution, `block<b>_pool` what
follows the pooling at the end of that block. Weights of other software are brought to one convention as they
are read: inputs are BGR on [0, 255] minus a mean, as in the original Caffe release and in Keras. `preprocess`
makes them, here and nowhere else.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from advmix_jax.models import conv, resampling
from advmix_jax.models.layers import Dtype, at_least_float32
from advmix_jax.types import Array, PyTree

BLOCKS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
# All 13 convolutions in order, with the number of feature maps each makes.
LAYERS: dict[str, int] = {
  f'block{b}_conv{c}': fmaps for b, block in enumerate(BLOCKS, 1) for c, fmaps in enumerate(block, 1)
}
POOLS: dict[str, str] = {f'block{b}_pool': f'block{b}_conv{len(block)}' for b, block in enumerate(BLOCKS, 1)}
NAMES = tuple(
  name for c in LAYERS for name in (c, *(pool for pool, last in POOLS.items() if last == c))
)  # All activations, in order.
# The paper's listing. Its pseudo-code has blocks 1, 2, 3 (open).
PAPER_LAYERS = ('block1_conv2', 'block3_conv2', 'block4_conv2')
MEAN_BGR = (103.939, 116.779, 123.68)  # Of ImageNet, on [0, 255], as the Caffe release has it.


def num_poolings(name: str) -> int:
  """How many times the pixels are halved before the activation `name`."""
  return int(name.removeprefix('block').split('_')[0]) - (name not in POOLS)


def preprocess(images: Array, size: int = 0, mean_bgr: Array | Sequence[float] = MEAN_BGR) -> Array:
  """RGB images to what the weights expect: BGR on [0, 255], minus a mean.

  Args:
    images: `[B, H, W, 3]` float32 in [-1, 1].
    size: they are resized to so many pixels a side; 0 = as they are. Bilinear, pixel centres at
      half-integers, no antialiasing: torch's `interpolate(mode='bilinear', align_corners=False,
      antialias=False)`.
    mean_bgr: `[3]`, of the images the weights were trained on, on [0, 255]. It is also what the convolutions'
      zero padding stands for.
  """
  if size:
    shape = (images.shape[0], size, size, images.shape[3])
    images = jax.image.resize(images, shape, 'bilinear', antialias=False)
  return (images[..., ::-1] + 1.0) * 127.5 - jnp.asarray(mean_bgr, images.dtype)[None, None, None]


def vgg16_features(
  params: PyTree, images: Array, layers: Sequence[str], size: int = 0, dtype: Dtype = jnp.float32
) -> dict[str, Array]:
  """Activations of the named layers; nothing is computed beyond the last of them.

  Args:
    params: `{layer: {'weight': [3, 3, I, O], 'bias': [O]}}` float32, at least up to the last layer named.
      `block1_conv1` may also hold `'mean_bgr': [3]`, see `preprocess`.
    images: `[B, H, W, 3]` float32, RGB in [-1, 1].
    layers: names, of `NAMES`.
    size: see `preprocess`; 0 = as the images are.
    dtype: of the convolutions and of what layers hand on.

  Returns:
    `{layer: [B, H', W', O]}` float32, in the order of `layers`. Each pooling halves the pixels; of an odd
    number the last row and column are dropped.

  Raises:
    ValueError: `params` has no such layer.
  """
  missing = [name for name in layers if POOLS.get(name, name) not in params]
  if missing:
    raise ValueError(f'layers: found {", ".join(missing)}, expected some of {", ".join(params)}')
  found: dict[str, Array] = {}
  x = preprocess(images, size, params['block1_conv1'].get('mean_bgr', MEAN_BGR)).astype(dtype)
  for name in NAMES:
    if len(found) == len(set(layers)):
      break
    if name in POOLS:
      x = resampling.max_pool(x)
    else:
      x = at_least_float32(conv.conv2d(x, params[name]['weight']))
      x = jax.nn.relu(x + params[name]['bias'][None, None, None]).astype(dtype)
    if name in layers:
      found[name] = at_least_float32(x)
  return {name: found[name] for name in layers}


def parameter_shapes(layers: Sequence[str]) -> PyTree:
  """Shapes of what `vgg16_features` needs for the named layers."""
  last = max(list(LAYERS).index(POOLS.get(name, name)) for name in layers)
  widths = (3, *LAYERS.values())
  found: dict[str, dict[str, jax.ShapeDtypeStruct]] = {}
  for name, before, after in zip(list(LAYERS)[: last + 1], widths, widths[1:], strict=False):
    shapes = {'weight': (3, 3, before, after), 'bias': (after,)}
    found[name] = {part: jax.ShapeDtypeStruct(shape, jnp.float32) for part, shape in shapes.items()}
  found['block1_conv1']['mean_bgr'] = jax.ShapeDtypeStruct((3,), jnp.float32)
  return found
