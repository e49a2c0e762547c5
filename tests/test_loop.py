"""The host loop: a run with breaks ends with the bits of a run without, and nothing broken is saved."""

import signal

import jax
import numpy as np
import pytest

from advmix_jax import interruption
from advmix_jax.training.checkpoint import Checkpointer
from advmix_jax.training.loop import Loop, run_loop
from advmix_jax.types import Interrupted, RunError
from advmix_jax.workdir import open_workdir, read_metrics
from configs import default
from tests.descent import descend, fresh

STEPS = 7


def batch_fn(step):
  return np.float32(step)


@pytest.fixture
def workdir(tmp_path):
  config = default.get_config()
  config.log_every_steps = 2
  config.checkpoint.seconds = 1e9
  opened = open_workdir(tmp_path / 'run', config)
  yield opened
  opened.close()


@pytest.fixture(autouse=True)
def no_signal(monkeypatch):
  monkeypatch.setattr(interruption, '_received', [])


def loop(workdir, name='toy', step_fn=descend, hook=None, batch_fn=batch_fn):
  return Loop(
    name=name,
    folder=workdir.path / name / 'checkpoints',
    num_steps=STEPS,
    batch_size=1,
    step_fn=lambda step, state, batch: step_fn(state, batch),
    batch_fn=batch_fn,
    saved=('step', 'key', 'x'),
    place_fn=lambda state: state,
    hook=hook,
  )


def saved_steps(workdir, name='toy'):
  return sorted(int(p.name) for p in (workdir.path / name / 'checkpoints').iterdir() if p.name.isdigit())


def assert_same_bits(a, b):
  assert int(a.step) == int(b.step) == STEPS
  assert np.asarray(a.x).tobytes() == np.asarray(b.x).tobytes()
  np.testing.assert_array_equal(jax.random.key_data(a.key), jax.random.key_data(b.key))


def interrupt_at(steps):
  """A hook that has a signal arrive during each of `steps`."""

  def hook(step, state):
    if step in steps:
      steps.remove(step)
      interruption._received.append(signal.SIGTERM)

  return hook


def test_an_interrupted_run_goes_on_and_ends_with_the_same_bits(workdir, capsys):
  whole = run_loop(loop(workdir, 'whole'), fresh(), workdir)
  hook = interrupt_at([2, 5])
  for step in (2, 5):
    with pytest.raises(Interrupted, match='SIGTERM'):
      run_loop(loop(workdir, hook=hook), fresh(), workdir)
    assert saved_steps(workdir)[-1] == step
    interruption._received.clear()
  broken = run_loop(loop(workdir, hook=hook), fresh(), workdir)
  assert 'going on from step 5' in capsys.readouterr().out
  assert_same_bits(broken, whole)
  metrics = read_metrics(workdir.path / 'metrics.jsonl')
  assert list(metrics['whole/loss']) == [2, 4, 6, 7]
  assert metrics['toy/loss'] == metrics['whole/loss']


def test_a_signal_in_the_last_hook_ends_the_run_though_the_other_processes_have_not_heard_of_it(workdir):
  """Otherwise what the hook was drawing would be missing for good."""

  def of_several_processes(state, batch):
    state, metrics = descend(state, batch)
    return state, metrics | {interruption.STOP: np.int32(0)}

  drawn = []

  def hook(step, state):
    interruption.check()
    drawn.append(step)

  def signalled(step, state):
    if step == STEPS:
      interruption._received.append(signal.SIGTERM)
    hook(step, state)

  with pytest.raises(Interrupted, match='SIGTERM'):
    run_loop(loop(workdir, step_fn=of_several_processes, hook=signalled), fresh(), workdir)
  assert saved_steps(workdir)[-1] == STEPS and STEPS not in drawn
  interruption._received.clear()
  run_loop(loop(workdir, step_fn=of_several_processes, hook=hook), fresh(), workdir)
  assert drawn[-1] == STEPS


@pytest.fixture
def every_step(workdir, monkeypatch):
  """Saves after every step, even if it has to wait for the checkpoint before."""
  workdir.config.checkpoint.seconds = -1.0
  monkeypatch.setattr(Checkpointer, 'busy', False)


