"""Convolutions by plain lax, and what is asked of every convolution that stands in for them."""

import re
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from advmix_jax.types import Array
from tests.tiny import normal

Convolution = Callable[[Array, Array], Array]


def plain_conv(
  x: Array, kernel: Array, padding: tuple[int, int], stride: int = 1, dilation: int = 1, groups: int = 1
) -> Array:
  """`dilation - 1` zeros are inserted between the pixels of x."""
  return lax.conv_general_dilated(
    x,
    kernel,
    (stride, stride),
    (padding, padding),
    lhs_dilation=(dilation, dilation),
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    feature_group_count=groups,
  )


def measures(fn: Convolution, x: Array, kernel: Array):
  """The value, both gradients, and the gradients of R1's penalty with respect to x and to the kernel."""

  def loss(x, kernel):
    return jnp.sum(jnp.sin(fn(x, kernel)))

  def penalty(x, kernel):
    return jnp.sum(jnp.square(jax.grad(loss)(x, kernel)))

  return jax.jit(lambda x, k: (fn(x, k), jax.grad(loss, (0, 1))(x, k), jax.grad(penalty, (0, 1))(x, k)))(
    x, kernel
  )


def assert_same_value_and_gradients(ours: Convolution, theirs: Convolution, x: Array, kernel: Array) -> None:
  pairs = (jax.tree.leaves(measures(fn, x, kernel)) for fn in (ours, theirs))
  for a, b in zip(*pairs, strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * float(np.abs(b).max()))


def forms_in_a_loop(fn: Convolution) -> set[str]:
  """Labels of the axes of all convolutions in a compiled loop of gradients.

  Where the trap is, the loop holds a convolution with labels like `b01f_01oi->b01f`.
  """

  def climb(x, kernel):
    gradient = jax.grad(lambda x: jnp.sum(jnp.sin(fn(x, kernel))))
    return lax.fori_loop(0, 3, lambda i, x: x + gradient(x), x)

  x, kernel = normal(0, 2, 8, 8, 16), normal(1, 3, 3, 16, 16)
  text = jax.jit(climb).lower(x, kernel).compile().as_text()
  return set(re.findall(r'dim_labels=(\S+?)[,\s]', text))
