"""Seeds of a table that were run apart, here and there, are one record."""

import json
import pathlib

import pytest

from advmix_jax.paper import combine
from advmix_jax.types import BadInputError
from launch import reproduce
from launch.sweep import of_seeds
from tests.test_paper_configs import planned
from tests.test_paper_results import finish, table_2

pytestmark = pytest.mark.usefixtures('fresh_flags')


def recorded(
  folder: pathlib.Path, results: pathlib.Path, *seeds: int, accuracy=table_2, leave_out=()
) -> dict:
  """The record after a sweep of these seeds was run in `folder` and put into `results`."""
  finish(folder, planned('table2', 'cpu', [str(seed) for seed in seeds]), accuracy, leave_out)
  arguments = ['table2:cpu', f'--workdir={folder}', '--render_only', f'--record={results}']
  assert reproduce.main(['reproduce', *arguments]) == 0
  return json.loads((results / 'table2.json').read_text())


def counts(record):
  return [len(record['runs'][key]) for key in ('done', 'planned')]


def test_seeds_run_apart_give_the_rows_of_one_sweep(tmp_path):
  whole = recorded(tmp_path / 'all', tmp_path / 'whole', 0, 1, 2)
  first = recorded(tmp_path / 'here', tmp_path / 'parts', 1)
  assert first['rows'][0]['seeds'] == [1] and first['rows'][0]['accuracy_sd'] is None
  both = recorded(tmp_path / 'there', tmp_path / 'parts', 0, 2)
  seconds = {'wall_seconds': 9 * 5.01, 'seconds': {'train_gan': 0.09, 'train': 45.0}}
  for key, value in seconds.items():
    assert both.pop(key) == pytest.approx(value) == whole.pop(key)
  assert both == whole
  assert first['command'].endswith('runs/table2 --seeds=1') and '--seeds' not in both['command']
  own = json.loads((tmp_path / 'there' / 'table2.json').read_text())
  assert own['command'] == first['command'].replace('--seeds=1', '--seeds=0,2')
  assert '9 of 9 runs are done' in (tmp_path / 'parts.md').read_text()


def test_runs_that_a_record_lacks_of_its_seeds_are_added(tmp_path):
  """The last run of one sweep is made elsewhere."""
  whole = recorded(tmp_path / 'all', tmp_path / 'whole', 0, 1, 2)
  first = recorded(tmp_path / 'here', tmp_path / 'parts', 0, 1, 2, leave_out=(8,))
  assert counts(first) == [8, 9] and [row['seeds'] for row in first['rows']][-1] == [0, 1]
  rest = recorded(tmp_path / 'there', tmp_path / 'rest', 2, leave_out=(0, 1))
  assert counts(rest) == [1, 3] and {row['setting'] for row in rest['rows']} == {'99.9 % red'}
  together = combine.with_recorded(tmp_path / 'parts' / 'table2.json', rest)
  assert together['rows'] == whole['rows'] and counts(together) == [9, 9] == counts(whole)


def test_a_seed_of_a_sweep_that_was_stopped_is_added_from_one_of_that_seed_alone(tmp_path):
  """What was planned in both is not counted twice."""
  first = recorded(tmp_path / 'here', tmp_path / 'parts', 0, 1, 2, leave_out=(6, 7, 8))
  assert counts(first) == [6, 9]
  both = recorded(tmp_path / 'there', tmp_path / 'parts', 2)
  assert counts(both) == [9, 9] and all(row['planned'] == [0, 1, 2] for row in both['rows'])


def test_the_folder_of_a_sweep_has_its_own_seeds_alone(tmp_path):
  recorded(tmp_path / 'here', tmp_path / 'parts', 1)
  recorded(tmp_path / 'there', tmp_path / 'parts', 0, 2)
  own = json.loads((tmp_path / 'there' / 'table2.json').read_text())
  assert own['rows'][0]['seeds'] == [0, 2] and counts(own) == [6, 6]


def test_seeds_that_were_added_before_are_not_added_again(tmp_path):
  recorded(tmp_path / 'here', tmp_path / 'results', 0)
  both = recorded(tmp_path / 'there', tmp_path / 'results', 1, 2)
  arguments = ['table2:cpu', f'--workdir={tmp_path / "there"}', '--render_only']
  assert reproduce.main(['reproduce', *arguments, f'--record={tmp_path / "results"}']) == 0
  assert json.loads((tmp_path / 'results' / 'table2.json').read_text()) == both


