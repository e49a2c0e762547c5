"""The host loop of every training: progress, metrics, checkpoints, signals. Steps are passed in compiled."""

import collections
import contextlib
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from advmix_jax import interruption
from advmix_jax.progress import track
from advmix_jax.training.checkpoint import open_checkpoints
from advmix_jax.training.prefetch import Prefetched
from advmix_jax.types import Interrupted, PyTree, RunError
from advmix_jax.watchdog import Watchdog
from advmix_jax.workdir import Workdir

AHEAD = 2  # Steps given to the devices of which the host does not yet know that they are done.


class Loop(NamedTuple):
  """What a training is, apart from its state.

  Attributes:
    name: prefix of its metrics and of its progress line.
    folder: where its checkpoints go.
    num_steps: in all.
    batch_size: examples in a step, or in each, `[num_steps]`, for the rate.
    step_fn: `(step, state, batch) -> (state, metrics)`; the state may be donated.
    batch_fn: `step -> batch`, random access, so that a resumed run needs no iterator state; called in another
      thread, ahead of the step.
    saved: the fields of the state that training changes.
    place_fn: puts a state on the devices; of several processes that of the first, which alone restores it.
    hook: `(step, state)`, called after every step, and once more with the step from which an interrupted run
      goes on; it may be cut short by `Interrupted`. None = nothing.
  """

  name: str
  folder: Path
  num_steps: int
  batch_size: int | np.ndarray
  step_fn: Callable[[int, PyTree, PyTree], tuple[PyTree, dict[str, jax.Array]]]
  batch_fn: Callable[[int], PyTree]
  saved: tuple[str, ...]
  place_fn: Callable[[PyTree], PyTree]
  hook: Callable[[int, PyTree], None] | None = None


def run_loop(loop: Loop, state: PyTree, workdir: Workdir) -> PyTree:
  """Trains from the newest checkpoint to the end.

  Args:
    loop: what to run.
    state: a fresh state with an integer `step`.
    workdir: takes metrics, among them images per second and the seconds since the log before in which the
      host waited for batches; its config says how often to log and to save.

  Returns:
    The final state; it is saved.

  Raises:
    RunError: a metric is not finite; names the step. Earlier checkpoints remain.
    Interrupted: a signal arrived; the state is saved.
  """
  config = workdir.config
  checkpointer = open_checkpoints(loop.folder, config.checkpoint.keep)
  restored = checkpointer.restore(changing_part(loop, state))
  state = loop.place_fn(state if restored is None else state.replace(**restored))
  first = int(state.step)
  if first:
    print(f'{loop.name}: going on from step {first}', flush=True)
  saved_at = window_start = time.monotonic()
  window = first
  examples = np.broadcast_to(loop.batch_size, (loop.num_steps,))
  waited = 0.0
  pending: tuple[int, dict[str, jax.Array], float, float] | None = None
  under_way: collections.deque[tuple[dict[str, jax.Array], jax.Array | None]] = collections.deque()

  def report(step: int, metrics: dict[str, jax.Array], rate: float, data_seconds: float) -> str:
    values = finite_values(loop.name, step, metrics)
    timing = {'images_per_sec': rate, 'data_seconds': data_seconds}
    workdir.log(step, values | {f'timing/{loop.name}/{key}': value for key, value in timing.items()})
    losses = [
      f'{name.removeprefix(loop.name + "/")} {value:.4f}' for name, value in values.items() if 'loss' in name
    ]
    return f'{" ".join(losses)}  {rate:.0f} images/s'

  try:
    with (
      track(loop.name, loop.num_steps, first) as update,
      Prefetched(loop.batch_fn, first, loop.num_steps) as batches,
      Watchdog(loop.name, config.watchdog) as dog,
    ):
      if first and loop.hook is not None:
        loop.hook(first, state)  # A signal may have come before it was through.
      for step in range(first, loop.num_steps):
        state, metrics = loop.step_fn(step, state, batches.take())
        done = step + 1
        # The devices have a step in hand while the host prepares the next, not more: a signal waits for them.
        asked = metrics.pop(interruption.STOP, None)
        under_way.append((metrics, asked))
        finished = jax.block_until_ready(under_way.popleft()) if len(under_way) > AHEAD else None
        if loop.hook is not None:
          with contextlib.suppress(Interrupted):  # The state is saved below, and the hook called again.
            loop.hook(done, state)
        if done % config.log_every_steps == 0 or done == loop.num_steps:
          # The metrics of the last logged step are long there; reading this step's would stall the devices.
          text = '' if pending is None else report(*pending)
          now = time.monotonic()
          rate = int(examples[window:done].sum()) / max(now - window_start, 1e-9)
          pending = (done, metrics, rate, batches.seconds - waited)
          window, window_start, waited = done, now, batches.seconds
          update(done, text)
        # Several processes go by what an earlier step has told all of them, to end after the same step.
        stop = interruption.requested() if asked is None else heard(finished)
        if stop or (time.monotonic() - saved_at > config.checkpoint.seconds and not checkpointer.busy):
          finite_values(loop.name, done, metrics)  # A broken state must not become the newest checkpoint.
          if pending is not None:
            report(*pending)  # A run that goes on from here will not log it again.
            pending = None
          checkpointer.save(done, changing_part(loop, state))
          saved_at = time.monotonic()
        if stop:
          checkpointer.wait()
          interruption.check()
        dog.step_done()
      if pending is not None:
        report(*pending)
      checkpointer.save(loop.num_steps, changing_part(loop, state))
      checkpointer.wait()
      interruption.check()  # One that has cut the last hook short may not have reached the other processes.
  finally:
    checkpointer.close()
  return state


def heard(finished: tuple[dict[str, jax.Array], jax.Array | None] | None) -> bool:
  """Whether a process was asked to stop before a finished step, of which metrics and `STOP` are given."""
  return finished is not None and finished[1] is not None and interruption.take(int(finished[1]))


def changing_part(loop: Loop, state: PyTree) -> dict[str, PyTree]:
  """What a checkpoint must hold: the fields that training changes, but for those that are not in use."""
  return {name: getattr(state, name) for name in loop.saved if getattr(state, name) is not None}


def finite_values(name: str, step: int, metrics: dict[str, jax.Array]) -> dict[str, float]:
  """Metrics as numbers, `NAME/` before theirs. Raises `RunError`, naming the step, if one is not finite.

  Where a metric `skipped/*` says that the step left an update out for this reason, they are left out as well.
  """
  values = {f'{name}/{metric}': float(value) for metric, value in metrics.items()}
  if any(value for metric, value in values.items() if metric.startswith(f'{name}/skipped/')):
    return {metric: value for metric, value in values.items() if math.isfinite(value)}
  for metric, value in values.items():
    if not math.isfinite(value):
      raise RunError(f'{metric} is {value} at step {step}; lower the learning rate, or look at the data')
  return values
