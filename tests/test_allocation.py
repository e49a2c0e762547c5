"""A program that tunes malloc begins anew, once, as it was called."""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import json, os, sys
from launch import allocation
print('begun')
sys.stdout.flush()
allocation.tune_malloc()
print(json.dumps([os.environ.get(allocation.TUNABLES), sys.argv]))
"""


def run(tmp_path, environment):
  (tmp_path / 'program.py').write_text(PROGRAM)
  others = {key: value for key, value in os.environ.items() if key != 'GLIBC_TUNABLES'}
  paths = {'PYTHONPATH': str(Path(__file__).parents[1])}
  command = [sys.executable, '-B', str(tmp_path / 'program.py'), '--flag', 'two words']
  done = subprocess.run(
    command, env=others | paths | environment, capture_output=True, text=True, check=True, cwd=tmp_path
  )
  *begun, last = done.stdout.splitlines()
  tunables, arguments = json.loads(last)
  assert arguments == command[2:]
  return len(begun), tunables


@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='glibc alone has this setting')
def test_the_program_begins_anew_once_with_the_same_arguments(tmp_path):
  settings = ('hugetlb=1', 'mmap_max=0', 'trim_threshold=1099511627776', 'top_pad=67108864')
  assert run(tmp_path, {}) == (2, ':'.join(f'glibc.malloc.{setting}' for setting in settings))


@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='glibc alone has this setting')
@pytest.mark.parametrize(
  'in_thread, count, size', [(False, 1, 256 << 20), (True, 2000, 1 << 16)], ids=['a large one', "a thread's"]
)
def test_buffers_are_not_given_back_to_the_system(tmp_path, in_thread, count, size):
  """Counted in page faults: those of buffers as large as the first ones, which were freed."""
  _, tunables = run(tmp_path, {})
  program = f"""
import resource, threading
def faults():
  before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
  buffers = [bytearray({size}) for _ in range({count})]
  for buffer in buffers:
    buffer[::4096] = bytes(len(buffer) // 4096)
  return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
def measure():
  print(faults(), faults())
if {in_thread}:
  thread = threading.Thread(target=measure)
  thread.start()
  thread.join()
else:
  measure()
"""
  environment = os.environ | {'GLIBC_TUNABLES': tunables}
  done = subprocess.run([sys.executable, '-c', program], env=environment, capture_output=True, check=True)
  first, second = map(int, done.stdout.split())
  assert second <= first / 10


def test_a_setting_that_is_there_is_left_alone(tmp_path):
  assert run(tmp_path, {'GLIBC_TUNABLES': 'glibc.malloc.perturb=0'}) == (1, 'glibc.malloc.perturb=0')
