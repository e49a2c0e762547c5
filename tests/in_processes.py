"""The training steps of `on_devices` in one of several processes.

python -m tests.in_processes OUT 127.0.0.1:1234 2 0    # OUT-0-of-2.npz, of process 0 of 2
"""

import sys

import numpy as np

from advmix_jax import hosts


def main(out: str, coordinator: str, count: str, index: str) -> None:
  hosts.start(hosts.Address(coordinator, int(count), int(index)), 20, 120, 120)
  from tests import on_devices  # It begins to use jax.

  found = {key: value for part in on_devices.steps() for key, value in part.items()}
  np.savez(f'{out}-{index}-of-{count}.npz', **found)
  hosts.leave(0)


if __name__ == '__main__':
  main(*sys.argv[1:])
