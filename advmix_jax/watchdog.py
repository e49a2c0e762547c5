"""Ends a run that hangs: a device that no longer answers, a peer that is gone, a file system that blocks.

    with Watchdog('gan', config.watchdog) as dog:
      for step in ...:
        ...
        dog.step_done()

If no step is done within its limit, the stacks of all threads are written to standard error and the process
ends with status 1; what was saved is kept. A step in which jax compiles something has the limit of the first.
"""

import faulthandler
import os
import sys
import threading
import time

import jax
from ml_collections import ConfigDict

STATUS = 1
_TICK_SECONDS = 1.0
_TRACED = '/jax/core/compile/jaxpr_trace_duration'  # What jax reports just before it compiles.


class Watchdog:
  """Watches the body of a `with`; see above. One at a time.

  Args:
    name: of what is watched, for the message.
    limits: the keys `watchdog.*`, seconds; 0 = none.
  """

  def __init__(self, name: str, limits: ConfigDict):
    self._name = name
    self._first, self._later = limits.first_step_seconds, limits.step_seconds
    self._step: tuple[float, str] = (0.0, 'first_step_seconds')  # When it began, and the key of its limit.
    self._ended = threading.Event()
    self._thread = threading.Thread(target=self._watch, name='watchdog', daemon=True)

  def __enter__(self) -> 'Watchdog':
    self._step = (time.monotonic(), 'first_step_seconds')
    if self._first or self._later:
      jax.monitoring.register_event_duration_secs_listener(self._note)
      self._thread.start()
    return self

  def __exit__(self, *unused_exception: object) -> None:
    self._ended.set()
    if self._thread.is_alive():
      self._thread.join()
      jax.monitoring.unregister_event_duration_listener(self._note)

  def step_done(self) -> None:
    """A sign of life: from now on the next step counts."""
    self._step = (time.monotonic(), 'step_seconds')

  def _note(self, event: str, duration_secs: float, **kwargs: str | int) -> None:
    if event == _TRACED:
      self._step = (self._step[0], 'first_step_seconds')

  def _watch(self) -> None:
    began, spent, now = self._step[0], 0.0, time.monotonic()
    while not self._ended.wait(_TICK_SECONDS):
      before, now = now, time.monotonic()
      if began != self._step[0]:
        began, spent = self._step[0], 0.0
      # Not the time since: a process that is stopped (SIGSTOP, a computer that sleeps) spends none.
      spent += min(now - before, 2 * _TICK_SECONDS)
      key = self._step[1]
      limit = self._later if key == 'step_seconds' else self._first
      if limit and spent > limit:
        self._end(key, limit)

  def _end(self, key: str, limit: float) -> None:
    print(
      f'error: {self._name}: no step was done within {limit:g} s (config.watchdog.{key}); what was saved is '
      'kept, the same command goes on from there. What every thread was doing:',
      file=sys.__stderr__,
      flush=True,
    )
    if sys.__stderr__ is not None:
      faulthandler.dump_traceback(all_threads=True, file=sys.__stderr__)
    os._exit(STATUS)
