"""Runs a sweep on a Slurm cluster: job arrays through submitit, which is imported only here and when asked.

Tasks that wait for the same others are one array. A job that is preempted or out of time is sent SIGUSR2: its
run saves what it has, and Slurm puts it back into its queue; so it does when a node is lost. Nothing is read
from Slurm's accounting, which not every cluster has: what runs is told by `squeue` and by the records.
"""

import getpass
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any, NamedTuple

from advmix_jax import interruption, process_identity
from advmix_jax.sweep import member, process, state
from advmix_jax.sweep.plan import FOLDER_OF, MEMBER, Plan, Task, load_plan
from advmix_jax.sweep.state import DONE, FAILED, PLANNED, RUNNING, Seen
from advmix_jax.types import BadInputError, RunError

CLIENT = ('sbatch', 'srun', 'squeue', 'scontrol')
ANSWER_SECONDS = 30  # Without a live munged Slurm's programs hang.
POLL_SECONDS = 0.2
MOST_TIMEOUTS = 100_000  # A job may be put back so often: submitit takes preemptions of short jobs for these.
SIGNAL_SECONDS = 20  # Time for the signal to reach submitit, when it has reached the run already.


class Options(NamedTuple):
  """What each job asks Slurm for; None leaves it to the cluster.

  Attributes:
    minutes: time limit; a job that reaches it goes on in its next turn.
    signal_seconds: before that limit, when it is told to save.
    extra: other options of sbatch by name.
  """

  partition: str | None = None
  account: str | None = None
  qos: str | None = None
  gpus: int | None = None
  cpus: int | None = None
  memory_gb: float | None = None
  minutes: int = 240
  signal_seconds: int = 90
  extra: dict[str, str] = {}  # noqa: RUF012 - Never changed.


def check_client() -> None:
  """Raises `BadInputError` if this machine cannot talk to Slurm, or submitit is missing."""
  missing = [name for name in CLIENT if shutil.which(name) is None]
  if missing:
    raise BadInputError(
      f'--executor=slurm: found no {", ".join(missing)} on the PATH, expected the client programs of Slurm; '
      '--executor=local runs the sweep on this machine'
    )
  try:
    import submitit  # noqa: F401
  except ImportError:
    raise BadInputError(
      "--executor=slurm: the package submitit is missing, expected it from: pip install 'advmix_jax[slurm]'"
    ) from None


def ask_queue() -> dict[str, str] | None:
  """State of each of the user's jobs that Slurm has, array jobs singly; None if it does not answer."""
  command = ['squeue', '--noheader', '--array', '--format=%i|%T', f'--user={getpass.getuser()}']
  try:
    done = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_SECONDS, check=True)
  except (OSError, subprocess.SubprocessError):
    return None
  return dict(line.strip().split('|') for line in done.stdout.splitlines() if '|' in line)


def observe(out: Path, plan: Plan) -> dict[str, Seen]:
  """All tasks as they are; Slurm is asked only if a task was given to it."""
  with_job = any(state.job_file(out, name).exists() for name in plan.tasks)
  return state.observe(out, plan, ask_queue() if with_job else {})


def release(out: Path, plan: Plan) -> None:
  """Takes the tasks back from Slurm's hands, so that they can be run here.

  Raises:
    BadInputError: Slurm still has one.
  """
  for name, found in observe(out, plan).items():
    if state.read_job(out, name) is None:
      continue
    if found.queued or found.state == RUNNING:
      raise BadInputError(
        f'--executor=local: {name} is with Slurm ({found.note}), expected none of the sweep there: wait for '
        'it, or cancel it'
      )
    state.write_job(out, name, None)


def submit(out: Path, plan: Plan, options: Options) -> list[str]:
  """Gives Slurm what is neither done nor with it already; failed tasks as well. Returns the tasks' names.

  Args:
    out: absolute path of the sweep's folder, which the nodes must see under the same path.
    plan: what to do.
    options: of every job.

  Raises:
    RunError: Slurm does not answer or refuses; what it has taken stays with it.
  """
  queue = ask_queue()
  if queue is None:
    raise RunError(f'Slurm does not answer: squeue failed, or took more than {ANSWER_SECONDS} s')
  seen = state.observe(out, plan, queue)
  todo = [
    t for t in plan.tasks.values() if seen[t.name].state in (PLANNED, FAILED) and not seen[t.name].queued
  ]
  jobs = {
    name: state.read_job(out, name) for name, found in seen.items() if found.queued or found.state == RUNNING
  }
  for kind in (*FOLDER_OF, MEMBER):  # What is needed is given first.
    arrays: dict[tuple[str, ...], list[Task]] = {}
    for task in todo:
      if task.kind == kind:
        needs = tuple(str(jobs[name]) for name in task.needs if name in jobs)
        arrays.setdefault(needs, []).append(task)
    for needs, tasks in arrays.items():
      for task, job in zip(tasks, submit_array(out, tasks, needs, options), strict=True):
        jobs[task.name] = job
        state.write_job(out, task.name, job)
  return [task.name for task in todo]


