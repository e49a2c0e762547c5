"""Steps that allow for how steep the loss is: right where the answer is known, and fewer than Adam's."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advmix_jax import curvature, encoding
from advmix_jax.encoding import EncodeSettings
from tests import tiny

pytestmark = pytest.mark.usefixtures('quick_compile')
PIXELS = EncodeSettings(1, 1.0, 1.0, pixel_weight=1.0, feature_weight=1.0, mixing_weight=0.0)
STEEPNESS = np.array([4.0, 1.0, 0.5, 1.0], np.float32)  # Of the columns of w.


def no_features(params, images):
  return {}


def stretched(params, images):
  return {'stretched': STEEPNESS[None, None] * images[..., 0]}


def found_for(features_fn, settings):
  """Of a decoder whose images are the latents, `[3, 4]`."""
  find = functools.partial(curvature.inverse_curvature, tiny.linear_decoder(), features_fn, settings)
  return np.asarray(jax.jit(find)({}, {}, jax.random.key(0)))


@pytest.mark.parametrize(
  'features_fn, settings, expected',
  [
    (no_features, PIXELS, np.ones(4)),
    (no_features, PIXELS._replace(pixel_weight=3.0), np.full(4, 3.0)),
    (stretched, PIXELS._replace(feature_weight=2.0), 1 + 2 * STEEPNESS**2),
    (stretched, PIXELS._replace(layer_weights=(('stretched', 0.5),)), 1 + 0.5 * STEEPNESS**2),
  ],
)
def test_it_is_the_inverse_of_the_damped_hessian(features_fn, settings, expected):
  """Of L_rec, a mean over the 12 numbers of an image: diagonal, and the same in every row."""
  hessian = 2 * (expected + curvature.DAMPING * expected.mean()) / 12
  found = found_for(features_fn, settings)
  assert found.shape == (3, 4, 4)
  for row in found:
    # As the directions are drawn at random, 1024 of them, not quite.
    np.testing.assert_allclose(row * np.sqrt(hessian[:, None] * hessian[None]), np.eye(4), atol=0.2)


def test_an_undamped_step_of_rate_one_without_momentum_ends_at_the_minimum(monkeypatch):
  monkeypatch.setattr(encoding, 'MOMENTUM', 0.0)
  inverse = jnp.broadcast_to(jnp.eye(4) * 12 / 2, (3, 4, 4))
  images = tiny.uniform(1, 5, 3, 4, 1)
  parts = (tiny.linear_decoder(), no_features, PIXELS, {}, {}, tiny.keys(0, 5), images)
  found = encoding.encode(*parts, jnp.zeros((5, 3, 4)), inverse)
  np.testing.assert_allclose(found.w, images[..., 0], atol=1e-6)


def test_it_needs_fewer_steps_than_adam_where_steep_directions_are_not_the_coordinates():
  turns = np.linalg.qr(np.random.default_rng(0).standard_normal((2, 4, 4)))[0]
  matrix = jnp.asarray(turns[0] * np.array([10.0, 3.0, 1.0, 0.3]) @ turns[1], jnp.float32)
  plain = tiny.linear_decoder()

  def fine(params, trunk, w_perp):
    return plain.fine(params, trunk @ matrix, w_perp @ matrix)

  decoder = dataclasses.replace(plain, fine=fine)
  images = decoder.decode({}, tiny.normal(1, 8, 3, 4))
  find = functools.partial(curvature.inverse_curvature, decoder, no_features, PIXELS)
  inverse = jax.jit(find)({}, {}, jax.random.key(0))

  def error(settings, inverse):
    run = functools.partial(encoding.encode, decoder, no_features, settings)
    return np.median(jax.jit(run)({}, {}, tiny.keys(0, 8), images, jnp.zeros((8, 3, 4)), inverse).error)

  adam = error(PIXELS._replace(num_steps=200, learning_rate=0.05, final_learning_rate=0.01), None)
  ours = PIXELS._replace(num_steps=60, learning_rate=0.5, final_learning_rate=0.01, schedule='cosine')
  assert error(ours, inverse) < adam


def test_the_cosine_falls_from_the_first_rate_to_the_final_one():
  settings = PIXELS._replace(num_steps=101, learning_rate=0.5, final_learning_rate=0.1, schedule='cosine')
  rates = np.array([encoding.learning_rate(settings, n) for n in range(101)])
  np.testing.assert_allclose([rates[0], rates[50], rates[100]], [0.5, 0.3, 0.1], atol=1e-3)
  assert (np.diff(rates) < 0).all()
