"""One process at a time writes a run's folder: a lock with a fencing token.

    lock = run_lock.acquire(folder)   # BadInputError while another run is at work there
    run_lock.check(folder / 'x')      # RunError once the lock was taken over; before every write
    lock.release()

The owner is the file with the highest number in `folder/lock`; the number is its token. Only one process can
make a number. It then deletes those before, so an owner whose file is gone knows that it owns nothing now.
The last number stays when a run ends: no token comes twice.

An owner is taken over if it has ended (same machine), if it is an earlier start of the same Slurm job (a
requeued copy on another node), or if its heartbeat, a counter in its file, stands still. No clock is
compared: what counts is how long the counter stood still while this process looked.
"""

import errno
import json
import os
import threading
import time
from pathlib import Path
from typing import NamedTuple

from advmix_jax import interruption
from advmix_jax.process_identity import machine, start_time
from advmix_jax.types import BadInputError, RunError

FOLDER = 'lock'
BEAT_SECONDS = 5.0  # Between two heartbeats.
STALE_SECONDS = 30.0  # A heartbeat that stands still for so long has stopped.
RELEASED = 'released'

_held: dict[Path, 'Token'] = {}


class Owner(NamedTuple):
  """Who holds a lock.

  Attributes:
    host: its name, for people.
    pid: of the process.
    started: when the process started, as the system counts; '' where it does not tell.
    machine: where the pid means something: this boot of this kernel, this container.
    job: Slurm's, '' without one.
    restarts: how often Slurm has requeued the job.
  """

  host: str
  pid: int
  started: str
  machine: str
  job: str
  restarts: int


class Token:
  """What an owner writes by: its own process, and others that make one run with it (`follow`).

  Attributes:
    folder: that is locked, absolute.
    token: higher than that of every owner before.
  """

  def __init__(self, folder: Path, token: int):
    self.folder, self.token = folder, token
    self._file = folder / FOLDER / str(token)

  def check(self) -> None:
    """Raises `RunError` if another run has taken the folder over. Opens a file: microseconds, also a look
    at the server where the folder is on another machine."""
    try:
      os.close(os.open(self._file, os.O_RDONLY))
    except OSError as error:
      if error.errno not in (errno.ENOENT, errno.ESTALE):
        raise
      raise self._lost() from None

  def _lost(self) -> RunError:
    newest = _newest(self.folder)
    owner = None if newest is None else _read(self.folder, newest)[0]
    by = '' if owner is None else f' by process {owner.pid} on {owner.host}'
    return RunError(
      f'{self.folder} was taken over{by}: this run no longer holds its lock (token {self.token}, now '
      f'{newest or "none"}) and has stopped writing'
    )


class Lock(Token):
  """Held until `release`; a thread keeps the heartbeat going. Made by `acquire`."""

  def __init__(self, folder: Path, token: int, beat_seconds: float):
    super().__init__(folder, token)
    self._ended = threading.Event()
    self._heart = threading.Thread(target=self._beat, args=(beat_seconds,), name='heartbeat', daemon=True)
    self._heart.start()

  def release(self) -> None:
    """Lets another run have the folder at once. Does nothing if the lock was lost."""
    self._ended.set()
    self._heart.join()
    _held.pop(self.folder, None)
    self._write_state(RELEASED)

  def _beat(self, seconds: float) -> None:
    number = 0
    while not self._ended.wait(seconds):
      number += 1
      if not self._write_state(str(number)):
        interruption.fail(self._lost())
        return

  def _write_state(self, text: str) -> bool:
    """Writes the second line of the file in place, never makes the file; whether it is still there."""
    try:
      with self._file.open('r+b') as file:
        file.readline()
        file.write(f'{text:<12}\n'.encode())
    except OSError as error:  # Others, such as a full disk, are no reason to stop: a later beat may work.
      return error.errno not in (errno.ENOENT, errno.ESTALE)
    return True


def acquire(
  folder: Path, *, stale_seconds: float = STALE_SECONDS, beat_seconds: float = BEAT_SECONDS
) -> Lock:
  """Locks a folder for this process.

  Args:
    folder: absolute; it exists.
    stale_seconds: how long the heartbeat of an owner on another machine must stand still.
    beat_seconds: between this owner's heartbeats.

  Raises:
    BadInputError: another run is at work there; names its process and machine.
    Interrupted: a signal arrived while the heartbeat was watched.
  """
  (folder / FOLDER).mkdir(exist_ok=True)
  me = _myself()
  while True:
    newest = _newest(folder)
    if newest is not None and not _may_take(folder, newest, me, stale_seconds):
      continue
    token = (newest or 0) + 1
    if not _make(folder, token, me):
      continue  # Another was faster: is it at work?
    if _newest(folder) != token:  # What was looked at was old: others came and went meanwhile.
      _file(folder, token).unlink()
      continue
    for number in _numbers(folder):
      if number < token:
        _file(folder, number).unlink(missing_ok=True)
    _held[folder] = lock = Lock(folder, token, beat_seconds)
    return lock


