"""The folder of a run: files that are whole or absent, and one configuration for all of it."""

import contextlib
import json
import math

import numpy as np
import pytest

from advmix_jax import config_keys, run_lock, workdir
from advmix_jax.config_keys import fixed_keys, flatten
from advmix_jax.types import BadInputError, Interrupted, RunError
from configs import default
from launch.config_file import ConfigFile


def config(**changes):
  c = default.get_config()
  with c.unlocked():
    c.update_from_flattened_dict(changes)
  return c


def test_a_file_appears_when_it_is_whole(tmp_path):
  path = tmp_path / 'folder' / 'file.json'
  with workdir.atomic(path) as temporary:
    temporary.write_text('half')
    assert not path.exists()
    temporary.write_text('whole')
  assert path.read_text() == 'whole'
  assert list(path.parent.iterdir()) == [path]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
  path = tmp_path / 'file.json'
  workdir.write_json(path, {'a': 1})

  def half_written():
    with workdir.atomic(path) as temporary:
      temporary.write_text('half')
      raise OSError('disk full')

  with pytest.raises(OSError, match='disk full'):
    half_written()
  with pytest.raises(TypeError):
    workdir.write_json(path, {'a': object()})
  assert workdir.read_json(path) == {'a': 1}
  assert list(tmp_path.iterdir()) == [path]


def test_broken_json_is_named(tmp_path):
  path = tmp_path / 'file.json'
  path.write_text('{"a": ')
  with pytest.raises(RunError, match='file.json is not valid JSON .*; delete it to have it made again'):
    workdir.read_json(path)


def test_arrays_come_back_and_pickles_are_refused(tmp_path):
  w = np.arange(6, dtype=np.float32).reshape(2, 3)
  workdir.write_arrays(tmp_path / 'a.npz', w=w, labels=np.array([1, 2]))
  found = workdir.read_arrays(tmp_path / 'a.npz')
  assert set(found) == {'w', 'labels'} and found['w'].dtype == np.float32
  np.testing.assert_array_equal(found['w'], w)
  np.savez(tmp_path / 'b.npz', x=np.array([object()]))
  with pytest.raises(ValueError, match='allow_pickle'):
    workdir.read_arrays(tmp_path / 'b.npz')


def test_opening_records_the_configuration_and_the_versions(tmp_path):
  workdir.open_workdir(tmp_path / 'run', config(seed=3)).close()
  assert workdir.read_json(tmp_path / 'run' / 'config.json')['seed'] == 3
  versions = workdir.read_json(tmp_path / 'run' / 'versions.json')
  assert versions['devices'] == 2 and versions['threads'] >= 1
  assert set(workdir.PACKAGES) == set(versions['packages'])
  workdir.open_workdir(tmp_path / 'run', config(seed=3)).close()  # The same again is welcome.


def test_another_configuration_is_refused_by_the_names_of_its_keys(tmp_path):
  workdir.open_workdir(tmp_path, config()).close()
  other = config(**{'attack.epsilon': 0.05, 'seed': 1, 'train.methods': ('nominal',)})
  with pytest.raises(BadInputError) as error:
    workdir.open_workdir(tmp_path, other)
  text = str(error.value)
  assert 'was made with another configuration' in text
  assert 'attack.epsilon is 0.03 there, 0.05 here' in text
  assert 'seed is 0 there, 1 here' in text and 'train.methods is' in text
  assert 'attack.num_steps' not in text
  assert workdir.read_json(tmp_path / 'config.json')['seed'] == 0


@pytest.mark.parametrize('text, found', [('{"seed": ', 'Expecting value'), ('[1]', 'found list')])
def test_a_damaged_configuration_is_to_be_restored_not_deleted(tmp_path, text, found):
  """Without it the folder would take any configuration over the stages there are."""
  workdir.open_workdir(tmp_path, config()).close()
  (tmp_path / 'config.json').write_text(text)
  with pytest.raises(BadInputError, match=f'config.json is damaged .*{found}.*restore it from the'):
    workdir.open_workdir(tmp_path, config())


