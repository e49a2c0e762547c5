"""Adam in both of its forms, and with further steps of regularisation to take."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from advmix_jax.training.adam import make_adam


def test_adam_in_the_form_of_tensorflow():
  """`lr sqrt(1 - b2^t) / (1 - b1^t) m / (sqrt(v) + eps)`; with gradients small enough for eps to count."""
  gradients = 1e-8 * np.random.default_rng(0).standard_normal((3, 5))
  tx = make_adam('tensorflow', 0.1, b1=0.5, b2=0.9, eps=1e-8)
  params = jnp.zeros(5)
  opt = tx.init(params)
  m = v = expected = np.zeros(5)
  for t, g in enumerate(gradients, 1):
    updates, opt = tx.update(jnp.asarray(g, jnp.float32), opt, params)
    params = optax.apply_updates(params, updates)
    m, v = 0.5 * m + 0.5 * g, 0.9 * v + 0.1 * g**2
    expected = expected - 0.1 * np.sqrt(1 - 0.9**t) / (1 - 0.5**t) * m / (np.sqrt(v) + 1e-8)
    np.testing.assert_allclose(params, expected, rtol=1e-4)
  other = make_adam('optax', 0.1)
  assert np.abs(params - other.update(jnp.asarray(gradients[0]), other.init(params))[0]).max() > 1e-3


@pytest.mark.parametrize('form', ['optax', 'tensorflow'])
def test_lazy_adam_does_in_five_steps_what_adam_does_in_four(form):
  """Of constant gradients: the distance, and how far the second moment has come."""
  gradient = jnp.asarray([0.5, -2.0])

  def run(tx, steps):
    params, state = jnp.zeros(2), tx.init(jnp.zeros(2))
    for _ in range(steps):
      updates, state = tx.update(gradient, state)
      params = optax.apply_updates(params, updates)
    return params, state[0].nu

  lazy, lazy_nu = run(make_adam(form, 0.1, b2=0.9, lazy_interval=4), 5)
  plain, plain_nu = run(make_adam(form, 0.1, b2=0.9), 4)
  np.testing.assert_allclose(lazy, plain, rtol=1e-5)
  np.testing.assert_allclose(lazy_nu, plain_nu, rtol=1e-5)
