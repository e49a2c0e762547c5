"""The entry points as a user starts them."""

import pathlib
import subprocess
import sys
from collections.abc import Mapping

ROOT = pathlib.Path(__file__).parents[1]
PATIENCE = 600  # Seconds for what takes one minute on an idle machine.


def command(program: str, *flags: str) -> list[str]:
  return [sys.executable, '-m', f'launch.{program}', *flags]


def run(environment: Mapping[str, str], program: str, *flags: str) -> subprocess.CompletedProcess[str]:
  """To its end."""
  return subprocess.run(
    command(program, *flags), cwd=ROOT, env=environment, capture_output=True, text=True, timeout=PATIENCE
  )


def smoke_flags(workdir: pathlib.Path) -> tuple[str, str]:
  return ('--config=configs/smoke.py', f'--workdir={workdir}')


def refused(done: subprocess.CompletedProcess[str]) -> str:
  """The one line of a command that ended for bad input."""
  assert done.returncode == 2, (done.returncode, done.stderr)
  assert 'Traceback' not in done.stdout + done.stderr
  (line,) = done.stderr.splitlines()
  assert line.startswith('error: ')
  return line
