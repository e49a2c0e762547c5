"""Accuracy on clean images, and under perturbation by Algorithm 2.

An example counts as broken only if its variant, stored as uint8 and read again, is misclassified.
Starting from the original, an image that is already misclassified is broken, so accuracy under perturbation
never exceeds clean accuracy on the images that are attacked.

Any restart that breaks an example settles it, so those whose start does best go first (`by_score`): most
examples that break do so within a few steps of their first.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from advmix_jax import refill, slot_queue
from advmix_jax.ranges import to_float
from advmix_jax.refill import ClassifyFn
from advmix_jax.types import Array, PyTree


class Broken(NamedTuple):
  """What an attack of a whole data set found.

  Attributes:
    broken: `[N]` bool.
    images: `[N, H, W, C]` uint8, the variant that broke the example; the original where none did.
    restart: `[N]` int32, the restart that found it; -1 where none was needed or none did.
  """

  broken: np.ndarray
  images: np.ndarray
  restart: np.ndarray


@dataclasses.dataclass
class Search:
  """Where the attack of a data set stands, on the host; changed as it goes on.

  Attributes:
    order: `[N, Nr]` int32, each example's restarts in the order in which they run. The place of a restart
      in it is its rank.
    broken_by: `[N]` int64, the first rank that broke the example; -1 = broken before, Nr = by none yet.
    images: `[N, H, W, C]` uint8, as in `Broken`.
    held: `[S]` bool, the slots that have a pair of example and rank.
    example: `[S]` int32, of the pair.
    rank: `[S]` int32, of the pair.
    taken: pairs that have been given to a slot or passed over, of all `N * Nr` in their order.
  """

  order: np.ndarray
  broken_by: np.ndarray
  images: np.ndarray
  held: np.ndarray
  example: np.ndarray
  rank: np.ndarray
  taken: int = 0

  @property
  def num_restarts(self) -> int:
    """Nr."""
    return self.order.shape[1]

  @property
  def restart(self) -> np.ndarray:
    """`[S]` int32, of the pair that each slot has."""
    return self.order[self.example, self.rank]


def by_score(scores: np.ndarray) -> np.ndarray:
  """The order of restarts from their starts' scores `[N, Nr]` (`refill.start_scores`), the highest first."""
  return np.argsort(-scores, axis=1, kind='stable').astype(np.int32)


def begin(originals: np.ndarray, already_broken: np.ndarray, order: np.ndarray, num_slots: int) -> Search:
  """A search that has done nothing.

  Args:
    originals: `[N, H, W, C]` uint8.
    already_broken: `[N]` bool, misclassified before any search.
    order: `[N, Nr]` int32, as in `Search`.
    num_slots: S.
  """
  broken_by = np.where(already_broken, -1, order.shape[1])
  slots = np.zeros((2, num_slots), np.int32)
  return Search(order, broken_by, originals.copy(), np.zeros(num_slots, bool), *slots)


def waiting_pairs(broken_by: np.ndarray, num_restarts: int, taken: int = 0) -> Iterator[tuple[int, int]]:
  """Pairs (example, rank), the first rank of all before any second, without what is broken by then.

  Args:
    broken_by: `[N]`, the first rank that broke the example; read whenever a pair is taken.
    num_restarts: Nr.
    taken: how many pairs, with those that are left out, are passed over.
  """
  for pair in range(taken, num_restarts * len(broken_by)):
    rank, example = divmod(pair, len(broken_by))
    if broken_by[example] > rank:
      yield example, rank


def attack_all(
  advance_fn: Callable[[PyTree, refill.Entry, bool], tuple[PyTree, refill.Found]],
  slots: PyTree,
  search: Search,
  w: np.ndarray,
  labels: np.ndarray,
  progress: Callable[[int, int], None] = lambda done, left: None,
  numbers: np.ndarray | None = None,
) -> Broken:
  """Algorithm 2 with the 0-1 loss on a whole data set: the first restart in their order that breaks an
  example counts.

  Where fewer examples are left than there are slots, several restarts of one run at a time. Those after the
  one that broke it do not count, so what is found depends on neither the number of slots nor their order.

  Args:
    advance_fn: `(slots, entry, waiting) -> slots, found`, as `refill.advance`; found on the host.
    slots: those of the search, idle where it begins; consumed.
    search: from `begin`, or one to go on with; changed.
    w: `[N, L, D]`.
    labels: `[N]` int32.
    progress: called with the number of pairs settled, of all `N * num_restarts`, and of examples left.
    numbers: `[N]` int32, by which the examples' random draws go; None = 0 to N - 1.
  """
  numbers = np.arange(len(labels), dtype=np.int32) if numbers is None else numbers
  num_restarts, num_slots = search.num_restarts, len(search.held)
  broken_by, images, held = search.broken_by, search.images, search.held
  example, rank = search.example, search.rank
  queue = waiting_pairs(broken_by, num_restarts, search.taken)
  while True:
    new, pairs, waiting = slot_queue.fill(held, queue)
    if pairs:
      example[new], rank[new] = np.transpose(pairs)
      search.taken = rank[new[-1]] * len(labels) + example[new[-1]] + 1
    if not held.any():
      break
    enters = np.isin(np.arange(num_slots), new)
    entry = refill.Entry(held.copy(), enters, w[example], labels[example], numbers[example], search.restart)
    slots, found = advance_fn(slots, entry, waiting)
    for slot in np.flatnonzero(found.finished & found.wrong):
      if rank[slot] < broken_by[example[slot]]:
        broken_by[example[slot]], images[example[slot]] = rank[slot], found.images[slot]
    held &= ~found.finished & (rank < broken_by[example])
    progress(search.taken - int(held.sum()), int((broken_by == num_restarts).sum()))
  progress(num_restarts * len(labels), int((broken_by == num_restarts).sum()))
  restart = np.full(len(labels), -1, np.int32)
  searched = (broken_by >= 0) & (broken_by < num_restarts)
  restart[searched] = search.order[searched, broken_by[searched]]
  return Broken(broken_by < num_restarts, images, restart)


def group_accuracy(correct: np.ndarray, labels: np.ndarray, num_classes: int) -> list[float]:
  """Share of `correct [N]` bool within each class; every class must have an example."""
  return [float(correct[labels == k].mean()) for k in range(num_classes)]


def predictions(classify_fn: ClassifyFn, params: PyTree, images: Array) -> Array:
  """Predicted classes `[B]` of `images [B, H, W, C]` uint8."""
  return jnp.argmax(classify_fn(params, to_float(images)), axis=-1)


def over_seeds(measured: list[dict]) -> dict:
  """Numbers of several classifiers of one method as those of one.

  Args:
    measured: of each seed, the same keys: accuracies, lists of them by class, and counts, which are equal.

  Returns:
    Of one seed, its own. Of several the means, the standard deviation of each accuracy under `KEY_sd`, and
    the seeds' own under `per_seed`, in their order.
  """
  if len(measured) == 1:
    return measured[0]
  merged: dict = {'per_seed': measured}
  for key, first in measured[0].items():
    values = [one[key] for one in measured]
    if isinstance(first, float):
      merged |= {key: float(np.mean(values)), f'{key}_sd': float(np.std(values, ddof=1))}
    else:
      merged[key] = np.mean(values, axis=0).tolist() if isinstance(first, list) else first
  merged['worst_class'] = int(np.argmin(merged['per_class_accuracy']))
  return merged
