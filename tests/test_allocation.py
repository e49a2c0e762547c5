"""Memory that was freed is reused, not asked for again from the system."""

import platform
import subprocess
import sys

import pytest

PAGES = """
import resource, sys, threading
from launch import allocation
if sys.argv[1] == 'kept':
  allocation.keep_freed_memory()
pages = []
def work():
  for _ in range(5):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = b'1' * 100_000_000
    del block
    pages.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
thread = threading.Thread(target=work)
thread.start()
thread.join()
print(pages[-1])
"""


def pages_of_a_later_step(mode):
  done = subprocess.run([sys.executable, '-c', PAGES, mode], capture_output=True, text=True, check=True)
  return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='glibc alone has these settings')
def test_a_large_block_is_not_cleared_again():
  assert pages_of_a_later_step('kept') < 100 < pages_of_a_later_step('as it is')
