"""What tells a process from all others, also when its number is another's by now."""

import os
import platform
import subprocess
from pathlib import Path
from typing import Any


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


def machine() -> str:
  """Within which process numbers mean something: this boot of this system, this container."""
  return f'{platform.node()} {boot()} {number_space()}'
