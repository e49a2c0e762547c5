"""Runs that are killed, refused or out of room: the same command goes on, and ends with the same bits."""

import os
import pathlib
import resource
import signal
import subprocess
import sys
import time

import pytest

from advmix_jax import interruption
from advmix_jax.types import Interrupted
from tests import kills

ROOT = pathlib.Path(__file__).parents[1]


def target(folder, *arguments):
  return [sys.executable, '-m', 'tests.kill_target', str(folder), *arguments]


def run(command, **kwargs):
  return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, **kwargs)


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
  """A training without a break."""
  folder = tmp_path_factory.mktemp('whole') / 'run'
  done = run(target(folder))
  assert done.returncode == 0, done.stderr
  return folder


def test_a_training_killed_while_it_saves_ends_with_the_same_bits(tmp_path, whole):
  run = tmp_path / 'run'
  done = kills.kill_until_done(lambda: [target(run)], run, count=4, seed=3, longest=1.0)
  assert len(done) >= 2, done
  assert (run / 'results.json').read_bytes() == (whole / 'results.json').read_bytes()
  assert not kills.unfinished(run)


def begun(folder, *arguments):
  """A training that has begun."""
  process = subprocess.Popen(
    target(folder, *arguments), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
  )
  assert process.stdout.readline() == 'begun\n'
  return process


def test_the_second_of_two_launches_into_one_folder_is_refused_and_the_first_goes_on(tmp_path):
  first = begun(tmp_path / 'run', '100000')
  second = run(target(tmp_path / 'run', '100000'))
  assert second.returncode == 2 and second.stdout == ''
  (line,) = second.stderr.splitlines()
  assert line.startswith(f'error: --workdir={tmp_path}/run is in use by process {first.pid} on ')
  assert first.poll() is None
  first.terminate()
  _, errors = first.communicate(timeout=120)
  assert first.returncode == 75 and 'stopped by SIGTERM; the same command goes on from here' in errors


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2])
def test_each_signal_is_noted(monkeypatch, number):
  monkeypatch.setattr(interruption, '_received', [])
  before = {n: signal.getsignal(n) for n in interruption.SIGNALS}
  try:
    interruption.install()
    assert not interruption.requested()
    signal.raise_signal(number)
    assert interruption.requested()
    with pytest.raises(Interrupted, match=f'stopped by {number.name}; the same command goes on from here'):
      interruption.check()
  finally:
    for n, handler in before.items():
      signal.signal(n, handler)


def test_a_signal_during_the_first_step_saves_and_ends_with_75(tmp_path):
  """Sent while it compiles or waits for its batch."""
  process = begun(tmp_path / 'run')
  process.send_signal(signal.SIGUSR2)
  _, errors = process.communicate(timeout=120)
  assert process.returncode == 75, errors
  assert 'stopped by SIGUSR2; the same command goes on from here' in errors
  saved = [p.name for p in (tmp_path / 'run' / 'toy' / 'checkpoints').iterdir()]
  assert saved and all(name.isdigit() and int(name) < 20 for name in saved)


def test_an_orphan_whose_lock_was_taken_ends_with_a_sentence(tmp_path):
  process = begun(tmp_path / 'run', '100000')
  time.sleep(0.5)
  (tmp_path / 'run' / 'lock' / '2').write_text('{}\n')
  (tmp_path / 'run' / 'lock' / '1').unlink()
  _, errors = process.communicate(timeout=120)
  assert process.returncode == 1
  last = errors.splitlines()[-1]
  assert last.startswith(f'error: {tmp_path}/run was taken over') and 'token 1, now 2' in last


def test_a_full_disk_is_a_sentence_and_what_was_saved_is_kept(tmp_path, whole):
  """A limit on the size of files stands for it."""
  folder = tmp_path / 'run'
  process = begun(folder, '150')
  while not any(p.name.isdigit() for p in (folder / 'toy' / 'checkpoints').glob('*')):
    assert process.poll() is None
    time.sleep(0.01)
  limits = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
  resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (30_000, limits[1]))
  _, errors = process.communicate(timeout=120)
  assert process.returncode == 1, errors
  lines = [line for line in errors.splitlines() if not line.startswith('toy: ')]
  assert len(lines) == 1, errors
  assert lines[0].startswith('error: checkpoint ') and 'could not be written to' in lines[0]
  done = run(target(folder))
  assert done.returncode == 0, done.stderr
  assert 'going on from step' in done.stdout
  assert (folder / 'results.json').read_bytes() == (whole / 'results.json').read_bytes()


def test_a_signal_while_the_program_still_starts_ends_it_with_75(tmp_path):
  ready = 'common.end_when_asked(); print("ready", flush=True)'
  code = f'import time; from launch import common; {ready}; time.sleep(60)'
  process = subprocess.Popen(
    [sys.executable, '-c', code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
  )
  assert process.stdout.readline() == 'ready\n'
  process.send_signal(signal.SIGUSR2)
  _, errors = process.communicate(timeout=60)
  assert process.returncode == 75
  assert errors == 'stopped by SIGUSR2; the same command goes on from here\n'


@pytest.mark.slow
@pytest.mark.parametrize('processes', [1, 2])
def test_a_pipeline_killed_at_many_moments_ends_with_the_same_files(tmp_path, processes):
  """As `python -m tests.kills`."""
  environment = os.environ | {'JAX_COMPILATION_CACHE_DIR': str(tmp_path / 'compiled')}
  command = [sys.executable, '-m', 'tests.kills', '--kills=25', f'--out={tmp_path / "runs"}']
  command.append(f'--processes={processes}')
  done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
  assert done.returncode == 0, done.stdout + done.stderr
  assert done.stdout.endswith('as without a break\n')
