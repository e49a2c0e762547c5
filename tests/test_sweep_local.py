"""The local scheduler, with shell scripts for members: order, failures, kills, and what is said of them."""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from advmix_jax import process_identity
from advmix_jax.sweep import local, lock, state, table
from advmix_jax.sweep.plan import Plan, Task, load_plan, log_file, save_plan
from advmix_jax.types import BadInputError

ROOT = pathlib.Path(__file__).parents[1]
PATIENCE = 60.0

# Runs the sweep of a folder with its tasks' scripts, as launch.sweep does.
LAUNCHER = """
import pathlib, sys
from advmix_jax import interruption, process_identity
from advmix_jax.sweep import local, lock, plan
from advmix_jax.types import Interrupted
out, slots = pathlib.Path(sys.argv[1]), int(sys.argv[2])
planned = plan.load_plan(out)
command = lambda out, task: ['sh', str(out / f'{task.name}.sh')]
with lock.held(out):
  interruption.install()
  try:
    local.Local(out, planned, [{}] * slots, lambda line: print(line, flush=True), command).run()
  except Interrupted as error:
    print(error)
    sys.exit(75)
"""
# Works until it is asked to stop; what it has written then is kept, and it ends at its next start.
LONG = """
cd "$(dirname "$0")"
trap 'echo saved; touch {name}.saved; exit 75' TERM
[ -e {name}.saved ] && {{ touch {name}/product; exit 0; }}
echo at work
touch {name}.started
i=0; while [ $i -lt 1200 ]; do sleep 0.05; i=$((i + 1)); done
"""
QUICK = 'cd "$(dirname "$0")"; echo {name} $NPROC >> order; touch {name}/product'
FAILING = 'echo some words; echo "error: nothing works" >&2; exit 3'


def make(out: pathlib.Path, scripts: dict[str, str], needs: dict[str, tuple[str, ...]] | None = None) -> Plan:
  """A sweep of these tasks, each with a script; `gan-` and `encode-` are shared stages."""
  kinds = {'gan': 'train_gan', 'encode': 'encode'}
  tasks = {
    name: Task(
      name, kinds.get(name.split('-')[0], 'member'), name, (needs or {}).get(name, ()), {}, name, ('product',)
    )
    for name in scripts
  }
  plan = Plan('sweep.py', tasks, {name: {} for name in tasks}, 3)
  save_plan(out, plan)
  for name, script in scripts.items():
    (out / f'{name}.sh').write_text(script.format(name=name) + '\n')
  return plan


def command(out: pathlib.Path, slots: int) -> list[str]:
  return [sys.executable, '-c', LAUNCHER, str(out), str(slots)]


def run_here(out: pathlib.Path, slots: int = 1) -> tuple[dict[str, str], str]:
  """The states at the end, and what was said; without the second that a launcher takes to start."""
  said: list[str] = []
  script = lambda out, task: ['sh', str(out / f'{task.name}.sh')]  # noqa: E731
  found = local.Local(out, load_plan(out), [{}] * slots, said.append, script).run()
  return found, '\n'.join(said)


@contextlib.contextmanager
def launched(out: pathlib.Path, slots: int = 1) -> Iterator[subprocess.Popen[str]]:
  started = subprocess.Popen(command(out, slots), cwd=ROOT, stdout=subprocess.PIPE, text=True)
  try:
    yield started
  finally:
    started.kill()
    started.communicate()


def wait_for(is_so: Callable[[], object], what: str) -> None:
  end = time.monotonic() + PATIENCE
  while not is_so():
    assert time.monotonic() < end, f'{what}: not within {PATIENCE} s'
    time.sleep(0.02)


def states(out: pathlib.Path, plan: Plan) -> dict[str, str]:
  return {name: found.state for name, found in state.observe(out, plan).items()}


def pid(out: pathlib.Path, name: str) -> int:
  return int(state.read(out, name)['pid'])


def test_what_is_needed_is_done_first_and_what_is_done_is_not_done_again(tmp_path):
  plan = make(
    tmp_path,
    dict.fromkeys(('gan-1', 'encode-1', 'a', 'b'), QUICK),
    needs={'encode-1': ('gan-1',), 'a': ('gan-1', 'encode-1')},
  )
  for name in ('gan-1/gan', 'encode-1/encode'):  # What the two would make.
    (tmp_path / name).mkdir(parents=True)
  (tmp_path / 'encode-1' / 'metrics.jsonl').write_text('{}\n')
  run_here(tmp_path, slots=2)
  order = (tmp_path / 'order').read_text().splitlines()
  places = {line.split()[0]: i for i, line in enumerate(order)}
  assert places['gan-1'] < places['encode-1'] < places['a'] and len(order) == 4
  assert all(line.split()[1] == '3' for line in order)  # Threads of each.
  assert set(states(tmp_path, plan).values()) == {'done'}
  for folder, of in (('gan', 'gan-1'), ('encode', 'encode-1')):
    link = tmp_path / 'a' / folder
    assert link.is_symlink() and link.resolve() == tmp_path / of / folder
    assert not os.path.isabs(os.readlink(link))
  assert (tmp_path / 'a' / 'metrics.jsonl').read_text() == '{}\n'

  (tmp_path / 'b' / 'product').unlink()
  assert state.observe(tmp_path, plan)['b'][:2] == ('planned', 'was done, but product is missing')
  run_here(tmp_path)
  assert (tmp_path / 'order').read_text().splitlines() == [*order, 'b 3']