def test_other_accuracies_of_some_of_the_seeds_are_refused(tmp_path):
  recorded(tmp_path / 'here', tmp_path / 'results', 0, 1)
  recorded(tmp_path / 'there', tmp_path / 'elsewhere', 1, accuracy=lambda *place: 0.5)
  new = json.loads((tmp_path / 'elsewhere' / 'table2.json').read_text())
  with pytest.raises(BadInputError, match='or the accuracies that it has'):
    combine.with_recorded(tmp_path / 'results' / 'table2.json', new)


def test_seeds_that_were_run_again_with_others_replace_the_record(tmp_path):
  recorded(tmp_path / 'here', tmp_path / 'results', 0)
  found = recorded(tmp_path / 'again', tmp_path / 'results', 0, 1, accuracy=lambda *place: 0.5)
  assert counts(found) == [6, 6] and {row['accuracy_mean'] for row in found['rows']} == {0.5}


def test_some_of_the_seeds_and_others_are_refused(tmp_path):
  recorded(tmp_path / 'here', tmp_path / 'results', 0, 1)
  recorded(tmp_path / 'there', tmp_path / 'elsewhere', 1, 2)
  new = json.loads((tmp_path / 'elsewhere' / 'table2.json').read_text())
  with pytest.raises(BadInputError, match='table2.json has the seeds 0, 1 .*, here are 1, 2: expected runs'):
    combine.with_recorded(tmp_path / 'results' / 'table2.json', new)


def test_a_record_of_another_configuration_is_kept_and_nothing_is_added_to_it(tmp_path, capsys):
  recorded(tmp_path / 'here', tmp_path / 'results', 0)
  file = tmp_path / 'results' / 'table2.json'
  file.write_text(json.dumps(json.loads(file.read_text()) | {'configuration': 'another'}))
  before = file.read_bytes()
  finish(tmp_path / 'there', planned('table2', 'cpu', ['1']), table_2)
  arguments = ['table2:cpu', f'--workdir={tmp_path / "there"}', f'--record={tmp_path / "results"}']
  assert reproduce.main(['reproduce', *arguments, '--render_only']) == 2
  refused = f'{file} has the seeds 0 of the configuration another, expected'
  assert refused in capsys.readouterr().err and file.read_bytes() == before


def test_where_and_with_what_each_part_was_run_is_kept():
  part = {
    'name': 'table2',
    'rows': [],
    'commit': 'abc',
    'machine': 'A, 2 cores',
    'versions': {'python': '3.11'},
    'other_versions': [],
    'wall_seconds': 5.0,
    'seconds': {'train': 5.0},
    'runs': {'done': ['a'], 'planned': ['a', 'b']},
  }
  other = part | {
    'runs': {'done': ['b'], 'planned': ['b', 'c']},
    'commit': 'abc, def',
    'machine': 'B, 8 cores',
    'versions': {'python': '3.12'},
  }
  found = combine.combined(part, other | {'wall_seconds': 7.0, 'seconds': {'train': 4.0, 'encode': 3.0}})
  assert (found['commit'], found['machine']) == ('abc, def', 'A, 2 cores; B, 8 cores')
  assert (found['versions'], found['other_versions']) == ({'python': '3.11'}, [{'python': '3.12'}])
  assert found['wall_seconds'] == 12.0 and found['seconds'] == {'train': 9.0, 'encode': 3.0}
  assert found['runs'] == {'done': ['a', 'b'], 'planned': ['a', 'b', 'c']}


@pytest.mark.parametrize(
  'given, words',
  [(['3'], "has '3', expected some of 0, 1"), ([''], "has '', expected"), ([], 'is empty, expected')],
)
def test_seeds_that_no_member_has_are_refused(given, words):
  added = [{'data.sigma': 0.1, 'seed': 0}, {'data.sigma': 0.1, 'seed': 1}]
  with pytest.raises(BadInputError, match=f'--seeds {words}'):
    of_seeds(added, given)


def test_the_members_of_chosen_seeds_are_left():
  added = [{'data.sigma': sigma, 'train.seed': seed} for seed in (0, 1, 2) for sigma in (0.1, 0.2)]
  assert of_seeds(added, ['0', '2']) == added[:2] + added[4:]
  assert of_seeds(added, None) == added
