"""One launcher at a time in a sweep's folder."""

import contextlib
import fcntl
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from advmix_jax.types import BadInputError

LOOK_SECONDS = 1.0  # More than `is_held` of another process takes.


@contextlib.contextmanager
def held(out: Path) -> Iterator[None]:
  """Holds the folder; the system lets go of it when the process ends, however it ends.

  Raises:
    BadInputError: if another launcher holds it; names that.
  """
  lock = file(out)
  lock.parent.mkdir(parents=True, exist_ok=True)
  with lock.open('a+') as own:
    end = time.monotonic() + LOOK_SECONDS
    while not take(own, fcntl.LOCK_EX):
      if time.monotonic() > end:
        by = lock.read_text().strip() or 'another process'
        raise BadInputError(f'--out={out} is in use by {by}, expected one launch of a sweep at a time')
      time.sleep(0.1)
    own.truncate(0)
    own.write(f'process {os.getpid()} on {platform.node()}')
    own.flush()
    yield


def is_held(out: Path) -> bool:
  """Whether a launcher, on any machine, has the folder."""
  if not file(out).exists():
    return False
  with file(out).open() as looked_at:
    return not take(looked_at, fcntl.LOCK_SH)


def take(opened: IO[str], kind: int) -> bool:
  """Locks an open file, if that can be done at once."""
  try:
    fcntl.flock(opened, kind | fcntl.LOCK_NB)
  except BlockingIOError:
    return False
  return True


def file(out: Path) -> Path:
  return out / 'sweep' / 'lock'
