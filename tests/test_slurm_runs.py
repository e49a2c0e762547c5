"""`launch/slurm/run.sh` on a real Slurm of two nodes: a preempted run, and one on both nodes at once."""

import pathlib
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file

from launch import common
from tests.ports import free_ports

pytestmark = pytest.mark.slurm

ROOT = pathlib.Path(__file__).parents[1]
CLASSIFIER = 'train/nominal/classifier.safetensors'
NOMINAL = ('launch.train', '--config=configs/smoke.py', '--config.train.methods=nominal')


def run(cluster, options, *command) -> str:
  """Queues a run as docs/cluster.md has it; the number of its job."""
  script = ['launch/slurm/run.sh', *command]
  return cluster.sbatch(
    *options,
    f'--export=ALL,ADVMIX_VENV={sys.prefix},JAX_COORDINATOR_ADDRESS=127.0.0.1:{free_ports(1)[0]}',
    *script,
    cwd=ROOT,
  )


def trained(cluster, workdir, *changes) -> dict[str, np.ndarray]:
  """What one process comes to that nothing disturbs."""
  cluster.run(sys.executable, '-m', *NOMINAL, f'--workdir={workdir}', *changes, cwd=ROOT, timeout=200)
  return load_file(workdir / CLASSIFIER)


@pytest.mark.slow  # test_slurm_sweep.py preempts a run as well.
def test_a_preempted_run_goes_on_to_the_same_result(cluster, tmp_path):
  long = ('--config.train.num_epochs=500', '--config.checkpoint.seconds=1')
  expected = trained(cluster, tmp_path / 'unbroken', *long)
  workdir = tmp_path / 'run'
  job = run(cluster, ('--nodelist=n1',), *NOMINAL, f'--workdir={workdir}', *long)
  cluster.wait_until(lambda: any(workdir.glob('train/nominal/checkpoints/*')), 'a checkpoint', 120)
  cluster.submit('sleep 1', '--partition=high', '--nodelist=n1', '--exclusive')
  cluster.wait_for(job, 'COMPLETED', 120)
  assert cluster.value(job, 'Restarts') == '1', cluster.printed(job)
  found = load_file(workdir / CLASSIFIER)
  for name, value in expected.items():
    np.testing.assert_array_equal(found[name], value, err_msg=name)


def test_bad_input_is_not_tried_again(cluster, tmp_path):
  job = run(cluster, (), 'launch.train', '--config=configs/none.py', f'--workdir={tmp_path}')
  cluster.wait_for(job, 'FAILED', 120)
  assert cluster.value(job, 'ExitCode') == f'{common.BAD_INPUT}:0'
  assert 'error: --config=configs/none.py: found no such file' in cluster.printed(job)


def test_two_nodes_are_one_process_with_twice_the_batch(cluster, tmp_path):
  """Sixteen images in each step, eight of them on each node; as many in the one process."""
  steps = ('--config.train.num_epochs=0.5',)
  expected = trained(cluster, tmp_path / 'one', *steps)
  options = ('--nodes=2', '--ntasks-per-node=1')
  # A machine that stands still for a while is nothing that this is about.
  patient = ('--distributed', '--config.distributed.heartbeat_seconds=100')
  job = run(cluster, options, *NOMINAL, *patient, f'--workdir={tmp_path}/two', *steps)
  cluster.wait_for(job, 'COMPLETED', 120)
  found = load_file(tmp_path / 'two' / CLASSIFIER)
  for name, value in expected.items():
    np.testing.assert_allclose(found[name], value, rtol=0, atol=1e-5, err_msg=name)