def submit_array(out: Path, tasks: list[Task], needs: tuple[str, ...], options: Options) -> list[str]:
  """Gives Slurm tasks that wait for the jobs `needs` as one array; returns their jobs' numbers."""
  import submitit
  from submitit.core.utils import FailedJobError, FailedSubmissionError

  folder = out / 'sweep' / 'slurm'
  folder.mkdir(parents=True, exist_ok=True)
  executor = submitit.SlurmExecutor(folder, max_num_timeout=MOST_TIMEOUTS)
  given: dict[str, Any] = {
    'partition': options.partition,
    'account': options.account,
    'qos': options.qos,
    'gpus_per_node': options.gpus,
    'cpus_per_task': options.cpus,
    'mem': options.memory_gb,
    'dependency': f'afterok:{":".join(needs)}' if needs else None,
  }
  executor.update_parameters(
    job_name=f'sweep-{tasks[0].kind}',
    time=options.minutes,
    signal_delay_s=options.signal_seconds,
    stderr_to_stdout=True,
    additional_parameters={'requeue': True, 'kill-on-invalid-dep': 'yes', **options.extra},
    **{name: value for name, value in given.items() if value is not None},
  )
  try:
    with executor.batch():
      jobs = [executor.submit(Attend(str(out), task.name)) for task in tasks]
  except (FailedJobError, FailedSubmissionError, OSError) as error:
    raise RunError(f'sbatch refused: {str(error).strip().splitlines()[-1]}') from error
  return [job.job_id for job in jobs]


def wait(out: Path, plan: Plan, pause_seconds: float = 15.0) -> dict[str, Seen]:
  """Waits until Slurm has nothing of the sweep any more; the tasks as they are then.

  Raises:
    Interrupted: a signal arrived; the jobs go on.
  """
  from advmix_jax import interruption

  pause = 1.0
  while True:
    seen = observe(out, plan)
    if not any(found.queued or found.state == RUNNING for found in seen.values()):
      return seen
    end = time.monotonic() + pause
    while time.monotonic() < end:
      interruption.check('the jobs go on without this command; `status` tells how they are')
      time.sleep(POLL_SECONDS)
    pause = min(pause_seconds, 1.5 * pause)


class Attend:
  """What a Slurm job does: runs one task, and writes down what becomes of it. submitit calls it."""

  def __init__(self, out: str, name: str):
    self._out, self._name = Path(out), name
    self._process: subprocess.Popen[bytes] | None = None
    self._facts: dict[str, Any] = {}
    self._since = 0.0

  def __call__(self) -> None:
    """Raises `RunError` if the task did not end well, so that Slurm does not start what waits for it."""
    plan = load_plan(self._out)
    task = plan.tasks[self._name]
    if state.look(self._out, task, {}).state == DONE:
      return
    member.prepare(self._out, plan, task)
    log = member.begin_log(self._out, task)
    command = member.command(self._out, task)
    self._since = time.monotonic()
    self._process = process.start(command, log, member.environment(plan.threads, {}))
    self._facts = {'job': job_number(), 'restarts': os.environ.get('SLURM_RESTART_COUNT', '0')}
    state.write(self._out, task.name, RUNNING, **process_identity.identity(self._process.pid), **self._facts)
    while (status := self._process.poll()) is None:
      time.sleep(POLL_SECONDS)
    if self._note_end(status) == DONE:
      return
    if state.is_interruption(status):
      time.sleep(SIGNAL_SECONDS)  # Slurm signals all processes of a job: submitit puts it back from here.
    raise RunError(f'{task.name} ended with status {status}; its log is {log}')

  def checkpoint(self) -> Any:
    """submitit calls this when the job is told to end, and then has Slurm put it back into the queue."""
    from submitit.helpers import DelayedSubmission

    if self._process is not None:
      try:
        self._process.terminate()
        os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)  # `wait` may hold its lock below us.
      except ChildProcessError:
        pass  # It had ended.
      if self._owns_record():
        seconds = time.monotonic() - self._since
        state.write_end(self._out, self._name, interruption.STATUS, seconds, **self._facts)
    return DelayedSubmission(Attend(str(self._out), self._name))

  def _note_end(self, status: int) -> str:
    if not self._owns_record():  # Slurm took this node for lost, and has started the task on another.
      return FAILED
    seconds = time.monotonic() - self._since
    return state.write_end(self._out, self._name, status, seconds, **self._facts)

  def _owns_record(self) -> bool:
    record = state.read(self._out, self._name)
    return {name: record.get(name) for name in self._facts} == self._facts


def job_number() -> str:
  """Of this job, as squeue writes it."""
  array, index = (os.environ.get(f'SLURM_ARRAY_{name}_ID') for name in ('JOB', 'TASK'))
  return f'{array}_{index}' if array else os.environ['SLURM_JOB_ID']
