"""Which examples: stratified splits, balanced, uniform and class-biased subsets, each fixed by a seed."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from advmix_jax.data.errors import bad_key
from advmix_jax.types import BadInputError

if TYPE_CHECKING:
  import ml_collections

# Streams of random numbers, so that no two draws of one seed are the same.
_STREAMS = {'test': 1, 'validation': 2, 'num_test': 3, 'num_train': 4, 'generator': 5}
DRAWS = ('by_class', 'uniform')


class Selection(NamedTuple):
  """Positions of the examples that a run uses, each ascending int64.

  Attributes:
    train: what the classifier learns from, within the training pool.
    generator: what the generator learns from, within the training pool.
    rest: all of the training pool but what was drawn from it for validation.
    validation: within the data's own validation part, or, where it has none, within the training pool.
    test: within the test part.
  """

  train: np.ndarray
  generator: np.ndarray
  rest: np.ndarray
  validation: np.ndarray
  test: np.ndarray


def rng(name: str, seed: int) -> np.random.Generator:
  """The random numbers of one of the draws below."""
  return np.random.default_rng((_STREAMS[name], seed))


def select(
  config: 'ml_collections.ConfigDict',
  pool: np.ndarray,
  test: np.ndarray,
  validation: np.ndarray | None = None,
) -> Selection:
  """Draws what the keys `data.num_*` and `data.generator_classes` ask for.

  Fixed by `data.split_seed` (validation and test) and `config.seed` (training and the generator's data). With
  equal numbers the generator and the classifier get the same images. `data.draw` says whether classes count.

  Args:
    config: the whole configuration; the numbers must be possible.
    pool: `[N]` labels of the training images.
    test: `[M]` labels of the test images.
    validation: labels of the data's own validation part, of which `num_validation` are drawn, 0 = all;
      None = they are taken out of the pool, 0 = none.
  """
  data = config.data
  stratify, balance = (stratified, balanced) if data.draw == 'by_class' else (uniform, uniform)
  everything = np.arange(len(pool))
  validation_rng = rng('validation', data.split_seed)
  if validation is None:
    validation_at = stratify(pool, data.num_validation, validation_rng)
    rest = np.setdiff1d(everything, validation_at)
  else:
    validation_at = stratify(validation, data.num_validation or len(validation), validation_rng)
    rest = everything

  def drawn(num: int) -> np.ndarray:
    return rest[balance(pool[rest], num, rng('num_train', config.seed))] if num else rest

  generator = drawn(data.num_generator)
  if len(data.generator_classes):
    generator = rest[by_class_shares(pool[rest], data.generator_classes, rng('generator', config.seed))]
  test_at = np.arange(len(test))
  if data.num_test:
    test_at = stratify(test, data.num_test, rng('num_test', data.split_seed))
  return Selection(drawn(data.num_train), generator, rest, validation_at, test_at)


def check_shares(key: str, shares: Sequence[float], num: int) -> None:
  """Raises `BadInputError`, naming `config.data.KEY`, unless these are `num` shares that sum to 1."""
  expected = f'{num} shares from 0 that sum to 1'
  if len(shares) != num or not all(isinstance(share, int | float) and 0 <= share <= 1 for share in shares):
    raise bad_key(key, tuple(shares), expected)
  if abs(sum(shares) - 1) > 1e-6:
    raise bad_key(key, f'{tuple(shares)}, which sum to {sum(shares):g}', expected)


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


def uniform(labels: np.ndarray, num: int, rng: np.random.Generator) -> np.ndarray:
  """Draws examples whatever their class: of the labels only their number counts.

  Args:
    labels: `[N]` int.
    num: how many, at most N.
    rng: consumed.

  Returns:
    `[num]` int64 positions, ascending. A smaller number by the same seed gives a part of a larger one's.
  """
  return np.sort(rng.permutation(len(labels))[:num]).astype(np.int64)


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
