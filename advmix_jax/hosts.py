"""Several processes that make one run: how they start, wait for each other and end together.

`jax.distributed` joins them. Every process runs the same program on devices of its own; process 0 alone
writes what they share, in a file system that all of them see. What process 0 writes, the others read after it
said so (`by_first`); whether something is there they ask it (`agreed`), as their own view of a network file
system may be a minute old. In a run of one process nothing here waits or does anything.

  hosts.start(hosts.Address('node1:1234', num_processes=2, process_id=0), 15, 120, 7200)  # Before all of jax.
  if not hosts.agreed(file.exists):
    train()
    hosts.by_first(lambda: write(file))
  hosts.leave(0)
"""

import concurrent.futures
import contextlib
import ctypes
import functools
import itertools
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, NoReturn, TypeVar

import jax
import numpy as np
from jax._src import distributed  # Its client has no public name; orbax takes it from here as well.

from advmix_jax import interruption
from advmix_jax.types import BadInputError, RunError

T = TypeVar('T')
Items = TypeVar('Items', list, np.ndarray)

FAREWELL_SECONDS = 3.0  # A process that failed gives the others so long to say why they did.
STOPPING_SECONDS = 60.0  # One that was asked to stop, so long to save.
RELAY_SECONDS = 0.5
SLICE_SECONDS = 0.5  # Of waiting, between two looks at signals.
GRACE_SECONDS = 30  # After a time limit of ours jax would end the process, with a stack trace.


class Address(NamedTuple):
  """Where the processes meet, and which this one is; None = as Slurm, or what else jax knows, says.

  Attributes:
    coordinator: `HOST:PORT` on the machine of process 0.
    num_processes: of the run.
    process_id: of this process, from 0.
  """

  coordinator: str | None = None
  num_processes: int | None = None
  process_id: int | None = None


class _Run:
  """The connection to the other processes."""

  def __init__(self, wait_seconds: float):
    state = distributed.global_state
    self.client: Any = state.client
    self.index, self.count = state.process_id, state.num_processes
    self.wait_seconds = wait_seconds
    self.calls = itertools.count()  # Every process makes the same calls in the same order.
    self.status: int | None = None  # With which it leaves.


_run: _Run | None = None
_alone = False
_handlers: list[Any] = []  # What C calls must not be collected.


def start(address: Address, heartbeat_seconds: int, start_seconds: int, wait_seconds: float) -> None:
  """Joins the processes of a run; returns when all are there. Nothing else may have used jax before.

  Args:
    address: of the run.
    heartbeat_seconds: without a sign of life after which a process counts as lost, and the run ends.
    start_seconds: in which all have to be there; after them the process ends with a sentence.
    wait_seconds: that a process waits for another one elsewhere, say while process 0 reads the data.

  Raises:
    BadInputError: jax does not know where the processes meet, or the address cannot be used.
  """
  global _run
  where = address.coordinator or 'the first machine of the Slurm step'
  jax.config.update('jax_enable_preemption_service', False)  # Signals are `interruption`'s.
  _say_why_jax_aborts()
  join = functools.partial(
    jax.distributed.initialize,
    *address,
    local_device_ids=_devices_of_one_task(),
    initialization_timeout=start_seconds + GRACE_SECONDS,
    heartbeat_timeout_seconds=heartbeat_seconds,
  )
  joined = concurrent.futures.Future[None]()
  threading.Thread(target=_settle, args=(joined, join), name='start', daemon=True).start()
  try:
    joined.result(start_seconds)  # Here signals are heard, which they are not within jax.
  except concurrent.futures.TimeoutError:
    number = f'all {address.num_processes} processes' if address.num_processes else 'all processes'
    sentence = (
      f'--distributed: expected {number} at {where} within {start_seconds} s '
      '(config.distributed.start_seconds), process 0 on that machine; some did not come'
    )
    os.write(2, f'error: {sentence}\n'.encode())
    os._exit(1)
  except (ValueError, RuntimeError) as error:
    reason = str(error).strip().splitlines()[0]
    raise BadInputError(
      f'--distributed: the processes cannot be joined at {where} ({reason}); expected Slurm, or '
      '--coordinator=HOST:PORT, --num_processes and --process_id'
    ) from error
  if distributed.global_state.num_processes > 1:
    _run = _Run(wait_seconds)
    threading.Thread(target=_relay, args=(_run.client,), name='relay', daemon=True).start()


def _settle(future: concurrent.futures.Future[None], fn: Callable[[], None]) -> None:
  try:
    fn()
    future.set_result(None)
  except Exception as error:
    future.set_exception(error)


def _devices_of_one_task() -> list[int] | None:
  """All accelerators where Slurm has one task on each machine: jax would take one for each task."""
  tasks, machines = (os.environ.get(f'SLURM_{name}') for name in ('NTASKS', 'STEP_NUM_NODES'))
  if tasks is None or tasks != machines:
    return None
  visible = os.environ.get('CUDA_VISIBLE_DEVICES')
  number = len(visible.split(',')) if visible else int(os.environ.get('SLURM_GPUS_ON_NODE') or 0)
  return list(range(number)) or None


def count() -> int:
  """Processes of the run."""
  return 1 if _run is None else _run.count


