"""Accuracies, worked by hand with a classifier that looks at one number."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advmix_jax import evaluation, mixing
from advmix_jax.attack import LatentAttack, ascent_rule
from advmix_jax.evaluation import attack_all, attack_once, batches, group_accuracy, predict_all
from advmix_jax.ranges import to_float, to_uint8
from tests import tiny

LABELS = np.array([0, 0, 0, 1, 1, 2, 2], np.int32)
ORIGINALS = np.arange(7, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)
W = np.arange(7, dtype=np.float32)[:, None, None] * np.ones((1, 3, 4), np.float32)


class FakeAttack:
  """Breaks example i in restart `breaks[i]`; its variants are white. Remembers what it was given."""

  def __init__(self, breaks):
    self.breaks = np.array(breaks)
    self.attacked = []
    self.sizes = set()

  def __call__(self, restart, batch):
    index = batch['index']
    np.testing.assert_array_equal(batch['w'][:, 0, 0], index)
    np.testing.assert_array_equal(batch['labels'], LABELS[index])
    self.attacked.append((restart, list(index)))
    self.sizes.add(len(index))
    return np.full((len(index), 2, 2, 3), 255, np.uint8), self.breaks[index] == restart


def attacked(breaks, already, num_restarts=3, batch_size=4, **kwargs):
  attack_fn = FakeAttack(breaks)
  found = attack_all(attack_fn, ORIGINALS, W, LABELS, np.array(already), num_restarts, batch_size, **kwargs)
  return found, attack_fn


def test_every_example_is_attacked_until_it_is_broken_and_counted_once():
  found, attack_fn = attacked([0, 1, 9, 2, 0, 9, 9], [False] * 6 + [True])
  np.testing.assert_array_equal(found.broken, [True, True, False, True, True, False, True])
  np.testing.assert_array_equal(found.restart, [0, 1, -1, 2, 0, -1, -1])
  seen = [set().union(*(ids for r, ids in attack_fn.attacked if r == restart)) for restart in range(3)]
  assert seen == [{0, 1, 2, 3, 4, 5}, {1, 2, 3, 5}, {2, 3, 5}]
  assert attack_fn.sizes == {4}  # One compiled program for all.


def test_variants_are_kept_for_what_they_broke_and_originals_for_the_rest():
  found, _ = attacked([0, 1, 9, 2, 0, 9, 9], [False] * 6 + [True])
  for i in range(7):
    expected = np.full_like(ORIGINALS[i], 255) if found.restart[i] >= 0 else ORIGINALS[i]
    np.testing.assert_array_equal(found.images[i], expected)
  assert ORIGINALS.max() == 6  # The caller's arrays are left alone.


def test_what_is_broken_already_is_never_attacked_so_perturbed_accuracy_is_at_most_clean():
  already = [True, False, False, True, False, False, False]
  found, attack_fn = attacked([9] * 7, already)
  np.testing.assert_array_equal(found.broken, already)
  assert not {0, 3} & set().union(*(ids for _, ids in attack_fn.attacked))
  found, _ = attacked([9, 0, 9, 9, 1, 9, 9], already)
  assert (~found.broken).mean() == pytest.approx(3 / 7)
  assert (~found.broken).mean() <= 1 - np.mean(already)


def test_the_search_ends_when_all_are_broken():
  _, attack_fn = attacked([0] * 7, [False] * 7, num_restarts=5)
  assert {restart for restart, _ in attack_fn.attacked} == {0}
  assert attacked([0] * 7, [True] * 7)[1].attacked == []


def test_filling_of_the_last_batch_does_not_count():
  """The last batch repeats an example; the repetition breaks nothing of its own."""
  assert [(list(p), real) for p, real in batches(np.arange(5), 4)] == [([0, 1, 2, 3], 4), ([4, 4, 4, 4], 1)]
  steps = []
  attacked([9, 9, 9, 9, 1, 9, 9], [False] * 7, progress=lambda restart, left: steps.append((restart, left)))
  assert steps == [(1, 7), (2, 6), (3, 6)]


def test_predictions_are_counted_once():
  seen = []

  def predict(images):
    seen.append(len(images))
    return images[:, 0, 0, 0] % 3

  np.testing.assert_array_equal(predict_all(predict, ORIGINALS, 4), np.arange(7) % 3)
  assert seen == [4, 4]


def test_accuracy_by_class():
  """Predictions 0 1 2 0 1 2 0 against 0 0 0 1 1 2 2."""
  predicted = predict_all(lambda images: images[:, 0, 0, 0] % 3, ORIGINALS, 3)
  correct = predicted == LABELS
  assert correct.mean() == pytest.approx(3 / 7)
  found = group_accuracy(correct, LABELS, 3)
  assert found == pytest.approx([1 / 3, 1 / 2, 1 / 2])
  assert min(found) == pytest.approx(1 / 3)


def test_predictions_see_images_in_the_range_of_training():
  seen = []

  def classify(params, images):
    seen.append((float(images.min()), float(images.max())))
    return jnp.stack([images.mean((1, 2, 3)), params * jnp.ones(len(images))], axis=1)

  images = jnp.asarray([0, 100, 255], jnp.uint8)[:, None, None, None] * jnp.ones((1, 2, 2, 3), jnp.uint8)
  np.testing.assert_array_equal(evaluation.predictions(classify, jnp.float32(0.5), images), [1, 1, 0])
  assert seen == [(-1.0, 1.0)]


def brightness_above(threshold):
  """Class 1 if the first pixel is brighter than `threshold`, else class 0."""

  def classify(params, images):
    first = images[:, 0, 0, 0]
    return jnp.stack([jnp.full_like(first, threshold), first], axis=1)

  return classify


def run_attack_once(classify, epsilon, num_steps=4):
  """Attacks three examples; images are the latents, and the pixel that the classifier sees is free."""
  decoder = tiny.linear_decoder(mixing_level=1, num_layers=3)
  # The first pixel shown is the first of w_perp, so that the attack moves it.
  decoder = decoder.replace(
    fine=lambda params, trunk, w_perp: jnp.concatenate([w_perp, trunk], axis=1)[..., None]
  )
  settings = LatentAttack(epsilon, 1, num_steps, ascent_rule('sign', 0.01))
  batch = {'w': jnp.zeros((3, 3, 4)), 'labels': jnp.zeros(3, jnp.int32), 'index': jnp.arange(3)}

  def start(restart):
    keys = mixing.example_keys(tiny.keys(0, 1)[0], batch['index'])
    keys = [jax.random.fold_in(k, restart) for k in keys]
    return np.array([jax.random.normal(k, (4,))[0] / 10 for k in keys])

  shared = {'classifier': {}, 'decoder': {}, 'key': tiny.keys(0, 1)[0], 'restart': 0}
  run = functools.partial(attack_once, settings, 'first_error', classify, decoder)
  return run(shared, batch), start(0)


def test_an_attack_succeeds_exactly_where_the_box_reaches_over_the_threshold():
  (images, wrong), start = run_attack_once(brightness_above(0.0), 0.04)
  np.testing.assert_array_equal(wrong, to_float(to_uint8(np.float32(start + 0.04))) > 0)
  assert images.dtype == jnp.uint8
  np.testing.assert_array_equal(wrong, to_float(np.asarray(images))[:, 0, 0, 0] > 0)


def test_success_is_that_of_the_uint8_image():
  """A threshold between the float image and its stored form: only what is stored counts."""
  _, start = run_attack_once(brightness_above(9.0), 0.0, num_steps=0)
  stored = to_float(to_uint8(np.float32(start)))
  i = int(np.argmax(np.abs(start - stored)))
  assert abs(start[i] - stored[i]) > 1e-4
  middle = (start[i] + stored[i]) / 2
  (_, wrong), _ = run_attack_once(brightness_above(middle), 0.0, num_steps=0)
  assert bool(wrong[i]) == bool(stored[i] > middle) != bool(start[i] > middle)


def test_draws_depend_on_example_and_restart_not_on_the_place():
  decoder = tiny.linear_decoder(mixing_level=1)
  settings = LatentAttack(0.0, 1, 0, ascent_rule('sign', 0.01))
  classify = brightness_above(9.0)

  def images(index, restart):
    size = len(index)
    batch = {'w': jnp.zeros((size, 3, 4)), 'labels': jnp.zeros(size, jnp.int32), 'index': jnp.asarray(index)}
    shared = {'classifier': {}, 'decoder': {}, 'key': tiny.keys(0, 1)[0], 'restart': restart}
    return np.asarray(attack_once(settings, 'first_error', classify, decoder, shared, batch)[0])

  first = images([3, 8, 5], 0)
  np.testing.assert_array_equal(images([5, 3, 8], 0), first[[2, 0, 1]])
  np.testing.assert_array_equal(images([8], 0), first[1:2])
  assert not np.array_equal(images([8], 1), first[1:2])


def test_through_uint8_rounds_and_passes_the_gradient():
  x = jnp.array([[0.1234, -0.9999]])
  np.testing.assert_allclose(evaluation.through_uint8(x), to_float(to_uint8(x)), atol=1e-6)
  gradient = jax.grad(lambda x: jnp.sum(evaluation.through_uint8(x) * jnp.array([[2.0, 3.0]])))(x)
  np.testing.assert_array_equal(gradient, [[2.0, 3.0]])
