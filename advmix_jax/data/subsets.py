"""Which examples: stratified splits, balanced subsets and class-biased subsets, each fixed by a seed."""

from collections.abc import Sequence

import numpy as np

from advmix_jax.types import BadInputError


def stratified(labels: np.ndarray, num: int, rng: np.random.Generator) -> np.ndarray:
  """Draws examples with the classes in the proportions of the whole, to within one image per class.

  Args:
    labels: `[N]` int.
    num: how many, at most N.
    rng: consumed.

  Returns:
    `[num]` int64 positions, ascending.
  """
  counts = np.bincount(labels)
  return _take(labels, apportion(counts / len(labels), num), rng)


def balanced(labels: np.ndarray, num: int, rng: np.random.Generator) -> np.ndarray:
  """Draws examples as evenly by class as the classes' sizes allow.

  Args:
    labels: `[N]` int.
    num: how many, at most N. When it is no multiple of the number of classes, lower classes get one more.
    rng: consumed.

  Returns:
    `[num]` int64 positions, ascending.
  """
  counts = np.bincount(labels)
  wanted = np.zeros_like(counts)
  while (missing := num - wanted.sum()) > 0:
    open_classes = np.flatnonzero(wanted < counts)
    share, rest = divmod(missing, len(open_classes))
    wanted[open_classes] += share
    wanted[open_classes[:rest]] += 1
    wanted = np.minimum(wanted, counts)
  return _take(labels, wanted, rng)


def by_class_shares(labels: np.ndarray, shares: Sequence[float], rng: np.random.Generator) -> np.ndarray:
  """Draws the largest subset whose classes stand in given proportions (Table 1's biased generators).

  Drawn without replacement, so no image is repeated; the size is the largest for which every class has
  enough images. A class with a positive share keeps at least one image.

  Args:
    labels: `[N]` int.
    shares: share of each class, summing to 1.
    rng: consumed.

  Returns:
    `[M]` int64 positions, ascending.

  Raises:
    BadInputError: a class with a positive share has no images.
  """
  ratios = np.asarray(shares, np.float64)
  counts = np.bincount(labels, minlength=len(ratios))
  positive = ratios > 0
  if np.any(positive & (counts == 0)):
    empty = int(np.flatnonzero(positive & (counts == 0))[0])
    raise BadInputError(
      f'data.generator_classes: found share {ratios[empty]:g} for class {empty}, which has no training '
      'images, expected 0 there or a non-empty class'
    )
  size = int(np.floor(np.min(counts[positive] / ratios[positive]) * (1 + 1e-9)))
  wanted = apportion(ratios, max(size, 1))
  return _take(labels, np.clip(wanted, positive.astype(int), counts), rng)


def apportion(shares: np.ndarray, num: int) -> np.ndarray:
  """Splits a number of seats by shares, largest remainders first: `[K]` int64 summing to `num`."""
  exact = np.round(np.asarray(shares, np.float64) * num, 9)
  seats = np.floor(exact).astype(np.int64)
  order = np.argsort(seats - exact, kind='stable')
  seats[order[: num - seats.sum()]] += 1
  return seats


def _take(labels: np.ndarray, wanted: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  """Draws `wanted[c]` positions of each class c without replacement; ascending int64."""
  # A whole permutation per class: a smaller request by the same seed takes a part of the larger one's.
  chosen = [rng.permutation(np.flatnonzero(labels == c))[:n] for c, n in enumerate(wanted)]
  return np.sort(np.concatenate(chosen)).astype(np.int64)
