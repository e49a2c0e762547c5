"""What the cluster of the tests does with jobs, before runs of this project are trusted to it."""

import pathlib
import shlex
import subprocess
import sys
import tempfile

import pytest

from tests import marks, slurm_cluster

pytestmark = pytest.mark.slurm

ROOT = pathlib.Path(__file__).parents[1]


# Ends with 75 when it is asked to; the second time it ends at once.
WORK = """
trap 'echo asked to stop; exit 75' USR2 TERM
[ -e {done} ] && {{ echo went on; exit 0; }}
touch {done}
echo started on $SLURMD_NODENAME
i=0; while [ $i -lt 600 ]; do sleep 0.1; i=$((i + 1)); done
"""


def work(folder: pathlib.Path) -> str:
  """The script of runs with another step, which ends with 75 when it is asked to stop."""
  step = shlex.quote(WORK.format(done=folder / 'done'))
  script, run = (
    (ROOT / 'launch' / 'slurm' / 'run.sh').read_text(),
    '"${ADVMIX_VENV:-.venv}/bin/python" -m "$@"',
  )
  assert script.count(run) == 1
  return script.replace(run, f'sh -c {step}')


def started(cluster: slurm_cluster.Cluster, folder: pathlib.Path, *options: str, before: str = '') -> str:
  """The number of a job that is at its work; the shell of its script runs `before` first."""
  job = cluster.submit(f'{before}\n{work(folder)}', '--signal=USR2@5', *options)
  cluster.wait_until(lambda: 'started' in cluster.printed(job), 'start')
  return job


def test_an_array_runs_on_both_nodes(cluster):
  job = cluster.submit('echo member $SLURM_ARRAY_TASK_ID on $SLURMD_NODENAME; sleep 1', '--array=0-3')
  cluster.wait_for(job, 'COMPLETED')
  printed = [cluster.printed(f'{job}_{i}').split() for i in range(4)]
  assert [words[1] for words in printed] == ['0', '1', '2', '3']
  assert {words[3] for words in printed} == set(slurm_cluster.NODES)


def test_srun_starts_a_task_on_each_node(cluster):
  command = ('srun', '--nodes=2', '--ntasks=2', 'sh', '-c', 'echo $SLURM_PROCID $SLURMD_NODENAME')
  assert sorted(cluster.run(*command).splitlines()) == ['0 n1', '1 n2']


def test_a_preempted_job_is_signalled_and_starts_again(cluster, tmp_path):
  job = started(cluster, tmp_path, '--nodelist=n1')
  other = cluster.submit('sleep 1', '--partition=high', '--nodelist=n1', '--exclusive')
  cluster.wait_for(other, 'COMPLETED')
  cluster.wait_for(job, 'COMPLETED')
  assert 'asked to stop' in cluster.printed(job) and cluster.printed(job).endswith('went on\n')
  assert cluster.value(job, 'Restarts') == '1'


@pytest.mark.parametrize('before', ['', 'trap : TERM'], ids=['at once', 'late'])
def test_a_cancelled_job_does_not_start_again(cluster, tmp_path, before):
  """It ends with 75 as well, but Slurm ends the script too, sometimes later than the step."""
  job = started(cluster, tmp_path, '--nodelist=n1', before=before)
  cluster.run('scancel', job)
  cluster.wait_until(lambda: 'asked to stop' in cluster.printed(job), 'end of the step')
  cluster.wait_until(lambda: not cluster.run('squeue', '--noheader', f'--jobs={job}'), 'end of the job')
  assert cluster.state(job) == 'CANCELLED' and cluster.value(job, 'Restarts') == '0'


@pytest.mark.slow
def test_a_job_near_its_time_limit_is_signalled_and_starts_again(cluster, tmp_path):
  job = started(cluster, tmp_path, '--time=1', '--signal=USR2@60')
  cluster.wait_for(job, 'COMPLETED')
  assert cluster.value(job, 'Restarts') == '1'


def test_a_job_of_a_lost_node_starts_again_on_the_other(cluster, tmp_path):
  job = started(cluster, tmp_path)
  node = cluster.value(job, 'BatchHost')
  cluster.lose(node)
  try:
    cluster.wait_for(job, 'COMPLETED')
    assert cluster.value(job, 'BatchHost') != node
    assert cluster.printed(job).endswith('went on\n') and 'asked to stop' not in cluster.printed(job)
  finally:
    cluster.restore(node)


def test_no_daemon_or_job_is_left(cluster, tmp_path):
  """Of a cluster of its own, with a job under way."""
  with tempfile.TemporaryDirectory(prefix='slurm') as name:
    with slurm_cluster.start(pathlib.Path(name)) as own:
      started(own, tmp_path)
      assert all(marks.marked(f'{name}/{node}') for node in (*slurm_cluster.NODES, 'munged'))
    assert not marks.marked(f'{name}/')
  cluster.run('sinfo')  # The other one is as it was.


HOLDS = """
import pathlib, sys, time
from tests import marks, slurm_cluster
with slurm_cluster.start(pathlib.Path(sys.argv[1])) as cluster:
  cluster.submit('sleep 100')
  print('ready', flush=True)
  time.sleep(100)
"""


def test_a_test_that_is_killed_leaves_nothing(cluster, tmp_path):
  with tempfile.TemporaryDirectory(prefix='slurm') as name:
    command = [sys.executable, '-c', HOLDS, name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, text=True) as process:
      assert process.stdout.readline() == 'ready\n'
      assert len(marks.marked(f'{name}/')) >= 4
      process.kill()
    slurm_cluster.wait(lambda: not marks.marked(f'{name}/'), 'end of all of it')
