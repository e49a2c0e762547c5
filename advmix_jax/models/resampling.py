"""Changes of an image's size, with and without a convolution, and the filter that goes with them.

`upsample_conv` and `downsample_conv` are nearest-neighbour upsampling before, and 2x2 averaging after, a 3x3
convolution, with 4/9 of the multiplications.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from advmix_jax.models import conv
from advmix_jax.types import Array


def upsample_conv(x: Array, kernel: Array) -> Array:
  """3x3 convolution of `x` after each of its pixels was repeated in a 2x2 block.

  Args:
    x: `[B, H, W, I]`.
    kernel: `[3, 3, I, O]`; taken in the dtype of `x`.

  Returns:
    `[B, 2H, 2W, O]`.
  """
  kernel = kernel.astype(x.dtype)
  return _upsample(x, kernel) if jax.default_backend() == 'cpu' else _upsample_by_phases(x, kernel)


def downsample_conv(x: Array, kernel: Array) -> Array:
  """3x3 convolution of `x`, followed by the mean of each 2x2 block.

  Args:
    x: `[B, H, W, I]`, H and W even.
    kernel: `[3, 3, I, O]`; taken in the dtype of `x`.

  Returns:
    `[B, H/2, W/2, O]`.
  """
  kernel = kernel.astype(x.dtype)
  return _downsample(x, kernel) if jax.default_backend() == 'cpu' else _downsample_by_blocks(x, kernel)


# On CPU a convolution of stride 2 saves the copies that rearrange pixels. Its own gradients have no fast
# kernel; they are those of the forms without a stride.


@jax.custom_vjp
def _upsample(x: Array, kernel: Array) -> Array:
  return _upsample_by_phases(x, kernel)


def _upsample_bwd(residuals, g):
  x, kernel = residuals
  _, pull_back = jax.vjp(functools.partial(_upsample_by_phases, x), kernel)
  return 4 * _downsample(g, conv.turned(kernel)), *pull_back(g)


_upsample.defvjp(lambda x, kernel: (_upsample(x, kernel), (x, kernel)), _upsample_bwd)


@jax.custom_vjp
def _downsample(x: Array, kernel: Array) -> Array:
  return lax.conv_general_dilated(
    x,
    lax.optimization_barrier(_widened(kernel)),
    (2, 2),
    ((1, 1), (1, 1)),
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
  )


def _downsample_bwd(residuals, g):
  return jax.vjp(_downsample_by_blocks, *residuals)[1](g)


_downsample.defvjp(lambda x, kernel: (_downsample(x, kernel), (x, kernel)), _downsample_bwd)


def _upsample_by_phases(x: Array, kernel: Array) -> Array:
  """As one 2x2 convolution. Even output rows see inputs (i-1, i) through the kernel rows (0, 1+2), odd ones
  (i, i+1) through (0+1, 2); columns alike."""
  batch, height, width, _ = x.shape
  features = kernel.shape[3]
  rows = [jnp.stack([kernel[0], kernel[1] + kernel[2]]), jnp.stack([kernel[0] + kernel[1], kernel[2]])]
  phases = [
    jnp.stack([k[:, 0], k[:, 1] + k[:, 2]], axis=1)
    if even
    else jnp.stack([k[:, 0] + k[:, 1], k[:, 2]], axis=1)
    for k in rows
    for even in (True, False)
  ]
  y = conv.conv2d(x, jnp.concatenate(phases, axis=3), (1, 1))
  y = y.reshape(batch, height + 1, width + 1, 2, 2, features)
  y = jnp.stack(
    [jnp.stack([y[:, a : a + height, b : b + width, a, b] for b in (0, 1)], axis=3) for a in (0, 1)], axis=2
  )  # [B, H, 2, W, 2, O]
  return y.reshape(batch, 2 * height, 2 * width, features)


def _downsample_by_blocks(x: Array, kernel: Array) -> Array:
  """As one 2x2 convolution over 2x2 blocks stacked into channels."""
  batch, height, width, channels = x.shape
  wide = _widened(kernel).reshape(2, 2, 2, 2, channels, -1)
  wide = wide.transpose(0, 2, 1, 3, 4, 5).reshape(2, 2, 4 * channels, -1)
  blocks = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
  blocks = blocks.reshape(batch, height // 2 + 1, 2, width // 2 + 1, 2, channels)
  blocks = blocks.transpose(0, 1, 3, 2, 4, 5).reshape(batch, height // 2 + 1, width // 2 + 1, 4 * channels)
  return conv.conv2d(blocks, wide, (0, 0))


def _widened(kernel: Array) -> Array:
  """`[4, 4, I, O]`, of the convolution of stride 2 that `downsample_conv` is."""
  wide = jnp.stack([kernel[0], kernel[0] + kernel[1], kernel[1] + kernel[2], kernel[2]]) / 2
  return jnp.stack([wide[:, 0], wide[:, 0] + wide[:, 1], wide[:, 1] + wide[:, 2], wide[:, 2]], axis=1) / 2


@jax.custom_vjp
def blur(x: Array) -> Array:
  """Depthwise 3x3 filter `outer([1, 2, 1]) / 16`, zero padding, as sums of shifted images.

  The filter is symmetric, so its gradient is itself.
  """

  def along(x: Array, axis: int) -> Array:
    size = x.shape[axis] - 2
    part = functools.partial(lax.slice_in_dim, x, axis=axis)
    return (part(0, size) + part(2, size + 2)) * 0.25 + part(1, size + 1) * 0.5

  x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
  if jax.default_backend() == 'cpu':
    x = lax.optimization_barrier(x)  # Or every sum would ask again whether a pixel is one of the padding.
  return along(along(x, 1), 2)


blur.defvjp(lambda x: (blur(x), None), lambda _, g: (blur(g),))


def upsample_nearest(x: Array, factor: int) -> Array:
  """Each pixel of `x [B, H, W, C]` repeated in a block of `factor` x `factor`."""
  if factor == 1:
    return x
  batch, height, width, channels = x.shape
  blocks = jnp.broadcast_to(x[:, :, None, :, None], (batch, height, factor, width, factor, channels))
  return blocks.reshape(batch, height * factor, width * factor, channels)


def downsample_mean(x: Array, factor: int) -> Array:
  """The mean of each block of `factor` x `factor` pixels of `x [B, H, W, C]`, which the factor divides."""
  if factor == 1:
    return x
  batch, height, width, channels = x.shape
  blocks = x.reshape(batch, height // factor, factor, width // factor, factor, channels)
  return jnp.mean(blocks, axis=(2, 4))


def max_pool(x: Array) -> Array:
  """2x2 maximum, stride 2, `[B, H, W, C]` to `[B, H//2, W//2, C]`: an odd last row or column is dropped.

  As a maximum of four strided slices: the gradient of `lax.reduce_window` is much slower on CPU.
  """
  top, bottom = x[:, :-1:2], x[:, 1::2]
  rows = jnp.maximum(top, bottom)
  return jnp.maximum(rows[:, :, :-1:2], rows[:, :, 1::2])
