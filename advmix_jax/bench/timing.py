"""Seconds of functions, one or several in turns."""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

Run = Callable[[], Any]


class Fastest(NamedTuple):
  """What another program does for a case.

  Attributes:
    run: warm; the fastest of what was tried.
    variant: its name.
    tried: seconds of a run of each variant, or why it could not be run.
  """

  run: Run
  variant: str
  tried: dict[str, float | str]


def seconds_of(run: Run) -> float:
  """Of one run, to its end."""
  start = time.perf_counter()
  jax.block_until_ready(run())
  return time.perf_counter() - start


def in_turns(runs: Sequence[Run], repeats: int) -> list[list[float]]:
  """Seconds of `repeats` runs of each function; every second time the last one begins."""
  seconds: list[list[float]] = [[] for _ in runs]
  for repeat in range(repeats):
    for i in range(len(runs))[:: -1 if repeat % 2 else 1]:
      seconds[i].append(seconds_of(runs[i]))
  return seconds


def quartiles(values: Sequence[float]) -> list[float]:
  """The lower and the upper one."""
  return np.percentile(values, [25, 75]).tolist()
