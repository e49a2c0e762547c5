"""Stride-1 convolution whose gradients stay fast inside compiled loops on CPU.

XLA rewrites the gradient of a convolution to the form `b01f_01io->b01f`, which has a fast CPU kernel.
Inside `scan`, `fori_loop` and `while_loop` it hoists the transposition of the kernel out of the loop, what is
left is `b01f_01oi->b01f`, and that falls to a naive kernel, many times slower. Here the backward pass
writes the canonical form itself, behind a barrier. It is closed under differentiation (its two gradients are
the same two functions again), so second derivatives, as in R1, keep the fast path as well.
Forward-mode differentiation is not supported on CPU. Accelerators take plain `lax`.
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
  return _conv(g, turned(kernel), (last - padding[0], last - padding[1]))


def turned(kernel: Array) -> Array:
  """Of the convolution that is the gradient of that with `kernel`."""
  return jnp.transpose(kernel[::-1, ::-1], (0, 1, 3, 2))


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
