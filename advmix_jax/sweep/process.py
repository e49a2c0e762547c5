"""Processes that are told apart for good, and that do not outlive the one that started them."""

import os
import platform
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

TETHER = Path(__file__).with_name('tether.py')


def identity(pid: int) -> dict[str, Any]:
  """What tells a process from all others, now and later: machine, its boot, container, number, start."""
  return {
    'host': platform.node(),
    'boot': boot(),
    'space': number_space(),
    'pid': pid,
    'start': start_time(pid),
  }


def is_here(found: dict[str, Any]) -> bool:
  """Whether an identity is of this machine, so that `is_alive` can tell."""
  if found['host'] != platform.node():
    return False
  return found['boot'] != boot() or found['space'] == number_space()  # Containers share a boot.


def is_alive(found: dict[str, Any]) -> bool:
  """Whether the process of an identity of this machine still runs; a zombie does not."""
  started = start_time(found['pid'])
  return started is not None and started == found['start'] and found['boot'] == boot()


def boot() -> str:
  """Changes when the machine starts; '' where the system does not say."""
  file = Path('/proc/sys/kernel/random/boot_id')
  return file.read_text().strip() if file.exists() else ''


def number_space() -> int:
  """Of the container, within which process numbers mean something; 0 where the system does not say."""
  try:
    return os.stat('/proc/self/ns/pid').st_ino
  except OSError:
    return 0


def start_time(pid: int) -> str | None:
  """When a process started; None if it has ended."""
  try:
    text = Path(f'/proc/{pid}/stat').read_text()
  except OSError:
    return started_by_ps(pid) if not Path('/proc/self/stat').exists() else None
  state, *rest = text.rpartition(')')[2].split()  # The name before it may hold anything.
  return None if state in ('Z', 'X') else rest[18]


def started_by_ps(pid: int) -> str | None:
  """The same where there is no /proc, to the second."""
  done = subprocess.run(['ps', '-o', 'lstart=', '-p', str(pid)], capture_output=True, text=True)
  return done.stdout.strip() or None


def start(command: list[str], log: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
  """Starts a command in a session of its own, its output appended to `log`.

  A terminal's Ctrl-C does not reach it: who started it passes signals on. If that process dies, the command
  gets SIGTERM (`tether`), so it saves what it has and ends. To be called in the main thread, whose end the
  kernel would take for the process's.
  """
  with log.open('ab') as file:
    return subprocess.Popen(
      [sys.executable, '-I', str(TETHER), str(os.getpid()), *command],
      stdin=subprocess.DEVNULL,
      stdout=file,
      stderr=subprocess.STDOUT,
      env=environment,
      start_new_session=True,
    )


def signal_name(number: int) -> str:
  """SIGKILL for 9, and so on."""
  try:
    return signal.Signals(number).name
  except ValueError:
    return f'signal {number}'
