"""A Slurm cluster of two nodes on this machine, for the tests marked `slurm`.

    with slurm_cluster.start(folder) as cluster:
      job = cluster.submit('srun hostname', '-N2')
      cluster.wait_for(job, 'COMPLETED')

It takes free ports of 127.0.0.1, keeps everything in one folder, and ends the processes it started and
no others. Partition `high` preempts `low`, the default: a job there gets the signal of its `--signal` and,
half a minute later, is ended and queued again.
"""

import contextlib
import dataclasses
import os
import pathlib
import pwd
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from tests.marks import MARK, kill_marked
from tests.ports import free_ports

ROOT = pathlib.Path(__file__).parents[1]
NODES = ('n1', 'n2')
CPUS = 2  # Of each node, whatever the machine has.
PROGRAMS = ('munged', 'slurmctld', 'slurmd', 'sbatch', 'srun', 'squeue', 'scontrol', 'scancel', 'sinfo')
FOLDERS_OF_DAEMONS = '/usr/sbin:/usr/local/sbin:/sbin'
# States that a job does not leave by itself; what is preempted or lost its node is queued again.
ENDED = ('COMPLETED', 'FAILED', 'CANCELLED', 'TIMEOUT', 'OUT_OF_MEMORY', 'DEADLINE')
LOST_AFTER = 5  # Seconds without a word from a node.
GRACE = 30  # Seconds from the signal of preemption to the end.

CONFIGURATION = """
ClusterName=advmix
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={control_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
# A credential's life: a job that is queued again waits for its end, two minutes otherwise.
AuthInfo=socket={folder}/munge/socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
# No control groups and no accounting: neither is there in a container.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
SlurmctldParameters=preempt_send_user_signal
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=1,sched_min_interval=0
ReturnToService=2
SlurmdTimeout={lost_after}
MessageTimeout=5
TCPTimeout=2
JobRequeue=1
KillWait=5
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
{nodes}
PartitionName=low Nodes={all_nodes} Default=YES PriorityTier=1 GraceTime={grace} MaxTime=60
PartitionName=high Nodes={all_nodes} PriorityTier=10 PreemptMode=OFF MaxTime=60
"""


@dataclasses.dataclass
class Cluster:
  """A running cluster.

  Attributes:
    folder: of its files.
    daemons: processes by name: munged, slurmctld, n1, n2.
    environment: in which Slurm's commands find it.
  """

  folder: pathlib.Path
  daemons: dict[str, subprocess.Popen]
  environment: dict[str, str]

  def run(self, *command: str, **more: object) -> str:
    """What a command prints; raises `AssertionError` with all of it where it fails or hangs."""
    options: dict = {'env': self.environment, 'timeout': 60, 'capture_output': True, 'text': True} | more
    done = subprocess.run(command, **options)
    assert done.returncode == 0, f'{command}: {done.returncode}\n{done.stdout}{done.stderr}\n{self.logs()}'
    return done.stdout

  def submit(self, script: str, *options: str) -> str:
    """Queues the lines of a shell script; returns the job's number."""
    return self.sbatch('--requeue', '--open-mode=append', *options, input=f'#!/bin/sh\n{script}\n')

  def sbatch(self, *arguments: str, **more: object) -> str:
    """Queues what the arguments say; returns the job's number."""
    is_array = any(argument.startswith('--array') for argument in arguments)
    output = f'--output={self.folder}/out-{"%A_%a" if is_array else "%j"}.txt'
    return self.run('sbatch', '--parsable', output, *arguments, **more).strip()

  def printed(self, job: str) -> str:
    """What a job, or NUMBER_INDEX of an array, printed so far, over all its starts."""
    file = self.folder / f'out-{job}.txt'
    return file.read_text() if file.exists() else ''

  def state(self, job: str) -> str:
    """PENDING, RUNNING, COMPLETED, ...: of a job, or the different ones of an array's members in turn."""
    return ' '.join(field.split('=')[1] for field in self._fields(job, 'JobState'))

  def value(self, job: str, name: str) -> str:
    """A value of `scontrol show job`, such as Restarts or BatchHost; the first where there are several."""
    return self._fields(job, name)[0].split('=', 1)[1]

  def _fields(self, job: str, name: str) -> list[str]:
    shown = self.run('scontrol', 'show', 'job', job).split()
    return [field for field in shown if field.startswith(f'{name}=')]

  def wait_for(self, job: str, state: str, timeout: float = 60) -> None:
    """Returns when the job, or every member of the array, is in that state.

    Raises `AssertionError`, with what it printed, as soon as one has ended in another.
    """

    def is_so() -> bool:
      states = set(self.state(job).split())
      if ended := states & {*ENDED} - {state}:
        found = f'{", ".join(ended)}, not {state}\n{self.printed(job)}\n{self.logs()}'
        raise AssertionError(f'job {job}: {found}')
      return states == {state}

    self.wait_until(is_so, f'job {job} {state}', timeout)

  def wait_until(self, is_so: Callable[[], bool], what: str, timeout: float = 60) -> None:
    """Raises `AssertionError` with the logs if it is not so in time."""
    end = time.monotonic() + timeout
    while not is_so():
      if time.monotonic() > end:
        raise AssertionError(
          f'{what}: not within {timeout} s\n{self.run("squeue", "--array")}\n{self.logs()}'
        )
      time.sleep(0.2)

  def lose(self, node: str, with_jobs: bool = True) -> None:
    """Kills a node's daemon and, as when a machine goes down, everything that ran there.

    Without its jobs these go on as orphans, while Slurm starts them again elsewhere.
    """
    daemon = self.daemons.pop(node)
    daemon.kill()
    daemon.wait()
    if with_jobs:
      self._end_steps(node)

  def restore(self, node: str) -> None:
    """Starts a node's daemon again."""
    self.daemons[node] = self._start(node, ['slurmd', '-D', '-N', node])
    self.wait_until(lambda: self._is_up(node), f'node {node}')

  def _is_up(self, node: str) -> bool:
    state = self.run('sinfo', '--noheader', '--Node', f'--nodes={node}', '--format=%T').split()
    return bool(state) and all(s in ('idle', 'mixed', 'allocated', 'completing') for s in state)

  def logs(self) -> str:
    """The last lines of every daemon."""
    files = sorted(self.folder.glob('*.log'))
    return '\n'.join(f'== {f.name}\n' + '\n'.join(f.read_text().splitlines()[-15:]) for f in files)

  def start(self) -> None:
    munge = self.folder / 'munge'
    munged = ['munged', '--foreground', '--force', f'--socket={munge}/socket', f'--pid-file={munge}/pid']
    munged += [f'--key-file={self.folder}/key/key', f'--seed-file={self.folder}/key/seed']
    munged += [f'--log-file={self.folder}/munged-own.log']
    self.daemons['munged'] = self._start('munged', munged)
    # Without a live munged Slurm's commands hang.
    wait((munge / 'socket').exists, 'socket of munged')
    self.daemons['slurmctld'] = self._start('slurmctld', ['slurmctld', '-D', '-i'])
    for node in NODES:
      self.restore(node)

  def _start(self, name: str, command: list[str]) -> subprocess.Popen:
    environment = self.environment | {MARK: f'{self.folder}/{name}'}
    with (self.folder / f'{name}.log').open('ab') as log:
      return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)

  def stop(self) -> None:
    """Ends all jobs and the daemons, nodes first."""
    if 'slurmctld' in self.daemons:
      with contextlib.suppress(AssertionError, subprocess.TimeoutExpired):
        self.run('scancel', f'--user={user()}', '--signal=KILL', timeout=10)
    for name in (*NODES, 'slurmctld', 'munged'):
      daemon = self.daemons.pop(name, None)
      if daemon is not None:
        end(daemon)
    for node in NODES:
      self._end_steps(node)

  def _end_steps(self, node: str) -> None:
    """Kills what a node's daemon started, down to the last descendant, by number."""
    kill_marked(f'{self.folder}/{node}')