def test_a_new_or_missing_key_is_a_difference(tmp_path):
  workdir.open_workdir(tmp_path, config()).close()
  old = json.loads((tmp_path / 'config.json').read_text())
  del old['attack']['epsilon']
  old['attack']['old_key'] = 7
  (tmp_path / 'config.json').write_text(json.dumps(old))
  with pytest.raises(BadInputError) as error:
    workdir.open_workdir(tmp_path, config())
  assert "attack.epsilon is '(absent)' there, 0.03 here" in str(error.value)
  assert "attack.old_key is 7 there, '(absent)' here" in str(error.value)


def without_ramp(folder):
  """As a run of before `attack.ramp_steps` has left its configuration."""
  workdir.open_workdir(folder, config()).close()
  old = json.loads((folder / 'config.json').read_text())
  del old['attack']['ramp_steps']
  (folder / 'config.json').write_text(json.dumps(old))


def test_a_run_of_before_a_key_goes_on_where_the_key_changes_nothing(tmp_path):
  without_ramp(tmp_path)
  workdir.open_workdir(tmp_path, config()).close()
  workdir.open_workdir(tmp_path, ConfigFile().parse(str(tmp_path / 'config.json'))).close()
  with pytest.raises(BadInputError, match='attack.ramp_steps is 0 there, 5 here'):
    workdir.open_workdir(tmp_path, config(**{'attack.ramp_steps': 5}))


def test_a_later_key_counts_where_it_changes_something():
  flat = fixed_keys(json.loads(config(**{'attack.ramp_steps': 5}).to_json()))
  assert flat['attack.ramp_steps'] == 5
  assert 'attack.ramp_steps' not in fixed_keys(json.loads(config().to_json()))
  later = config_keys.ADDED
  assert {key: flatten(config().to_dict())[key] for key in later} == later, 'the default changes something'


@pytest.mark.parametrize(
  'changes',
  [
    {'checkpoint.seconds': 1.0},
    {'checkpoint.keep': 9},
    {'log_every_steps': 1},
    {'stages': ('report',)},
    {'data.dir': 'elsewhere'},
    {'compile_cache': False},
  ],
  ids=lambda changes: next(iter(changes)),
)
def test_keys_that_change_no_result_may_differ(tmp_path, changes):
  workdir.open_workdir(tmp_path, config()).close()
  workdir.open_workdir(tmp_path, config(**changes)).close()
  assert workdir.config_hash(config(**changes)) == workdir.config_hash(config())


def test_the_hash_depends_on_every_other_key():
  """`log_every_steps` is free, a key that only starts alike would not be."""
  assert workdir.config_hash(config(seed=1)) != workdir.config_hash(config())
  assert fixed_keys({'stages': 1, 'stages_more': 2, 'checkpoint': {'keep': 3}}) == {'stages_more': 2}


@pytest.mark.parametrize('name', ['file', 'file/below'])
def test_a_folder_that_cannot_be_written_is_bad_input(tmp_path, name):
  (tmp_path / 'file').write_text('in the way')
  with pytest.raises(BadInputError, match=f'--workdir=.*/{name} cannot be written: ') as error:
    workdir.open_workdir(tmp_path / name, config())
  assert len(str(error.value).splitlines()) == 1


def test_a_run_under_other_conditions_is_told_that_bits_may_differ(tmp_path, capsys):
  workdir.open_workdir(tmp_path, config()).close()
  workdir.open_workdir(tmp_path, config()).close()
  assert 'may differ' not in capsys.readouterr().out
  versions = workdir.read_json(tmp_path / 'versions.json')
  workdir.write_json(tmp_path / 'versions.json', versions | {'threads': 77})
  workdir.open_workdir(tmp_path, config()).close()
  assert 'threads 77 -> ' in capsys.readouterr().out


def test_metrics_are_read_back_the_last_line_of_a_step_counts(tmp_path):
  opened = workdir.open_workdir(tmp_path, config())
  opened.log(1, {'loss': 3.0, 'accuracy': 0.5})
  opened.log(2, {'loss': 2.0})
  opened.log(1, {'loss': np.float32(2.5)})
  opened.close()
  found = workdir.read_metrics(tmp_path / 'metrics.jsonl')
  assert found == {'loss': {1: 2.5, 2: 2.0}, 'accuracy': {1: 0.5}}


