"""Batches made in the background, ahead of the steps that take them, so that steps do not wait for data."""

import collections
import concurrent.futures
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar('T')

AHEAD = 2  # Batches that are ready or in the making; more would only take memory.


class Prefetched(Generic[T]):
  """`make_fn(first), make_fn(first + 1), ...` in order, each made once, by one thread.

    with Prefetched(batch_fn, 0, 100) as batches:
      for step in range(100):
        batch = batches.take()

  What a batch holds depends on its number alone, so nothing changes but when it is made. On leaving, what
  was not begun is dropped.

  Args:
    make_fn: `number -> batch`; called in another thread. What it raises is raised by `take`.
    first: of the first batch.
    end: after the last batch.

  Attributes:
    seconds: that `take` has waited, in all.
  """

  def __init__(self, make_fn: Callable[[int], T], first: int, end: int):
    self._make_fn = make_fn
    self._numbers = iter(range(first, end))
    self._made: collections.deque[concurrent.futures.Future[T]] = collections.deque()
    self._thread = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix='batches')
    self.seconds = 0.0

  def __enter__(self) -> 'Prefetched[T]':
    for _ in range(AHEAD):
      self._begin_next()
    return self

  def __exit__(self, *unused_exception: object) -> None:
    self._thread.shutdown(cancel_futures=True)

  def _begin_next(self) -> None:
    number = next(self._numbers, None)
    if number is not None:
      self._made.append(self._thread.submit(self._make_fn, number))

  def take(self) -> T:
    """The next batch; waits for it if need be."""
    future = self._made.popleft()
    self._begin_next()
    start = time.monotonic()
    batch = future.result()
    self.seconds += time.monotonic() - start
    return batch