def index() -> int:
  """Number of this process, from 0."""
  return 0 if _run is None else _run.index


def is_first() -> bool:
  """Whether this is the process that writes what they share."""
  return index() == 0


def own(items: Items) -> Items:
  """This process's part of what every process works on a part of: every n-th."""
  return items[index() :: count()]


def gather(value: Any = None) -> list[Any]:
  """The values of all processes, in their order; a process goes on when all are here.

  Args:
    value: what JSON can hold.

  Raises:
    Interrupted: a signal arrived here or in another process; it is raised in all of them.
    RunError: another process was not here within `wait_seconds`.
  """
  assert not _alone, 'the other processes are not here'
  return [value] if _run is None else _gathered(_run, f'advmix/{next(_run.calls)}', value, _run.wait_seconds)


def _gathered(run: _Run, name: str, value: Any, seconds: float, heeds_signals: bool = True) -> list[Any]:
  run.client.key_value_set(f'{name}/{run.index}', json.dumps(value))
  deadline = time.monotonic() + seconds
  return [json.loads(_value_of(run, f'{name}/{i}', i, deadline, heeds_signals)) for i in range(run.count)]


def _value_of(run: _Run, key: str, process: int, deadline: float, heeds_signals: bool) -> str:
  while True:
    try:
      found: str = run.client.blocking_key_value_get(key, round(1000 * SLICE_SECONDS))
      return found
    except jax.errors.JaxRuntimeError as error:
      if 'DEADLINE_EXCEEDED' not in str(error):
        raise RunError(f'process 0 of the run does not answer ({str(error).splitlines()[0]})') from error
    # Only after the look at the key: where one process goes on, all do.
    if heeds_signals:
      interruption.check()
    if time.monotonic() > deadline:
      raise RunError(
        f'process {process} of the run is behind: process {run.index} has waited for it too long'
      )


def agreed(fn: Callable[[], Any]) -> Any:
  """What `fn()` is in process 0, which alone calls it; to be what JSON can hold."""
  return gather(fn() if is_first() else None)[0]


def by_first(fn: Callable[[], object]) -> None:
  """Calls `fn()` in process 0 alone; the others go on when that is done."""
  if is_first():
    with alone():
      fn()
  gather()


@contextlib.contextmanager
def alone() -> Iterator[None]:
  """In its body no other process is waited for: they do not go through it."""
  global _alone
  before, _alone = _alone, True
  try:
    yield
  finally:
    _alone = before


def first_before_others(fn: Callable[[], T]) -> T:
  """`fn()`, in process 0 before the others, which may find on disk what it made."""
  if is_first():
    with alone():
      made = fn()
    gather()
    return made
  gather()
  with alone():
    return fn()


def lost(error: BaseException) -> str | None:
  """A sentence, if `error` is what jax raises where another process is gone; else None."""
  if _run is None or not isinstance(error, ValueError | RuntimeError):
    return None
  reason = str(error).strip().splitlines() or ['']
  signs = ('gloo', 'nccl', 'coordination', 'connection', 'unavailable', 'socket')
  return _LOST + f' ({reason[0]})' if any(sign in reason[0].lower() for sign in signs) else None


_LOST = (
  'another process of the run was lost, so this one ends; the same command goes on from the last checkpoint'
)


def leave(status: int) -> NoReturn:
  """Ends this process; where the others end as well, when they do: the first to go would take them along."""
  assert _run is not None
  seconds = {0: _run.wait_seconds, interruption.STATUS: STOPPING_SECONDS}.get(status, FAREWELL_SECONDS)
  _run.status = status
  with contextlib.suppress(Exception):
    _tell(_run.client)
    _gathered(_run, 'advmix/end', status, seconds, heeds_signals=False)
  for stream in (sys.stdout, sys.stderr):
    with contextlib.suppress(Exception):
      stream.flush()
  if is_first():
    time.sleep(SLICE_SECONDS)  # The others learn from it that all are here.
  os._exit(status)  # jax's own end would wait for processes that are gone.


def _relay(client: Any) -> None:
  """Tells the other processes what asks this one to stop, or this one what asks them."""
  with contextlib.suppress(Exception):  # Where process 0 is gone, jax ends this one.
    while not _tell(client):
      time.sleep(RELAY_SECONDS)
      for _, code in client.key_value_dir_get('advmix/stop'):
        interruption.take(int(code))


def _tell(client: Any) -> bool:
  """Whether there was something to tell."""
  code = interruption.code()
  if code:
    client.key_value_set('advmix/stop/code', str(code), allow_overwrite=True)
  return bool(code)


def _say_why_jax_aborts() -> None:
  """jax aborts a process that has lost the others, and calls no Python; a handler in C can."""

  def end(unused_number: int) -> None:
    status = None if _run is None else _run.status
    if status is None:
      asked = interruption.requested()
      status = interruption.STATUS if asked else 1
      os.write(2, f'{"" if asked else "error: "}{_LOST}\n'.encode())
    os._exit(status)

  _handlers.append(ctypes.CFUNCTYPE(None, ctypes.c_int)(end))
  ctypes.CDLL(None).signal(signal.SIGABRT, _handlers[-1])
