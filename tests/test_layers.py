"""Activation and normalisation: what they compute, and derivatives that are written by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advmix_jax.models import layers
from tests.tiny import normal


def plain_leaky_relu(x, slope):
  return jnp.where(x > 0, x, slope * x)


def plain_instance_norm(x):
  mean, variance = (fn(x, axis=(1, 2), keepdims=True) for fn in (jnp.mean, jnp.var))
  return (x - mean) / jnp.sqrt(variance + 1e-8)


CASES = {
  'leaky': (lambda x: layers.leaky_relu(x, 0.2), lambda x: plain_leaky_relu(x, 0.2)),
  'rectifier': (lambda x: layers.leaky_relu(x, 0.0), lambda x: plain_leaky_relu(x, 0.0)),
  'instance norm': (layers.instance_norm, plain_instance_norm),
}


@pytest.mark.parametrize('ours, theirs', CASES.values(), ids=CASES)
def test_value_and_derivatives_are_those_of_the_definition(ours, theirs):
  """Forwards, backwards, and of the squared gradient, as in R1."""
  x, dx = normal(0, 2, 4, 3, 5), normal(1, 2, 4, 3, 5)

  def measures(fn):
    def gradient(x):
      return jax.grad(lambda x: jnp.sum(jnp.sin(fn(x) * dx)))(x)

    return jax.jvp(fn, (x,), (dx,)), gradient(x), jax.grad(lambda x: jnp.sum(jnp.square(gradient(x))))(x)

  found, expected = (jax.tree.leaves(jax.jit(measures, static_argnums=0)(fn)) for fn in (ours, theirs))
  for a, b in zip(found, expected, strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_the_derivative_of_leaky_relu_at_zero_is_the_slope():
  assert jax.grad(layers.leaky_relu)(0.0) == np.float32(0.2)


def test_instance_norm_of_a_constant_channel_is_zero():
  x = jnp.full((1, 4, 4, 2), 3.0)
  np.testing.assert_array_equal(layers.instance_norm(x), 0)
  assert np.isfinite(jax.grad(lambda x: jnp.sum(layers.instance_norm(x)))(x)).all()
