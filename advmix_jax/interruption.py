"""What asks a run to stop: every loop polls, saves and ends; the same command goes on later."""

import signal
from types import FrameType

from advmix_jax.types import Interrupted, RunError

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
STOP = 'stop'  # A metric of the steps of several processes: the highest `code` among them.
FAILURE = 1000  # The code of an end that no signal asked for.

STATUS = 75  # Exit status of a run that saved what it had because it was asked to stop.

_received: list[int] = []
_failures: list[Exception] = []


def install() -> None:
  """From now on SIGTERM, SIGINT, SIGUSR1 and SIGUSR2 are noted instead of ending the process."""
  for number in SIGNALS:
    signal.signal(number, _note)


def ignore() -> None:
  """For processes that work for another one: that one decides when they end."""
  for number in SIGNALS:
    signal.signal(number, signal.SIG_IGN)


def _note(number: int, frame: FrameType | None) -> None:
  if number == signal.SIGINT and _received:  # A second Ctrl-C does not wait for the step to end.
    raise KeyboardInterrupt
  _received.append(number)


def fail(error: Exception) -> None:
  """For threads that find that the run cannot go on: the loops end with `error`."""
  _failures.append(error)


def requested() -> bool:
  """Whether a signal arrived, or a thread asks for an end."""
  return bool(_received or _failures)


def code() -> int:
  """What asks this process to stop, for the others of its run: the signal, or `FAILURE`; 0 = nothing."""
  return FAILURE if _failures else _received[0] if _received else 0


def take(code: int) -> bool:
  """Notes the `code` of another process, from whatever thread; whether there is one."""
  if code and not requested():
    if code == FAILURE:
      fail(RunError('another process of the run cannot go on; its own message says why'))
    else:
      _received.append(code)
  return bool(code)


def check(then: str = 'the same command goes on from here') -> None:
  """Raises `Interrupted` if a signal arrived; call where everything worth keeping is saved.

  Args:
    then: what the user is told about what is left.

  Raises:
    Interrupted: a signal arrived.
    Exception: what a thread gave to `fail`.
  """
  if _failures:
    raise _failures[0]
  if _received:
    raise Interrupted(f'stopped by {signal.Signals(_received[0]).name}; {then}')
