"""Algorithm 1 finds latents, each image by itself."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from advmix_jax import encoding
from advmix_jax.encoding import EncodeSettings
from tests import tiny
from tests.tiny import normal

PIXELS = EncodeSettings(200, 0.05, 0.01, 1.0, 1.0, 0.0)
PROJECTION = normal(9, 3, 2)


def no_features(params, images):
  return {}


def colour_features(params, images):
  """Two "layers": the mean colour, and a random projection of every pixel's colour."""
  return {'mean': images.mean((1, 2)), 'pixels': jnp.tanh(images @ params)}


@functools.cache
def encode_fn(settings, features_fn):
  decoder, params = tiny.decoder(2)
  return jax.jit(
    lambda keys, images, start: encoding.encode(
      decoder, features_fn, settings, params, PROJECTION, keys, images, start
    )
  )


@functools.cache
def generated():
  """Images that the generator can make: latents near the mean, and what they decode to."""
  decoder, params = tiny.decoder(2)
  start = encoding.mean_start(decoder, params, 4)
  w = start + 0.5 * normal(1, *start.shape)
  return start, jax.jit(decoder.decode)(params, w), jax.jit(decoder.decode)(params, start)


def test_it_recovers_images_that_the_generator_made():
  start, images, first = generated()
  found = encode_fn(PIXELS, no_features)(tiny.keys(0, 4), images, start)
  decoder, params = tiny.decoder(2)
  decoded = jax.jit(decoder.decode)(params, found.w)
  np.testing.assert_allclose(found.error, jnp.mean(jnp.square(decoded - images), axis=(1, 2, 3)), rtol=1e-4)
  error_at_start = encoding.squared_error(first, images)
  assert (found.error < 0.1 * error_at_start).all(), (found.error, error_at_start)


def test_an_image_is_encoded_the_same_in_any_batch_and_place():
  """With features and L_mix, whose draws go by the key of the image."""
  settings = PIXELS._replace(num_steps=5, mixing_weight=0.2)
  start, images, _ = generated()
  keys = tiny.keys(0, 4)
  fn = encode_fn(settings, colour_features)
  found = fn(keys, images, start)
  turned = fn(keys[::-1], images[::-1], start[::-1])
  np.testing.assert_allclose(turned.w[::-1], found.w, atol=1e-4)
  np.testing.assert_allclose(turned.error[::-1], found.error, rtol=1e-3)
  other_company = fn(keys, images.at[1:].set(0.0), start)
  np.testing.assert_allclose(other_company.w[0], found.w[0], atol=1e-4)
  assert np.abs(other_company.w[1] - found.w[1]).max() > 1e-2
  other_keys = fn(tiny.keys(7, 4), images, start)
  assert np.abs(other_keys.w - found.w).max() > 1e-3  # L_mix draws from the keys.


def test_no_steps_return_the_start():
  start, images, first = generated()
  found = encode_fn(PIXELS._replace(num_steps=0), no_features)(tiny.keys(0, 4), images, start)
  np.testing.assert_array_equal(found.w, start)
  np.testing.assert_allclose(found.error, encoding.squared_error(first, images), rtol=1e-5)


def test_the_first_three_quarters_of_the_steps_take_the_first_rate():
  """Adam's first steps are as long as the rate, whatever the gradient."""
  start, images, _ = generated()
  keys = tiny.keys(0, 4)
  moved = [
    np.abs(
      encode_fn(PIXELS._replace(num_steps=n, final_learning_rate=0.0), no_features)(keys, images, start).w
      - start
    )
    for n in (1, 2)
  ]
  np.testing.assert_allclose(moved[0], 0.0, atol=1e-7)  # Three quarters of one step are none.
  np.testing.assert_allclose(np.median(moved[1]), 0.05, rtol=1e-3)


def test_a_run_that_is_halted_shows_the_latents_on_their_way():
  """At the rates of the whole run."""
  start, images, _ = generated()
  keys = tiny.keys(0, 4)
  decoder, params = tiny.decoder(2)
  whole = PIXELS._replace(num_steps=8)
  halted = jax.jit(functools.partial(encoding.encode, decoder, no_features, whole))
  for halt, steps, final in [(6, 6, 0.05), (8, 8, 0.01)]:
    shorter = whole._replace(num_steps=steps, final_learning_rate=final)
    found = halted(params, PROJECTION, keys, images, start, None, jnp.int32(halt))
    np.testing.assert_allclose(found.w, encode_fn(shorter, no_features)(keys, images, start).w, atol=1e-5)


def test_the_last_steps_leave_l_mix_out():
  """All before them are those of a run that never does."""
  start, images, _ = generated()
  keys = tiny.keys(0, 4)
  decoder, params = tiny.decoder(2)

  def latents(halt, **changed):
    settings = PIXELS._replace(num_steps=8, mixing_weight=0.2)._replace(**changed)
    fn = jax.jit(functools.partial(encoding.encode, decoder, colour_features, settings))
    return fn(params, PROJECTION, keys, images, start, None, jnp.int32(halt)).w

  for halt in (6, 7):
    part, whole = latents(halt, mixing_share=0.75), latents(halt)
    assert np.allclose(part, whole, atol=1e-6) == (halt <= 6)
  np.testing.assert_allclose(latents(8, mixing_share=0.0), latents(8, mixing_weight=0.0), atol=1e-6)


def test_where_no_image_descends_l_mix_it_is_not_computed():
  start, images, _ = generated()
  decoder, params = tiny.decoder(2)
  seen = []

  def counted(params, images):
    jax.debug.callback(lambda: seen.append(len(images)))
    return colour_features(params, images)

  settings = PIXELS._replace(num_steps=10, mixing_weight=0.2, mixing_share=0.3)
  fn = jax.jit(functools.partial(encoding.encode, decoder, counted, settings))
  jax.block_until_ready(fn(params, PROJECTION, tiny.keys(0, 4), images, start))
  jax.effects_barrier()
  assert len(seen) == 1 + 10 + 3  # The images, their reconstructions, mixes.


def test_the_mean_start_is_w_avg_in_every_row():
  decoder, params = tiny.decoder(2)
  start = encoding.mean_start(decoder, params, 3)
  assert start.shape == (3, 4, 7)
  np.testing.assert_array_equal(start, np.broadcast_to(params['w_avg'], (3, 4, 7)))


def test_losses_by_hand():
  a, b = jnp.array([[1.0, 2.0], [0.0, 0.0]]), jnp.array([[0.0, 0.0], [0.0, 4.0]])
  np.testing.assert_allclose(encoding.squared_error(a, b), [2.5, 8.0])
  settings = EncodeSettings(1, 0.1, 0.1, pixel_weight=2.0, feature_weight=3.0, mixing_weight=0.0)
  features, targets = {'x': a, 'y': b}, {'x': b, 'y': b}
  np.testing.assert_allclose(encoding.feature_loss(features, targets), [2.5, 8.0])
  found = encoding.reconstruction_loss(a, b, features, targets, settings)
  np.testing.assert_allclose(found, [2 * 2.5 + 3 * 2.5, 2 * 8.0 + 3 * 8.0])
  features = {'x': a, 'y': a}
  settings = settings._replace(layer_weights=(('x', 0.5), ('y', 0.0)))
  np.testing.assert_allclose(encoding.feature_loss(features, targets, (('y', 0.1),)), [1.1 * 2.5, 1.1 * 8.0])
  found = encoding.reconstruction_loss(a, b, features, targets, settings)
  np.testing.assert_allclose(found, [2 * 2.5 + 1.5 * 2.5, 2 * 8.0 + 1.5 * 8.0])
