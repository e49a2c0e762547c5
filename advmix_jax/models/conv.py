"""Stride-1 convolution whose gradients stay fast inside compiled loops on CPU.

XLA rewrites the gradient of a convolution to the form `b01f_01io->b01f`, which has a fast CPU kernel.
Inside `scan`, `fori_loop` and `while_loop` it hoists the transposition of the kernel out of the loop, what is
left is `b01f_01oi->b01f`, and that falls to a naive kernel, many times slower. Here the backward pass
writes the canonical form itself, behind a barrier. It is closed under differentiation (its two gradients are
the same two functions again), so second derivatives, as in R1, keep the fast path as well.
Forward-mode differentiation is not supported on CPU. Accelerators take plain `lax`.

`upsample_conv` and `downsample_conv` are nearest-neighbour upsampling before, and 2x2 averaging after, a 3x3
convolution. Both are written as one 2x2 convolution, with 4/9 of the multiplications.
"""

import functools
from collections.abc import Iterable

import jax
import jax.numpy as jnp
from jax import lax

from advmix_jax import threads
from advmix_jax.types import Array

Padding = tuple[int, int]  # Zeros before and after, the same for height and width.
CACHED = 1 << 16  # Numbers of an array of which a kernel's gradient may make three copies at once ...
TOGETHER = 4  # ... or it is taken of so many images at a time.


