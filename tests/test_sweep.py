"""Sweeps from the command line: real members that share stages, kills, and bad input."""

import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import pytest

from advmix_jax.sweep import plan, slurm, state
from advmix_jax.types import BadInputError
from launch import reproduce, sweep
from tests import command_line
from tests.command_line import PATIENCE, ROOT, command, refused

SWEEP = """
from configs import smoke

def get_config():
  c = smoke.get_config()
  c.stages = ('train_gan', 'encode', 'train', 'evaluate')
  c.data.resolution, c.generator.fmaps, c.attack.mixing_level, c.cutout.size = 8, (6, 4), 2, 4
  c.train.methods = ('nominal', 'advmix')
  return c

def sweep(add):
  for epsilon in (0.03, 0.1):
    add(**{'attack.epsilon': epsilon})
"""


@pytest.fixture(scope='module')
def environment(environment) -> dict[str, str]:
  """One thread for each member."""
  return environment | {'JAX_PLATFORMS': 'cpu', 'NPROC': '1'}


@pytest.fixture(scope='module')
def source(tmp_path_factory) -> pathlib.Path:
  file = tmp_path_factory.mktemp('configs') / 'two.py'
  file.write_text(SWEEP)
  return file


@pytest.fixture(scope='module')
def alone(launch, source, tmp_path_factory) -> pathlib.Path:
  """The second member, run by itself: a folder of its own, every stage made there."""
  workdir = tmp_path_factory.mktemp('alone')
  done = launch('pipeline', f'--config={source}', f'--workdir={workdir}', '--config.attack.epsilon=0.1')
  assert done.returncode == 0, done.stderr
  return workdir


def of_sweep(source: pathlib.Path, out: pathlib.Path) -> tuple[str, ...]:
  return f'--config={source}', f'--out={out}', '--slots=2', '--threads=1'


@pytest.fixture(scope='module')
def finished(launch, source, tmp_path_factory) -> pathlib.Path:
  out = tmp_path_factory.mktemp('sweep')
  done = launch('sweep', *of_sweep(source, out))
  assert done.returncode == 0, done.stdout + done.stderr
  assert '2 members: 2 done; 2 shared stages: 2 done' in done.stdout
  return out


def test_a_member_gives_the_same_bits_as_a_run_alone(finished, alone):
  member = finished / 'attack.epsilon=0.1'
  assert (member / 'gan').is_symlink() and (member / 'encode').is_symlink()
  for name in ('results.json', 'train/advmix/classifier.safetensors', 'gan/generator.safetensors'):
    assert (member / name).read_bytes() == (alone / name).read_bytes(), name
  other = finished / 'attack.epsilon=0.03'
  assert (other / 'gan').resolve() == (member / 'gan').resolve()
  assert (other / 'results.json').read_bytes() != (member / 'results.json').read_bytes()
  lines = [json.loads(line) for line in (member / 'metrics.jsonl').read_text().splitlines()]
  assert {'gan/loss/generator', 'encoder/loss', 'train/advmix/loss'} <= {n for line in lines for n in line}


def test_what_is_done_is_not_run_again(launch, source, finished):
  logs = {file: file.read_bytes() for file in (finished / 'sweep' / 'logs').iterdir()}
  again = launch('sweep', *of_sweep(source, finished))
  assert again.returncode == 0, again.stderr
  assert 'started' not in again.stdout
  assert logs == {file: file.read_bytes() for file in (finished / 'sweep' / 'logs').iterdir()}


def test_status_and_collect_need_the_folder_alone(launch, finished):
  shown = launch('sweep', 'status', f'--out={finished}')
  assert shown.returncode == 0, shown.stderr
  lines = shown.stdout.splitlines()
  assert lines[0].endswith('2 members: 2 done; 2 shared stages: 2 done') and len(lines) == 5
  assert all(line.startswith('done ') for line in lines[1:])
  collected = launch('sweep', 'collect', f'--out={finished}')
  assert collected.returncode == 0, collected.stderr
  assert '| attack.epsilon | method |' in collected.stdout and '| 0.1 | advmix |' in collected.stdout
  assert {'results.csv', 'results.md', 'results.png'} <= {file.name for file in finished.iterdir()}


