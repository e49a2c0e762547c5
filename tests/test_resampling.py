"""Pooling and the filter that goes with a change of size; convolutions that change it are in test_conv."""

import jax
import jax.numpy as jnp
import numpy as np

from advmix_jax.models import resampling
from tests.tiny import normal


def test_max_pool_is_the_maximum_of_each_block():
  x = np.random.default_rng(0).standard_normal((2, 4, 6, 3)).astype(np.float32)
  blocks = x.reshape(2, 2, 2, 3, 2, 3)
  np.testing.assert_array_equal(resampling.max_pool(jnp.asarray(x)), blocks.max((2, 4)))
  gradient = jax.grad(lambda x: jnp.sum(resampling.max_pool(x)))(jnp.asarray(x))
  is_largest = blocks == blocks.max((2, 4), keepdims=True)
  np.testing.assert_array_equal(gradient, is_largest.reshape(x.shape))


def test_blur_is_the_binomial_filter_with_zero_padding():
  x = np.random.default_rng(0).standard_normal((2, 5, 4, 3)).astype(np.float32)
  padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
  weights = np.outer([1, 2, 1], [1, 2, 1]) / 16
  expected = sum(weights[a, b] * padded[:, a : a + 5, b : b + 4] for a in range(3) for b in range(3))
  np.testing.assert_allclose(resampling.blur(jnp.asarray(x)), expected, rtol=1e-5, atol=1e-6)


def test_blur_is_its_own_gradient():
  x, g = normal(0, 2, 5, 4, 3), normal(1, 2, 5, 4, 3)
  (gradient,) = jax.vjp(resampling.blur, x)[1](g)
  np.testing.assert_allclose(jnp.vdot(gradient, x), jnp.vdot(g, resampling.blur(x)), rtol=1e-4)
  np.testing.assert_array_equal(gradient, resampling.blur(g))
