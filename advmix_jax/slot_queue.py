"""A fixed number of slots through which any number of items pass, each slot at a step of its own.

All shapes are static, so what steps the slots is compiled once. The host fills idle slots from a queue
(`fill`); on the device `put_in` starts what is new.
"""

import itertools
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from advmix_jax.types import Array, PyTree

Item = TypeVar('Item')
EitherArray = Any  # NumPy on the host, jax on the device.

# Slots are refilled when one in so many is free, in batches of as many. Until then free slots waste up to
# this share of each step; with smaller shares, small batches and waiting for the host cost more.
REFILL_SHARE = 8


def fill(held: np.ndarray, queue: Iterator[Item]) -> tuple[np.ndarray, list[Item], bool]:
  """Gives idle slots an item each.

  Args:
    held: `[S]` bool, the slots that have one; changed.
    queue: of the items; those taken are gone.

  Returns:
    The slots that are new, their items, and whether there may be more: the queue filled all slots.
  """
  idle = np.flatnonzero(~held)
  items = list(itertools.islice(queue, len(idle)))
  new = idle[: len(items)]
  held[new] = True
  return new, items, len(items) == len(idle)


def idle(shapes: PyTree) -> PyTree:
  """Idle slots of these shapes on the host, zeros throughout."""
  return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)


def put_in(entered_fn: Callable[[PyTree], PyTree], slots: PyTree, entry: PyTree, enters: Array) -> PyTree:
  """Starts the items that are new, a batch of `S / REFILL_SHARE` at a time.

  Args:
    entered_fn: from an entry of any number of items to slots that hold them, at their starts.
    slots: leaves with the leading axis S.
    entry: what the items are, leaves with the leading axis S; read where an item is new.
    enters: `[S]` bool, the item is new.

  Returns:
    The slots.
  """
  num_slots = len(enters)
  batch = max(1, num_slots // REFILL_SHARE)

  def put_batch(carry):
    slots, outside = carry
    places = jnp.nonzero(outside, size=batch, fill_value=num_slots)[0]  # Beyond the end: no item, dropped.
    items = jax.tree.map(lambda x: jnp.take(x, places, axis=0, mode='clip'), entry)
    slots = jax.tree.map(lambda old, new: old.at[places].set(new, mode='drop'), slots, entered_fn(items))
    return slots, outside.at[places].set(False, mode='drop')

  return jax.lax.while_loop(lambda carry: jnp.any(carry[1]), put_batch, (slots, enters))[0]


def few_are_free(live: EitherArray, waiting: EitherArray, axis_name: str | None = None) -> EitherArray:
  """Whether it is too early to refill.

  Args:
    live: `[S]` bool, the slot is at work.
    waiting: bool, there are more items; if not, all slots work to their ends.
    axis_name: of the devices, all of whose slots count; None = these alone. With one, none waits for another
      to have enough free slots of its own.
  """
  free, num_slots = (~live).sum(), len(live)
  if axis_name is not None:
    free, num_slots = jax.lax.psum((free, num_slots), axis_name)
  enough = max(1, num_slots // REFILL_SHARE)
  return (free < num_slots) & (free < num_slots - (num_slots - enough) * waiting)


def step_until_free(
  step_fn: Callable[[PyTree], PyTree],
  live_fn: Callable[[PyTree], Array],
  now: PyTree,
  shared: PyTree,
  axis_name: str | None = None,
) -> PyTree:
  """Steps all slots until enough are free to be worth refilling, or as often as the host allows.

  Args:
    step_fn: one step of what is stepped.
    live_fn: `[S]` bool, the slots at work.
    now: what is stepped.
    shared: `waiting`, a bool, and perhaps `turns`, an int32: after so many steps the host is asked. It can
      call again with nothing new; what is found does not depend on when it is asked.
    axis_name: of the devices, which take as many steps as each other; None = this one is alone.

  Returns:
    What was stepped.
  """
  turns = shared.get('turns')

  def with_verdict(now: PyTree, taken: Array) -> tuple[PyTree, Array, Array]:
    wanted = few_are_free(live_fn(now), shared['waiting'], axis_name)
    return now, taken, wanted if turns is None else wanted & (taken < turns)

  def step(carry: tuple[PyTree, Array, Array]) -> tuple[PyTree, Array, Array]:
    now, taken, _ = carry
    return with_verdict(step_fn(now), taken + 1)

  # The verdict is part of what is carried: devices cannot talk in a loop's condition.
  return jax.lax.while_loop(lambda carry: carry[2], step, with_verdict(now, jnp.zeros((), jnp.int32)))[0]