def test_a_shared_stage_that_was_removed_is_made_again_only_for_those_who_need_it(tmp_path):
  needs = {'encode-1': ('gan-1',), 'a': ('gan-1', 'encode-1'), 'b': ('gan-1', 'encode-1')}
  make(tmp_path, dict.fromkeys(('gan-1', 'encode-1', 'a', 'b'), QUICK), needs=needs)
  run_here(tmp_path)
  for name in ('gan-1', 'encode-1'):
    (tmp_path / name / 'product').unlink()
  assert set(run_here(tmp_path)[0].values()) == {'done'}
  assert len((tmp_path / 'order').read_text().splitlines()) == 4
  (tmp_path / 'b' / 'product').unlink()
  assert set(run_here(tmp_path)[0].values()) == {'done'}
  order = [line.split()[0] for line in (tmp_path / 'order').read_text().splitlines()]
  assert order[4:] == ['gan-1', 'encode-1', 'b']


def test_what_members_share_goes_before_members(tmp_path):
  needs = {'a': ('gan-1',), 'b': ('gan-2',)}
  make(tmp_path, dict.fromkeys(('gan-1', 'a', 'gan-2', 'b'), QUICK), needs=needs)
  run_here(tmp_path)
  order = [line.split()[0] for line in (tmp_path / 'order').read_text().splitlines()]
  assert order == ['gan-1', 'gan-2', 'a', 'b']


def test_a_failure_leaves_the_others_unharmed_and_is_tried_again(tmp_path):
  scripts = {'gan-1': FAILING, 'a': QUICK, 'b': 'exit 0', 'c': QUICK}
  plan = make(tmp_path, scripts, needs={'a': ('gan-1',)})
  found, said = run_here(tmp_path)
  assert found == states(tmp_path, plan) == {'gan-1': 'failed', 'a': 'planned', 'b': 'failed', 'c': 'done'}
  seen = state.observe(tmp_path, plan)
  assert seen['gan-1'].note == 'exit 3: error: nothing works'
  assert seen['a'].note == 'waits for gan-1, which failed'
  assert seen['b'].note == 'exit 1: error: it ended without product'
  assert f'gan-1: failed (exit 3: error: nothing works); see {log_file(tmp_path, "gan-1")}' in said
  text = table.status(tmp_path, plan, seen)
  assert '3 members: 1 done, 1 planned, 1 failed; 1 shared stages: 1 failed' in text
  assert str(log_file(tmp_path, 'gan-1')) in text

  (tmp_path / 'gan-1.sh').write_text(QUICK.format(name='gan-1'))
  (tmp_path / 'b.sh').write_text(QUICK.format(name='b'))
  assert set(run_here(tmp_path)[0].values()) == {'done'}


def test_slots_are_filled_as_they_become_free(tmp_path):
  plan = make(tmp_path, {'long': LONG, 'a': QUICK, 'b': QUICK, 'c': QUICK})
  with launched(tmp_path, slots=2) as launcher:
    wait_for(lambda: states(tmp_path, plan)['c'] == 'done', 'the last of the quick ones')
    assert states(tmp_path, plan) == {'long': 'running', 'a': 'done', 'b': 'done', 'c': 'done'}
    launcher.terminate()
    assert launcher.wait(PATIENCE) == 75


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_stops_the_members_and_the_same_command_goes_on(tmp_path, number):
  plan = make(tmp_path, {'a': LONG, 'b': LONG, 'c': LONG})
  with launched(tmp_path, slots=2) as launcher:
    wait_for(lambda: (tmp_path / 'a.started').exists() and (tmp_path / 'b.started').exists(), 'start')
    launcher.send_signal(number)
    output, _ = launcher.communicate(timeout=PATIENCE)
    assert launcher.returncode == 75
  assert f'stopped by {number.name}; ' in output and 'the same command goes on from here' in output
  seen = state.observe(tmp_path, plan)
  assert {name: found[:2] for name, found in seen.items()} == {
    'a': ('planned', 'interrupted'),
    'b': ('planned', 'interrupted'),
    'c': ('planned', ''),
  }
  (tmp_path / 'c.saved').touch()
  assert set(run_here(tmp_path)[0].values()) == {'done'}


def test_a_killed_member_is_not_said_to_run(tmp_path):
  plan = make(tmp_path, {'a': LONG, 'b': QUICK})
  with launched(tmp_path) as launcher:
    wait_for(lambda: (tmp_path / 'a.started').exists(), 'start')
    os.kill(pid(tmp_path, 'a'), signal.SIGKILL)
    assert launcher.wait(PATIENCE) == 0
  assert state.observe(tmp_path, plan)['a'].note == 'killed by SIGKILL: at work'
  assert states(tmp_path, plan) == {'a': 'failed', 'b': 'done'}


