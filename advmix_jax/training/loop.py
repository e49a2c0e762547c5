"""The host loop of every training: progress, metrics, checkpoints, signals. Steps are passed in compiled."""

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
from advmix_jax.types import PyTree, RunError
from advmix_jax.workdir import Workdir


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
    hook: `(step, state)`, called after every step; None = nothing.
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
  asked: jax.Array | None = None  # Of several processes: whether any was asked to stop, a step ago.
  pending: tuple[int, dict[str, jax.Array], float, float] | None = None

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
    ):
      for step in range(first, loop.num_steps):
        state, metrics = loop.step_fn(step, state, batches.take())
        done = step + 1
        asked_before, asked = asked, metrics.pop(interruption.STOP, None)
        if loop.hook is not None:
          loop.hook(done, state)
        if done % config.log_every_steps == 0 or done == loop.num_steps:
          # The metrics of the last logged step are long there; reading this step's would stall the devices.
          text = '' if pending is None else report(*pending)
          now = time.monotonic()
          rate = int(examples[window:done].sum()) / max(now - window_start, 1e-9)
          pending = (done, metrics, rate, batches.seconds - waited)
          window, window_start, waited = done, now, batches.seconds
          update(done, text)
        # All stop after the same step. This step's own answer would not be there yet.
        stop = interruption.requested() if asked is None else asked_before is not None and bool(asked_before)
        if stop or time.monotonic() - saved_at > config.checkpoint.seconds:
          finite_values(loop.name, done, metrics)  # A broken state must not become the newest checkpoint.
          checkpointer.save(done, changing_part(loop, state))
          saved_at = time.monotonic()
        if stop:
          interruption.check()
      if pending is not None:
        report(*pending)
    checkpointer.save(loop.num_steps, changing_part(loop, state))
  finally:
    checkpointer.close()
  return state


def changing_part(loop: Loop, state: PyTree) -> dict[str, PyTree]:
  """What a checkpoint must hold: the fields that training changes, but for those that are not in use."""
  return {name: getattr(state, name) for name in loop.saved if getattr(state, name) is not None}


def finite_values(name: str, step: int, metrics: dict[str, jax.Array]) -> dict[str, float]:
  """Metrics as numbers, `NAME/` before theirs. Raises `RunError`, naming the step, if one is not finite."""
  values = {f'{name}/{metric}': float(value) for metric, value in metrics.items()}
  for metric, value in values.items():
    if not math.isfinite(value):
      raise RunError(f'{metric} is {value} at step {step}; lower the learning rate, or look at the data')
  return values
