"""Slots of Algorithm 1: an image is encoded as by the plain loop, in any slot, beside any others."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advmix_jax import encode_refill, encoding, mixing, parallel
from advmix_jax.encode_refill import Stopping
from advmix_jax.encoding import EncodeSettings
from advmix_jax.models.decoder import generator_decoder
from advmix_jax.ranges import to_float, to_uint8
from advmix_jax.stages import slot_calls
from advmix_jax.stages.slot_calls import SlotCalls
from tests import tiny

pytestmark = pytest.mark.usefixtures('double_precision')
NUM_IMAGES = 50
KEY = jax.random.key(7)
SETTINGS = EncodeSettings(12, 0.05, 0.01, pixel_weight=1.0, feature_weight=1.0, mixing_weight=0.2)
MIXING_FIRST = SETTINGS._replace(mixing_share=0.5)
NEVER, SETTLING = Stopping(), Stopping(tolerance=0.1, patience=2)


def in_double(tree):
  return jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), tree)


def colour_features(params, images):
  """Two "layers": the mean colour, and a random projection of every pixel's colour."""
  images = in_double(images)
  return {'mean': images.mean((1, 2)), 'pixels': jnp.tanh(images @ params)}


@functools.cache
def problem():
  """`(decoder, shared, images, index)`; the images are generated, their indices are in no order."""
  model = tiny.generator().clone(dtype=jnp.float64)
  decoder, params = generator_decoder(model, 2), in_double(tiny.generator_params(model))
  w = encoding.mean_start(decoder, params, NUM_IMAGES) + 0.5 * tiny.normal(1, NUM_IMAGES, 4, 7)
  images = to_uint8(np.asarray(jax.jit(decoder.decode)(params, w)))
  shared = {'decoder': params, 'features': tiny.normal(9, 3, 2), 'key': KEY}
  return decoder, shared, images, np.random.default_rng(0).permutation(1000)[:NUM_IMAGES]


def guess(shared, images):
  """A start that differs from image to image."""
  decoder = problem()[0]
  start = encoding.mean_start(decoder, shared['decoder'], len(images))
  return start + 0.1 * in_double(images).mean((1, 2, 3))[:, None, None]


@functools.cache
def plain_loop(settings=SETTINGS):
  """Every image for all steps."""
  decoder, shared, images, index = problem()

  @jax.jit
  def encode(images):
    images = to_float(images)
    keys = mixing.example_keys(KEY, jnp.asarray(index))
    start = guess(shared, images)
    parts = (decoder, colour_features, settings, shared['decoder'], shared['features'])
    return encoding.encode(*parts, keys, images, start)

  return encode(images)


def on_one_device(advance):
  step = jax.jit(advance, donate_argnums=(1,))

  def advance_fn(slots, entry, waiting):
    slots, found = step(problem()[1] | {'waiting': np.bool_(waiting)}, slots, entry)
    return slots, jax.tree.map(np.asarray, found)

  return advance_fn


def on_all_devices(advance, **more):
  step, shared = parallel.pmap_carry(advance), parallel.replicate(problem()[1] | more)

  def advance_fn(slots, entry, waiting):
    slots, found = step(shared | {'waiting': np.bool_(waiting)}, slots, parallel.shard(entry))
    return slots, parallel.unshard(found)

  return advance_fn


def in_short_calls(advance, seen=lambda slots, entry: None):
  calls, shared = SlotCalls(parallel.pmap_carry(advance)), parallel.replicate(problem()[1])
  return lambda slots, entry, waiting: calls(shared, slots, entry, waiting, seen)


def pieces_of(num_slots, settings=SETTINGS, stopping=NEVER, place=on_one_device, order=None, start=guess):
  """`encode_all`, as a list."""
  decoder, shared, images, index = problem()
  advance = functools.partial(encode_refill.advance, settings, stopping, start, colour_features, decoder)
  slots = encode_refill.empty_slots(start, colour_features, shared, num_slots, images.shape[1:])
  slots = slots if place is on_one_device else parallel.distribute(slots)
  order = range(NUM_IMAGES) if order is None else order
  return list(encode_refill.encode_all(place(advance), slots, images, index, order, num_slots))


