"""Coordinates in which the loss is evenly steep: right where they are known, and fewer steps than Adam's."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advmix_jax import curvature, encoding
from advmix_jax.encoding import EncodeSettings
from tests import tiny

PIXELS = EncodeSettings(1, 1.0, 1.0, pixel_weight=1.0, feature_weight=1.0, mixing_weight=0.0)
LINEAR = tiny.linear_decoder()
STEEPNESS = np.array([4.0, 1.0, 0.5, 1.0], np.float32)  # Of the columns of w.


def no_features(params, images):
  return {}


def stretched(params, images):
  return {'stretched': STEEPNESS[None, None] * images[..., 0]}


def mean_curvature(features_fn, settings, decoder=LINEAR):
  """By default of a decoder whose images are the latents, `[3, 4]`."""
  find = functools.partial(curvature.mean_curvature, decoder, features_fn, settings)
  return jax.jit(find)({}, {}, jax.random.key(0))


@pytest.mark.parametrize(
  'features_fn, settings, expected',
  [
    (no_features, PIXELS, np.ones(4)),
    (no_features, PIXELS._replace(pixel_weight=3.0), np.full(4, 3.0)),
    (stretched, PIXELS._replace(feature_weight=2.0), 1 + 2 * STEEPNESS**2),
    (stretched, PIXELS._replace(layer_weights=(('stretched', 0.5),)), 1 + 0.5 * STEEPNESS**2),
  ],
)
def test_the_curvature_is_that_of_the_loss(features_fn, settings, expected):
  """`E[J^T J]` of L_rec, a mean over the 12 numbers of an image, is diagonal, and the same in every row."""
  size = np.sqrt(np.tile(expected, 3) / 12)
  found = np.asarray(mean_curvature(features_fn, settings)) / np.outer(size, size)
  # As the directions are drawn at random, 2048 of them, not quite.
  np.testing.assert_allclose(found, np.eye(12), atol=0.2)


def drawn_curvature():
  """Of 6 directions, some of them a hundred times as steep as others."""
  turn = np.linalg.qr(np.random.default_rng(0).standard_normal((6, 6)))[0]
  return jnp.asarray(turn * np.array([100.0, 30.0, 10.0, 3.0, 1.0, 0.0]) @ turn.T, jnp.float32)


def test_a_damped_curvature_is_even_in_the_new_coordinates():
  given = drawn_curvature()
  matrix = curvature.whitening(given)
  even = matrix.T @ (given + curvature.DAMPING * jnp.trace(given) / 6 * jnp.eye(6)) @ matrix
  np.testing.assert_allclose(even / even[0, 0], np.eye(6), atol=1e-5)


def test_a_step_in_every_new_coordinate_is_as_long_as_one_in_w():
  assert float(jnp.sum(jnp.square(curvature.whitening(drawn_curvature())))) == pytest.approx(6, rel=1e-5)


def test_it_needs_fewer_steps_than_adam_where_steep_directions_are_not_the_coordinates():
  turns = np.linalg.qr(np.random.default_rng(0).standard_normal((2, 4, 4)))[0]
  matrix = jnp.asarray(turns[0] * np.array([10.0, 3.0, 1.0, 0.3]) @ turns[1], jnp.float32)
  plain = tiny.linear_decoder()

  def fine(params, trunk, w_perp):
    return plain.fine(params, trunk @ matrix, w_perp @ matrix)

  decoder = dataclasses.replace(plain, fine=fine)
  images = decoder.decode({}, tiny.normal(1, 8, 3, 4))
  whitening = curvature.whitening(mean_curvature(no_features, PIXELS, decoder))

  def error(settings, whitening):
    run = functools.partial(encoding.encode, decoder, no_features, settings)
    return np.median(jax.jit(run)({}, {}, tiny.keys(0, 8), images, jnp.zeros((8, 3, 4)), whitening).error)

  adam = error(PIXELS._replace(num_steps=200, learning_rate=0.05, final_learning_rate=0.01), None)
  ours = PIXELS._replace(num_steps=40, learning_rate=0.5, final_learning_rate=0.01, schedule='cosine')
  assert error(ours, whitening) < adam


def test_the_cosine_falls_from_the_first_rate_to_the_final_one():
  settings = PIXELS._replace(num_steps=101, learning_rate=0.5, final_learning_rate=0.1, schedule='cosine')
  rates = np.array([encoding.learning_rate(settings, n) for n in range(101)])
  np.testing.assert_allclose([rates[0], rates[50], rates[100]], [0.5, 0.3, 0.1], atol=1e-3)
  assert (np.diff(rates) < 0).all()
