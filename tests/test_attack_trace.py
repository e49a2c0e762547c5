"""One record of the most restarts and steps holds every attack of fewer."""

import functools

import jax
import numpy as np
import pytest

from advmix_jax import attack_trace
from advmix_jax.attack_trace import Trace, first_errors, holds
from tests import test_refill

MOST = 5
LABELS = np.zeros(4, np.int32)
W = np.arange(4, dtype=np.float32)[:, None, None] * np.ones((1, 3, 2), np.float32)
# Steps before the first misclassified point of each restart; 9 = none.
BREAKS = np.array([[0, 3, 9, 9], [4, 2, 9, 0], [9, 9, 9, 9], [9, 5, 1, 0]])
NUMBERS = np.array([10, 20, 30, 40], np.int32)


class FakeAttack:
  """Misleads as `BREAKS` says, from that step on at every second; remembers its pairs."""

  def __init__(self):
    self.pairs: list[tuple[int, int]] = []

  def __call__(self, entry):
    examples = entry.w[:, 0, 0].astype(int)
    np.testing.assert_array_equal(entry.example, NUMBERS[examples])
    self.pairs += zip(examples.tolist(), entry.restart.tolist(), strict=True)
    steps, first = np.arange(MOST + 1)[None], BREAKS[examples, entry.restart][:, None]
    return Trace(100.0 * entry.restart[:, None] + steps, (steps >= first) & ((steps - first) % 2 == 0))


def search(enough, batch_size=4, num_restarts=4):
  fake = FakeAttack()
  first, losses = first_errors(fake, W, LABELS, NUMBERS, num_restarts, MOST, enough, batch_size)
  return first, losses, fake


@pytest.mark.parametrize('batch_size', [1, 3, 4, 16])
@pytest.mark.parametrize('enough', [0, 2, MOST])
def test_every_attack_of_fewer_restarts_and_at_least_so_many_steps_is_there(enough, batch_size):
  first, _, _ = search(enough, batch_size)
  broken = np.array([False, False, False, True])
  for num_restarts in range(1, 5):
    for num_steps in range(enough, MOST + 1):
      expected = ~broken & (BREAKS[:, :num_restarts].min(axis=1) > num_steps)
      np.testing.assert_array_equal(holds(first, broken, num_restarts, num_steps), expected)


def test_restarts_after_one_that_was_enough_are_left_out():
  _, _, fake = search(enough=0, batch_size=1)
  assert (0, 0) in fake.pairs and (0, 1) not in fake.pairs and (1, 3) in fake.pairs
  _, _, fake = search(enough=MOST, batch_size=1)
  assert (1, 1) not in fake.pairs and (2, 3) in fake.pairs


def test_losses_are_those_of_the_first_restart_of_all():
  _, losses, _ = search(enough=MOST)
  np.testing.assert_array_equal(losses, np.arange(MOST + 1) * np.ones((4, 1)))


def test_what_is_found_is_what_the_attack_of_the_evaluation_finds():
  """Rounding can flip a sign step, so not for quite all examples."""
  decoder, classify, shared, _, w, labels = test_refill.problem()
  settings = test_refill.settings_of()
  num_steps, num_restarts = test_refill.NUM_STEPS, test_refill.NUM_RESTARTS
  trace = jax.jit(functools.partial(attack_trace.trace, classify, decoder, 'sign', 0.0, num_steps + 2))
  given = shared | {
    'epsilon': np.float32(settings.epsilon),
    'step_size': np.float32(0.1),
    'num_steps': np.int32(num_steps),
  }
  numbers = np.arange(len(w), dtype=np.int32)
  trace_fn = functools.partial(trace, given)
  first, losses = first_errors(
    trace_fn, w, labels, numbers, num_restarts, num_steps + 2, enough=num_steps, batch_size=64
  )
  held = holds(first, np.zeros(len(w), bool), num_restarts, num_steps)
  broken, _, restart = test_refill.first_that_breaks('sign', 'first_error', test_refill.IN_TURN)
  assert (held == ~broken).mean() > 0.98
  of_first = first[:, 0] <= num_steps
  assert (of_first == (restart == 0)).mean() > 0.98
  assert np.isnan(losses[:, num_steps + 1 :]).all() and np.isfinite(losses[:, : num_steps + 1]).all()
  assert losses[:, num_steps].mean() > losses[:, 0].mean()
  before = trace._cache_size()
  trace(given | {'epsilon': np.float32(0.1), 'num_steps': np.int32(1)}, entry_of(w, labels))
  assert trace._cache_size() == before  # Another radius and number of steps run the same program.


def entry_of(w, labels):
  at = np.arange(64)
  flags = np.ones(64, bool)
  return attack_trace.refill.Entry(
    flags, flags, w[at], labels[at], at.astype(np.int32), np.zeros(64, np.int32)
  )
