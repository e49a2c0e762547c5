"""How many threads XLA computes with on a CPU, and how many of them each of its devices has."""

import os

import jax


def count() -> int:
  """Threads of this process, as XLA reckons: `$NPROC`, or the cores that it may use."""
  return int(os.environ.get('NPROC') or len(os.sched_getaffinity(0)))


def has_one_each() -> bool:
  """Whether the devices are as many as the threads; then work that XLA gives to one thread idles none."""
  return jax.local_device_count() >= count()
