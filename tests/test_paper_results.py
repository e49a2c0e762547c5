"""From a finished sweep to rows, records, tables and figures; what is damaged is refused."""

import csv
import io
import json
import pathlib
from collections.abc import Collection

import numpy as np
import pytest
from PIL import Image

from advmix_jax.paper import claims, published, record, rows
from advmix_jax.sweep import plan, state
from advmix_jax.sweep.plan import Plan
from advmix_jax.workdir import write_arrays
from launch import reproduce
from tests.test_paper_configs import planned

VERSIONS = {
  'python': '3.11.9',
  'packages': {'jax': '0.10.2', 'flax': '0.12.8', 'optax': '0.2.8'},
  'backend': 'cpu',
  'devices': 1,
  'threads': 2,
  'processes': 1,
}


def finish(out: pathlib.Path, found: Plan, accuracy, leave_out: Collection[int] = ()) -> Plan:
  """Writes a sweep's folder as if all tasks but those were done; `accuracy(setting, method, seed)`."""
  plan.save_plan(out, found)
  for i, task in enumerate(found.tasks.values()):
    folder = out / task.folder
    folder.mkdir(parents=True)
    seconds = (
      {'train_gan': 0.01, 'train': 5.0, 'diagnose': 9.0}
      if task.kind == 'member'
      else {'data': 1.0, task.kind: 20.0}
    )
    (folder / 'stage_seconds.json').write_text(json.dumps({'running': None, 'seconds': seconds}))
    (folder / 'versions.json').write_text(json.dumps(VERSIONS))
    if task.kind == 'member':
      results = results_of(found.configs[task.name], accuracy)
      (folder / 'results.json').write_text(json.dumps(results))
      for method, numbers in results['methods'].items():
        write_arrays(folder / 'evaluate' / f'{method}.npz', **outcomes_of(numbers))
    if i not in leave_out:
      state.write_end(out, task.name, 0, 1.0)
  record.note(out, 'A processor, 2 cores, Linux', 'abc123')
  return found


def results_of(config, accuracy):
  setting = (
    config['data']['attribute']
    if config['data']['name'] == 'celeba'
    else config['data']['generator_colours'][0]
  )
  seed = max(config['seed'], config['train']['seed'])  # A sweep has one of the two; the other is 0 or -1.
  value = {m: accuracy(setting, m, seed) for m in config['train']['methods']}
  return {
    'methods': {
      method: {
        'clean_accuracy': clean,
        'perturbed_accuracy': clean / 2,
        'num_examples': 10_000,
        'num_perturbed_examples': 300,
      }
      for method, clean in value.items()
    }
  }


def outcomes_of(numbers):
  """The first images are read right."""
  correct, held = (
    np.arange(numbers[count]) < round(numbers[accuracy] * numbers[count])
    for accuracy, count in published.COUNTED.items()
    if accuracy in numbers
  )
  return {'correct': correct, 'broken': ~held}


def table_2(setting, method, seed):
  """RandMix falls by 30 points in the last column, seeds lie 0.01 apart."""
  return {'nominal': 0.3, 'randmix': 0.85 if setting < 0.999 else 0.55, 'advmix': 0.86}[method] + 0.01 * (
    seed - 1
  )


pytestmark = pytest.mark.usefixtures('fresh_flags')


@pytest.fixture
def folder(tmp_path):
  finish(tmp_path / 'table2', planned('table2', 'cpu'), table_2)
  return tmp_path / 'table2'


def rendered(folder, name='table2:cpu', *flags):
  assert reproduce.main(['reproduce', name, f'--workdir={folder}', '--render_only', *flags]) == 0
  return folder


def test_the_papers_numbers_are_those_of_its_tables():
  """One of each table, and sums over each, taken from the paper by hand."""
  of = {name: result.numbers for name, result in published.RESULTS.items()}
  assert of['table1']['more biased', 'randmix'] == 0.9763
  assert of['table2']['99.9 % red', 'randmix'] == 0.5356 and of['table2']['unbiased', 'advmix'] == 0.8507
  assert of['table3']['Smiling', 'advmix'] == 0.9229 and of['table4']['Smiling', 'nominal'] == 0.186
  assert of['table4']['attribute 3', 'at 8/255'] == 0.6271
  assert of['figure7'] == {('σ = 0', 'randmix'): 0.9911, ('σ = 0', 'advmix'): 0.9919}
  assert not of['figure4']
  assert {name: len(numbers) for name, numbers in of.items() if numbers} == {
    'figure7': 2, 'table1': 6, 'table2': 6, 'table3': 32, 'table4': 32,
  }  # fmt: skip


