"""The host loop of every training: progress, metrics, checkpoints, signals. Steps are passed in compiled."""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax

from advmix_jax import interruption, parallel
from advmix_jax.progress import track
from advmix_jax.training.checkpoint import Checkpointer
from advmix_jax.types import PyTree, RunError
from advmix_jax.workdir import Workdir


class Loop(NamedTuple):
  """What a training is, apart from its state.

  Attributes:
    name: prefix of its metrics and of its progress line.
    folder: where its checkpoints go.
    num_steps: in all.
    batch_size: examples in a step, for the rate.
    step_fn: `(step, state, batch) -> (state, metrics)`; the state may be donated.
    batch_fn: `step -> batch`, random access, so that a resumed run needs no iterator state.
    saved: the part of the state that changes.
    merge: puts a restored part back into a state.
    hook: `(step, state)`, called after every step; None = nothing.
  """

  name: str
  folder: Path
  num_steps: int
  batch_size: int
  step_fn: Callable[[int, PyTree, PyTree], tuple[PyTree, dict[str, jax.Array]]]
  batch_fn: Callable[[int], PyTree]
  saved: Callable[[PyTree], PyTree]
  merge: Callable[[PyTree, PyTree], PyTree]
  hook: Callable[[int, PyTree], None] | None = None


def run_loop(loop: Loop, state: PyTree, workdir: Workdir) -> PyTree:
  """Trains from the newest checkpoint to the end.

  Args:
    loop: what to run.
    state: a fresh state with an integer `step`.
    workdir: takes metrics; its config says how often to log and to save.

  Returns:
    The final state; it is saved.

  Raises:
    RunError: a metric is not finite; names the step. Earlier checkpoints remain.
    Interrupted: a signal arrived; the state is saved.
  """
  config = workdir.config
  checkpointer = Checkpointer(loop.folder, config.checkpoint.keep)
  restored = checkpointer.restore(loop.saved(state))
  state = parallel.replicate(state if restored is None else loop.merge(state, restored))
  first = int(state.step)
  if first:
    print(f'{loop.name}: going on from step {first}', flush=True)
  saved_at = time.monotonic()
  pending: tuple[int, dict[str, jax.Array]] | None = None
  last_loss = ''

  def report(step: int, metrics: dict[str, jax.Array], rate: float) -> str:
    values = {f'{loop.name}/{name}': float(value) for name, value in metrics.items()}
    for name, value in values.items():
      if not math.isfinite(value):
        raise RunError(f'{name} is {value} at step {step}; lower the learning rate, or look at the data')
    workdir.log(step, {**values, f'timing/{loop.name}/images_per_sec': rate})
    losses = ' '.join(f'{name.removeprefix(loop.name + "/")} {value:.4f}' for name, value in values.items() if 'loss' in name)
    return f'{losses}  {rate:.0f} images/s'

  try:
    with track(loop.name, loop.num_steps, first) as update:
      window, window_start = first, time.monotonic()
      for step in range(first, loop.num_steps):
        state, metrics = loop.step_fn(step, state, loop.batch_fn(step))
        done = step + 1
        if loop.hook is not None:
          loop.hook(done, state)
        if done % config.log_every_steps == 0 or done == loop.num_steps:
          # The metrics of the last logged step are long there; reading this step's would stall the devices.
          now = time.monotonic()
          rate = (done - window) * loop.batch_size / max(now - window_start, 1e-9)
          if pending is not None:
            last_loss = report(*pending, rate)
          pending, window, window_start = (done, metrics), done, now
          update(done, last_loss)
        stop = interruption.requested()
        if stop or time.monotonic() - saved_at > config.checkpoint.seconds:
          check_finite(loop.name, done, metrics)
          checkpointer.save(done, loop.saved(state))
          saved_at = time.monotonic()
        if stop:
          interruption.check()
      if pending is not None:
        report(*pending, 0.0)
    checkpointer.save(loop.num_steps, loop.saved(state))
  finally:
    checkpointer.close()
  return state


def check_finite(name: str, step: int, metrics: dict[str, jax.Array]) -> None:
  """Raises `RunError` rather than let a broken state become the newest checkpoint."""
  for metric, value in metrics.items():
    if not math.isfinite(float(value)):
      raise RunError(f'{name}/{metric} is {float(value)} at step {step}; lower the learning rate, or look at the data')
