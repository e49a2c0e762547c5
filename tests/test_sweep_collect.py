"""What members came to, averaged over seeds: as many as are done, and no others."""

import csv
import json
import os

import pytest

from advmix_jax import process_identity
from advmix_jax.methods import METHODS
from advmix_jax.sweep import collect, plan, state
from advmix_jax.types import BadInputError
from configs import smoke


@pytest.fixture
def sweep(tmp_path):
  """`sweep(changes, done={name: {method: clean accuracy}})`: a plan, and members that are done."""

  def make(changes: list[dict], done: dict[str, dict[str, float]]):
    planned = plan.make_plan('sweep.py', smoke.get_config(), changes, lambda config: None, 1)
    plan.save_plan(tmp_path, planned)
    for name, accuracies in done.items():
      (tmp_path / name).mkdir()
      methods = {
        method: {'clean_accuracy': a, 'worst_class_accuracy': a - 0.1, 'perturbed_accuracy': a - 0.2}
        for method, a in accuracies.items()
      }
      (tmp_path / name / 'results.json').write_text(json.dumps({'methods': methods}))
      state.write_end(tmp_path, name, 0, 1.0)
    return planned, state.observe(tmp_path, planned)

  return make


def grid(**values) -> list[dict]:
  members: list[dict] = [{}]
  for key, choices in values.items():
    members = [{**given, key.replace('__', '.'): choice} for given in members for choice in choices]
  return members


def read_csv(path) -> list[dict]:
  return list(csv.DictReader((path / 'results.csv').open()))


def test_mean_and_deviation_over_the_seeds_that_are_done(sweep, tmp_path):
  done = {
    'data.sigma=0.0,seed=0': {'advmix': 0.9, 'nominal': 0.2},
    'data.sigma=0.0,seed=1': {'advmix': 0.8, 'nominal': 0.4},
    'data.sigma=0.0,seed=2': {'advmix': 0.7, 'nominal': 0.3},
    'data.sigma=0.1,seed=1': {'advmix': 0.5, 'nominal': 0.5},
  }
  planned, seen = sweep(grid(data__sigma=(0.0, 0.1, 0.2), seed=(0, 1, 2)), done)
  text = collect.write(tmp_path, planned, seen)
  assert '4 of 9 runs are done' in text and 'n runs that differ in their seed.' in text
  assert '| data.sigma | method | clean | worst class | under perturbation | n |' in text
  assert '| 0.0 | nominal | 30.0 ± 10.0 | 20.0 ± 10.0 | 10.0 ± 10.0 | 3 |' in text
  assert '| 0.0 | advmix | 80.0 ± 10.0 | 70.0 ± 10.0 | 60.0 ± 10.0 | 3 |' in text
  assert '| 0.1 | advmix | 50.0 | 40.0 | 30.0 | 1 of 3 |' in text
  assert '| 0.2 |' not in text
  assert (tmp_path / 'results.md').read_text() in text
  rows = read_csv(tmp_path)
  assert [(row['data.sigma'], row['method'], row['n'], row['planned'], row['seeds']) for row in rows] == [
    ('0.0', 'nominal', '3', '3', '0 1 2'),
    ('0.0', 'advmix', '3', '3', '0 1 2'),
    ('0.1', 'nominal', '1', '3', '1'),
    ('0.1', 'advmix', '1', '3', '1'),
  ]
  assert float(rows[1]['clean_accuracy_mean']) == 0.8 and float(rows[1]['clean_accuracy_sd']) == 0.1
  assert rows[3]['clean_accuracy_sd'] == ''
  assert (tmp_path / 'results.png').read_bytes().startswith(b'\x89PNG')


def test_what_is_not_done_does_not_count_even_with_results(sweep, tmp_path):
  done = {f'seed={seed}': {'advmix': 0.9 - 0.1 * seed} for seed in range(4)}
  planned, _ = sweep(grid(seed=(0, 1, 2, 3)), done)
  state.write(tmp_path, 'seed=1', 'running', **process_identity.identity(os.getpid()))
  state.write_end(tmp_path, 'seed=2', 1, 1.0)
  (tmp_path / 'seed=3' / 'results.json').unlink()
  text = collect.write(tmp_path, planned, state.observe(tmp_path, planned))
  assert '1 of 4 runs are done' in text and '| advmix | 90.0 | 80.0 | 70.0 | 1 of 4 |' in text
  (tmp_path / 'seed=0' / 'results.json').unlink()
  with pytest.raises(BadInputError, match='no member is done'):
    collect.write(tmp_path, planned, state.observe(tmp_path, planned))


def test_members_without_results_by_their_stages_are_told_so(sweep, tmp_path):
  """As those of figure 4, which are done."""
  planned, seen = sweep([{'seed': 0, 'stages': ('toy',)}], {})
  with pytest.raises(BadInputError, match='no member has the stage evaluate, which makes the results'):
    collect.write(tmp_path, planned, seen)


def test_the_seed_of_the_classifier_alone_is_called_so(sweep, tmp_path):
  done = {f'train.seed={seed}': {'advmix': 0.5 + 0.1 * seed} for seed in (0, 1)}
  planned, seen = sweep(grid(train__seed=(0, 1)), done)
  text = collect.write(tmp_path, planned, seen)
  assert 'differ in their train.seed (of the classifier alone).' in text
  assert '| advmix | 55.0 ± 7.1 |' in text
  assert read_csv(tmp_path)[0]['seeds'] == '0 1'


@pytest.mark.parametrize(
  'values',
  [
    {'train__classifier': ('cnn', 'linear'), 'seed': (0, 1)},
    {'data__sigma': (0.0, 0.1), 'train__classifier': ('cnn', 'linear')},
    {'at__epsilon': (0.1, 0.2), 'data__sigma': (0.0, 0.1)},
    {'seed': (0,)},
  ],
)
def test_any_setting_can_be_drawn(sweep, tmp_path, values):
  changes = grid(**values)
  planned = plan.make_plan('sweep.py', smoke.get_config(), changes, lambda config: None, 1)
  done = {task.name: dict.fromkeys(METHODS, 0.5) for task in planned.members}
  planned, seen = sweep(changes, done)
  collect.write(tmp_path, planned, seen)
  assert len((tmp_path / 'results.png').read_bytes()) > 10_000
  settings = {tuple(collect.settings(planned)[task.name].values()) for task in planned.members}
  assert len(read_csv(tmp_path)) == len(settings) * len(METHODS)


def test_members_of_several_seeds_count_for_each(sweep, tmp_path):
  planned, _ = sweep([{'train.num_seeds': 3, 'data.sigma': sigma} for sigma in (0.0, 0.1)], {})
  name = planned.members[0].name
  each = [{'clean_accuracy': a, 'worst_class_accuracy': a, 'perturbed_accuracy': a} for a in (0.4, 0.5, 0.6)]
  (tmp_path / name).mkdir()
  (tmp_path / name / 'results.json').write_text(
    json.dumps({'methods': {'advmix': each[1] | {'per_seed': each}}})
  )
  state.write_end(tmp_path, name, 0, 1.0)
  text = collect.write(tmp_path, planned, state.observe(tmp_path, planned))
  assert '| 0.0 | advmix | 50.0 ± 10.0 | 50.0 ± 10.0 | 50.0 ± 10.0 | 3 |' in text
  assert 'differ in their train.seed (of the classifier alone).' in text
  assert read_csv(tmp_path)[0]['seeds'] == '0 1 2'