def test_settings_are_named_by_what_is_in_them():
  colours = {'data': {'generator_colours': [0.9995, 0.00025, 0.00025]}}
  assert published.red_share_of(colours) == '99.95 % red'
  assert published.red_share_of({'data': {'generator_colours': []}}) == 'unbiased'
  assert published.class_bias_of({'data': {'generator_classes': [0.3, 0.3, 0.4]}}) == 'mostly 3 classes'
  assert published.sigma_of({'data': {'sigma': 0.15}}) == 'σ = 0.15'
  assert published.with_strength({'at': {'epsilon': 2 / 255}}, 'at') == 'at 2/255'


def test_rows_are_means_over_seeds_beside_the_papers_number(folder):
  found = json.loads((rendered(folder) / 'table2.json').read_text())['rows']
  assert [(row['setting'], row['method']) for row in found] == [
    (setting, method)
    for setting in ('unbiased', '99 % red', '99.9 % red')
    for method in ('nominal', 'randmix', 'advmix')
  ]
  row = next(row for row in found if (row['setting'], row['method']) == ('99.9 % red', 'randmix'))
  assert row['accuracy_mean'] == pytest.approx(0.55) and row['accuracy_sd'] == pytest.approx(0.01)
  assert (row['seeds'], row['planned'], row['num_examples'], row['paper']) == (
    [0, 1, 2],
    [0, 1, 2],
    10_000,
    0.5356,
  )
  assert found[0]['paper'] is None


def test_rows_know_which_test_images_are_read_right(tmp_path):
  folder = tmp_path / 'table3'
  finish(folder, planned('table3', 'cpu', ['0', '2']), lambda *place: 0.25 + place[-1] / 10)
  for name, count, wanted in (('table3', 10_000, (0.25, 0.45)), ('table4', 300, (0.125, 0.225))):
    row = json.loads((rendered(folder, 'table3:cpu') / f'{name}.json').read_text())['rows'][0]
    found = [rows.unpacked(text, count) for text in row['outcomes']]
    assert all(one.tolist() == sorted(one, reverse=True) for one in found)
    assert [one.mean() for one in found] == pytest.approx(wanted, abs=1 / count)


@pytest.mark.parametrize(
  'by_class, expected',
  [([0.0, 1.0, 0.0], True), ([0.1, 1.0, 0.0], False), ([0.0, 0.9], False), ([1.0], False)],
)
def test_one_class_for_all_images_is_noticed(folder, by_class, expected):
  file = next(folder.glob('*/results.json'))
  results = json.loads(file.read_text())
  results['methods']['advmix']['per_class_accuracy'] = by_class
  file.write_text(json.dumps(results))
  found = json.loads((rendered(folder) / 'table2.json').read_text())['rows']
  assert sum(sum(row['one_class']) for row in found) == expected


def test_a_run_that_has_not_kept_its_outcomes_still_has_its_row(folder):
  run = planned('table2', 'cpu').members[3]  # Unbiased, seed 1.
  file = folder / run.folder / 'evaluate' / 'randmix.npz'
  write_arrays(file, broken=np.zeros(300, bool))  # As before clean ones were kept.
  found = json.loads((rendered(folder) / 'table2.json').read_text())['rows']
  row = next(row for row in found if (row['setting'], row['method']) == ('unbiased', 'randmix'))
  assert [bool(text) for text in row['outcomes']] == [True, False, True]
  assert row['accuracies'] == pytest.approx([0.84, 0.85, 0.86])


def test_a_record_says_what_was_run(folder):
  found = json.loads((rendered(folder) / 'table2.json').read_text())
  assert found['command'] == 'python -m launch.reproduce table2:cpu --workdir=runs/table2'
  assert (found['commit'], found['machine']) == ('abc123', 'A processor, 2 cores, Linux')
  assert found['versions'] == VERSIONS and found['seed_keys'] == ['seed']
  assert len(found['runs']['done']) == len(set(found['runs']['planned'])) == 9
  # Nine members of 5.01 s; their diagnoses are no part of it.
  assert found['wall_seconds'] == pytest.approx(9 * 5.01)
  assert found['seconds'] == pytest.approx({'train_gan': 0.09, 'train': 45.0})
  assert [claim['verdict'] for claim in claims.check('table2', found['rows'])] == ['holds', 'holds']
  assert record.read_record(folder / 'table2.json') == found


def test_tables_show_paper_ours_and_difference(folder, capsys):
  text = (rendered(folder) / 'table2.md').read_text()
  for line in (
    '| generator | method | paper | ours | difference | n |',
    '| unbiased | nominal |  | 30.0 ± 1.0 |  | 3 |',
    '| 99.9 % red | randmix | 53.56 | 55.0 ± 1.0 | +1.4 | 3 |',
    '| With a 99.9 % red generator RandMix loses more than 15 points | holds | loss of randmix − 15 = +15.0 ',
    '* time: 0:45 (train 0:45, train_gan 0:00); 9 of 9 runs are done',
    '* seeds: `seed` 0, 1, 2: the whole chain, generator included',
    '* training images: 3000; epochs: 16; classifier: linear; generator: 120 kimg, w of 64; encoder: 20 ',
    'attack in training: 3 × 4, ε = 0.03; in evaluation: 10 × 20; mixing level: 6',
  ):
    assert line in text, line
  assert '| 99.9 % red | randmix | 53.56 |' in capsys.readouterr().out
  lines = list(csv.DictReader(io.StringIO((folder / 'table2.csv').read_text())))
  assert len(lines) == 9 and lines[-1]['method'] == 'advmix' and lines[-1]['seeds'] == '0 1 2'
  assert float(lines[-1]['difference']) == pytest.approx(0.01)
  assert Image.open(folder / 'table2.png').width > 600


