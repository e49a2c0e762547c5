"""Runs that differ in their seed alone are averaged; others are refused."""

import json

import pytest

from launch import summarise


@pytest.fixture
def make_run(tmp_path):
  def make(seed, clean, **config):
    path = tmp_path / f'run-{seed}'
    path.mkdir()
    (path / 'config.json').write_text(json.dumps({'seed': seed, 'attack': {'epsilon': 0.03}} | config))
    method = {
      'clean_accuracy': clean,
      'worst_class_accuracy': 0.5,
      'perturbed_accuracy': 0.25,
      'num_train': 10,
      'num_examples': 20,
      'num_perturbed_examples': 8,
    }
    (path / 'results.json').write_text(json.dumps({'seed': seed, 'methods': {'advmix': method}}))
    return path

  return make


def test_mean_and_standard_deviation_over_seeds(make_run):
  text = summarise.summary([make_run(0, 0.9), make_run(1, 0.8)])
  assert 'Seeds 0, 1; 10 training images, 20 test images, 8 of them attacked' in text
  assert '| advmix | 85.0 ± 7.1 | 50.0 ± 0.0 | 25.0 ± 0.0 |' in text


def test_runs_of_other_configurations_are_refused_by_key(make_run, capsys):
  runs = [make_run(0, 0.9), make_run(1, 0.8, attack={'epsilon': 0.1})]
  assert summarise.main([str(run) for run in runs]) == 2
  assert 'attack.epsilon' in capsys.readouterr().err


@pytest.mark.parametrize(
  'name, text, words',
  [
    ('results.json', '{"toy": {}, "methods": {}}', 'has no methods, expected what the stage evaluate writes'),
    ('results.json', '[]', 'has no methods'),
    ('results.json', '{"methods": ', 'is not valid JSON'),
    ('config.json', '{"seed": ', 'is damaged'),
    ('config.json', '3', 'is damaged (found int)'),
  ],
)
def test_what_cannot_be_summarised_is_named(make_run, capsys, name, text, words):
  run = make_run(0, 0.9)
  (run / name).write_text(text)
  assert summarise.main([str(run)]) == 2
  (line,) = capsys.readouterr().err.splitlines()
  assert line.startswith(f'error: {run / name} ') and words in line


def test_an_unfinished_run_is_named(make_run, capsys):
  run = make_run(0, 0.9)
  (run / 'results.json').unlink()
  assert summarise.main([str(run)]) == 2
  assert str(run / 'results.json') in capsys.readouterr().err