@contextlib.contextmanager
def start(folder: pathlib.Path) -> Iterator[Cluster]:
  """A cluster for a `with` statement; skips the test where Slurm is not installed.

  Args:
    folder: empty; its path must be short, as a socket's may have some hundred characters.
  """
  if os.getuid() != 0:
    pytest.skip("Slurm's daemons are started as root, which this user is not")
  environment = os.environ | {'PATH': f'{os.environ["PATH"]}:{FOLDERS_OF_DAEMONS}'}
  missing = [name for name in PROGRAMS if shutil.which(name, path=environment['PATH']) is None]
  if missing:
    pytest.skip(f'no Slurm here: {", ".join(missing)} not found (.ci/slurm installs it on Debian, as root)')
  for name, mode in (('key', 0o700), ('munge', 0o711), ('state', 0o700)):
    (folder / name).mkdir()
    (folder / name).chmod(mode)
  key = folder / 'key' / 'key'
  key.write_bytes(os.urandom(128))
  key.chmod(0o400)
  configuration = folder / 'slurm.conf'
  configuration.write_text(configured(folder))
  own = {'SLURM_CONF': str(configuration), MARK: f'{folder}/client'}
  cluster = Cluster(folder, {}, environment | own)
  watching = [sys.executable, '-m', 'tests.slurm_cluster', folder]
  guard = subprocess.Popen(watching, stdin=subprocess.PIPE, start_new_session=True, cwd=ROOT)
  try:
    cluster.start()
    yield cluster
  finally:
    cluster.stop()
    guard.communicate()


def configured(folder: pathlib.Path) -> str:
  """The text of slurm.conf."""
  control_port, *ports = free_ports(1 + len(NODES))
  return CONFIGURATION.format(
    folder=folder,
    user=user(),
    control_port=control_port,
    lost_after=LOST_AFTER,
    grace=GRACE,
    all_nodes=','.join(NODES),
    nodes='\n'.join(
      f'NodeName={node} NodeAddr=127.0.0.1 Port={port} CPUs={CPUS} RealMemory=4096'
      for node, port in zip(NODES, ports, strict=True)
    ),
  )


def user() -> str:
  return pwd.getpwuid(os.getuid()).pw_name


def end(daemon: subprocess.Popen) -> None:
  """SIGTERM, and SIGKILL to what does not heed it."""
  daemon.terminate()
  try:
    daemon.wait(timeout=5)
  except subprocess.TimeoutExpired:
    daemon.kill()
    daemon.wait()


def wait(is_so: Callable[[], bool], what: str, timeout: float = 30) -> None:
  end_time = time.monotonic() + timeout
  while not is_so():
    assert time.monotonic() <= end_time, what
    time.sleep(0.05)


def guard(folder: str) -> None:
  """Waits for the end of the test, which may have been killed, and leaves nothing of its cluster."""
  sys.stdin.read()
  kill_marked(f'{folder}/')


if __name__ == '__main__':
  guard(sys.argv[1])
