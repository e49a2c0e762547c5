"""Accuracies, worked by hand with a classifier that looks at one number."""

import jax.numpy as jnp
import numpy as np
import pytest

from advmix_jax import evaluation
from advmix_jax.batched import batches, in_batches
from advmix_jax.evaluation import attack_all, begin, by_score, group_accuracy
from advmix_jax.refill import Found

LABELS = np.array([0, 0, 0, 1, 1, 2, 2], np.int32)
ORIGINALS = np.arange(7, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)
W = np.arange(7, dtype=np.float32)[:, None, None] * np.ones((1, 3, 4), np.float32)


class FakeSearches:
  """Breaks example i in the restarts `breaks[i]`, after `turns[i, restart]` calls; its variants are white.

  Remembers the pairs it was given, and how often it was called.
  """

  def __init__(self, breaks, turns):
    self.breaks, self.turns = breaks, turns
    self.pairs, self.calls = [], 0

  def __call__(self, left, entry, waiting):
    self.calls += 1
    pairs = list(zip(entry.example.tolist(), entry.restart.tolist(), strict=True))
    self.pairs += [pair for pair, enters in zip(pairs, entry.enters, strict=True) if enters]
    np.testing.assert_array_equal(entry.w[:, 0, 0], entry.example)
    np.testing.assert_array_equal(entry.labels, LABELS[entry.example])
    assert entry.held[entry.enters].all() and entry.held.any()
    assert not waiting or entry.held.all()
    started = np.where(entry.enters, [self.turns[pair] for pair in pairs], left)
    wrong = np.array([restart in self.breaks[example] for example, restart in pairs])
    images = np.full((len(pairs), 2, 2, 3), 255, np.uint8)
    return started - 1, Found(entry.held & (started <= 1), wrong, images)


def attacked(breaks, already, num_restarts=3, num_slots=4, turns=None, order=None, **kwargs):
  """`breaks`: for each example the restarts that break it."""
  turns = np.ones((7, num_restarts), int) if turns is None else turns
  searches = FakeSearches(breaks, turns)
  slots = np.zeros(num_slots, int)
  order = np.tile(np.arange(num_restarts), (7, 1)) if order is None else order
  search = begin(ORIGINALS, np.array(already), order, num_slots)
  found = attack_all(searches, slots, search, W, LABELS, **kwargs)
  return found, searches


BREAKS = [(0, 2), (1,), (), (2,), (0, 1), (), ()]
ALREADY = [False] * 6 + [True]


@pytest.mark.parametrize('num_slots', [1, 3, 4, 7, 40])
@pytest.mark.parametrize('seed', range(5))
def test_the_first_restart_that_breaks_an_example_counts_whatever_ends_first(num_slots, seed):
  turns = np.random.default_rng(seed).integers(1, 9, (7, 3))
  found, searches = attacked(BREAKS, ALREADY, num_slots=num_slots, turns=turns)
  np.testing.assert_array_equal(found.broken, [True, True, False, True, True, False, True])
  np.testing.assert_array_equal(found.restart, [0, 1, -1, 2, 0, -1, -1])
  assert len(set(searches.pairs)) == len(searches.pairs)
  needed = {
    (0, 0),
    (1, 0),
    (1, 1),
    (2, 0),
    (2, 1),
    (2, 2),
    (3, 0),
    (3, 1),
    (3, 2),
    (4, 0),
    (5, 0),
    (5, 1),
    (5, 2),
  }
  assert needed <= set(searches.pairs)
  assert num_slots > 1 or needed == set(searches.pairs)


def test_all_first_restarts_come_before_any_second_and_what_is_broken_by_then_has_none():
  _, searches = attacked(BREAKS, ALREADY, num_slots=1)
  restart_0, restart_1 = [(i, 0) for i in range(6)], [(i, 1) for i in (1, 2, 3, 5)]
  assert searches.pairs == restart_0 + restart_1 + [(i, 2) for i in (2, 3, 5)]


