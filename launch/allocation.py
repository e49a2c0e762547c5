"""How glibc gets the memory of the program that is being started."""

import os
import platform
import sys

TUNABLES = 'GLIBC_TUNABLES'
# Large pages; and what is freed is kept: by default every buffer of a step would go back to the system, and
# what a thread has beyond its first 64 MiB, which is as much as glibc gives it at once.
SETTINGS = ('hugetlb=1', 'mmap_max=0', f'trim_threshold={1 << 40}', f'top_pad={64 << 20}')


def tune_malloc() -> None:
  """Begins the program anew with settings of glibc that can be made at a start alone.

  The buffers of a step are too large for malloc's heap, so every step gets new pages from the system, which
  has to clear and to map them. To be called first of all, and only by what is started from a command line.
  Elsewhere, and where the variable is set, nothing happens.
  """
  if platform.libc_ver()[0] != 'glibc' or TUNABLES in os.environ:
    return
  os.environ[TUNABLES] = ':'.join(f'glibc.malloc.{setting}' for setting in SETTINGS)
  os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
