"""A sweep on a real Slurm of two nodes: a job array, preempted, and with a node lost."""

import json
import pathlib
import subprocess
import sys

import pytest

pytest.importorskip('submitit')

pytestmark = pytest.mark.slurm

CLASSIFIER = 'train/nominal/classifier.safetensors'
ROOT = pathlib.Path(__file__).parents[1]
# Four classifiers.
SWEEP = """
from configs import smoke


def get_config():
  c = smoke.get_config()
  c.stages = ('train',)
  c.train.methods = ('nominal',)
  return c


def sweep(add):
  for rate in (1e-3, 2e-3, 3e-3, 4e-3):
    add(**{'train.learning_rate': rate})
"""


def start(cluster, config, out, *flags) -> subprocess.Popen:
  """A sweep on the cluster, and what waits for it."""
  command = [sys.executable, '-m', 'launch.sweep', f'--config={config}', f'--out={out}', '--executor=slurm']
  command += flags
  command += ['--wait', '--threads=1', '--slurm_cpus=1', '--slurm_partition=low', '--slurm_time=30']
  with out.with_suffix('.log').open('w') as log:
    return subprocess.Popen(command, cwd=ROOT, env=cluster.environment, stdout=log, stderr=subprocess.STDOUT)


def finish(cluster, launcher, out) -> dict[str, bytes]:
  """Waits for all members; the classifiers they trained, by name."""
  try:
    status = launcher.wait(timeout=240)
  except subprocess.TimeoutExpired:
    launcher.kill()
    status = None
  text = out.with_suffix('.log').read_text()
  logs = {file.name: file.read_text()[-2000:] for file in out.glob('sweep/logs/*')}
  assert status == 0, f'{status}\n{text}\n{cluster.run("squeue", "--array")}\n{logs}\n{cluster.logs()}'
  return {file.parents[2].name: file.read_bytes() for file in out.glob(f'*/{CLASSIFIER}')}


def jobs(cluster, out) -> dict[str, str]:
  """Members by the job that Slurm has given them."""
  found = {}
  for file in (out / 'sweep' / 'state').glob('*.job.json'):
    found[json.loads(file.read_text())['job']] = file.name.removesuffix('.job.json')
  return {job: name for job, name in found.items() if (out / name / 'config.json').exists()}


def running(cluster, out, node) -> dict[str, str]:
  """Members that run on a node by their jobs."""
  shown = cluster.run(
    'squeue', '--noheader', '--array', '--states=RUNNING', f'--nodelist={node}', '--format=%i'
  )
  names = jobs(cluster, out)
  return {job: names[job] for job in shown.split() if job in names}


def in_training(cluster, out, node) -> bool:
  """Whether a node's two members, any of which may be preempted, have all saved something."""
  names = running(cluster, out, node).values()
  return len(names) == 2 and all(saved(out / name) for name in names)


def saved(workdir) -> bool:
  return any((workdir / CLASSIFIER).parent.glob('checkpoints/*')) and not (workdir / CLASSIFIER).exists()


@pytest.fixture(scope='module')
def config(tmp_path_factory) -> pathlib.Path:
  file = tmp_path_factory.mktemp('sweep') / 'four.py'
  file.write_text(SWEEP)
  return file


def test_a_sweep_of_four_is_an_array(cluster, config, tmp_path):
  out = tmp_path / 'out'
  found = finish(cluster, start(cluster, config, out), out)
  assert len(found) == 4 and len(set(found.values())) == 4
  assert len({job.partition('_')[0] for job in jobs(cluster, out)}) == 1


@pytest.mark.slow
def test_preempted_and_with_a_node_lost_it_comes_to_the_same(cluster, config, tmp_path):
  """Of members that train long enough to be disturbed."""
  undisturbed, out = tmp_path / 'undisturbed', tmp_path / 'out'
  long = '--config.train.num_epochs=600'
  unbroken = finish(cluster, start(cluster, config, undisturbed, long), undisturbed)
  launcher = start(cluster, config, out, long)
  try:
    cluster.wait_until(lambda: all(in_training(cluster, out, n) for n in ('n1', 'n2')), 'training', 240)
    on_first = running(cluster, out, 'n1')
    cluster.submit('sleep 1', '--partition=high', '--nodelist=n1')
    cluster.wait_until(lambda: any(restarts(cluster, job) for job in on_first), 'preemption', 120)
    on_second = running(cluster, out, 'n2')
    assert on_second, 'all of n2 ended before it could be lost'
    cluster.lose('n2')
    cluster.wait_until(lambda: all(restarts(cluster, job) for job in on_second), 'another start', 120)
    # The node stays away: to one that is back at once Slurm still sends the order to end what ran there
    # before, which ends what has just started again under the same number.
    found = finish(cluster, launcher, out)
  finally:
    launcher.kill()
    if 'n2' not in cluster.daemons:
      cluster.restore('n2')
  assert found == unbroken


def restarts(cluster, job) -> int:
  return int(cluster.value(job, 'Restarts'))
