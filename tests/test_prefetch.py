"""Batches are made while steps run, in order, each once; nothing is left behind when a run stops."""

import threading

import numpy as np
import pytest

from advmix_jax.training.loop import run_loop
from advmix_jax.training.prefetch import AHEAD, Prefetched
from advmix_jax.types import Interrupted
from tests import test_loop
from tests.test_loop import STEPS, fresh, interrupt_at, loop, no_signal, workdir  # noqa: F401

PATIENCE = 60.0  # Seconds; only a failing test waits that long.


def threads():
  return [thread for thread in threading.enumerate() if thread.name.startswith('batches')]


def test_a_batch_is_made_while_the_step_before_runs(workdir):  # noqa: F811
  """It is begun before the step ends, and not ready before it begins: the longer of the two counts."""
  begun = [threading.Event() for _ in range(STEPS)]
  may_end = [threading.Event() for _ in range(STEPS)]

  def batch_fn(step):
    begun[step].set()
    assert may_end[step].wait(PATIENCE)
    return np.float32(step)

  def step_fn(state, batch):
    following = int(batch) + 1
    if following < STEPS:
      assert begun[following].wait(PATIENCE)
      may_end[following].set()
    return test_loop.descend(state, batch)

  may_end[0].set()
  run_loop(loop(workdir, step_fn=step_fn, batch_fn=batch_fn), fresh(), workdir)
  assert not threads()


def test_batches_come_in_order_each_made_once_and_few_ahead():
  made = []
  with Prefetched(lambda number: made.append(number) or number, 3, 9) as batches:
    for number in range(3, 9):
      assert batches.take() == number
      assert len(made) <= number - 3 + 1 + AHEAD
  assert made == list(range(3, 9)) and not threads()


def test_time_spent_waiting_is_counted():
  ready = threading.Event()
  with Prefetched(lambda number: ready.wait(PATIENCE), 0, 1) as batches:
    timer = threading.Timer(0.05, ready.set)
    timer.start()
    batches.take()
  assert batches.seconds > 0


def test_what_making_a_batch_raises_is_raised_at_its_step():
  def make(number):
    if number == 1:
      raise OSError('file 1 is gone')
    return number

  with Prefetched(make, 0, 3) as batches:
    assert batches.take() == 0
    with pytest.raises(OSError, match='file 1 is gone'):
      batches.take()
  assert not threads()


def test_a_signal_leaves_no_thread(workdir):  # noqa: F811
  with pytest.raises(Interrupted):
    run_loop(loop(workdir, hook=interrupt_at([2])), fresh(), workdir)
  assert not threads()
