"""Path-length regularisation by its formula."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advmix_jax.interop.stylegan2_names import generator_from_state
from advmix_jax.training.path_length import PathLengthSettings, path_length_loss, path_lengths
from tests import stylegan2_reference as reference
from tests.compare import halves
from tests.tiny import normal


def test_lengths_of_a_linear_generator():
  """`images = w A`: the gradient is `A` times the direction, whatever w is."""
  w, matrix, direction = normal(0, 3, 2, 5), np.asarray(normal(1, 2, 5, 4, 4, 3)), normal(2, 3, 4, 4, 3)
  found = jax.jit(lambda w: path_lengths(lambda w: jnp.einsum('bld,ldhwc->bhwc', w, matrix), w, direction))(w)
  gradient = np.einsum('ldhwc,bhwc->bld', matrix, direction) / 4  # The root of 16 pixels.
  expected = np.sqrt((gradient**2).sum(2).mean(1))
  np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_the_mean_moves_by_a_hundredth_before_lengths_are_compared_with_it():
  lengths, mean = jnp.asarray([1.0, 3.0]), jnp.asarray(12.0)
  loss, new = path_length_loss(lengths, mean, PathLengthSettings())
  assert float(new) == pytest.approx(11.9)
  assert float(loss) == pytest.approx(2 * 4 * (10.9**2 + 8.9**2) / 2, rel=1e-6)


def test_the_mean_takes_part_in_the_gradient():
  settings = PathLengthSettings(weight=1.0, interval=1)
  gradient = jax.grad(lambda x: path_length_loss(x, jnp.asarray(0.0), settings)[0])(jnp.asarray([1.0, 3.0]))
  deviation = np.array([1.0, 3.0]) - 0.02
  expected = deviation - deviation.mean() * 0.01  # d mean / d length = 0.01 / 2.
  np.testing.assert_allclose(gradient, expected, rtol=1e-5)


@pytest.fixture(scope='module')
def tiny_generator():
  model, params = generator_from_state(reference.random_generator((4, 3, 2)), conv_clamp=5.0)
  return model, params


def penalty(model, params, noise, w, direction, mean, axis_name=None):
  def synthesis(w):
    return model.apply({'params': params}, w, noise, method='synthesis')

  lengths = path_lengths(synthesis, w, direction)
  return path_length_loss(lengths, mean, PathLengthSettings(), axis_name)


def test_its_gradient_in_the_parameters_agrees_with_finite_differences(tiny_generator):
  model, params = tiny_generator
  model = model.clone(dtype=jnp.float64)
  with jax.enable_x64(True):
    params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), params)
    w, images = (
      normal(seed, *shape).astype(jnp.float64) for seed, shape in enumerate([(2, 6, 6), (2, 16, 16, 3)])
    )
    move = jax.tree.map(
      lambda x: jnp.asarray(np.random.default_rng(x.size).standard_normal(x.shape)), params['params']
    )
    loss = jax.jit(
      jax.value_and_grad(lambda p: penalty(model, p, params['noise'], w, images, jnp.asarray(3.0))[0])
    )
    gradient = loss(params['params'])[1]
    slope = sum(jnp.vdot(a, b) for a, b in zip(jax.tree.leaves(gradient), jax.tree.leaves(move), strict=True))
    h = 1e-6
    up, down = (loss(jax.tree.map(lambda p, m, s=s: p + s * m, params['params'], move))[0] for s in (h, -h))
    assert abs(float(slope)) > 1e-2
    assert float(slope) == pytest.approx(float((up - down) / (2 * h)), rel=1e-5)


def test_two_devices_do_what_one_does(tiny_generator):
  model, params = tiny_generator
  w, direction = normal(0, 4, 6, 6), normal(1, 4, 16, 16, 3)
  step = functools.partial(penalty, model)

  def gradient(w, direction, axis_name=None):
    (loss, mean), gradient = jax.value_and_grad(
      lambda p: step(p, params['noise'], w, direction, jnp.asarray(1.0), axis_name), has_aux=True
    )(params['params'])
    found = loss, gradient, mean
    return found if axis_name is None else jax.lax.pmean(found, axis_name)

  one = jax.jit(gradient)(w, direction)
  two = jax.pmap(functools.partial(gradient, axis_name='devices'), axis_name='devices', out_axes=None)(
    *halves((w, direction))
  )
  for a, b in zip(jax.tree.leaves(two), jax.tree.leaves(one), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * float(np.abs(b).max()))
