"""Resampling of StyleGAN 2 (Karras et al. 2020) with the filter `outer([1, 3, 3, 1]) / 64`, zero padding.

No array of inserted zeros is made: each function computes the even and the odd pixels by themselves. All stay
fast when they are differentiated, any number of times, inside compiled loops too (see `conv`): the gradient
of `smooth` is `smooth` with other padding, those of `upsample` and `downsample` are each other.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from advmix_jax.models import conv
from advmix_jax.types import Array


def _along_both(step: Callable[[Array, int], Array], x: Array) -> Array:
  return step(step(x, 1), 2)


def _pad(x: Array, axis: int, padding: conv.Padding) -> Array:
  return jnp.pad(x, [padding if a == axis else (0, 0) for a in range(x.ndim)])


def _part(x: Array, axis: int, start: int, size: int) -> Array:
  return lax.slice_in_dim(x, start, start + size, axis=axis)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def smooth(x: Array, padding: conv.Padding) -> Array:
  """The filter, of sum 1, on each channel of zero-padded `x`.

  Args:
    x: `[B, H, W, C]` float.
    padding: zeros before and after each spatial axis, each 0 to 3.

  Returns:
    `[B, H', W', C]`, with `H' = H + sum(padding) - 3`.
  """

  def along(x: Array, axis: int) -> Array:
    x = _pad(x, axis, padding)
    size = x.shape[axis] - 3
    a, b, c, d = (_part(x, axis, i, size) for i in range(4))
    return (a + d) * 0.125 + (b + c) * 0.375

  return _along_both(along, x)


smooth.defvjp(
  lambda x, padding: (smooth(x, padding), None),
  lambda padding, _, g: (smooth(g, (3 - padding[0], 3 - padding[1])),),
)


@jax.custom_vjp
def upsample(x: Array) -> Array:
  """Zeros inserted between the pixels of `x [B, H, W, C]`, then four times the filter: `[B, 2H, 2W, C]`."""

  def along(x: Array, axis: int) -> Array:
    size = x.shape[axis]
    x = _pad(x, axis, (1, 1))
    before, here, after = (_part(x, axis, i, size) for i in range(3))
    pairs = jnp.stack([before * 0.25 + here * 0.75, here * 0.75 + after * 0.25], axis=axis + 1)
    return pairs.reshape(*x.shape[:axis], 2 * size, *x.shape[axis + 1 :])

  return _along_both(along, x)


@jax.custom_vjp
def downsample(x: Array) -> Array:
  """The filter, of sum 1, at every second pixel of `x [B, H, W, C]`, H and W even: `[B, H/2, W/2, C]`."""

  def along(x: Array, axis: int) -> Array:
    size = x.shape[axis] // 2
    x = _pad(x, axis, (1, 1)).reshape(*x.shape[:axis], size + 1, 2, *x.shape[axis + 1 :])
    even, odd = (lax.index_in_dim(x, i, axis + 1, keepdims=False) for i in (0, 1))
    outer = _part(even, axis, 0, size) + _part(odd, axis, 1, size)
    inner = _part(odd, axis, 0, size) + _part(even, axis, 1, size)
    return outer * 0.125 + inner * 0.375

  return _along_both(along, x)


upsample.defvjp(lambda x: (upsample(x), None), lambda _, g: (downsample(g) * 4,))
downsample.defvjp(lambda x: (downsample(x), None), lambda _, g: (upsample(g) * 0.25,))


def _taps(kernel: Array) -> Array:
  """`[3, 3, I, O]` by offset in blocks of 2x2 pixels and position within: `[2, 2, 2, 2, I, O]`."""
  kernel = jnp.pad(kernel, ((0, 1), (0, 1), (0, 0), (0, 0)))
  return kernel.reshape(2, 2, 2, 2, *kernel.shape[2:])


def upsample_conv(x: Array, kernel: Array) -> Array:
  """Transposed 3x3 convolution of stride 2, then four times the filter.

  The former, `t[2i + a, 2j + b] += x[i, j] kernel[a, b]`, is done by one 2x2 convolution that makes the four
  pixels of each block.

  Args:
    x: `[B, H, W, I]`.
    kernel: `[3, 3, I, O]`, not flipped.

  Returns:
    `[B, 2H, 2W, O]`.
  """
  batch, height, width, channels = x.shape
  phases = _taps(kernel)[::-1, :, ::-1].transpose(0, 2, 4, 1, 3, 5).reshape(2, 2, channels, -1)
  y = conv.conv2d(x, phases, (1, 1)).reshape(batch, height + 1, width + 1, 2, 2, -1)
  y = y.transpose(0, 1, 3, 2, 4, 5).reshape(batch, 2 * height + 2, 2 * width + 2, -1)
  return smooth(y, (1, 0)) * 4  # The last row and column of y are zero.


def downsample_conv(x: Array, kernel: Array) -> Array:
  """The filter, of sum 1, on `x` padded by 2, then a 3x3 convolution of stride 2 without padding.

  The latter is a 2x2 convolution over blocks of 2x2 pixels stacked into channels.

  Args:
    x: `[B, H, W, I]`, H and W even.
    kernel: `[3, 3, I, O]`.

  Returns:
    `[B, H/2, W/2, O]`.
  """
  batch, height, width, channels = x.shape
  rows, columns = height // 2 + 1, width // 2 + 1
  blocks = smooth(x, (2, 3)).reshape(batch, rows, 2, columns, 2, channels)
  blocks = blocks.transpose(0, 1, 3, 2, 4, 5).reshape(batch, rows, columns, 4 * channels)
  wide = _taps(kernel).transpose(0, 2, 1, 3, 4, 5).reshape(2, 2, 4 * channels, -1)
  return conv.conv2d(blocks, wide, (0, 0))
