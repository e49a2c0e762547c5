"""Memory in large pages for the program that is being started."""

import os
import platform
import sys

TUNABLES = 'GLIBC_TUNABLES'


def use_large_pages() -> None:
  """Begins the program anew with glibc's large pages, which can be asked for at a start alone.

  The buffers of a step are too large for malloc's heap, so every step gets new pages from the system, which
  has to clear and to map them: with large ones there is less of that. To be called first of all, and only by
  what is started from a command line. Elsewhere, and where the variable is set, nothing happens.
  """
  if platform.libc_ver()[0] != 'glibc' or TUNABLES in os.environ:
    return
  os.environ[TUNABLES] = 'glibc.malloc.hugetlb=1'
  os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