def test_a_dry_run_shows_the_plan_and_leaves_nothing(launch, source, tmp_path):
  done = launch('sweep', *of_sweep(source, tmp_path / 'none'), '--dry_run')
  assert done.returncode == 0, done.stderr
  lines = done.stdout.splitlines()
  assert lines[0].endswith('two.py: 2 members, 2 shared stages') and len(lines) == 5
  assert all(line.startswith('planned ') for line in lines[1:])
  assert not (tmp_path / 'none').exists()


@pytest.mark.parametrize(
  'arguments, words',
  [
    (('--config=none.py', '--out=OUT'), '--config=none.py: found no such file'),
    (('--config=configs/smoke.py', '--out=OUT'), 'configs/smoke.py has no function sweep(add)'),
    (('--config=configs/paper/figure7.py:gpu', '--out=OUT'), "cpu, paper, paper_exact and smoke, not 'gpu'"),
    (('--config=SOURCE',), '--out is missing'),
    (('--config=SOURCE', '--out=OUT', '--config.at.epsilon=-1'), 'at.epsilon is -1.0'),
    (('--config=SOURCE', '--out=pyproject.toml'), 'pyproject.toml cannot be written'),
    (('stop', '--out=OUT'), "unknown command 'stop', expected one of run, status, collect"),
    (('status', '--out=OUT'), 'sweep/plan.json is missing, expected the folder of a sweep'),
    (('status', f'--out={"x" * 300}'), 'cannot be read: File name too long'),
    (('--config=SOURCE', '--out=OUT', '--executor=slurm'), '--executor=slurm: '),
  ],
)
def test_bad_input_is_one_line_and_status_2(environment, source, tmp_path, arguments, words):
  given = [a.replace('SOURCE', str(source)).replace('OUT', str(tmp_path / 'out')) for a in arguments]
  without_slurm = environment | {'PATH': '/nowhere'}
  assert words in refused(command_line.run(without_slurm, 'sweep', *given))
  assert not (tmp_path / 'out').exists()


@pytest.mark.usefixtures('fresh_flags')
@pytest.mark.parametrize('flag', ['--download', '--distributed'])
@pytest.mark.parametrize(
  'main, given',
  [
    (sweep.main, ('--config=configs/paper/table2.py:smoke', '--out=OUT')),
    (reproduce.main, ('table2:smoke', '--workdir=OUT')),
  ],
  ids=['sweep', 'reproduce'],
)
def test_flags_of_single_runs_are_refused(tmp_path, monkeypatch, capsys, main, given, flag):
  words = ['program', *(word.replace('OUT', str(tmp_path / 'out')) for word in given), flag]
  monkeypatch.setattr(sys, 'argv', words)
  assert main(words) == 2
  assert capsys.readouterr().err.startswith(f'error: {flag} is of a single run, expected ')


@pytest.mark.parametrize(
  'code, words',
  [
    ('raise RuntimeError("two\\nlines")', 'sweep\\(add\\): RuntimeError'),
    ('add({"seed": 1})', 'sweep\\(add\\): TypeError'),
    ('import no_such_module', 'sweep\\(add\\): ModuleNotFoundError'),
  ],
)
def test_a_sweep_function_that_fails_is_named(tmp_path, code, words):
  file = tmp_path / 'mine.py'
  file.write_text(f'def sweep(add):\n  {code}\n')
  with pytest.raises(BadInputError, match=words):
    sweep.read_sweep(str(file))


def test_a_sweep_function_may_take_the_variant(tmp_path):
  file = tmp_path / 'mine.py'
  file.write_text('def sweep(add, variant="small"):\n  add(name=variant)\n')
  assert sweep.read_sweep(str(file)) == [{'name': 'small'}]
  assert sweep.read_sweep(f'{file}:large') == [{'name': 'large'}]