def encoded(*args, **kwargs):
  """What was found, in the order of the images; every one is there once."""
  pieces = pieces_of(*args, **kwargs)
  positions = np.concatenate([at for at, _ in pieces])
  np.testing.assert_array_equal(np.sort(positions), np.arange(NUM_IMAGES))
  return jax.tree.map(lambda *x: np.concatenate(x)[np.argsort(positions)], *(found for _, found in pieces))


@pytest.mark.parametrize('stopping', [NEVER, SETTLING], ids=['all steps', 'settling'])
@pytest.mark.parametrize('seconds', [0.0, 1e9], ids=['a step a call', 'ever longer calls'])
def test_calls_that_end_early_find_the_same_in_the_same_order(monkeypatch, seconds, stopping):
  """So how fast the machine is changes nothing: every image enters when and where it would have."""
  monkeypatch.setattr(slot_calls, 'SECONDS', seconds)
  calls = []
  short = functools.partial(in_short_calls, seen=lambda slots, entry: calls.append(entry.enters.any()))
  # The same program, but never asked to end early.
  long = functools.partial(on_all_devices, turns=np.int32(1000))
  found, expected = (pieces_of(16, stopping=stopping, place=place) for place in (short, long))
  assert sum(calls) <= len(expected) and len(calls) > sum(calls)
  assert len(found) == len(expected)
  for (at, piece), (expected_at, expected_piece) in zip(found, expected, strict=True):
    np.testing.assert_array_equal(at, expected_at)
    assert [x.tobytes() for x in piece] == [x.tobytes() for x in expected_piece]


@pytest.mark.parametrize(
  'num_slots, place, settings',
  [
    (1, on_one_device, SETTINGS),
    (16, on_one_device, SETTINGS),
    (16, on_all_devices, SETTINGS),
    (64, on_one_device, SETTINGS),
    (16, on_all_devices, MIXING_FIRST),
  ],
)
def test_without_stopping_every_image_is_encoded_as_by_the_plain_loop(num_slots, place, settings):
  assert place is on_one_device or parallel.num_devices() == 2
  found, expected = encoded(num_slots, settings, place=place), plain_loop(settings)
  np.testing.assert_allclose(found.w, expected.w, atol=1e-6)
  np.testing.assert_allclose(found.error, expected.error, atol=1e-6)
  np.testing.assert_array_equal(found.taken, SETTINGS.num_steps)


def test_steps_of_whitened_adam_are_those_of_the_plain_loop(monkeypatch):
  """With the cosine, as the configurations have it."""
  decoder, shared, images, index = problem()
  rng = np.random.default_rng(5)
  # Products with it are exact: Adam would make much of rounding where a gradient is near zero.
  whitening = jnp.asarray(
    np.eye(4 * 7)[rng.permutation(4 * 7)] * 2.0 ** rng.integers(-2, 1, 4 * 7), jnp.float32
  )
  settings = SETTINGS._replace(schedule='cosine')
  keys, targets = mixing.example_keys(KEY, jnp.asarray(index)), jax.jit(to_float)(images)
  plain = jax.jit(functools.partial(encoding.encode, decoder, colour_features, settings))
  start = guess(shared, targets)
  expected = plain(shared['decoder'], shared['features'], keys, targets, start, whitening)
  monkeypatch.setitem(shared, 'whitening', whitening)
  found = encoded(16, settings)
  np.testing.assert_allclose(found.w, expected.w, atol=1e-6)
  np.testing.assert_allclose(found.error, expected.error, atol=1e-6)


@functools.cache
def target_error():
  """Reached by half of the images in three steps."""
  three = plain_loop(SETTINGS._replace(num_steps=3, final_learning_rate=SETTINGS.learning_rate))
  return float(np.median(three.error))


@pytest.mark.parametrize(
  'kind', [pytest.param('settling', marks=pytest.mark.slow), 'settling, L_mix first', 'target']
)
def test_where_an_image_stops_depends_on_neither_slots_nor_order_nor_devices(kind):
  """Nor does where it leaves L_mix out."""
  stopping = Stopping(target_error()) if kind == 'target' else SETTLING
  found_by = functools.partial(encoded, settings=MIXING_FIRST if 'first' in kind else SETTINGS)
  reference = found_by(64, stopping=stopping)
  assert len(set(reference.taken)) > 3 and reference.taken.min() < SETTINGS.num_steps
  others = (
    found_by(16, stopping=stopping),
    found_by(16, stopping=stopping, order=np.arange(NUM_IMAGES)[::-1]),
    found_by(16, stopping=stopping, place=on_all_devices),
  )
  for found in others:
    np.testing.assert_array_equal(found.taken, reference.taken)
    np.testing.assert_allclose(found.w, reference.w, atol=1e-6)
    np.testing.assert_allclose(found.error, reference.error, atol=1e-6)


