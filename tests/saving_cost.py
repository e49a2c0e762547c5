"""What saving costs a training: python -m tests.saving_cost [--mib=50] [--seconds=30] [--steps=400]

The same steps are taken without checkpoints and with one every so many seconds, in turns; the state is of so
many MiB, and steps are matrix products that keep the devices busy.
"""

import argparse
import pathlib
import statistics
import tempfile
import time

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from advmix_jax import parallel
from advmix_jax.training.checkpoint import Checkpointer
from advmix_jax.training.loop import Loop, run_loop
from advmix_jax.workdir import open_workdir
from configs import default


class State(flax.struct.PyTreeNode):
  step: jax.Array
  params: tuple[jax.Array, ...]
  matrix: jax.Array


def descend(state: State, batch: jax.Array) -> tuple[State, dict[str, jax.Array]]:
  matrix = state.matrix
  for _ in range(4):
    matrix = jnp.tanh(matrix @ state.matrix)
  params = tuple(0.999 * x + batch.mean() for x in state.params)
  return State(state.step + 1, params, matrix), {'loss': jnp.mean(matrix)}


def main() -> None:
  parser = argparse.ArgumentParser(prog='python -m tests.saving_cost', description=__doc__.split('\n')[0])
  parser.add_argument('--mib', type=int, default=50)
  parser.add_argument('--seconds', type=float, default=30.0, help='between checkpoints')
  parser.add_argument('--steps', type=int, default=400)
  parser.add_argument('--size', type=int, default=1024, help='of the matrices')
  parser.add_argument('--repeats', type=int, default=3)
  options = parser.parse_args()
  step = parallel.pmap_step(descend)
  in_save: list[float] = []
  save = Checkpointer.save

  def timed(self: Checkpointer, *args: object) -> None:
    start = time.perf_counter()
    save(self, *args)  # type: ignore[arg-type]
    in_save.append(time.perf_counter() - start)

  Checkpointer.save = timed  # type: ignore[method-assign]

  def train(folder: pathlib.Path, seconds: float) -> float:
    config = default.get_config()
    config.checkpoint.seconds = seconds
    workdir = open_workdir(folder, config)
    state = State(
      jnp.int32(0),
      tuple(jnp.ones((options.mib, 2**18 // 16)) for _ in range(16)),
      jnp.full((options.size, options.size), 1e-3),
    )
    times: list[float] = []
    loop = Loop(
      name='x',
      folder=workdir.path / 'x' / 'checkpoints',
      num_steps=options.steps,
      batch_size=1,
      step_fn=lambda i, state, batch: step(state, batch),
      batch_fn=lambda i: np.ones((parallel.num_devices(), 1), np.float32),
      saved=('step', 'params', 'matrix'),
      place_fn=parallel.replicate,
      hook=lambda i, state: times.append(time.perf_counter()),
    )
    run_loop(loop, state, workdir)
    workdir.close()
    return (times[-1] - times[5]) / (len(times) - 6)

  found: dict[float, list[float]] = {1e9: [], options.seconds: []}
  with tempfile.TemporaryDirectory() as folder:
    for repeat in range(options.repeats):
      for seconds in found:
        found[seconds].append(train(pathlib.Path(folder, f'{repeat}-{seconds:g}'), seconds))
  without, with_saves = (statistics.median(found[seconds]) for seconds in found)
  print(
    f'{options.mib} MiB: {without * 1e3:.1f} ms a step without, {with_saves * 1e3:.1f} ms with a checkpoint '
    f'every {options.seconds:g} s: {with_saves / without - 1:+.1%}; the loop stood still for '
    f'{statistics.median(in_save) * 1e3:.0f} ms a checkpoint'
  )


if __name__ == '__main__':
  main()
