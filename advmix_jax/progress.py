"""Progress with time left: a bar on a terminal, plain lines elsewhere."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

from rich.progress import (
  BarColumn,
  MofNCompleteColumn,
  Progress,
  TextColumn,
  TimeElapsedColumn,
  TimeRemainingColumn,
)

from advmix_jax import hosts

LINE_SECONDS = 10.0


@contextlib.contextmanager
def track(name: str, total: int, done: int = 0) -> Iterator[Callable[[int, str], None]]:
  """Shows how far `name` is. Yields `update(done, text)`; `total` and `done` count the same unit.

  Of several processes that make one run the first alone shows it.
  """
  if not hosts.is_first():
    yield nothing
    return
  if sys.stderr.isatty():
    columns = [TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()]
    with Progress(*columns, TimeRemainingColumn(), TextColumn('{task.fields[text]}')) as bar:
      task = bar.add_task(name, total=total, completed=done, text='')

      def move(done: int, text: str = '') -> None:
        bar.update(task, completed=done, text=text)

      yield move
    return

  start, first = time.monotonic(), done
  last_line = start - LINE_SECONDS  # The first update is shown.

  def update(done: int, text: str = '') -> None:
    nonlocal last_line
    now = time.monotonic()
    if done < total and now - last_line < LINE_SECONDS:
      return
    last_line = now
    rate = (done - first) / max(now - start, 1e-9)
    left = f'{clock((total - done) / rate)} left' if rate > 0 else ''
    print(
      f'{name}: {done}/{total}  {clock(now - start)} {left}  {text}'.rstrip(), file=sys.stderr, flush=True
    )

  yield update


def nothing(done: int, text: str = '') -> None:
  """Shows nothing."""


def clock(seconds: float) -> str:
  """Seconds as `m:ss` or `h:mm:ss`."""
  minutes, rest = divmod(int(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  return f'{hours}:{minutes:02}:{rest:02}' if hours else f'{minutes}:{rest:02}'
