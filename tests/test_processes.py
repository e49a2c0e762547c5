"""Several processes make one run: the numbers of one process, and an end with a sentence whatever happens."""

import pathlib
import signal
import time

import numpy as np
import pytest

from tests.ports import free_ports
from tests.processes import Process, address_flags, end, environment

PATIENCE = 300  # Seconds for what takes one minute on an idle machine.
HEARTBEAT = 8
TINY = (
  '--config=configs/smoke.py',
  '--config.stages=train_gan,encode,train,evaluate',
  '--config.train.methods=nominal',
  '--config.data.resolution=8',
  '--config.data.num_train=50',
  '--config.generator.fmaps=(6,4)',
  '--config.generator.total_kimg=0.96',
  '--config.generator.sample_kimg=0.96',
  '--config.generator.r1_interval=1',
  '--config.encode.init_kimg=0.064',
  '--config.encode.shard_size=20',
  '--config.attack.mixing_level=2',
  '--config.cutout.size=4',
  f'--config.distributed.heartbeat_seconds={HEARTBEAT}',
)
ENDLESS = ('--config.generator.total_kimg=1000', '--config.generator.sample_kimg=1000')


@pytest.fixture
def processes():
  """Those of a test; none is left behind."""
  started: list[Process] = []
  yield started
  end(started)


@pytest.fixture(scope='module')
def cache(tmp_path_factory) -> dict[str, str]:
  """Compiled programs are shared by the runs of this module, and by nothing else."""
  return {'JAX_COMPILATION_CACHE_DIR': str(tmp_path_factory.mktemp('compiled'))}


def launched(
  folder: pathlib.Path, name: str, variables: dict[str, str], *flags: str, devices: int = 1
) -> Process:
  """`launch.pipeline` on a tiny configuration, in the workdir `folder/run`."""
  arguments = ['-m', 'launch.pipeline', *TINY, f'--workdir={folder / "run"}', *flags]
  return Process(arguments, folder, name, environment(devices) | variables)


def two(
  folder: pathlib.Path, processes: list[Process], variables: dict[str, str], *flags: str
) -> list[Process]:
  """A run of two processes in `folder/run`; they are added to `processes`."""
  port, number = free_ports(1)[0], len(processes)
  processes += [
    launched(folder, f'{number + i}', variables, *flags, *address_flags(port, i)) for i in range(2)
  ]
  return processes[-2:]


def wait_for_steps(folder: pathlib.Path, process: Process) -> None:
  """Returns when the run has trained its generator for some steps."""
  metrics, deadline = folder / 'run' / 'metrics.jsonl', time.monotonic() + PATIENCE
  while not (metrics.exists() and 'gan/loss' in metrics.read_text()):
    assert process.popen.poll() is None, process.err
    assert time.monotonic() < deadline, process.err
    time.sleep(0.05)


def results(folder: pathlib.Path) -> bytes:
  return (folder / 'run' / 'results.json').read_bytes()


@pytest.fixture(scope='module')
def alone(tmp_path_factory, cache) -> pathlib.Path:
  """Holds a run of one process with two devices. Slurm's variables, which each task has, change nothing."""
  folder = tmp_path_factory.mktemp('alone')
  slurm = {'JOB_ID': '1', 'STEP_NODELIST': 'n[1-2]', 'NTASKS': '2', 'PROCID': '1', 'LOCALID': '0'}
  task = cache | {f'SLURM_{name}': value for name, value in slurm.items()}
  process = launched(folder, 'alone', task, devices=2)
  assert process.status(PATIENCE) == 0, process.err
  return folder


