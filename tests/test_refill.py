"""Slots: a search is that of the plain loop, in whatever slot, beside whatever others, on whatever device."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from advmix_jax import attack, evaluation, mixing, parallel, refill
from advmix_jax.attack import LatentAttack, ascent_rule
from advmix_jax.ranges import to_float, to_uint8
from advmix_jax.stages import slot_calls
from advmix_jax.stages.slot_calls import SlotCalls
from tests import tiny

NUM_EXAMPLES, NUM_RESTARTS, NUM_STEPS = 200, 3, 4
KEY = jax.random.key(7)
IN_TURN = np.tile(np.arange(NUM_RESTARTS, dtype=np.int32), (NUM_EXAMPLES, 1))
MOMENTUM = optax.chain(optax.scale_by_sign(), optax.trace(0.9), optax.scale(0.06))
RULES = {'sign': ascent_rule('sign', 0.1), 'momentum': MOMENTUM}


@functools.cache
def problem():
  """`(decoder, classify, shared, originals, w, labels)`; the classifier is right about every original."""
  decoder, params = tiny.decoder(mixing_level=3)
  classify, classifier_params = tiny.classifier((8, 8, 3))
  w = np.asarray(tiny.normal(0, NUM_EXAMPLES, 4, 7))
  originals = to_uint8(np.asarray(jax.jit(decoder.decode)(params, w)))
  labels = np.asarray(jnp.argmax(classify(classifier_params, to_float(originals)), axis=1), np.int32)
  return (
    decoder,
    classify,
    {'classifier': classifier_params, 'decoder': params, 'key': KEY},
    originals,
    w,
    labels,
  )


def settings_of(rule='sign'):
  return LatentAttack(0.3, NUM_RESTARTS, NUM_STEPS, RULES[rule])


@functools.cache
def plain_loop(rule, select):
  """One restart of all examples after the other; every search runs to its end. Wrong and images of each."""
  decoder, classify, shared, _, w, labels = problem()

  @jax.jit
  def search(restart):
    def objective_fn(images):
      return attack.objective(classify(shared['classifier'], refill.through_uint8(images)), labels, select)

    params = shared['decoder']
    keys = mixing.example_keys(KEY, jnp.arange(NUM_EXAMPLES))
    keys = jax.vmap(jax.random.fold_in, (0, None))(keys, restart)
    trunk = decoder.coarse(params, w[:, : decoder.mixing_level])
    best = attack.latent_search(settings_of(rule), keys, decoder, params, trunk, objective_fn).best
    images = to_uint8(attack.decode_clipped(decoder, params, trunk, best))
    return images, attack.misclassified(classify(shared['classifier'], to_float(images)), labels)

  images, wrong = zip(*map(search, range(NUM_RESTARTS)), strict=True)
  return np.stack(wrong, axis=1), np.stack(images, axis=1)


def first_that_breaks(rule, select, order):
  """Of the plain loop, as `evaluation.Broken`."""
  wrong, images = plain_loop(rule, select)
  _, _, _, originals, _, _ = problem()
  restart, variants = np.full(NUM_EXAMPLES, -1), originals.copy()
  for i in range(NUM_EXAMPLES):
    for r in order[i]:
      if wrong[i, r]:
        restart[i], variants[i] = r, images[i, r]
        break
  return evaluation.Broken(restart >= 0, variants, restart)


@functools.cache
def best_start_first():
  """The order of restarts by what the classifier makes of their starts."""
  decoder, classify, shared, _, w, labels = problem()
  scores = jax.jit(functools.partial(refill.start_scores, settings_of(), 'first_error', classify, decoder))
  return evaluation.by_score(np.asarray(scores(shared, (w, labels, jnp.arange(NUM_EXAMPLES)))))


def on_one_device(advance, decoder, settings, shared, num_slots):
  step = jax.jit(advance, donate_argnums=(1,))

  def advance_fn(slots, entry, waiting):
    slots, found = step(shared | {'waiting': np.bool_(waiting)}, slots, entry)
    return slots, jax.tree.map(np.asarray, found)

  return advance_fn, refill.empty_slots(settings, decoder, shared, num_slots)


def on_all_devices(advance, decoder, settings, shared, num_slots):
  step, shared = parallel.pmap_carry(advance), parallel.replicate(shared)

  def advance_fn(slots, entry, waiting):
    slots, found = step(shared | {'waiting': np.bool_(waiting)}, slots, parallel.shard(entry))
    return slots, parallel.unshard(found)

  return advance_fn, parallel.distribute(refill.empty_slots(settings, decoder, shared, num_slots))


def in_short_calls(advance, decoder, settings, shared, num_slots):
  calls, shared = SlotCalls(parallel.pmap_carry(advance)), parallel.replicate(shared)
  slots = parallel.distribute(refill.empty_slots(settings, decoder, shared, num_slots))
  return lambda slots, entry, waiting: calls(shared, slots, entry, waiting, lambda slots, entry: None), slots


def test_calls_that_end_early_find_the_same(monkeypatch):
  monkeypatch.setattr(slot_calls, 'SECONDS', 0.0)
  found, expected = (refilled(24, place=place) for place in (in_short_calls, on_all_devices))
  assert [x.tobytes() for x in found] == [x.tobytes() for x in expected]


def refilled(num_slots, rule='sign', select='first_error', place=on_one_device, order=IN_TURN):
  decoder, classify, shared, originals, w, labels = problem()
  settings = settings_of(rule)
  advance = functools.partial(refill.advance, settings, select, classify, decoder)
  advance_fn, slots = place(advance, decoder, settings, shared, num_slots)
  search = evaluation.begin(originals, np.zeros(NUM_EXAMPLES, bool), order, num_slots)
  return evaluation.attack_all(advance_fn, slots, search, w, labels)


@pytest.mark.parametrize(
  'num_slots, rule, select, place',
  [
    (1, 'sign', 'first_error', on_one_device),
    (24, 'sign', 'first_error', on_one_device),
    (24, 'sign', 'first_error', on_all_devices),
    (256, 'sign', 'first_error', on_one_device),
    (24, 'momentum', 'first_error', on_one_device),
    (24, 'sign', 'highest_loss', on_all_devices),
  ],
)
def test_what_is_found_is_what_the_plain_loop_finds(num_slots, rule, select, place):
  """Rounding can flip a sign step, so not for quite all examples."""
  assert place is on_one_device or parallel.num_devices() == 2
  check_found(refilled(num_slots, rule, select, place), first_that_breaks(rule, select, IN_TURN))


def check_found(found, expected):
  assert 0.2 < expected.broken.mean() < 0.8 and len(set(expected.restart)) == NUM_RESTARTS + 1
  assert np.mean(found.broken == expected.broken) >= 0.995
  assert np.mean(found.restart == expected.restart) >= 0.99
  alike = np.abs(found.images.astype(int) - expected.images).max(axis=(1, 2, 3)) <= 1
  assert alike.mean() >= 0.98
  _, classify, shared, _, _, labels = problem()
  predicted = evaluation.predictions(classify, shared['classifier'], found.images)
  np.testing.assert_array_equal(predicted != labels, found.broken)


def test_the_same_examples_break_when_the_best_start_goes_first():
  order = best_start_first()
  assert np.mean(order[:, 0] == 0) < 0.6
  found = refilled(24, order=order)
  check_found(found, first_that_breaks('sign', 'first_error', order))
  assert np.mean(found.broken == first_that_breaks('sign', 'first_error', IN_TURN).broken) >= 0.995


def test_scores_of_starts_are_those_that_the_searches_see():
  """With no steps a search keeps its start, which is wrong exactly where its score is infinite."""
  decoder, classify, shared, _, w, labels = problem()
  settings = settings_of()._replace(num_steps=0)
  at = jnp.arange(NUM_EXAMPLES)
  scores = refill.start_scores(settings, 'first_error', classify, decoder, shared, (w, labels, at))
  given = shared | {'waiting': np.bool_(False)}
  for restart in range(NUM_RESTARTS):
    yes = np.ones(NUM_EXAMPLES, bool)
    entry = refill.Entry(yes, yes, w, labels, at, np.full(NUM_EXAMPLES, restart, np.int32))
    slots = refill.empty_slots(settings, decoder, given, NUM_EXAMPLES)
    _, found = refill.advance(settings, 'first_error', classify, decoder, given, slots, entry)
    np.testing.assert_array_equal(found.wrong, np.isposinf(scores[:, restart]))
    assert 0.05 < found.wrong.mean() < 0.8


def test_it_is_compiled_once_for_all_classifiers():
  decoder, classify, shared, originals, w, labels = problem()
  traces = []

  def advance(shared, slots, entry, axis_name):
    traces.append(entry.labels.shape)
    return refill.advance(settings_of(), 'first_error', classify, decoder, shared, slots, entry, axis_name)

  step = parallel.pmap_carry(advance)
  for scale in (1.0, 2.0):
    given = shared | {'classifier': jax.tree.map(lambda x, scale=scale: scale * x, shared['classifier'])}
    given = parallel.replicate(given)

    def advance_fn(slots, entry, waiting, given=given):
      slots, found = step(given | {'waiting': np.bool_(waiting)}, slots, parallel.shard(entry))
      return slots, parallel.unshard(found)

    slots = parallel.distribute(refill.empty_slots(settings_of(), decoder, given, 24))
    search = evaluation.begin(originals, np.zeros(NUM_EXAMPLES, bool), IN_TURN[:, :2], 24)
    evaluation.attack_all(advance_fn, slots, search, w, labels)
  assert traces == [(12,)]


def test_turns_are_saved_where_examples_break_early():
  """Steps of all slots together, against those of batches that wait for their last example."""
  decoder, classify, shared, originals, w, labels = problem()
  evaluated = []

  def counted(params, images):
    jax.debug.callback(lambda: evaluated.append(len(images)))
    return classify(params, images)

  settings = LatentAttack(0.3, NUM_RESTARTS, 12, RULES['sign'])
  advance = functools.partial(refill.advance, settings, 'first_error', counted, decoder)
  advance_fn, slots = on_one_device(advance, decoder, settings, shared, 40)
  search = evaluation.begin(originals, np.zeros(NUM_EXAMPLES, bool), IN_TURN, 40)
  found = evaluation.attack_all(advance_fn, slots, search, w, labels)
  jax.effects_barrier()
  unbroken = [np.sum((found.restart < 0) | (found.restart >= r)) for r in range(NUM_RESTARTS)]
  waiting_for_the_last = sum(-(-n // 40) * 13 for n in unbroken)
  assert len(evaluated) < 0.8 * waiting_for_the_last


def brightness_above(threshold):
  """Class 1 if the first pixel is brighter than `threshold`, else class 0."""

  def classify(params, images):
    first = images[:, 0, 0, 0]
    return jnp.stack([jnp.full_like(first, threshold), first], axis=1)

  return classify


def entry_of(index, restart):
  size = len(index)
  yes, restarts = np.ones(size, bool), np.full(size, restart, np.int32)
  w = np.zeros((size, 3, 4), np.float32)
  return refill.Entry(yes, yes, w, np.zeros(size, np.int32), np.array(index, np.int32), restarts)


def searched(classify, epsilon, num_steps=4, index=(0, 1, 2), restart=0):
  """Searches of a decoder whose first pixel is the first of `w_perp`, to their ends."""
  decoder = tiny.linear_decoder(mixing_level=1, num_layers=3)
  decoder = decoder.replace(
    fine=lambda params, trunk, w_perp: jnp.concatenate([w_perp, trunk], axis=1)[..., None]
  )
  settings = LatentAttack(epsilon, 1, num_steps, ascent_rule('sign', 0.01))
  shared = {'classifier': {}, 'decoder': {}, 'key': KEY, 'waiting': np.bool_(False)}
  slots = refill.empty_slots(settings, decoder, shared, len(index))
  return refill.advance(settings, 'first_error', classify, decoder, shared, slots, entry_of(index, restart))[
    1
  ]


def starts(index, restart=0):
  """The first pixels that the searches start from."""
  keys = [jax.random.fold_in(jax.random.fold_in(KEY, i), restart) for i in index]
  return np.array([jax.random.normal(k, (4,))[0] / 10 for k in keys])


def test_a_search_succeeds_exactly_where_the_box_reaches_over_the_threshold():
  found = searched(brightness_above(0.0), 0.04, index=range(9))
  assert found.finished.all() and found.images.dtype == jnp.uint8
  np.testing.assert_array_equal(found.wrong, to_float(to_uint8(np.float32(starts(range(9)) + 0.04))) > 0)
  np.testing.assert_array_equal(found.wrong, to_float(np.asarray(found.images))[:, 0, 0, 0] > 0)
  assert 0 < found.wrong.sum() < 9


def test_success_is_that_of_the_uint8_image():
  """A threshold between the float image and its stored form: only what is stored counts."""
  start = starts(range(3))
  stored = to_float(to_uint8(np.float32(start)))
  i = int(np.argmax(np.abs(start - stored)))
  assert abs(start[i] - stored[i]) > 1e-4
  middle = (start[i] + stored[i]) / 2
  found = searched(brightness_above(middle), 0.0, num_steps=0)
  assert bool(found.wrong[i]) == bool(stored[i] > middle) != bool(start[i] > middle)


def test_draws_depend_on_example_and_restart_not_on_the_slot():
  never = brightness_above(9.0)
  first = searched(never, 0.0, 0, [3, 8, 5]).images
  np.testing.assert_array_equal(searched(never, 0.0, 0, [5, 3, 8]).images, first[np.array([2, 0, 1])])
  np.testing.assert_array_equal(searched(never, 0.0, 0, [8]).images, first[1:2])
  assert not np.array_equal(searched(never, 0.0, 0, [8], restart=1).images, first[1:2])


def test_through_uint8_rounds_and_passes_the_gradient():
  x = jnp.array([[0.1234, -0.9999]])
  np.testing.assert_array_equal(refill.through_uint8(x), to_float(to_uint8(x)))
  gradient = jax.grad(lambda x: jnp.sum(refill.through_uint8(x) * jnp.array([[2.0, 3.0]])))(x)
  np.testing.assert_array_equal(gradient, [[2.0, 3.0]])
