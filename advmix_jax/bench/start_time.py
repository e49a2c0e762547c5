"""Seconds from the start of a command to its first step: with nothing compiled yet, and with a full cache.

Each stage runs twice, in processes of its own and in two workdirs, with one compile cache that is empty at
first. The networks are those of the configuration; the run is a short one.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from advmix_jax.types import RunError

STAGES = ('train_gan', 'encode', 'train', 'evaluate')
FIRST_LINE = re.compile(r'^[\w/ ]+: \d+/\d+ ')  # Of the progress of a loop.
SHORT = (
  *('--config.log_every_steps=1', '--config.generator.total_kimg=0.2', '--config.generator.sample_kimg=0.2'),
  *('--config.generator.r1_interval=2', '--config.encode.init_kimg=0.2', '--config.train.num_epochs=0.1'),
  *('--config.train.methods=advmix', '--config.data.num_train=600', '--config.data.num_test=100'),
  '--config.evaluate.num_examples=100',
)


def start_times(config: str) -> list[dict[str, Any]]:
  """Rows with `command`, `first_seconds`, `second_seconds` and `ratio`, for the stages of a configuration.

  Raises:
    RunError: a command failed; its last line.
  """
  with tempfile.TemporaryDirectory() as folder:
    environment = os.environ | {'JAX_COMPILATION_CACHE_DIR': str(Path(folder) / 'compiled')}
    found = []
    for stage in STAGES:
      command = [sys.executable, '-m', f'launch.{stage}', f'--config={config}', *SHORT]
      first, second = (
        seconds_to_first_step([*command, f'--workdir={folder}/{name}'], environment)
        for name in ('first', 'second')
      )
      row = {'command': f'launch.{stage}', 'first_seconds': first, 'second_seconds': second}
      found.append(row | {'ratio': second / first})
      print(f'{stage:10} first {first:6.1f} s, second {second:6.1f} s ({second / first:.0%})', flush=True)
  return found


def seconds_to_first_step(command: list[str], environment: dict[str, str]) -> float:
  """Runs a command to its end; when its first line of progress came, counted from its start."""
  start = time.monotonic()
  process = subprocess.Popen(
    command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
  )
  assert process.stderr is not None
  seconds, last = None, ''
  for line in process.stderr:
    if seconds is None and FIRST_LINE.match(line):
      seconds = time.monotonic() - start
    last = line.strip() or last
  if process.wait() or seconds is None:
    raise RunError(f'{" ".join(command[1:3])} ended with {process.returncode} before its first step: {last}')
  return seconds
