"""How a task is run: its folder made ready, and the command."""

import os
import shlex
import shutil
import sys
import time
from pathlib import Path

from advmix_jax.sweep.plan import FOLDER_OF, MEMBER, Plan, Task, config_file, log_file

PROGRAM_OF = {MEMBER: 'launch.pipeline', 'train_gan': 'launch.train_gan', 'encode': 'launch.encode'}
METRICS = 'metrics.jsonl'


def command(out: Path, task: Task) -> list[str]:
  """The command line of a task, as one may type it."""
  return [
    sys.executable,
    *('-m', PROGRAM_OF[task.kind]),
    f'--config={config_file(out, task.name)}',
    f'--workdir={out / task.folder}',
  ]


def environment(threads: int | None, own: dict[str, str]) -> dict[str, str]:
  """Of a task's process: this one's, `own` variables, and as many threads as it may use."""
  of_threads = {} if threads is None else {'NPROC': str(threads)}
  return dict(os.environ) | of_threads | own


def prepare(out: Path, plan: Plan, task: Task) -> None:
  """Makes a task's folder, and puts links to what it shares where it would make it itself.

  What is there already is kept: a member may have been begun before others came to share with it.
  """
  folder = out / task.folder
  folder.mkdir(parents=True, exist_ok=True)
  for name in task.needs:
    shared = plan.tasks[name]
    made = FOLDER_OF[shared.kind]
    if not os.path.lexists(folder / made):
      source = Path(os.path.relpath(out, folder)) / shared.folder / made  # The whole sweep may be moved.
      (folder / made).symlink_to(source, target_is_directory=True)
  if task.needs and not (folder / METRICS).exists():
    metrics = out / plan.tasks[task.needs[-1]].folder / METRICS
    if metrics.exists():
      shutil.copyfile(metrics, folder / METRICS)  # For the report's curves.


def begin_log(out: Path, task: Task) -> Path:
  """Adds a line that tells a run from the one before it; returns the log."""
  log = log_file(out, task.name)
  log.parent.mkdir(parents=True, exist_ok=True)
  with log.open('a') as file:
    file.write(f'== {time.strftime("%Y-%m-%d %H:%M:%S %z")} {shlex.join(command(out, task))}\n')
  return log