class TestJobs:
  """What Slurm's queue and the records say together."""

  @pytest.fixture
  def look(self, tmp_path):
    task = plan.Task('a', 'member', 'a', (), {}, 'a', ('product',))
    return lambda queue: state.look(tmp_path, task, queue)

  def test_a_job_that_waits_is_planned_and_one_that_is_gone_is_not_running(self, look, tmp_path):
    state.write_job(tmp_path, 'a', '7_1')
    assert look({'7_1': 'PENDING'})[:2] == ('planned', 'Slurm job 7_1: pending')
    assert look({'7_1': 'PENDING'}).queued and not look({'7_2': 'PENDING'}).queued
    assert look({})[:2] == ('planned', 'interrupted: Slurm job 7_1 is gone')
    assert look(None).note == 'Slurm job 7_1, as recorded: Slurm does not answer' and look(None).queued
    state.write(tmp_path, 'a', 'running', job='7_1', host='n1', pid=1, start='1', boot='')
    assert look({'7_1': 'RUNNING'})[:2] == ('running', 'Slurm job 7_1 on n1')
    assert look({'7_1': 'PENDING'}).state == 'planned'  # Put back into the queue.
    assert look({}).state == 'planned'
    state.write_end(tmp_path, 'a', 75, 1.0, job='7_1')
    assert look({'7_1': 'PENDING'}).state == 'planned' and look({'7_1': 'PENDING'}).queued
    state.write_end(tmp_path, 'a', 3, 1.0, job='7_1')
    assert look({'7_1': 'COMPLETING'})[:2] == ('failed', 'exit 3')
    state.write_job(tmp_path, 'a', '8')  # Tried again.
    assert look({'8': 'PENDING'}).state == 'planned'

  def test_a_folder_that_slurm_works_on_is_not_run_here(self, tmp_path, monkeypatch):
    tasks = {'a': plan.Task('a', 'member', 'a', (), {}, 'a', ())}
    found = plan.Plan('sweep.py', tasks, {'a': {}}, 1)
    state.write_job(tmp_path, 'a', '7')
    monkeypatch.setattr(slurm, 'ask_queue', lambda: {'7': 'PENDING'})
    with pytest.raises(BadInputError, match='a is with Slurm .Slurm job 7: pending., expected'):
      slurm.release(tmp_path, found)
    monkeypatch.setattr(slurm, 'ask_queue', lambda: {})
    slurm.release(tmp_path, found)
    assert state.read_job(tmp_path, 'a') is None


@pytest.mark.slow
@pytest.mark.parametrize('number', [signal.SIGKILL, signal.SIGTERM])
def test_a_sweep_killed_at_random_moments_ends_with_the_same_results(
  launch, environment, source, alone, tmp_path, number
):
  """Now the launcher, now a member."""
  chance = random.Random(number)
  kills = 0
  for _ in range(12):
    process = subprocess.Popen(
      command('sweep', *of_sweep(source, tmp_path)),
      cwd=ROOT,
      env=environment,
      stdout=subprocess.DEVNULL,
      stderr=subprocess.DEVNULL,
    )
    time.sleep(chance.uniform(2, 9))
    running = [] if kills % 2 else running_members(tmp_path)
    os.kill(chance.choice(running) if running else process.pid, number)
    kills += 1
    if not running:
      process.wait(PATIENCE)
    elif process.wait(PATIENCE) == 0:
      break
  assert kills >= 3, f'only {kills} kills before the end: the test no longer tests much'
  done = launch('sweep', *of_sweep(source, tmp_path))
  assert done.returncode == 0, done.stdout + done.stderr
  assert (tmp_path / 'attack.epsilon=0.1' / 'results.json').read_bytes() == (
    alone / 'results.json'
  ).read_bytes()


def running_members(out: pathlib.Path) -> list[int]:
  if not plan.plan_file(out).exists():
    return []
  found = plan.load_plan(out)
  seen = state.observe(out, found, {})
  return [state.read(out, name)['pid'] for name, at in seen.items() if at.state == 'running']
