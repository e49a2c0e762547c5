"""Seconds that a run has spent in each stage, over all the processes it took.

`stage_seconds.json` in the workdir holds them, and what is running. A process that is killed cannot write
what it spent; the next one finds its mark, and counts its stage up to the last sign of life in the workdir.
"""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from advmix_jax import hosts, run_lock
from advmix_jax.workdir import read_json, write_json

FILE = 'stage_seconds.json'
SIGNS_OF_LIFE = ('metrics.jsonl', '*/*', '*/*/*')


@contextlib.contextmanager
def counted(workdir: Path, stage: str) -> Iterator[None]:
  """Adds the seconds of the body to those of the stage, also when it ends with an exception."""
  if not hosts.is_first():
    yield
    return
  record = read_seconds(workdir)
  before = record.get(stage, 0.0)
  start, started = time.monotonic(), time.time()
  write(workdir, record, {'stage': stage, 'since': started})
  try:
    yield
  finally:
    write(workdir, record | {stage: before + time.monotonic() - start}, None)


def read_seconds(workdir: Path) -> dict[str, float]:
  """Seconds by stage; {} for a run without a record."""
  file = workdir / FILE
  if not file.exists():
    return {}
  found = read_json(file)
  seconds: dict[str, float] = found['seconds']
  killed = found['running']
  if killed is not None:
    spent = max(0.0, last_sign_of_life(workdir) - killed['since'])
    seconds = seconds | {killed['stage']: seconds.get(killed['stage'], 0.0) + spent}
  return seconds


def write(workdir: Path, seconds: dict[str, float], running: dict[str, Any] | None) -> None:
  write_json(workdir / FILE, {'seconds': seconds, 'running': running})


def last_sign_of_life(workdir: Path) -> float:
  """When a file was last written, as seconds since the epoch."""
  files = (path for pattern in SIGNS_OF_LIFE for path in workdir.glob(pattern) if path.name != FILE)
  files = (path for path in files if path.parent.name != run_lock.FOLDER)  # The next process's already.
  return max((path.stat().st_mtime for path in files if path.is_file()), default=0.0)
