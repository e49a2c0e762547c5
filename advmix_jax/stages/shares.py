"""What every process found of its part of the examples, put together by process 0."""

from pathlib import Path

import numpy as np

from advmix_jax import hosts
from advmix_jax.workdir import read_arrays, write_arrays


def merged(folder: Path, name: str, own: dict[str, np.ndarray]) -> dict[str, np.ndarray] | None:
  """Arrays of all examples in their order, in process 0; None in the others.

  Each of them leaves a file in the folder, which process 0 removes.

  Args:
    folder: that all processes see.
    name: of what is put together.
    own: arrays `[N_i, ...]` of this process's examples, `hosts.own` of all of them.
  """
  if hosts.count() == 1:
    return own
  # Named as what may be removed where a process was killed.
  files = [folder / f'.{name}-of-{hosts.count()}.{i}.tmp.npz' for i in range(hosts.count())]
  if not hosts.is_first():
    write_arrays(files[hosts.index()], **own)
  hosts.gather()
  if not hosts.is_first():
    return None
  parts = [own, *map(read_arrays, files[1:])]
  for file in files[1:]:
    file.unlink()
  return {key: interleaved([part[key] for part in parts]) for key in own}


def interleaved(parts: list[np.ndarray]) -> np.ndarray:
  """The array of which `parts` are every n-th row, from the first, the second, ... on."""
  whole = np.empty((sum(map(len, parts)), *parts[0].shape[1:]), parts[0].dtype)
  for i, part in enumerate(parts):
    whole[i :: len(parts)] = part
  return whole