def test_each_example_has_an_order_of_its_restarts():
  order = np.array([[2, 0, 1], [0, 1, 2], [1, 2, 0], [1, 0, 2], [1, 2, 0], [0, 2, 1], [0, 1, 2]])
  found, searches = attacked(BREAKS, ALREADY, num_slots=1, order=order)
  first = [(i, int(order[i, 0])) for i in range(6)]
  assert searches.pairs[:6] == first
  np.testing.assert_array_equal(found.broken, [True, True, False, True, True, False, True])
  np.testing.assert_array_equal(found.restart, [2, 1, -1, 2, 1, -1, -1])


def test_restarts_go_by_their_scores_and_equal_ones_by_their_numbers():
  scores = np.array([[0.1, 3.0, 0.1], [np.inf, 1.0, np.inf], [0.0, 0.0, 0.0]])
  np.testing.assert_array_equal(by_score(scores), [[1, 0, 2], [0, 2, 1], [0, 1, 2]])


def test_a_free_slot_takes_the_next_pair_while_the_others_go_on():
  turns = np.ones((7, 1), int)
  turns[0] = 5
  _, searches = attacked([()] * 7, [False] * 7, num_restarts=1, num_slots=2, turns=turns)
  assert searches.pairs == [(i, 0) for i in range(7)]
  assert searches.calls == 6  # Example 0 beside 1 to 5, then 6 in any slot.


def test_restarts_after_the_one_that_broke_an_example_lose_their_slots():
  """One example in two slots: restart 1 would take 99 turns, but restart 0 breaks it in the second."""
  turns = np.full((7, 2), 99)
  turns[0, 0] = 2
  found, searches = attacked([(0, 1)] + [()] * 6, [False] + [True] * 6, 2, num_slots=2, turns=turns)
  assert searches.calls == 2
  assert found.restart[0] == 0


def test_variants_are_kept_for_what_they_broke_and_originals_for_the_rest():
  found, _ = attacked(BREAKS, ALREADY)
  for i in range(7):
    expected = np.full_like(ORIGINALS[i], 255) if found.restart[i] >= 0 else ORIGINALS[i]
    np.testing.assert_array_equal(found.images[i], expected)
  assert ORIGINALS.max() == 6  # The caller's arrays are left alone.


def test_what_is_broken_already_is_never_attacked_so_perturbed_accuracy_is_at_most_clean():
  already = [True, False, False, True, False, False, False]
  found, searches = attacked([()] * 7, already)
  np.testing.assert_array_equal(found.broken, already)
  assert not {0, 3} & {example for example, _ in searches.pairs}
  found, _ = attacked([(), (0,), (), (), (1,), (), ()], already)
  assert (~found.broken).mean() == pytest.approx(3 / 7)
  assert (~found.broken).mean() <= 1 - np.mean(already)


def test_nothing_runs_when_all_are_broken():
  _, searches = attacked([(0,)] * 7, [False] * 7, num_restarts=5, num_slots=7)
  assert searches.pairs == [(i, 0) for i in range(7)]
  assert attacked([(0,)] * 7, [True] * 7)[1].pairs == []


def test_progress_counts_pairs_that_need_no_more_search():
  seen = []
  attacked(BREAKS, ALREADY, num_slots=2, progress=lambda done, left: seen.append((done, left)))
  assert seen[0] == (2, 5) and seen[-1] == (21, 2)
  assert seen == sorted(seen, key=lambda s: (s[0], -s[1]))


def test_the_last_batch_is_filled_up_by_repetition():
  assert [(list(p), real) for p, real in batches(np.arange(5), 4)] == [([0, 1, 2, 3], 4), ([4, 4, 4, 4], 1)]


def test_predictions_are_counted_once():
  seen = []

  def predict(images):
    seen.append(len(images))
    return images[:, 0, 0, 0] % 3

  np.testing.assert_array_equal(in_batches(predict, ORIGINALS, 4), np.arange(7) % 3)
  assert seen == [4, 4]


def test_accuracy_by_class():
  """Predictions 0 1 2 0 1 2 0 against 0 0 0 1 1 2 2."""
  predicted = in_batches(lambda images: images[:, 0, 0, 0] % 3, ORIGINALS, 3)
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