def test_rendering_again_gives_the_same_bytes(folder):
  before = {file.name: file.read_bytes() for file in rendered(folder).glob('table2.*')}
  assert set(before) == {'table2.md', 'table2.csv', 'table2.png', 'table2.json'}
  assert {file.name: file.read_bytes() for file in rendered(folder).glob('table2.*')} == before


def test_runs_that_are_not_done_are_left_out_and_counted(tmp_path):
  finish(tmp_path / 'part', planned('table2', 'cpu'), table_2, leave_out=range(4, 9))
  found = json.loads((rendered(tmp_path / 'part') / 'table2.json').read_text())
  assert (len(found['runs']['done']), len(found['runs']['planned'])) == (4, 9)
  seeds = {row['setting']: len(row['seeds']) for row in found['rows']}
  assert seeds == {'unbiased': 2, '99 % red': 1, '99.9 % red': 1}
  assert (
    '| unbiased | advmix | 85.07 | 85.5 ± 0.7 | +0.4 | 2 of 3 |'
    in (tmp_path / 'part' / 'table2.md').read_text()
  )


def test_a_claim_about_a_setting_that_is_not_done_was_not_run(tmp_path):
  finish(tmp_path / 'part', planned('table2', 'cpu'), table_2, leave_out=range(2, 9))
  found = json.loads((rendered(tmp_path / 'part') / 'table2.json').read_text())
  assert [row['setting'] for row in found['rows'][::3]] == ['unbiased', '99 % red']
  assert {claim['verdict'] for claim in claims.check('table2', found['rows'])} == {'not run'}


def test_tables_3_and_4_are_of_the_same_runs(tmp_path):
  finish(tmp_path / 'faces', planned('table3', 'cpu'), lambda setting, method, seed: 0.8 + 0.01 * seed)
  rendered(tmp_path / 'faces', 'table4:cpu')
  clean, perturbed = (
    json.loads((tmp_path / 'faces' / f'{name}.json').read_text()) for name in ('table3', 'table4')
  )
  methods = ['nominal', 'mixup', 'cutout', 'cutmix', 'at 4/255', 'at 8/255', 'randmix', 'advmix']
  assert [row['method'] for row in clean['rows']] == 4 * methods
  # One generator and one encoding for all attributes of a seed.
  assert clean['seconds'] == pytest.approx({'train_gan': 60.24, 'encode': 60.0, 'train': 120.0})
  row, other = clean['rows'][-1], perturbed['rows'][-1]
  assert row['setting'] == 'High_Cheekbones' and row['paper'] is None  # The paper names Smiling alone.
  assert (row['accuracy_mean'], row['num_examples']) == (pytest.approx(0.81), 10_000)
  assert (other['accuracy_mean'], other['num_examples']) == (pytest.approx(0.405), 300)
  assert clean['rows'][7]['paper'] == 0.9229 and perturbed['rows'][7]['paper'] == 0.7455
  text = (tmp_path / 'faces' / 'table4.md').read_text()
  assert '| paper | attribute 1 | attribute 3 | attribute 4 |' in text
  assert '| advmix | 84.29 | 69.55 | 47.95 |' in text


def test_several_classifiers_of_one_run_count_as_seeds(tmp_path):
  found = planned('table2', 'cpu')
  member = found.members[0]
  config = found.configs[member.name]
  config['train'] |= {'num_seeds': 2, 'methods': ['advmix']}
  alone = Plan(found.source, {member.name: member}, {member.name: config}, 1)
  both = [{'clean_accuracy': value, 'num_examples': 100} for value in (0.5, 0.7)]
  finish(tmp_path, alone, table_2)
  results = {'methods': {'advmix': both[0] | {'clean_accuracy': 0.6, 'per_seed': both}}}
  (tmp_path / member.folder / 'results.json').write_text(json.dumps(results))
  (row,) = rows.make_rows(tmp_path, alone, {member.name: state.Seen('done')}, published.RESULTS['table2'])
  assert row['accuracy_mean'] == pytest.approx(0.6) and row['seeds'] == row['planned'] == [0, 1]
  assert row['accuracy_sd'] == pytest.approx(0.02**0.5)