@pytest.mark.usefixtures('every_step')
def test_a_run_killed_between_checkpoints_repeats_steps_and_ends_with_the_same_bits(workdir):
  """And what a kill leaves of the newest checkpoint is passed over."""
  whole = run_loop(loop(workdir, 'whole'), fresh(), workdir)

  def killed(step, state):
    if step == 5:
      raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt):
    run_loop(loop(workdir, hook=killed), fresh(), workdir)
  assert saved_steps(workdir) == [3, 4]
  for path in (workdir.path / 'toy' / 'checkpoints' / '4').rglob('*'):
    if path.is_file():
      path.write_bytes(path.read_bytes()[:7])
  seen = []
  again = run_loop(loop(workdir, hook=lambda step, state: seen.append(step)), fresh(), workdir)
  assert seen == [3, 4, 5, 6, 7]  # The kill may have come before the hook was through.
  assert_same_bits(again, whole)


def test_a_finished_run_is_not_run_again(workdir):
  first = run_loop(loop(workdir), fresh(), workdir)
  second = run_loop(loop(workdir, step_fn=None), fresh(), workdir)
  assert_same_bits(first, second)


def test_metrics_are_logged_at_the_asked_steps_and_at_the_last(workdir):
  run_loop(loop(workdir), fresh(), workdir)
  series = read_metrics(workdir.path / 'metrics.jsonl')
  assert list(series['toy/loss']) == [2, 4, 6, 7]
  state = fresh()
  for step in range(2):
    state, metrics = descend(state, batch_fn(step))
  assert series['toy/loss'][2] == pytest.approx(float(metrics['loss']), rel=1e-6)
  assert list(series['timing/toy/images_per_sec']) == list(series['timing/toy/data_seconds']) == [2, 4, 6, 7]


@pytest.mark.parametrize('save_seconds', [1e9, -1.0], ids=['saved at the end', 'saved after every step'])
def test_a_loss_that_is_not_finite_stops_the_run_and_is_not_saved(workdir, save_seconds):
  workdir.config.checkpoint.seconds = save_seconds

  def bad(step):
    return np.float32(np.nan if step == 2 else step)

  with pytest.raises(RunError, match=r'toy/loss is nan at step [34]') as error:
    run_loop(loop(workdir, batch_fn=bad), fresh(), workdir)
  assert len(str(error.value).splitlines()) == 1
  assert all(step < 3 for step in saved_steps(workdir))


def test_a_last_step_that_is_not_finite_is_not_saved(workdir):
  def bad(step):
    return np.float32(np.nan if step == STEPS - 1 else step)

  with pytest.raises(RunError, match=f'toy/loss is nan at step {STEPS}'):
    run_loop(loop(workdir, batch_fn=bad), fresh(), workdir)
  assert STEPS not in saved_steps(workdir)


def test_a_step_that_left_its_update_out_does_not_end_the_run(workdir):
  def skipping(state, batch):
    state, metrics = descend(state, batch)
    is_bad = int(state.step) == 3
    return state, metrics | {'loss': np.float32(np.nan if is_bad else 1), 'skipped/toy': np.float32(is_bad)}

  workdir.config.log_every_steps = 1
  run_loop(loop(workdir, step_fn=skipping), fresh(), workdir)
  series = read_metrics(workdir.path / 'metrics.jsonl')
  assert series['toy/skipped/toy'][3] == 1 and 3 not in series['toy/loss'] and 4 in series['toy/loss']


def test_parameters_that_are_not_finite_are_not_saved_though_the_metrics_are(workdir):
  def breaking(state, batch):
    state, metrics = descend(state, batch)
    return state.replace(x=state.x * (np.nan if int(state.step) == STEPS else 1)), metrics

  with pytest.raises(RunError, match=f'x is not finite after step {STEPS}'):
    run_loop(loop(workdir, step_fn=breaking), fresh(), workdir)
  assert STEPS not in saved_steps(workdir)


def test_a_signal_does_not_save_a_broken_state(workdir):
  def bad(step):
    return np.float32(np.nan)

  with pytest.raises(RunError, match='toy/loss is nan at step 1'):
    run_loop(loop(workdir, batch_fn=bad, hook=interrupt_at([1])), fresh(), workdir)
  assert saved_steps(workdir) == []
