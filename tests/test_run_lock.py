"""One owner of a folder at a time: who is refused, who takes over, and that who lost it writes nothing."""

import errno
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from advmix_jax import interruption, run_lock
from advmix_jax.process_identity import start_time
from advmix_jax.training.checkpoint import Checkpointer
from advmix_jax.types import BadInputError, Interrupted, RunError
from advmix_jax.workdir import open_workdir, write_arrays, write_json
from configs import default

ROOT = pathlib.Path(__file__).parents[1]
OTHER_HOST = {'host': 'far', 'pid': 7, 'started': '5', 'machine': 'far boot 1', 'job': '', 'restarts': 0}
HOLD = """
import pathlib, sys, time
from advmix_jax import run_lock
run_lock.acquire(pathlib.Path(sys.argv[1]), beat_seconds=0.05)
print('held', flush=True)
time.sleep(600)
"""


@pytest.fixture(autouse=True)
def alone(monkeypatch):
  """No signals and no locks of other tests; no Slurm."""
  monkeypatch.setattr(interruption, '_received', [])
  monkeypatch.setattr(interruption, '_failures', [])
  monkeypatch.setattr(run_lock, '_held', {})
  for name in ('SLURM_JOB_ID', 'SLURM_RESTART_COUNT'):
    monkeypatch.delenv(name, raising=False)


@pytest.fixture
def other_process(tmp_path):
  """Another process of this machine that holds the lock of `tmp_path`; it has no heart."""
  process = subprocess.Popen(['sleep', '600'])
  (tmp_path / 'lock').mkdir()
  owner = run_lock._myself()._replace(pid=process.pid, started=start_time(process.pid))
  assert run_lock._make(tmp_path, 1, owner)
  yield process
  process.kill()
  process.wait()


