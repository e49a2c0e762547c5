"""When a growing network grows (Karras et al. 2018, 2019): level of detail and minibatch of every step.

The schedule counts images shown. It begins at `initial` pixels; each phase holds the level of detail for
`stable_kimg` and then lets the next resolution fade in over `fading_kimg`.
"""

import dataclasses
import math
from collections.abc import Callable

import numpy as np

REPEATS = 4  # Steps between two looks at the schedule, as in the official code.


@dataclasses.dataclass(frozen=True)
class Schedule:
  """A whole training, step by step.

  Attributes:
    lod: `[N]` float64, level of detail of each step.
    batch_size: `[N]` int64, images in each step.
    first_image: `[N + 1]` int64, images shown before each step, and in all.
  """

  lod: np.ndarray
  batch_size: np.ndarray
  first_image: np.ndarray

  @property
  def num_steps(self) -> int:
    return len(self.lod)

  def is_restart(self, step: int) -> bool:
    """Whether other layers take part from this step on: the floor or the ceiling of the lod has changed."""
    if step == 0:
      return False
    before, now = self.lod[step - 1], self.lod[step]
    return bool(math.floor(before) != math.floor(now) or math.ceil(before) != math.ceil(now))


def constant_schedule(num_steps: int, batch_size: int) -> Schedule:
  """For networks that do not grow."""
  sizes = np.full(num_steps, batch_size, np.int64)
  return Schedule(np.zeros(num_steps), sizes, np.arange(num_steps + 1, dtype=np.int64) * batch_size)


def growing_schedule(
  num_doublings: int,
  stable_kimg: float,
  fading_kimg: float,
  total_kimg: float,
  batch_size_fn: Callable[[int], int],
) -> Schedule:
  """From a level of detail of `num_doublings` to 0.

  Args:
    num_doublings: `log2(resolution / initial resolution)`.
    stable_kimg, fading_kimg: thousands of images in the halves of a phase.
    total_kimg: steps are made until as many were shown.
    batch_size_fn: `floor(lod) -> images in a step`.
  """
  lods: list[float] = []
  sizes: list[int] = []
  shown = 0
  while shown < total_kimg * 1000:
    lod = lod_at(shown / 1000, num_doublings, stable_kimg, fading_kimg)
    size = batch_size_fn(math.floor(lod))
    lods += [lod] * REPEATS
    sizes += [size] * REPEATS
    shown += size * REPEATS
  first_image = np.concatenate([[0], np.cumsum(sizes)])
  return Schedule(np.array(lods), np.array(sizes, np.int64), first_image.astype(np.int64))


def lod_at(kimg: float, num_doublings: int, stable_kimg: float, fading_kimg: float) -> float:
  """Level of detail after `kimg` thousands of images."""
  phase, within = divmod(kimg, stable_kimg + fading_kimg)
  return max(0.0, num_doublings - phase - max(within - stable_kimg, 0.0) / fading_kimg)


def kimg_to_grow(num_doublings: int, stable_kimg: float, fading_kimg: float) -> float:
  """Thousands of images until the level of detail is 0."""
  return num_doublings * (stable_kimg + fading_kimg)
