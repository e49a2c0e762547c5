"""The sweeps of `configs/paper/`: what they plan, what they share, and that every variant can be run."""

import json
import pathlib

import pytest

from advmix_jax.paper import published, record
from advmix_jax.sweep import plan
from launch import reproduce, sweep
from tests.command_line import ROOT

FOLDER = pathlib.Path(reproduce.CONFIGS)
RECORDS = sorted((ROOT / 'docs' / 'results').glob('*.json'))
VARIANTS = ('cpu', 'paper', 'smoke')  # paper_exact asks for files of weights.


def planned(name: str, variant: str, seeds: list[str] | None = None) -> plan.Plan:
  source = f'{FOLDER / name}.py:{variant}'
  config = sweep.common.ConfigFile().parse(source)
  added = sweep.read_sweep(source)
  chosen = sweep.of_seeds(added, seeds)
  return plan.make_plan(source, config.unlock(), added, sweep.check, 1, chosen=chosen)


def kinds(found: plan.Plan) -> list[str]:
  return [task.kind for task in found.tasks.values() if task.kind != 'member']


def places(name: str, found: plan.Plan) -> list[tuple[str, tuple[str, ...]]]:
  """Setting and methods of each member, as results name them."""
  result = published.RESULTS[name]
  configs = [found.configs[task.name] for task in found.members]
  return [
    (result.setting_of(c), tuple(result.method_of(c, method) for method in c['train']['methods']))
    for c in configs
  ]


def test_every_file_is_a_figure_or_table_or_what_they_share():
  assert {path.stem for path in FOLDER.glob('*.py')} == {*reproduce.NAMES, '__init__', 'colour_mnist'}
  assert set(reproduce.NAMES) == set(published.RESULTS)


@pytest.mark.parametrize('name', reproduce.NAMES)
@pytest.mark.parametrize('variant', VARIANTS)
def test_every_variant_can_be_planned_and_has_settings_the_paper_knows(name, variant):
  found = list(dict.fromkeys(setting for setting, _ in places(name, planned(name, variant))))
  known = list(dict.fromkeys(setting for setting, _ in published.RESULTS[name].numbers))
  if name in ('table1', 'table2'):
    assert found == known
  elif known:
    assert set(known) & set(found)


@pytest.mark.parametrize('file', RECORDS, ids=lambda file: file.stem)
def test_what_is_recorded_is_of_the_configurations_that_there_are(file):
  """Else runs of further seeds could not be added to a record."""
  recorded = json.loads(file.read_text())
  found = planned(recorded['name'], recorded['variant'])
  assert record.configuration(found) == recorded['configuration']
  assert set(recorded['runs']['planned']) <= {task.hash for task in found.members}


@pytest.mark.parametrize('name', reproduce.NAMES)
def test_an_unknown_variant_is_told_the_variants(name):
  file = 'table3' if name == 'table4' else name
  with pytest.raises(
    Exception, match=f"{file}.py has the variants cpu, paper, paper_exact and smoke, not 'gpu'"
  ):
    planned(name, 'gpu')


@pytest.mark.parametrize('name', ['figure7', 'table1', 'table2'])
def test_on_two_cores_a_seed_is_the_whole_chain_of_each_column(name):
  found = planned(name, 'cpu')
  assert kinds(found) == [] and not any(task.needs for task in found.members)  # Nothing is shared.
  assert [task.changes['seed'] for task in found.members] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
  config = found.configs[found.members[0].name]
  assert config['train']['seed'] == -1  # That of the run.
  assert config['data']['num_generator'] == 0  # All 59,000.
  assert config['data']['num_train'] == (3000 if name == 'table2' else 2500)


@pytest.mark.parametrize('name', ['figure7', 'table1', 'table2', 'table3'])
def test_at_the_papers_size_a_seed_is_the_whole_chain(name):
  found = planned(name, 'paper')
  assert {task.changes['seed'] for task in found.members} == {0, 1, 2}
  assert kinds(found) == [] or name == 'table3'
  config = found.configs[found.members[0].name]
  assert config['data']['num_train'] == 0 and config['generator']['w_size'] == 512
  assert (config['attack']['num_restarts'], config['attack']['num_steps']) == (5, 7)
  assert config['train']['num_epochs'] == (20 if name == 'table3' else 5)
  assert (config['encode']['init'], config['encode']['features']) == ('encoder', 'discriminator')


@pytest.mark.parametrize('name', ['figure7', 'table1', 'table2', 'table3'])
def test_as_the_paper_has_it_the_encoder_starts_from_the_mean_and_asks_for_weights(name):
  config = sweep.common.ConfigFile().parse(f'{FOLDER / name}.py:paper_exact')
  assert (config.encode.init, config.encode.features, config.encode.num_steps) == ('mean', 'vgg16', 2000)
  words = 'generator.path' if name == 'table3' else 'vgg16_weights'
  with pytest.raises(Exception, match=words):
    planned(name, 'paper_exact')


def test_figure_7_has_the_sigmas_and_methods_of_the_paper():
  methods = ('nominal', 'mixup', 'at', 'randmix', 'advmix')
  found = places('figure7', planned('figure7', 'paper'))
  sigmas = ('0', '0.05', '0.1', '0.15', '0.2', '0.25', '0.3', '0.35', '0.4')
  assert found == 3 * [(f'σ = {sigma}', methods) for sigma in sigmas]  # A seed after the other.
  assert {setting for setting, _ in places('figure7', planned('figure7', 'cpu'))} == {
    'σ = 0',
    'σ = 0.2',
    'σ = 0.4',
  }


@pytest.mark.parametrize('variant', ['cpu', 'paper'])
def test_table_3_has_four_attributes_and_two_strengths_of_at(variant):
  found = planned('table3', variant)
  assert kinds(found) == ['train_gan', 'encode'] * 3  # For each seed; its attributes share them.
  attributes = ('Smiling', 'Wearing_Hat', 'Mouth_Slightly_Open', 'High_Cheekbones')
  among = ('nominal', 'mixup', 'cutout', 'cutmix', 'at 8/255', 'randmix', 'advmix')
  one_seed = [(attribute, methods) for attribute in attributes for methods in (among, ('at 4/255',))]
  assert places('table3', found) == 3 * one_seed
  steps = {c['at']['epsilon']: c['at']['step_size'] for c in found.configs.values()}
  assert steps == {8 / 255: 2.5 * 8 / 255 / 7, 4 / 255: 2.5 * 4 / 255 / 7}


def test_table_4_is_table_3():
  one, other = planned('table3', 'cpu'), planned('table4', 'cpu')
  assert one.tasks == other.tasks and one.configs == other.configs