def test_a_member_that_was_asked_to_stop_by_others_goes_on(tmp_path):
  plan = make(tmp_path, {'a': LONG, 'b': QUICK})
  with launched(tmp_path) as launcher:
    wait_for(lambda: (tmp_path / 'a.started').exists(), 'start')
    os.kill(pid(tmp_path, 'a'), signal.SIGTERM)
    assert launcher.wait(PATIENCE) == 0
  assert states(tmp_path, plan) == {'a': 'done', 'b': 'done'}


def test_a_member_that_dies_of_a_signal_to_stop_was_interrupted(tmp_path):
  """It had not yet taken note of signals."""
  once = '[ -e once ] || {{ touch once; kill -USR2 $$; }}; '
  make(tmp_path, {'a': 'cd "$(dirname "$0")"; ' + once + 'touch {name}/product'})
  found, said = run_here(tmp_path)
  assert found == {'a': 'done'} and 'a: interrupted' in said


def test_a_member_that_ends_with_75_each_time_is_given_up(tmp_path):
  plan = make(tmp_path, {'a': 'echo again >> "$0.times"; exit 75', 'b': QUICK})
  assert run_here(tmp_path)[0] == states(tmp_path, plan) == {'a': 'failed', 'b': 'done'}
  assert len((tmp_path / 'a.sh.times').read_text().splitlines()) == local.MOST_AT_ONCE


def test_members_end_with_a_launcher_that_is_killed(tmp_path):
  plan = make(tmp_path, {'a': LONG, 'b': LONG})
  with launched(tmp_path, slots=2) as launcher:
    wait_for(lambda: (tmp_path / 'a.started').exists() and (tmp_path / 'b.started').exists(), 'start')
    members = [state.read(tmp_path, name) for name in ('a', 'b')]
    assert states(tmp_path, plan) == {'a': 'running', 'b': 'running'}
    launcher.kill()
    launcher.wait()
    wait_for(lambda: not any(process_identity.is_alive(member) for member in members), 'end of the members')
  seen = state.observe(tmp_path, plan)
  assert all(found.state == 'planned' and found.note.endswith('is gone') for found in seen.values())
  assert (tmp_path / 'a.saved').exists() and (tmp_path / 'b.saved').exists()
  assert set(run_here(tmp_path)[0].values()) == {'done'}


def test_what_a_killed_launcher_left_running_is_waited_for(tmp_path):
  plan = make(tmp_path, {'a': LONG})
  (tmp_path / 'a').mkdir()
  script = 'while [ ! -e go ]; do sleep 0.05; done; touch product'
  with subprocess.Popen(['sh', '-c', script], cwd=tmp_path / 'a', start_new_session=True) as left:
    state.write(tmp_path, 'a', 'running', **process_identity.identity(left.pid))
    with launched(tmp_path) as launcher:
      line = launcher.stdout.readline()
      assert line.startswith('a: still running (process ') and line.endswith('waiting for it\n')
      assert not (tmp_path / 'a.started').exists()
      (tmp_path / 'a' / 'go').touch()
      left.wait()
      wait_for(lambda: states(tmp_path, plan)['a'] == 'running' and (tmp_path / 'a.started').exists(), 'own')


def test_another_process_of_the_same_number_is_not_the_member(tmp_path):
  plan = make(tmp_path, {'a': QUICK})
  own = process_identity.identity(os.getpid())
  for changed in ({'start': '1'}, {'boot': 'another'}, {'pid': 2**22 + 1}):
    state.write(tmp_path, 'a', 'running', **own | changed)
    assert state.observe(tmp_path, plan)['a'].state == 'planned', changed
  state.write(tmp_path, 'a', 'running', **own)
  assert state.observe(tmp_path, plan)['a'].state == 'running'
  state.write(tmp_path, 'a', 'running', **own | {'host': 'elsewhere'})
  where = f'process {os.getpid()} on elsewhere'
  assert state.observe(tmp_path, plan)['a'][:2] == (
    'planned',
    f'interrupted: the launcher of {where} is gone',
  )
  with lock.held(tmp_path):
    assert state.observe(tmp_path, plan)['a'][:2] == (
      'running',
      f'{where}, whose launcher is at work',
    )
    assert run_here(tmp_path)[0] == {'a': 'done'}


def test_a_second_launch_into_the_folder_is_refused(tmp_path):
  make(tmp_path, {'a': LONG})
  with launched(tmp_path) as launcher:
    wait_for(lambda: (tmp_path / 'a.started').exists(), 'start')
    with (
      pytest.raises(BadInputError, match=f'is in use by process {launcher.pid} on .*, expected one launch'),
      lock.held(tmp_path),
    ):
      pass
  with lock.held(tmp_path):
    pass


def test_records_are_whole_or_absent(tmp_path):
  state.write(tmp_path, 'a', 'running', pid=1)
  state.write_end(tmp_path, 'a', 0, 2.0)
  state.write_end(tmp_path, 'a', 0, 3.0)
  assert json.loads(state.state_file(tmp_path, 'a').read_text())['seconds'] == 5.0
  assert [file.name for file in state.state_file(tmp_path, 'a').parent.iterdir()] == ['a.json']
