"""Convolutions: what plain lax computes, with gradients that stay on the fast CPU kernel inside loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advmix_jax import threads
from advmix_jax.models import conv, resampling
from tests.convolutions import assert_same_value_and_gradients, forms_in_a_loop, plain_conv
from tests.tiny import normal


def plain(x, kernel):
  """The edges padded so that the size stays."""
  return plain_conv(x, kernel, (kernel.shape[0] // 2,) * 2)


def plain_upsample(x, kernel):
  return plain(x.repeat(2, axis=1).repeat(2, axis=2), kernel)


def plain_downsample(x, kernel):
  y = plain(x, kernel)
  batch, height, width, channels = y.shape
  return y.reshape(batch, height // 2, 2, width // 2, 2, channels).mean((2, 4))


CASES = {
  'k1': (conv.conv2d, plain, (2, 5, 3, 3), (1, 1, 3, 4)),
  'k2, padded on both sides': (
    lambda x, k: conv.conv2d(x, k, (1, 1)),
    lambda x, k: plain_conv(x, k, (1, 1)),
    (2, 4, 5, 3),
    (2, 2, 3, 4),
  ),
  'k2, not padded': (
    lambda x, k: conv.conv2d(x, k, (0, 0)),
    lambda x, k: plain_conv(x, k, (0, 0)),
    (2, 4, 5, 3),
    (2, 2, 3, 4),
  ),
  'k2, padded on one side': (
    lambda x, k: conv.conv2d(x, k, (1, 0)),
    lambda x, k: plain_conv(x, k, (1, 0)),
    (1, 3, 5, 2),
    (2, 2, 2, 3),
  ),
  'k3': (conv.conv2d, plain, (2, 6, 6, 3), (3, 3, 3, 4)),
  'k3, odd size': (conv.conv2d, plain, (2, 7, 5, 3), (3, 3, 3, 2)),
  'k3 on one pixel': (conv.conv2d, plain, (2, 1, 1, 3), (3, 3, 3, 2)),
  'upsample': (resampling.upsample_conv, plain_upsample, (2, 4, 3, 3), (3, 3, 3, 4)),
  'downsample': (resampling.downsample_conv, plain_downsample, (2, 6, 4, 3), (3, 3, 3, 4)),
}


def test_a_kernel_gradient_of_a_few_images_at_a_time_is_that_of_all():
  """In numbers, and where it is differentiated again, as by R1."""
  x, kernel = normal(0, 8, 32, 32, 10), normal(1, 3, 3, 10, 9)
  assert x.shape[0] > conv.TOGETHER and x.shape[0] * 32 * 32 * 9 > conv.CACHED
  assert_same_value_and_gradients(conv.conv2d, plain, x, kernel)


# Of the sizes that are computed in another way where a device has one thread, and where it has several.
CASES |= {
  f'{channels} to {features} channels, {size} pixels': (
    conv.conv2d,
    plain,
    (2, size, size, channels),
    (3, 3, channels, features),
  )
  for channels, features, size in ((3, 16, 8), (3, 32, 8), (12, 16, 8), (16, 3, 8), (20, 8, 8), (3, 16, 6))
}


@pytest.fixture(params=[True, False], ids=['a thread each', 'several threads'])
def has_one_each(request, monkeypatch):
  monkeypatch.setattr(threads, 'has_one_each', lambda: request.param)


@pytest.mark.usefixtures('has_one_each')
@pytest.mark.parametrize('case', CASES.values(), ids=CASES)
def test_value_and_gradients_are_those_of_plain_lax(case):
  ours, theirs, x_shape, kernel_shape = case
  assert_same_value_and_gradients(ours, theirs, normal(0, *x_shape), normal(1, *kernel_shape))


@pytest.mark.parametrize('name', ['k3', 'upsample', 'downsample'])
def test_on_accelerators_too(name, monkeypatch):
  """The forms that they take, on this machine."""
  monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
  ours, theirs, x_shape, kernel_shape = CASES[name]
  assert_same_value_and_gradients(ours, theirs, normal(0, *x_shape), normal(1, *kernel_shape))


def test_the_kernel_gradient_can_be_differentiated_again():
  x, kernel = normal(0, 2, 4, 4, 3), normal(1, 3, 3, 3, 2)

  def penalty(fn, x):
    return jnp.sum(jnp.square(jax.grad(lambda k: jnp.sum(jnp.sin(fn(x, k))))(kernel)))

  ours, theirs = (jax.jit(jax.grad(lambda x, fn=fn: penalty(fn, x)))(x) for fn in (conv.conv2d, plain))
  np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('fn', [conv.conv2d, resampling.upsample_conv, resampling.downsample_conv])
def test_vmap_is_a_loop(fn):
  x, kernel = normal(0, 3, 2, 4, 4, 2), normal(1, 3, 3, 2, 3)

  def both(x):
    return jax.value_and_grad(lambda x: jnp.sum(jnp.sin(fn(x, kernel))))(x)

  values, gradients = jax.jit(jax.vmap(both))(x)
  alone = jax.jit(both)
  for i in range(3):
    value, gradient = alone(x[i])
    np.testing.assert_allclose(values[i], value, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(gradients[i], gradient, rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures('has_one_each')
@pytest.mark.skipif(jax.default_backend() != 'cpu', reason='the layer is plain lax on accelerators')
@pytest.mark.parametrize('fn', [conv.conv2d, resampling.upsample_conv, resampling.downsample_conv])
def test_gradients_in_a_loop_keep_the_form_that_has_a_fast_kernel(fn):
  assert forms_in_a_loop(fn) == {'b01f_01io->b01f'}
