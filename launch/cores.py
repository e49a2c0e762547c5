"""A CPU's threads: how many a run has, and that each is a device of its own, among which steps are shared.

XLA's fastest convolutions use a single thread; so do some of the steps between them.
"""

import json
import math
import os
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict


def keep(workdir: Path) -> None:
  """A run that goes on uses as many threads as it began with: another number would change the last bits."""
  if found := read_versions(workdir):
    os.environ.setdefault('NPROC', str(found['threads']))


def share_out(workdir: Path, config: ConfigDict) -> None:
  """Makes the CPU as many devices as there are threads, if batches allow; before jax starts.

  A run that goes on has those it began with. `config.devices` and what jax itself is told come first.
  """
  from advmix_jax import threads

  found = read_versions(workdir)
  begun = found['devices'] if found.get('backend') == 'cpu' else 0
  set_devices(config.devices or begun or most_devices(config, threads.count()))


def set_devices(number: int) -> None:
  """Makes the CPU so many devices, if jax has not been told another number."""
  import jax

  given = os.environ.get('XLA_FLAGS', '')
  if 'JAX_NUM_CPU_DEVICES' not in os.environ and 'xla_force_host_platform_device_count' not in given:
    jax.config.update('jax_num_cpu_devices', number)


def most_devices(config: ConfigDict, at_most: int) -> int:
  """The largest number that shares every minibatch evenly, and the parts in which gradients are taken."""
  generator, train = config.generator, config.train
  parts = generator.micro_batches or (0,) * len(generator.batch_sizes)
  batches = [
    (generator.batch_size, generator.micro_batch),
    *zip(generator.batch_sizes, parts, strict=False),  # Lengths are checked later.
    (train.batch_size, train.micro_batch),
    *((config[key].batch_size, 0) for key in ('encode', 'evaluate')),
    (config.encode.init_batch_size, 0),
  ]
  common = math.gcd(*(size // part if part else size for size, part in batches))
  return largest_divisor(common, at_most)


def largest_divisor(number: int, at_most: int) -> int:
  return max(n for n in range(1, at_most + 1) if number % n == 0)


def read_versions(workdir: Path) -> dict[str, Any]:
  """With what a run began; {} for a new one. Raises `ValueError` for a damaged file."""
  file = workdir / 'versions.json'
  if not file.exists():
    return {}
  try:
    found: dict[str, Any] = json.loads(file.read_text())
    for key in ('threads', 'devices'):
      if not isinstance(found[key], int) or found[key] < 1:
        raise ValueError(f'{key} is {found[key]!r}')
  except (LookupError, TypeError, ValueError) as error:
    reason = f'{type(error).__name__}: {error}'
    raise ValueError(
      f'{file} is damaged ({reason}), expected JSON with numbers of threads and devices'
    ) from error
  return found