def conv2d(x: Array, kernel: Array, padding: Padding | None = None) -> Array:
  """Cross-correlation with stride 1.

  Args:
    x: `[B, H, W, I]` float.
    kernel: `[k, k, I, O]` float; taken in the dtype of `x`, its gradient comes in its own.
    padding: zeros before and after each spatial axis; None keeps the size (odd k).

  Returns:
    `[B, H', W', O]`, with `H' = H + sum(padding) - k + 1`.
  """
  if padding is None:
    padding = (kernel.shape[0] // 2, kernel.shape[0] // 2)
  kernel = kernel.astype(x.dtype)
  if kernel.shape[0] == 1 and padding == (0, 0):
    return jnp.einsum('bhwi,io->bhwo', x, kernel[0, 0])
  if jax.default_backend() != 'cpu':
    return _lax_conv(x, kernel, padding)
  return _conv(x, kernel, padding)


def _lax_conv(x: Array, kernel: Array, padding: Padding) -> Array:
  return lax.conv_general_dilated(
    x, kernel, (1, 1), (padding, padding), dimension_numbers=('NHWC', 'HWIO', 'NHWC')
  )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _conv(x: Array, kernel: Array, padding: Padding) -> Array:
  kernel = lax.optimization_barrier(kernel)
  size, _, channels, features = kernel.shape
  rows, columns = (n + sum(padding) - size + 1 for n in x.shape[1:3])
  one_thread = threads.has_one_each()
  extra = 0
  if jax.__version_info__ < (0, 12) and not one_thread and rows >= 8 and features >= 8:
    # XLA hands convolutions to YNNPACK, which in jax 0.10 leaves them to one thread, unless the output is the
    # larger: rows beyond the last are computed and dropped, and Eigen uses all threads. With few rows or
    # features that costs more than it gives.
    extra = max(0, x.shape[1] + 1 - rows)
  together = _columns_at_once(channels, features, one_thread)
  if columns % together or columns < 4 * together:
    together = 1  # XLA turns a kernel as wide as the image into a slow form.
  shifted = [jnp.pad(kernel, ((0, 0), (i, together - 1 - i), (0, 0), (0, 0))) for i in range(together)]
  y = lax.conv_general_dilated(
    x,
    jnp.concatenate(shifted, axis=3),
    (1, together),
    ((padding[0], padding[1] + extra), padding),
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
  )
  return y[:, :rows].reshape(-1, rows, columns, features)


def _columns_at_once(channels: int, features: int, one_thread: bool) -> int:
  """Of few channels, as in a first layer, several columns: more products, in half the time or less."""
  if channels < 8:
    return 4 if one_thread and features <= 16 else 2
  return 2 if one_thread and channels <= 16 and features <= 16 else 1


def _conv_fwd(x, kernel, padding):
  return _conv(x, kernel, padding), (x, kernel)


def _conv_bwd(padding, residuals, g):
  x, kernel = residuals
  return _input_gradient(g, kernel, padding), _kernel_gradient(x, g, padding)


_conv.defvjp(_conv_fwd, _conv_bwd)


def _input_gradient(g: Array, kernel: Array, padding: Padding) -> Array:
  last = kernel.shape[0] - 1
  turned = jnp.transpose(kernel[::-1, ::-1], (0, 1, 3, 2))
  return _conv(g, turned, (last - padding[0], last - padding[1]))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _kernel_gradient(x: Array, g: Array, padding: Padding) -> Array:
  """`[k, k, I, O]`: `x` correlated with `g`, the batch summed over.

  lax's convolution for this is several times slower on CPU. A few images at a time where the copies that it
  takes would not stay in the processor's cache.
  """
  in_all = x.shape[0] * x.shape[1] * x.shape[2] * min(x.shape[3], g.shape[3])
  if in_all <= CACHED or x.shape[0] % TOGETHER:
    return _products_by_row(x, g, padding)

  def add(total: Array, images: tuple[Array, ...]) -> tuple[Array, None]:
    x, g = images
    return total + _products_by_row(x, g, padding), None

  parts = [a.reshape(-1, TOGETHER, *a.shape[1:]) for a in (x, g)]
  size = x.shape[1] + sum(padding) - g.shape[1] + 1
  zero = jnp.zeros((size, size, x.shape[3], g.shape[3]), jnp.promote_types(x.dtype, jnp.float32))
  total, _ = lax.scan(add, zero, tuple(parts))
  return total.astype(x.dtype)


def _products_by_row(x: Array, g: Array, padding: Padding) -> Array:
  """One matrix product for each row of the kernel, in which the shifts along a row of one of the two arrays
  lie side by side."""
  size = x.shape[1] + sum(padding) - g.shape[1] + 1
  height, channels, features = g.shape[1], x.shape[3], g.shape[3]
  if size * channels <= features:
    x = jnp.pad(x, ((0, 0), padding, padding, (0, 0)))
    x = _side_by_side(x, range(size), g.shape[2])
    rows = [_product(x[:, row : row + height], g) for row in range(size)]
    return jnp.stack(rows).reshape(size, size, channels, features)
  last = size - 1
  g = jnp.pad(g, ((0, 0), (0, 0), (last - padding[0], last - padding[1]), (0, 0)))
  g = _side_by_side(g, range(last, -1, -1), x.shape[2])
  x = jnp.pad(x, ((0, 0), padding, (0, 0), (0, 0)))
  rows = [_product(x[:, row : row + height], g) for row in range(size)]
  return jnp.stack(rows).reshape(size, channels, size, features).transpose(0, 2, 1, 3)


def _side_by_side(x: Array, starts: Iterable[int], width: int) -> Array:
  """Parts of `x [B, H, W, C]` of some width that start at those columns, stacked along the channels."""
  return jnp.concatenate([x[:, :, start : start + width] for start in starts], axis=3)


def _product(x: Array, g: Array) -> Array:
  """`[I, O]`: the sum over batch and positions of `x [B, H, W, I]` times `g [B, H, W, O]`."""
  left, right = x.reshape(-1, x.shape[3]), g.reshape(-1, g.shape[3])
  return lax.dot_general(left, right, (((0,), (0,)), ((), ())))


def _kernel_gradient_fwd(x, g, padding):
  return _kernel_gradient(x, g, padding), (x, g)


def _kernel_gradient_bwd(padding, residuals, kernel):
  x, g = residuals
  return _input_gradient(g, kernel, padding), _conv(x, kernel, padding)


_kernel_gradient.defvjp(_kernel_gradient_fwd, _kernel_gradient_bwd)


def upsample_conv(x: Array, kernel: Array) -> Array:
  """3x3 convolution of `x` after each of its pixels was repeated in a 2x2 block.

  Args:
    x: `[B, H, W, I]`.
    kernel: `[3, 3, I, O]`.

  Returns:
    `[B, 2H, 2W, O]`. Even output rows see inputs (i-1, i) through the kernel rows (0, 1+2), odd ones
    (i, i+1) through (0+1, 2); columns alike.
  """
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
  y = conv2d(x, jnp.concatenate(phases, axis=3), (1, 1))
  y = y.reshape(batch, height + 1, width + 1, 2, 2, features)
  y = jnp.stack(
    [jnp.stack([y[:, a : a + height, b : b + width, a, b] for b in (0, 1)], axis=3) for a in (0, 1)], axis=2
  )  # [B, H, 2, W, 2, O]
  return y.reshape(batch, 2 * height, 2 * width, features)


def downsample_conv(x: Array, kernel: Array) -> Array:
  """3x3 convolution of `x`, followed by the mean of each 2x2 block.

  Args:
    x: `[B, H, W, I]`, H and W even.
    kernel: `[3, 3, I, O]`.

  Returns:
    `[B, H/2, W/2, O]`: a 4x4 convolution of stride 2, as a 2x2 one over 2x2 blocks stacked into channels.
  """
  batch, height, width, channels = x.shape
  wide = jnp.stack([kernel[0], kernel[0] + kernel[1], kernel[1] + kernel[2], kernel[2]]) / 2
  wide = jnp.stack([wide[:, 0], wide[:, 0] + wide[:, 1], wide[:, 1] + wide[:, 2], wide[:, 2]], axis=1) / 2
  wide = wide.reshape(2, 2, 2, 2, channels, -1).transpose(0, 2, 1, 3, 4, 5).reshape(2, 2, 4 * channels, -1)
  blocks = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
  blocks = blocks.reshape(batch, height // 2 + 1, 2, width // 2 + 1, 2, channels)
  blocks = blocks.transpose(0, 1, 3, 2, 4, 5).reshape(batch, height // 2 + 1, width // 2 + 1, 4 * channels)
  return conv2d(blocks, wide, (0, 0))


@jax.custom_vjp
def blur(x: Array) -> Array:
  """Depthwise 3x3 filter `outer([1, 2, 1]) / 16`, zero padding, as sums of shifted images.

  The filter is symmetric, so its gradient is itself.
  """

  def along(x: Array, axis: int) -> Array:
    size = x.shape[axis]
    x = jnp.pad(x, [(1, 1) if a == axis else (0, 0) for a in range(x.ndim)])
    part = functools.partial(lax.slice_in_dim, x, axis=axis)
    return (part(0, size) + part(2, size + 2)) * 0.25 + part(1, size + 1) * 0.5

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
