"""What became of each task: a small file each, and what is true of it now.

A file says what was so when it was written; whoever wrote it may have been killed since. So what a file calls
running is asked for (process or Slurm job), and what it calls done must be there.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from advmix_jax import interruption, process_identity
from advmix_jax.sweep import lock, process
from advmix_jax.sweep.plan import Plan, Task, log_file
from advmix_jax.workdir import read_json, write_json

PLANNED, RUNNING, DONE, FAILED = 'planned', 'running', 'done', 'failed'
STATES = (DONE, RUNNING, PLANNED, FAILED)
TAIL_BYTES = 4096

Queue = Mapping[str, str]  # Slurm job number to its state there, of all that Slurm still has.


class Seen(NamedTuple):
  """A task as it is.

  Attributes:
    state: one of `STATES`.
    note: what to know about it: who runs it, why it failed.
    seconds: that its runs have taken so far, not counting one that was killed with its launcher.
    queued: Slurm has it, and will run it.
  """

  state: str
  note: str = ''
  seconds: float = 0.0
  queued: bool = False


def state_file(out: Path, name: str) -> Path:
  return out / 'sweep' / 'state' / f'{name}.json'


def job_file(out: Path, name: str) -> Path:
  """Written by who gives a task to Slurm; the record itself is then the job's alone to write."""
  return out / 'sweep' / 'state' / f'{name}.job.json'


def read_job(out: Path, name: str) -> str | None:
  """Number of the Slurm job that a task was given to last; None if it was to none."""
  file = job_file(out, name)
  return read_json(file)['job'] if file.exists() else None


def write_job(out: Path, name: str, job: str | None) -> None:
  """Notes the Slurm job of a task; None = it is no longer one."""
  if job is None:
    job_file(out, name).unlink(missing_ok=True)
  else:
    write_json(job_file(out, name), {'job': job})


def read(out: Path, name: str) -> dict[str, Any]:
  """The record of a task; {'state': 'planned'} if nothing has happened yet."""
  file = state_file(out, name)
  found: dict[str, Any] = read_json(file) if file.exists() else {'state': PLANNED}
  return found


def write(out: Path, name: str, state: str, **facts: Any) -> None:
  """Replaces the record of a task, but for the seconds it took."""
  seconds = read(out, name).get('seconds', 0.0)
  write_json(state_file(out, name), {'seconds': seconds, 'state': state, 'time': time.time(), **facts})


def write_end(out: Path, name: str, status: int, seconds: float, **facts: Any) -> str:
  """Notes that a run of the task ended with `status`; returns the state that this means."""
  state = DONE if status == 0 else PLANNED if is_interruption(status) else FAILED
  total = read(out, name).get('seconds', 0.0) + seconds
  write(out, name, state, **facts | {'status': status, 'seconds': total})
  return state


def is_interruption(status: int) -> bool:
  """Whether a run ended because it was asked to; one that had not yet taken note of signals dies of them."""
  return status == interruption.STATUS or -status in interruption.SIGNALS


def observe(out: Path, plan: Plan, queue: Queue | None = None) -> dict[str, Seen]:
  """All tasks as they are.

  Args:
    out: folder of the sweep.
    plan: its tasks.
    queue: what Slurm has; None if it cannot be asked.
  """
  seen = {name: look(out, task, queue) for name, task in plan.tasks.items()}
  for name in reversed(plan.tasks):
    users = [user.name for user in plan.tasks.values() if name in user.needs]
    if seen[name].state == PLANNED and users and all(seen[user].state == DONE for user in users):
      seen[name] = Seen(DONE, 'not there, but nothing needs it any more', seen[name].seconds)
  for task in plan.tasks.values():
    found = seen[task.name]
    stuck = [name for name in task.needs if seen[name].state == FAILED]
    if found.state == PLANNED and stuck:
      seen[task.name] = found._replace(note=f'waits for {stuck[0]}, which failed')
  return seen


def look(out: Path, task: Task, queue: Queue | None) -> Seen:
  """One task as it is, apart from those it needs."""
  record, job = read(out, task.name), read_job(out, task.name)
  seconds = record.get('seconds', 0.0)
  if record['state'] == DONE:
    missing = [name for name in task.products if not (out / task.folder / name).exists()]
    return (
      Seen(PLANNED, f'was done, but {missing[0]} is missing', seconds) if missing else Seen(DONE, '', seconds)
    )
  if job is not None and (record['state'] != FAILED or record.get('job') != job):
    return look_at_job(out, record, job, queue)
  if record['state'] == FAILED:
    return Seen(FAILED, reason(out, task.name, record), seconds)
  if record['state'] == RUNNING:
    return look_at_process(out, record)
  note = 'interrupted' if is_interruption(record.get('status', 0)) else ''
  return Seen(PLANNED, note, seconds)


def look_at_process(out: Path, record: dict[str, Any]) -> Seen:
  """A task that runs here, ran here, or is said to run on another machine."""
  seconds = record.get('seconds', 0.0)
  where = f'process {record["pid"]} on {record["host"]}'
  if not process_identity.is_here(record):
    if not lock.is_held(out):
      return Seen(PLANNED, f'interrupted: the launcher of {where} is gone', seconds)
    return Seen(RUNNING, f'{where}, whose launcher is at work', seconds)
  if process_identity.is_alive(record):
    return Seen(RUNNING, where, seconds + time.time() - record['time'])
  return Seen(PLANNED, f'interrupted: {where} is gone', seconds)


def look_at_job(out: Path, record: dict[str, Any], job: str, queue: Queue | None) -> Seen:
  """A task that was given to Slurm, and has not ended."""
  seconds = record.get('seconds', 0.0)
  is_running = record['state'] == RUNNING and record.get('job') == job
  if queue is None:
    note = f'Slurm job {job}, as recorded: Slurm does not answer'
    return Seen(RUNNING if is_running else PLANNED, note, seconds, queued=not is_running)
  if job not in queue:
    note = f'interrupted: Slurm job {job} is gone'
    printed = out / 'sweep' / 'slurm' / f'{job}_0_log.out'
    if record.get('job') != job and printed.exists():  # It did not get as far as to run the task.
      note += f', having said: {last_line(printed)}'
    return Seen(PLANNED, note, seconds)
  if is_running and queue[job] in ('RUNNING', 'COMPLETING'):
    where = f'Slurm job {job} on {record["host"]}'
    return Seen(RUNNING, where, seconds + time.time() - record['time'])
  return Seen(PLANNED, f'Slurm job {job}: {queue[job].lower()}', seconds, queued=True)


def reason(out: Path, name: str, record: dict[str, Any]) -> str:
  """Why a task failed: how it ended, and the last line of its log."""
  status = record.get('status')
  how = f'killed by {process.signal_name(-status)}' if status is not None and status < 0 else f'exit {status}'
  line = last_line(log_file(out, name))
  return f'{how}: {line}' if line else how


def last_line(log: Path) -> str:
  """The last line of a file that is not empty; '' if there is none."""
  if not log.exists():
    return ''
  with log.open('rb') as file:
    file.seek(max(0, log.stat().st_size - TAIL_BYTES))
    lines = file.read().decode(errors='replace').splitlines()
  return next((line.strip() for line in reversed(lines) if line.strip()), '')
