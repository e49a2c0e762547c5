"""Mixing keeps the rows that carry the label, and draws by example, not by place."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advmix_jax import mixing
from tests import tiny
from tests.tiny import normal

LEVELS = range(1, 4)


@pytest.mark.parametrize('level', LEVELS)
def test_mixing_with_itself_changes_nothing(level):
  w = normal(0, 3, 4, 7)
  np.testing.assert_array_equal(mixing.mix(w, w, level), w)


@pytest.mark.parametrize('level', LEVELS)
def test_rows_below_the_level_are_kept_and_the_others_replaced(level):
  w, other = normal(0, 3, 4, 7), normal(1, 3, 4, 7)
  mixed = mixing.mix(w, other, level)
  np.testing.assert_array_equal(mixed[:, :level], w[:, :level])
  np.testing.assert_array_equal(mixed[:, level:], other[:, level:])


@pytest.mark.parametrize('level', LEVELS)
def test_split_and_concatenation_are_inverse(level):
  w = normal(0, 3, 4, 7)
  w_par, w_perp = mixing.split(w, level)
  assert w_par.shape == (3, level, 7) and w_perp.shape == (3, 4 - level, 7)
  np.testing.assert_array_equal(jnp.concatenate([w_par, w_perp], axis=1), w)


def jitted_random_mix(level):
  decoder, params = tiny.decoder(level)
  return jax.jit(lambda keys, w: mixing.random_mix(keys, decoder, params, w))


@pytest.mark.parametrize('level', LEVELS)
def test_random_mix_is_the_decoded_mix_with_a_mapped_draw(level):
  """Eq. 17, and with it: only the trunk of `w_par` is kept, whatever `w_perp` was."""
  decoder, params = tiny.decoder(level)
  w, keys = normal(0, 3, 4, 7), tiny.keys(1, 3)

  @jax.jit
  def decoded_mix(keys, w):
    drawn = decoder.map_z(params, mixing.draw_z(keys, decoder.latent_size))
    return decoder.decode(params, mixing.mix(w, drawn, level))

  random_mix = jitted_random_mix(level)
  images = random_mix(keys, w)
  np.testing.assert_allclose(images, decoded_mix(keys, w), rtol=1e-5, atol=1e-5)
  other_w_perp = mixing.mix(w, normal(2, 3, 4, 7), level)
  np.testing.assert_array_equal(random_mix(keys, other_w_perp), images)
  other_w_par = mixing.mix(normal(2, 3, 4, 7), w, level)
  assert np.abs(random_mix(keys, other_w_par) - images).max() > 1e-3


def test_draws_depend_on_the_index_alone():
  key = jax.random.key(0)
  index = jnp.array([5, 2, 9, 2])
  z = mixing.draw_z(mixing.example_keys(key, index), 6)
  turned = mixing.draw_z(mixing.example_keys(key, index[::-1]), 6)
  np.testing.assert_array_equal(turned, z[::-1])
  np.testing.assert_array_equal(z[1], z[3])
  assert not np.allclose(z[0], z[1])
  np.testing.assert_array_equal(mixing.draw_z(mixing.example_keys(key, index[2:3]), 6)[0], z[2])
  assert not np.allclose(mixing.draw_z(mixing.example_keys(jax.random.key(1), index), 6), z)


def test_a_batch_is_a_loop_over_examples():
  random_mix = jitted_random_mix(2)
  w, keys = normal(0, 3, 4, 7), tiny.keys(1, 3)
  images = random_mix(keys, w)
  mapped = jax.jit(jax.vmap(lambda k, w: random_mix(k[None], w[None])[0]))(keys, w)
  for i in range(3):
    alone = random_mix(keys[i : i + 1], w[i : i + 1])[0]
    np.testing.assert_allclose(images[i], alone, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(images[i], mapped[i], rtol=1e-5, atol=1e-5)


def test_draws_of_the_typical_set_have_its_norm():
  """Eq. 15: `|z|` within `sqrt(d) -+ delta d^(1/4)`; without a bound some of 500 draws are outside."""
  size, delta = 16, 0.1
  bounds = size**0.5 - delta * size**0.25 - 1e-5, size**0.5 + delta * size**0.25 + 1e-5
  keys = tiny.keys(0, 500)
  free = np.linalg.norm(mixing.draw_z(keys, size), axis=1)
  bounded = np.linalg.norm(mixing.draw_z(keys, size, delta), axis=1)
  assert (bounded >= bounds[0]).all() and (bounded <= bounds[1]).all()
  inside = (free >= bounds[0]) & (free <= bounds[1])
  assert 0 < inside.sum() < 500
  np.testing.assert_allclose(bounded[inside], free[inside], rtol=1e-6)


def test_fresh_draws_are_the_rows_from_the_level_on():
  decoder, params = tiny.decoder(3)
  keys = tiny.keys(0, 2)
  w_perp = mixing.draw_w_perp(keys, decoder, params)
  w = decoder.map_z(params, mixing.draw_z(keys, decoder.latent_size))
  np.testing.assert_array_equal(w_perp, w[:, 3:])
