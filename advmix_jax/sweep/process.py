"""Processes that do not outlive the one that started them."""

import os
import signal
import subprocess
import sys
from pathlib import Path

TETHER = Path(__file__).with_name('tether.py')


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
