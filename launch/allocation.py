"""Keeps freed memory in the process."""

import ctypes
import sys

# Parameters of glibc's mallopt(3).
TRIM_THRESHOLD, MMAP_MAX, ARENA_MAX = -1, -4, -8


def keep_freed_memory() -> None:
  """Makes glibc reuse the memory that a step frees; to be called before there are threads. Elsewhere nothing.

  The buffers of a step are too large for its heap, so by default every step gets new pages from the system,
  which has to clear them. The price is that the process stays as large as it was at its largest.
  """
  if not sys.platform.startswith('linux'):
    return
  library = ctypes.CDLL(None)
  if not hasattr(library, 'gnu_get_libc_version'):
    return
  library.mallopt(ARENA_MAX, 1)  # Only the first arena can hold large blocks.
  library.mallopt(MMAP_MAX, 0)
  library.mallopt(TRIM_THRESHOLD, 2**31 - 1)
