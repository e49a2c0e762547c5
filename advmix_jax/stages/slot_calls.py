"""Calls of a program that steps slots (`refill.advance`, `encode_refill.advance`), of about a second each.

One call for all steps of Algorithm 1 or 2 may take hours: signals and the watchdog would have to wait.
How long a call is changes neither what enters which slot nor what is found.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from advmix_jax import parallel, slot_queue
from advmix_jax.types import PyTree

SECONDS = 1.0
GROWTH = 4  # At most, from call to call.


class SlotCalls:
  """The program, over all devices, with the number of steps that take about a second.

  Args:
    advance_fn: `(shared, slots, entry) -> slots, found` of `parallel.pmap_carry`.
  """

  def __init__(self, advance_fn: Callable[[PyTree, PyTree, PyTree], tuple[PyTree, PyTree]]):
    self._advance = advance_fn
    self._turns = 1

  def enter(self, shared: PyTree, slots: PyTree, entry: Any) -> PyTree:
    """Puts items into slots and takes no step."""
    limits = {'waiting': np.bool_(False), 'turns': np.int32(0)}
    return self._advance(shared | limits, slots, parallel.shard(entry))[0]

  def __call__(
    self, shared: PyTree, slots: PyTree, entry: Any, waiting: bool, pause_fn: Callable[[PyTree, Any], None]
  ) -> tuple[PyTree, Any]:
    """Steps the slots until enough of them are free to be worth refilling.

    Args:
      shared: what the program needs, but for `waiting` and `turns`.
      slots: on the devices; consumed.
      entry: what the slots hold, on the host.
      waiting: there are more items.
      pause_fn: `(slots, entry)`, called before every call.

    Returns:
      The slots, and what they found, on the host.
    """
    while True:
      pause_fn(slots, entry)
      start = time.monotonic()
      limits = {'waiting': np.bool_(waiting), 'turns': np.int32(self._turns)}
      slots, found = self._advance(shared | limits, slots, parallel.shard(entry))
      found = parallel.unshard(found)
      seconds = time.monotonic() - start
      goes_on = bool(slot_queue.few_are_free(entry.held & ~found.finished, waiting))
      if goes_on or seconds > SECONDS:  # Otherwise it may not have taken all its turns.
        self._turns = int(np.clip(self._turns * SECONDS / seconds, 1, GROWTH * self._turns))
      if not goes_on:
        return slots, found
      entry = entry._replace(enters=np.zeros_like(entry.enters))