def test_an_image_that_has_arrived_leaves_with_the_latents_it_arrived_with():
  """Those of the plain loop with as many steps, at the first rate."""
  target = target_error()
  found = encoded(16, stopping=Stopping(target_error=target))
  last = 3
  errors = [
    np.asarray(plain_loop(SETTINGS._replace(num_steps=n, final_learning_rate=0.05)).error)
    for n in range(last + 1)
  ]
  below = np.array(errors) <= target
  expected = np.where(below.any(axis=0), below.argmax(axis=0), -1)
  early = found.taken <= last
  assert early.sum() > 5
  np.testing.assert_array_equal(found.taken[early], expected[early])
  assert (found.error[early] <= target).all()


def test_an_image_that_starts_at_its_optimum_leaves_at_once():
  """Without a step, where a target is set; two patiences after its best, where it must settle."""
  images = problem()[2]
  w = plain_loop(SETTINGS._replace(num_steps=100, mixing_weight=0.0)).w
  targets = to_float(images)

  def optimum(shared, images):
    """Of the image that is nearest, as the function sees images alone."""
    nearest = jnp.argmin(jnp.abs(images[:, None] - targets[None]).sum((2, 3, 4)), axis=1)
    return jnp.asarray(w)[nearest]

  target = 1.01 * float(plain_loop(SETTINGS._replace(num_steps=100, mixing_weight=0.0)).error.max())
  found = encoded(16, stopping=Stopping(target_error=target), start=optimum)
  np.testing.assert_array_equal(found.taken, 0)
  np.testing.assert_array_equal(found.w, np.asarray(w))
  many = SETTINGS._replace(num_steps=1000, learning_rate=0.0, final_learning_rate=0.0)
  found = encoded(16, many, Stopping(tolerance=0.1, patience=3), start=optimum)
  np.testing.assert_array_equal(found.taken, 1 + 3 + 3)  # The first is the one to compare with.


def test_it_is_compiled_once_for_a_whole_part():
  decoder, shared, images, index = problem()
  traces = []

  def advance(shared, slots, entry, axis_name):
    traces.append(entry.example.shape)
    return encode_refill.advance(
      SETTINGS, SETTLING, guess, colour_features, decoder, shared, slots, entry, axis_name
    )

  step, shared = parallel.pmap_carry(advance), parallel.replicate(shared)
  calls = []

  def advance_fn(slots, entry, waiting):
    calls.append(waiting)
    slots, found = step(shared | {'waiting': np.bool_(waiting)}, slots, parallel.shard(entry))
    return slots, parallel.unshard(found)

  slots = encode_refill.empty_slots(guess, colour_features, shared, 16, images.shape[1:])
  slots = parallel.distribute(slots)
  for _ in encode_refill.encode_all(advance_fn, slots, images, index, range(NUM_IMAGES), 16):
    pass
  assert traces == [(8,)] and True in calls and False in calls


def test_steps_are_saved_where_images_stop_early():
  """Steps of all slots together, against those of batches that wait for their last image."""
  steps = []

  def counted(params, images):
    jax.debug.callback(lambda: steps.append(len(images)))
    return colour_features(params, images)

  decoder, shared, images, index = problem()
  stopping = Stopping(target_error())
  settings = SETTINGS._replace(num_steps=40, mixing_weight=0.0)
  advance = functools.partial(encode_refill.advance, settings, stopping, guess, counted, decoder)
  slots = encode_refill.empty_slots(guess, colour_features, shared, 16, images.shape[1:])
  everything = encode_refill.encode_all(on_one_device(advance), slots, images, index, range(NUM_IMAGES), 16)
  taken = np.empty(NUM_IMAGES, int)
  for at, found in everything:
    taken[at] = found.taken
  jax.effects_barrier()
  waiting_for_the_last = sum(taken[i : i + 16].max() + 1 for i in range(0, NUM_IMAGES, 16))
  assert sum(n == 16 for n in steps) < 0.9 * waiting_for_the_last
