"""One launcher at a time in a sweep's folder."""

import contextlib
import fcntl
import os
import platform
from collections.abc import Iterator
from pathlib import Path

from advmix_jax.types import BadInputError


@contextlib.contextmanager
def held(out: Path) -> Iterator[None]:
  """Holds the folder; the system lets go of it when the process ends, however it ends.

  Raises:
    BadInputError: if another launcher holds it; names that.
  """
  file = out / 'sweep' / 'lock'
  file.parent.mkdir(parents=True, exist_ok=True)
  with file.open('a+') as held_file:
    try:
      fcntl.flock(held_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      held_file.seek(0)
      by = held_file.read().strip() or 'another process'
      raise BadInputError(
        f'--out={out} is in use by {by}, expected one launch of a sweep at a time'
      ) from None
    held_file.truncate(0)
    held_file.write(f'process {os.getpid()} on {platform.node()}')
    held_file.flush()
    yield
