"""Losses and penalties of GAN training, by hand for scores that are simple enough."""

import jax.numpy as jnp
import numpy as np
import pytest

from advmix_jax.training import gan_losses
from tests import tiny
from tests.tiny import normal


def test_penalties_of_a_linear_score():
  """Score `sum(a x)`: its gradient is a wherever it is taken."""
  a, images = normal(0, 2, 2, 3), normal(1, 4, 2, 2, 3)
  squared = float(np.sum(np.square(a)))

  def score(x):
    return jnp.sum(x * a[None], axis=(1, 2, 3))

  np.testing.assert_allclose(gan_losses.scores_and_squared_gradients(score, images)[1], squared, rtol=1e-5)
  found = gan_losses.gradient_penalty(score, images, -images, tiny.keys(2, 4))
  np.testing.assert_allclose(found, 10 * (np.sqrt(squared) - 1) ** 2, rtol=1e-5)


def test_the_penalty_is_taken_between_real_and_generated_images():
  """Score `x^2 / 2` of one pixel: the gradient is where it is taken, a uniform draw between 0 and 4."""
  real, fake = jnp.zeros((200, 1, 1, 1)), jnp.full((200, 1, 1, 1), 4.0)
  found = gan_losses.gradient_penalty(
    lambda x: 0.5 * jnp.square(x[:, 0, 0, 0]), real, fake, tiny.keys(0, 200)
  )
  places = np.sqrt(np.asarray(found) / 10)  # |4 u - 1|
  assert places.max() == pytest.approx(3, abs=0.1)
  assert np.mean(places < 1) == pytest.approx(0.5, abs=0.1)


def test_losses_by_hand():
  fake, real = np.array([0.5, -2.0]), np.array([1.5, 0.1])

  def softplus(x):
    return np.log1p(np.exp(x))

  for name, generator, discriminator in (
    ('logistic', softplus(-fake), softplus(fake) + softplus(-real)),
    ('relativistic', softplus(real - fake), softplus(fake - real)),
    ('wgan_gp', -fake, fake - real + 0.001 * real**2),
  ):
    np.testing.assert_allclose(
      gan_losses.generator_loss(name, jnp.asarray(fake), jnp.asarray(real)), generator, rtol=1e-5
    )
    found = gan_losses.discriminator_loss(name, jnp.asarray(fake), jnp.asarray(real))
    np.testing.assert_allclose(found, discriminator, rtol=1e-5)
