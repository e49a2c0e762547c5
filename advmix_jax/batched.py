"""Any number of examples through a program that is compiled for one number of them."""

from collections.abc import Callable, Iterator

import numpy as np


def batches(positions: np.ndarray, batch_size: int) -> Iterator[tuple[np.ndarray, int]]:
  """Positions in batches of one fixed size, the last one filled up by repetition, with how many are real."""
  for start in range(0, len(positions), batch_size):
    real = positions[start : start + batch_size]
    yield np.resize(real, batch_size), len(real)


def in_batches(fn: Callable[[np.ndarray], np.ndarray], inputs: np.ndarray, batch_size: int) -> np.ndarray:
  """`fn` of all `inputs [N, ...]`, called with `batch_size` of them at a time; each counts once."""
  found = [np.asarray(fn(inputs[at]))[:real] for at, real in batches(np.arange(len(inputs)), batch_size)]
  return np.concatenate(found)