@pytest.fixture
def other_run(tmp_path):
  """As a run holds the lock of `tmp_path`: a process with a heartbeat."""
  environment = os.environ | {'PYTHONPATH': str(ROOT)}
  process = subprocess.Popen(
    [sys.executable, '-c', HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=environment
  )
  assert process.stdout.readline() == 'held\n'
  yield process
  process.kill()
  process.wait()
  process.stdout.close()


def tokens(folder):
  return sorted(int(name) for name in os.listdir(folder / 'lock'))


def held_elsewhere(folder, token=3, **changes):
  """A lock of another machine."""
  (folder / 'lock').mkdir(exist_ok=True)
  (folder / 'lock' / str(token)).write_text(f'{json.dumps(OTHER_HOST | changes)}\n{41:<12}\n')


def test_a_full_disk_is_told_with_the_file_and_leaves_no_lock(tmp_path, monkeypatch):
  def write(*unused_args):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

  with monkeypatch.context() as patch:
    patch.setattr('os.write', write)
    with pytest.raises(OSError, match=f'No space left on device: .{tmp_path}/lock/1'):
      run_lock.acquire(tmp_path)
  assert tokens(tmp_path) == []
  run_lock.acquire(tmp_path).release()


def test_the_second_of_two_is_refused_and_told_whom_to_wait_for(tmp_path, other_process):
  start = time.monotonic()
  with pytest.raises(BadInputError) as error:
    run_lock.acquire(tmp_path)
  assert time.monotonic() - start < 10  # Not the wait for a heartbeat.
  expected = f'--workdir={tmp_path} is in use by process {other_process.pid} on {os.uname().nodename}'
  assert str(error.value).startswith(expected)
  assert tokens(tmp_path) == [1]
  assert run_lock.holder(tmp_path).pid == other_process.pid


def test_the_lock_of_a_process_that_was_killed_is_taken_over_with_a_higher_token(tmp_path, other_process):
  other_process.send_signal(signal.SIGKILL)
  other_process.wait()
  assert run_lock.holder(tmp_path) is None
  lock = run_lock.acquire(tmp_path)
  assert lock.token == 2 and tokens(tmp_path) == [2]
  lock.check()
  lock.release()


def test_a_killed_process_that_nobody_has_waited_for_is_dead(tmp_path, other_process):
  """A zombie still has its pid."""
  os.kill(other_process.pid, signal.SIGKILL)
  while start_time(other_process.pid) is not None:
    time.sleep(0.01)
  run_lock.acquire(tmp_path).release()


def test_a_pid_that_is_another_process_by_now_is_no_owner(tmp_path):
  first = run_lock.acquire(tmp_path)
  first.release()
  me = run_lock._myself()
  assert run_lock._make(tmp_path, 2, me._replace(started=str(int(me.started) - 1)))
  run_lock.acquire(tmp_path).release()


def test_a_released_lock_is_free_at_once_and_its_token_is_not_given_again(tmp_path):
  for expected in (1, 2, 3):
    lock = run_lock.acquire(tmp_path)
    assert lock.token == expected and run_lock.holder(tmp_path).pid == os.getpid()
    lock.release()
    assert run_lock.holder(tmp_path) is None
  assert tokens(tmp_path) == [3]


def test_a_process_cannot_take_its_own_folder_twice(tmp_path):
  lock = run_lock.acquire(tmp_path)
  with pytest.raises(BadInputError, match=f'in use by process {os.getpid()} '):
    run_lock.acquire(tmp_path)
  lock.release()


def test_an_owner_on_another_machine_without_a_heartbeat_is_taken_over(tmp_path, capsys):
  held_elsewhere(tmp_path)
  start = time.monotonic()
  lock = run_lock.acquire(tmp_path, stale_seconds=0.4)
  assert 0.4 <= time.monotonic() - start < 5
  assert lock.token == 4 and tokens(tmp_path) == [4]
  assert 'last in use by process 7 on far' in capsys.readouterr().out
  lock.release()


def test_an_owner_on_another_machine_with_a_heartbeat_is_left_alone(tmp_path, other_run, monkeypatch):
  monkeypatch.setattr(run_lock, 'machine', lambda: 'another boot')
  with pytest.raises(BadInputError, match=f'in use by process {other_run.pid} on .*or delete .*/lock'):
    run_lock.acquire(tmp_path, stale_seconds=20)
  assert tokens(tmp_path) == [1]


@pytest.mark.parametrize('step', [-1e8, 1e8], ids=['back', 'forward'])
def test_a_step_of_the_clock_changes_nothing(tmp_path, other_run, monkeypatch, step):
  """Neither the clock of this machine nor times of files are looked at."""
  now = time.time
  monkeypatch.setattr(time, 'time', lambda: now() + step)
  os.utime(tmp_path / 'lock' / '1', (now() + step, now() + step))
  with pytest.raises(BadInputError, match='in use'):
    run_lock.acquire(tmp_path)
  monkeypatch.setattr(run_lock, 'machine', lambda: 'another boot')
  with pytest.raises(BadInputError, match='in use'):
    run_lock.acquire(tmp_path, stale_seconds=20)
  other_run.send_signal(signal.SIGSTOP)
  os.waitid(os.P_PID, other_run.pid, os.WSTOPPED)  # It may write once more before it stops.
  lock = run_lock.acquire(tmp_path, stale_seconds=0.5)
  assert lock.token == 2
  lock.release()


def test_a_signal_ends_the_wait_for_a_heartbeat(tmp_path):
  held_elsewhere(tmp_path)
  interruption._received.append(signal.SIGTERM)
  with pytest.raises(Interrupted):
    run_lock.acquire(tmp_path, stale_seconds=600)


def test_a_requeued_copy_takes_over_from_the_earlier_start_of_its_job_though_that_lives(
  tmp_path, other_process, monkeypatch
):
  """Slurm lost the node's daemon: the orphan goes on while the job runs again elsewhere."""
  monkeypatch.setenv('SLURM_JOB_ID', '12')
  orphan = run_lock._myself()._replace(pid=other_process.pid, started=start_time(other_process.pid))
  assert run_lock._make(tmp_path, 2, orphan)
  with pytest.raises(BadInputError, match='in use'):  # The same start: another step of the job.
    run_lock.acquire(tmp_path)
  monkeypatch.setenv('SLURM_RESTART_COUNT', '1')
  lock = run_lock.acquire(tmp_path)
  assert lock.token == 3
  lock.release()


def test_a_lock_whose_maker_was_killed_at_once_is_taken_over(tmp_path):
  (tmp_path / 'lock').mkdir()
  (tmp_path / 'lock' / '1').touch()
  lock = run_lock.acquire(tmp_path, stale_seconds=0.3)
  assert lock.token == 2
  lock.release()


def test_of_many_that_try_at_once_one_gets_a_dead_owners_lock(tmp_path, other_process):
  other_process.kill()
  other_process.wait()
  environment = os.environ | {'PYTHONPATH': str(ROOT)}
  tries = [
    subprocess.Popen(
      [sys.executable, '-c', HOLD, str(tmp_path)],
      stdout=subprocess.PIPE,
      stderr=subprocess.DEVNULL,
      env=environment,
    )
    for _ in range(3)
  ]
  deadline = time.monotonic() + 120
  while sum(p.poll() is None for p in tries) > 1 and time.monotonic() < deadline:
    time.sleep(0.05)
  (owner,) = [p for p in tries if p.poll() is None]
  assert run_lock.holder(tmp_path).pid == owner.pid and tokens(tmp_path) == [2]
  for p in tries:
    p.kill()
    p.wait()
    p.stdout.close()


# What an orphan can still do.


@pytest.fixture
def orphan(tmp_path):
  """An open run, and what takes it over."""
  config = default.get_config()
  opened = open_workdir(tmp_path / 'run', config)
  write_json(opened.path / 'before.json', {'a': 1})

  def take_over():
    held_elsewhere(opened.path, token=2)
    (opened.path / 'lock' / '1').unlink()

  yield opened, take_over
  opened.close()


def contents(folder):
  return {p: p.read_bytes() for p in folder.rglob('*') if p.is_file() and 'events' not in p.parts}


def save_checkpoint(run):
  checkpointer = Checkpointer(run.path / 'x' / 'checkpoints', keep=2)
  try:
    checkpointer.save(1, {'w': np.zeros(3)})
  finally:
    checkpointer.close()


WRITES = {
  'JSON': lambda run: write_json(run.path / 'before.json', {'a': 2}),
  'a shard': lambda run: write_arrays(run.path / 'encode' / 'shard.npz', w=np.zeros(3)),
  'metrics': lambda run: run.log(1, {'loss': 1.0}),
  'a checkpoint': save_checkpoint,
}


@pytest.mark.parametrize('write', WRITES.values(), ids=WRITES)
def test_who_lost_the_lock_writes_nothing_more(orphan, write):
  run, take_over = orphan
  take_over()
  before = contents(run.path)
  with pytest.raises(RunError) as error:
    write(run)
  assert f'{run.path} was taken over by process 7 on far' in str(error.value)
  assert '(token 1, now 2)' in str(error.value) and len(str(error.value).splitlines()) == 1
  assert contents(run.path) == before
  run.close()
  assert contents(run.path) == before  # The new owner's lock is not released.


def test_a_deleted_lock_ends_the_run_as_well(orphan):
  run, _ = orphan
  (run.path / 'lock' / '1').unlink()
  with pytest.raises(RunError, match='no longer holds its lock'):
    run.log(1, {'loss': 1.0})


def test_the_heartbeat_notices_and_the_loops_are_told(tmp_path):
  lock = run_lock.acquire(tmp_path, beat_seconds=0.02)
  assert not interruption.requested()
  held_elsewhere(tmp_path, token=2)
  (tmp_path / 'lock' / '1').unlink()
  deadline = time.monotonic() + 10
  while not interruption.requested() and time.monotonic() < deadline:
    time.sleep(0.01)
  with pytest.raises(RunError, match='was taken over by process 7 on far'):
    interruption.check()
  lock.release()
  assert tokens(tmp_path) == [2]


def test_a_check_opens_one_file_and_lists_no_folder(tmp_path, monkeypatch):
  lock = run_lock.acquire(tmp_path)
  opened, os_open = [], os.open

  def counted(path, flags):
    opened.append(path)
    return os_open(path, flags)

  monkeypatch.setattr(os, 'open', counted)
  monkeypatch.setattr(os, 'listdir', None)
  monkeypatch.setattr(os, 'scandir', None)
  run_lock.check(tmp_path / 'a' / 'file')
  assert len(opened) == 1
  lock.release()


def test_other_folders_are_not_its_concern(tmp_path):
  lock = run_lock.acquire(tmp_path)
  (tmp_path / 'lock' / '1').unlink()
  run_lock.check(tmp_path.parent / 'elsewhere')
  with pytest.raises(RunError):
    run_lock.check(tmp_path / 'here')
  lock.release()
