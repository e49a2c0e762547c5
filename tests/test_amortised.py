"""The encoder's start: what it learns from generated images and what from real ones."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from advmix_jax.encoding import EncodeSettings
from advmix_jax.training.amortised import amortised_step, create_amortised_state
from tests import tiny
from tests.tiny import uniform

SIZE, LAYERS, WIDTH = 8, 3, 4
SETTINGS = EncodeSettings(0, 0.1, 0.1, pixel_weight=1.0, feature_weight=1.0, mixing_weight=0.0)


class Scale(nn.Module):
  """One factor for each pixel; all ones is the perfect encoder of `tiny.linear_decoder`."""

  @nn.compact
  def __call__(self, images, w_avg):
    scale = self.param('scale', nn.initializers.zeros, (LAYERS, WIDTH))
    return w_avg[None, None] + scale[None] * images[..., 0]


def narrow_decoder():
  """Images that are the latents; the mapping never draws anything in the first column."""
  decoder = tiny.linear_decoder(num_layers=LAYERS, w_size=WIDTH)
  column = jnp.arange(WIDTH) > 0

  def map_z(params, z):
    return 3 * column[None, None] * decoder.map_z(params, z)

  return dataclasses.replace(decoder, map_z=map_z)


def state(tx=None):
  tx = optax.adam(0.05) if tx is None else tx
  return create_amortised_state(
    jax.random.key(0), Scale(), (LAYERS, WIDTH, 1), tx, narrow_decoder(), lambda params, x: {}
  )


def batch(real):
  return {'index': jnp.arange(SIZE), 'images': real}


def trained(real):
  step = jax.jit(functools.partial(amortised_step, settings=SETTINGS))
  after = state()
  for _ in range(100):
    after, metrics = step(after, batch(real))
  return np.asarray(after.params['scale']), metrics


def test_generated_images_teach_the_latents_and_real_ones_what_the_generator_never_draws():
  scale, _ = trained(jnp.zeros((SIZE, LAYERS, WIDTH, 1)))
  np.testing.assert_allclose(scale[:, 1:], 1.0, atol=0.02)
  np.testing.assert_array_equal(scale[:, 0], 0.0)
  scale, metrics = trained(uniform(1, SIZE, LAYERS, WIDTH, 1))
  np.testing.assert_allclose(scale, 1.0, atol=0.02)
  assert metrics['pixel_error'] < 1e-3 > metrics['latent_error']


def test_the_loss_by_hand():
  """With w = w_avg guessed for all: the mean square of all images, and 1 for the latents."""
  real = uniform(2, SIZE, LAYERS, WIDTH, 1)
  step = jax.jit(functools.partial(amortised_step, settings=SETTINGS))
  (_, whole), (_, alone) = step(state(), batch(real)), step(state(), batch(0 * real))
  assert float(whole['latent_error']) == pytest.approx(1.0)
  of_real = float(jnp.mean(jnp.square(real))) / 2  # Half of the images are real.
  assert float(whole['loss'] - alone['loss']) == pytest.approx(of_real, rel=1e-4)
  assert float(whole['loss']) == pytest.approx(1 + float(whole['pixel_error']), rel=1e-5)