def test_a_line_cut_off_by_a_kill_is_left_out(tmp_path):
  path = tmp_path / 'metrics.jsonl'
  path.write_text('{"step": 1, "loss": 3.0}\n{"step": 2, "lo')
  assert workdir.read_metrics(path) == {'loss': {1: 3.0}}
  assert workdir.read_metrics(tmp_path / 'none.jsonl') == {}


def test_what_follows_a_cut_off_line_is_kept(tmp_path):
  """The run goes on below the half line, and repeats the step that the line was of."""
  path = tmp_path / 'metrics.jsonl'
  path.write_text('{"step": 1, "loss": 3.0}\n{"step": 2, "lo')
  opened = workdir.open_workdir(tmp_path, config())
  opened.log(2, {'loss': 2.0})
  opened.log(3, {'loss': 1.0})
  opened.close()
  assert workdir.read_metrics(path) == {'loss': {1: 3.0, 2: 2.0, 3: 1.0}}


def test_every_line_of_metrics_is_json(tmp_path):
  """`NaN` is no JSON, though Python writes and reads it."""
  opened = workdir.open_workdir(tmp_path, config())
  opened.log(1, {'loss': 0.25})
  opened.close()
  record = json.loads((tmp_path / 'metrics.jsonl').read_text(), parse_constant=lambda name: pytest.fail(name))
  assert record == {'step': 1, 'loss': 0.25} and not math.isnan(record['loss'])


def test_commands_are_noted_once_and_in_their_order(tmp_path):
  run = workdir.open_workdir(tmp_path, config())
  try:
    assert run.commands() == []
    for words in (['python', '-m', 'launch.train', '--workdir=a b'], ['python', 'b'], ['python', 'b']):
      run.record_command(words)
    assert run.commands() == ["python -m launch.train '--workdir=a b'", 'python b']
  finally:
    run.close()


def attempt(folder, dry, *actions):
  """A run that does these things, each with its workdir."""
  with contextlib.closing(workdir.open_workdir(folder, config())) as run, run.tried(dry):
    for action in actions:
      action(run)


def failing(error):
  def fail(run):
    raise error

  return fail


def making(name):
  return lambda run: workdir.write_json(run.path / name, {})


def noting(run):
  run.record_command(['python', '-m', 'launch.evaluate'])


def names(folder):
  return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize(
  'error', [Interrupted('SIGINT'), KeyboardInterrupt(), OSError('disk full'), RunError('taken over')]
)
def test_a_dry_run_leaves_the_folder_as_it_was_however_it_ends(tmp_path, error):
  (tmp_path / 'notes.txt').touch()
  with pytest.raises(type(error)):
    attempt(tmp_path, True, making('data.npz'), failing(error))
  assert names(tmp_path) == {'lock', 'notes.txt'}


def test_a_dry_run_keeps_what_another_run_wrote_while_it_waited_for_the_lock(tmp_path, monkeypatch):
  acquire = run_lock.acquire

  def wait_for_it(folder):
    workdir.write_json(folder / 'results.json', {})
    return acquire(folder)

  monkeypatch.setattr(run_lock, 'acquire', wait_for_it)
  attempt(tmp_path, True)
  assert names(tmp_path) == {'lock', 'results.json'}


def test_bad_input_before_anything_is_made_leaves_the_folder_to_any_configuration(tmp_path):
  with pytest.raises(BadInputError):
    attempt(tmp_path, False, noting, failing(BadInputError('run the stage encode first')))
  assert names(tmp_path) == {'lock'}


def test_a_command_that_was_refused_is_not_noted(tmp_path):
  attempt(tmp_path, False, lambda run: run.record_command(['first']), making('gan/losses.json'))
  before = names(tmp_path)
  with pytest.raises(BadInputError):
    attempt(tmp_path, False, noting, failing(BadInputError('run the stage encode first')))
  assert names(tmp_path) == before and (tmp_path / 'commands.txt').read_text() == 'first\n'


@pytest.mark.parametrize(
  'error', [BadInputError('no such reference'), RunError('NaN'), Interrupted('SIGINT')]
)
def test_what_a_stage_has_made_stays_whatever_ends_the_run(tmp_path, error):
  with pytest.raises(type(error)):
    attempt(tmp_path, False, noting, making('gan/losses.json'), failing(error))
  assert {'config.json', 'commands.txt', 'gan'} <= names(tmp_path)