def test_a_step_of_two_processes_is_that_of_one_with_two_devices(tmp_path, processes, cache):
  """Of the same whole batch, of which each process is given its half; both hold the same replica."""
  out, port = str(tmp_path / 'found'), free_ports(1)[0]
  commands = [['tests.on_devices', out, 'some', '2']]
  commands += [['tests.in_processes', out, f'127.0.0.1:{port}', '2', str(i)] for i in range(2)]
  for i, command in enumerate(commands):
    processes.append(Process(['-m', *command], tmp_path, str(i), environment(1 if i else 2) | cache))
  for process in processes:
    assert process.status(PATIENCE) == 0, process.err
  one, *both = (dict(np.load(f'{out}-{name}.npz')) for name in ('2', '0-of-2', '1-of-2'))
  for found in both:
    names = [key for key in found if not key.endswith('/stop')]
    assert {'gan', 'nominal'} <= {key.split('/')[0] for key in names}
    for key in names:
      np.testing.assert_allclose(found[key], one[key], rtol=1e-5, atol=1e-5, err_msg=key)
      np.testing.assert_array_equal(found[key], both[0][key], err_msg=key)


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_processes_and_ends_with_the_same_results(
  alone, tmp_path, processes, cache
):
  """One process, then two, of which one is asked to stop, then two: all with two devices in sum.

  Sums of two numbers are the same in any order, so the results are the same bit for bit.
  """
  first = launched(tmp_path, 'first', cache, devices=2)
  processes.append(first)
  wait_for_steps(tmp_path, first)
  first.popen.terminate()
  assert first.status(PATIENCE) == 75, first.err

  pair = two(tmp_path, processes, cache)
  while 'going on from step' not in pair[0].out and pair[0].popen.poll() is None:
    time.sleep(0.05)
  pair[1].popen.send_signal(signal.SIGUSR1)
  for process in pair:
    assert process.status(PATIENCE) == 75, process.err
    assert process.said == 'stopped by SIGUSR1; the same command goes on from here'
  assert not (tmp_path / 'run' / 'results.json').exists()

  pair = two(tmp_path, processes, cache)
  for process in pair:
    assert process.status(PATIENCE) == 0, process.err
  assert results(tmp_path) == results(alone)
  assert not list((tmp_path / 'run').rglob('*.tmp*'))
  assert not pair[1].out and 'accuracy on the test images' in pair[0].out


@pytest.mark.parametrize(
  'victim, number, seconds',
  [
    pytest.param(1, signal.SIGKILL, 30, marks=pytest.mark.slow),
    (0, signal.SIGKILL, 30),
    pytest.param(1, signal.SIGSTOP, 60, marks=pytest.mark.slow),
    pytest.param(0, signal.SIGSTOP, 60, marks=pytest.mark.slow),
  ],
)
def test_where_a_process_is_lost_the_other_one_ends_with_a_sentence(
  tmp_path, processes, cache, victim, number, seconds
):
  pair = two(tmp_path, processes, cache, *ENDLESS)
  wait_for_steps(tmp_path, pair[0])
  pair[victim].popen.send_signal(number)
  assert pair[1 - victim].status(seconds) == 1
  lines = pair[1 - victim].err.splitlines()  # Among them jax's own, of which some may come after it.
  assert any(line.startswith('error: another process of the run was lost') for line in lines), lines


@pytest.mark.parametrize('process', [0, 1])
def test_where_a_process_does_not_come_the_other_one_ends_with_a_sentence(
  tmp_path, processes, cache, process
):
  flags = address_flags(free_ports(1)[0], process)
  processes.append(launched(tmp_path, 'only', cache, *flags, '--config.distributed.start_seconds=4'))
  start = time.monotonic()
  assert processes[0].status(60) == 1
  assert time.monotonic() - start > 4
  (line,) = (line for line in processes[0].err.splitlines() if line.startswith('error: '))
  assert 'expected all 2 processes at 127.0.0.1:' in line and 'within 4 s' in line


@pytest.mark.parametrize(
  'flags, words',
  [
    (['--config.devices=3'], 'config.devices is 3, expected at most the 2 cpu devices there are'),
    (['--config.devices=-1'], 'config.devices is -1, expected a whole number of at least 0'),
    (['--distributed'], '--distributed: the processes cannot be joined'),
    (['--coordinator=127.0.0.1:1'], 'expected --distributed with it'),
    (['--distributed', '--process_id=0'], 'expected all of --coordinator, --num_processes and --process_id'),
    (
      ['--distributed', '--coordinator=here', '--num_processes=2', '--process_id=0'],
      '--coordinator=here, expected HOST:PORT',
    ),
    (
      ['--distributed', '--coordinator=here:1', '--num_processes=2', '--process_id=2'],
      '--process_id=2, expected 0 to 1',
    ),
  ],
)
def test_what_cannot_be_is_one_line_and_status_2(tmp_path, processes, flags, words):
  processes.append(launched(tmp_path, 'one', {}, *flags, devices=2))
  assert processes[0].status(PATIENCE) == 2
  (line,) = processes[0].err.splitlines()
  assert line.startswith('error: ') and words in line
