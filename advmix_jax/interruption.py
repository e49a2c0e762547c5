"""Signals that ask a run to stop: every loop polls, saves and ends; the same command goes on later."""

import signal
from types import FrameType

from advmix_jax.types import Interrupted

STOP = 'stop'  # A metric of the steps of several processes: a signal has arrived in one of them.

_received: list[int] = []


def install() -> None:
  """From now on SIGTERM, SIGINT, SIGUSR1 and SIGUSR2 are noted instead of ending the process."""
  for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
    signal.signal(number, _note)


def _note(number: int, frame: FrameType | None) -> None:
  if number == signal.SIGINT and _received:  # A second Ctrl-C does not wait for the step to end.
    raise KeyboardInterrupt
  note(number)


def note(number: int) -> None:
  """Takes a signal as received; for those of other processes."""
  _received.append(number)


def received() -> int | None:
  """The signal that arrived first."""
  return _received[0] if _received else None


def requested() -> bool:
  """Whether a signal arrived."""
  return bool(_received)


def check(then: str = 'the same command goes on from here') -> None:
  """Raises `Interrupted` if a signal arrived; call where everything worth keeping is saved.

  Args:
    then: what the user is told about what is left.
  """
  if _received:
    raise Interrupted(f'stopped by {signal.Signals(_received[0]).name}; {then}')
