"""When slots are refilled, on one device and on several."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advmix_jax import parallel, slot_queue


def steps_until_free(left, waiting, axis_name=None, **limits):
  """Slots that each need `left [S]` more steps: how many were taken."""

  def step(carry):
    left, taken = carry
    return jnp.maximum(left - 1, 0), taken + 1

  shared = {'waiting': jnp.bool_(waiting), **limits}
  now = (left, jnp.zeros((), jnp.int32))
  return slot_queue.step_until_free(step, lambda carry: carry[0] > 0, now, shared, axis_name)[1]


@pytest.mark.parametrize(
  'left, waiting, steps',
  [
    ([5] * 16, True, 5),
    ([9] * 14 + [3, 4], True, 4),  # Two of sixteen are enough.
    ([9] * 14 + [3, 4], False, 9),
    ([0] * 16, True, 0),
    ([7], True, 7),
  ],
)
def test_steps_go_on_until_an_eighth_is_free_or_nothing_waits_and_all_are_done(left, waiting, steps):
  assert steps_until_free(jnp.array(left), waiting) == steps


def test_turns_end_a_call():
  assert steps_until_free(jnp.full(16, 5), True, turns=jnp.int32(3)) == 3


def test_devices_do_not_wait_for_each_other():
  """All slots count together: one device need not step until it has enough free slots of its own."""
  assert parallel.num_devices() == 2
  left = np.array([[2, 2] + [20] * 6, [20] * 8])
  taken = jax.pmap(lambda left: steps_until_free(left, True, parallel.AXIS), parallel.AXIS)(left)
  np.testing.assert_array_equal(taken, [2, 2])
  alone = jax.pmap(lambda left: steps_until_free(left, True), parallel.AXIS)(left)
  np.testing.assert_array_equal(alone, [2, 20])
