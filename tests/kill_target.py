"""A small training for tests that kill: python -m tests.kill_target DIR [STEPS] ends with DIR/results.json.

It saves all the time, so that most kills meet a checkpoint that is being written.
"""

import pathlib
import sys
import time

import numpy as np

from advmix_jax import interruption
from advmix_jax.training.loop import Loop, run_loop
from advmix_jax.types import RunError
from advmix_jax.workdir import open_workdir, write_json
from configs import default
from launch import common
from tests.descent import descend, fresh


def slowly(step: int) -> np.float32:
  time.sleep(0.01)
  return np.float32(step)


@common.exit_status
def main(folder: str, num_steps: str = '150') -> None:
  common.keep_libraries_quiet()
  config = default.get_config()
  config.checkpoint.seconds = 0.02
  config.log_every_steps = 10
  interruption.install()
  workdir = open_workdir(pathlib.Path(folder), config)
  print('begun', flush=True)
  loop = Loop(
    name='toy',
    folder=workdir.path / 'toy' / 'checkpoints',
    num_steps=int(num_steps),
    batch_size=1,
    step_fn=lambda step, state, batch: descend(state, batch),
    batch_fn=slowly,
    saved=('step', 'key', 'x'),
    place_fn=lambda state: state,
  )
  try:
    state = run_loop(loop, fresh(20_000), workdir)
    write_json(workdir.path / 'results.json', {'x': np.asarray(state.x)[:100].tobytes().hex()})
  except OSError as error:
    raise RunError(str(error)) from error
  finally:
    workdir.close()


if __name__ == '__main__':
  sys.exit(main(*sys.argv[1:]))