def follow(folder: Path, token: int) -> None:
  """From now on this process writes to the folder as long as the owner of that token holds it."""
  _held[folder] = Token(folder, token)


def check(path: Path) -> None:
  """Raises `RunError` if `path` is in a folder whose lock this process has lost; call before every write."""
  for folder, lock in list(_held.items()):
    if Path(path).absolute().is_relative_to(folder):
      lock.check()


def holder(folder: Path) -> Owner | None:
  """Who holds the lock of a folder, as far as its files tell; None if it is free."""
  newest = _newest(folder)
  if newest is None:
    return None
  owner, state = _read(folder, newest)
  return None if state == RELEASED or (owner and _has_ended(owner)) else owner


def _may_take(folder: Path, token: int, me: Owner, stale_seconds: float) -> bool:
  """Whether the owner of that token is no more; False if something changed and it is to be asked again."""
  owner, state = _read(folder, token)
  if state == RELEASED:
    return True
  if owner is not None:
    if owner.job and owner.job == me.job and owner.restarts < me.restarts:
      return True
    if owner.machine == me.machine:
      if _has_ended(owner):
        return True
      raise _in_use(folder, owner, '')
  who = 'a run' if owner is None else f'process {owner.pid} on {owner.host}'
  print(
    f'{folder} was last in use by {who}: taken over if there is no sign of life for {stale_seconds:.0f} s',
    flush=True,
  )
  before, end = _text(folder, token), time.monotonic() + stale_seconds
  while time.monotonic() < end:
    interruption.check()
    time.sleep(min(1.0, stale_seconds / 10))
    now = _text(folder, token)
    if now != before and owner is not None and now and _read(folder, token)[1] != RELEASED:
      raise _in_use(folder, owner, f', or delete {folder / FOLDER}: it then stops before its next write')
    if now != before:
      return False
  return True


def _in_use(folder: Path, owner: Owner, other_way: str) -> BadInputError:
  return BadInputError(
    f'--workdir={folder} is in use by process {owner.pid} on {owner.host}: wait for it or end it{other_way}'
  )


def _file(folder: Path, token: int) -> Path:
  return folder / FOLDER / str(token)


def _numbers(folder: Path) -> list[int]:
  try:
    return [int(name) for name in os.listdir(folder / FOLDER) if name.isdecimal()]
  except FileNotFoundError:
    return []


def _newest(folder: Path) -> int | None:
  return max(_numbers(folder), default=None)


def _make(folder: Path, token: int, owner: Owner) -> bool:
  """Makes the file of a token; False if there is one."""
  (folder / FOLDER).mkdir(exist_ok=True)
  try:
    file = os.open(_file(folder, token), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
  except FileExistsError:
    return False
  try:
    os.write(file, f'{json.dumps(owner._asdict())}\n{0:<12}\n'.encode())
  except OSError as error:  # A full disk. Others would wait for the heartbeat of an empty file.
    _file(folder, token).unlink()
    raise OSError(error.errno, error.strerror, str(_file(folder, token))) from error
  finally:
    os.close(file)
  return True


def _text(folder: Path, token: int) -> str:
  try:
    return _file(folder, token).read_text()
  except FileNotFoundError:
    return ''


def _read(folder: Path, token: int) -> tuple[Owner | None, str]:
  """Owner and state; None for a file that is gone, or that its maker had no time to fill."""
  first, _, state = _text(folder, token).partition('\n')
  try:
    return Owner(**json.loads(first)), state.strip()
  except (ValueError, TypeError):
    return None, ''


def _myself() -> Owner:
  environment = os.environ
  return Owner(
    host=os.uname().nodename,
    pid=os.getpid(),
    started=start_time(os.getpid()) or '',
    machine=machine(),
    job=environment.get('SLURM_JOB_ID', ''),
    restarts=int(environment.get('SLURM_RESTART_COUNT') or 0),
  )


def _has_ended(owner: Owner) -> bool:
  """Of an owner on this machine: its process is gone, or dead, or the pid is another's by now."""
  return owner.machine == machine() and start_time(owner.pid) != owner.started
