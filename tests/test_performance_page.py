"""Curves of cost, start times, and the page that is made from files of measurements."""

import json
import sys

import pytest

from advmix_jax.bench import curves, measurement, reference_cases, start_time
from advmix_jax.types import RunError
from launch import benchmark as command
from tests.test_benchmark import TINY

MACHINE = {
  'python': '3.11.9',
  'packages': {'jax': '0.10.2'},
  'backend': 'cpu',
  'devices': 1,
  'threads': 2,
  'processor': 'A processor',
  'load': 0.04,
  'matmul_flops': 250e9,
}
STAMP = {'machine': MACHINE, 'repeats': 9, 'date': '2026-11-23T10:00:00+00:00'}
ATTACK = {
  'name': 'attack_train_cnn',
  'images_per_sec': 31.26,
  'share_of_matmul_peak': 0.471,
  'ratio_vs_torch': 2.4,
  'ratio_quartiles': [2.31, 2.46],
  'torch': {'variant': 'torch.compile', 'images_per_sec': 13.0},
  'restarts': 5,
  'steps': 7,
}
EVALUATION = {
  'name': 'attack_eval_cnn',
  'images_per_sec': 110.4,
  'share_of_matmul_peak': None,
  'ratio_vs_torch': None,
  'broken': 0.6,
}
EQUAL_QUALITY = {
  'name': 'encoder_equal_quality',
  'images_per_sec': 2.5,
  'share_of_matmul_peak': None,
  'ratio_vs_torch': None,
  'steps': 300,
  'plain_steps': 2000,
  'median_error': 0.0023456,
  'plain_median_error': 0.0024,
  'start_seconds_per_image': 0.0069,
}
PIPELINE = {
  'name': 'pipeline',
  'config': 'digits',
  'images': 100,
  'seconds': 300.0,
  'seconds_by_stage': {'train': 100.0, 'train_gan': 200.0},
  'seconds_per_image': {'train': 1.0, 'train_gan': 2.0},
  'seconds_waited_for_data': 0.5,
  'methods': ['advmix', 'nominal'],
}


def point(curve, case, value, rate, **more):
  found = {'curve': curve, 'case': case, 'value': value, 'images_per_sec': rate}
  return found | {'seconds': 64 / rate, 'seconds_quartiles': [60 / rate, 70 / rate]} | more


@pytest.fixture
def files(tmp_path):
  """One file for each thing that can be measured."""
  networks = {
    'fmaps': [64, 16],
    'w_size': 64,
    'classifier_fmaps': [32, 64],
    'mixing_level': 6,
    'batch_size': 64,
  }
  profiles = {
    'attack_train_cnn': {
      'milliseconds': 10.0,
      'run_milliseconds': 11.0,
      'by_kind': [{'name': 'convolution', 'milliseconds': 9.0, 'share': 0.9}],
      'by_part': [{'name': part, 'milliseconds': 5.0, 'share': 0.5} for part in ('TruncatedVGG', 'other')],
      'slowest': [],
    }
  }
  parts = {
    'bench': {'cases': [ATTACK, EVALUATION], 'networks': networks, 'resolution': 32},
    'equal': {'cases': [EQUAL_QUALITY], 'networks': networks, 'resolution': 32, 'run': 'runs/mnist'},
    'pipeline': {'cases': [PIPELINE]},
    'curves': {
      'curves': [
        point('batch', 'attack', 8, 20.0),
        point('batch', 'attack', 64, 31.0),
        point('batch', 'GAN step', 64, 300.0),
        point('devices', 'attack', 2, 30.0, simulated=True),
      ]
    },
    'profile': {'profiles': profiles},
    'start': {
      'start_times': [
        {'command': 'launch.encode', 'first_seconds': 40.0, 'second_seconds': 12.0, 'ratio': 0.3}
      ]
    },
  }
  for name, part in parts.items():
    (tmp_path / f'{name}.json').write_text(json.dumps(part | STAMP | {'command': f'measure {name}'}))
  return [tmp_path / f'{name}.json' for name in parts]


def page_of(files, page):
  assert command.main([f'--page={page}', f'--from={",".join(map(str, files))}']) == 0
  return page.read_text()


def test_the_page_shows_every_measurement_and_where_it_is_from(files, tmp_path):
  text = page_of(files, tmp_path / 'docs' / 'performance.md')
  for row in (
    '| attack_train_cnn | 31.3 | 13.0 (torch.compile) | 2.40 (2.31 to 2.46) | 47% | restarts 5, steps 7 |',
    '| attack_eval_cnn | 110 |  |  |  | broken 60% |',
    'the trained networks of runs/mnist and',
    'took 0.007 s for',
    '| steps 300, plain steps 2000, median error 0.00235, plain median error 0.0024 |',
    '| digits, 100 images | train_gan | train | all |',
    '| seconds per image | 2.0 s | 1.0 s | 3.0 s |',
    '| in all | 3.3 min | 100.0 s | 5.0 min |',
    '| attack, images/s | 20.0 | 31.0 |',
    '| GAN step, images/s |  | 300 |',
    '| convolution | 90% | | TruncatedVGG | 50% |',
    '| | | | other | 50% |',
    '| launch.encode | 40.0 s | 12.0 s | 30% |',
  ):
    assert row in text, row
  for name in ('bench', 'equal', 'pipeline', 'curves', 'profile', 'start'):
    assert f'`measure {name}`, 2026-11-23: A processor, 2 threads, 1 cpu device(s)' in text
  assert 'they share its cores' in text and 'jax 0.10.2' in text
  assert (tmp_path / 'docs' / 'performance-curves.png').read_bytes().startswith(b'\x89PNG')
  assert '![' in text and '](performance-curves.png)' in text
  tables_are_whole(text)


def tables_are_whole(text):
  """Every row has as many cells as the head of its table, and no blank line cuts one."""
  lines = text.splitlines()
  for i, line in enumerate(lines):
    if line.startswith('|---'):
      assert lines[i - 1].count('|') == line.count('|')
      row = i + 1
      assert lines[row].startswith('|'), lines[i - 1]
      while lines[row].startswith('|'):
        assert lines[row].count('|') == line.count('|'), lines[row]
        row += 1


def test_a_page_of_one_measurement_has_no_empty_parts(files, tmp_path):
  text = page_of(files[:1], tmp_path / 'page.md')
  assert '## Images per second' in text and '## Limits' in text
  assert not any(title in text for title in ('## A whole run', '## What the cost', '## Where', '## Starting'))


@pytest.mark.parametrize('content', ['{', '[]', '{"cases": []}', '{"results": 1, "command": "x"}'])
def test_a_file_that_is_no_measurement_is_named(content, tmp_path, capsys):
  file = tmp_path / 'odd.json'
  file.write_text(content)
  assert command.main([f'--page={tmp_path}/page.md', f'--from={file}']) == 2
  error = capsys.readouterr().err
  assert error.startswith(f'error: --from={file}: ') and 'expected a file of launch.benchmark --out' in error


@pytest.mark.slow
def test_curves_are_measured(tmp_path, monkeypatch):
  monkeypatch.setattr(measurement, 'PEAK_SIZE', 64)
  monkeypatch.setattr(curves, 'BATCHES', (2, 4))
  monkeypatch.setattr(curves, 'STEPS', (1, 2))
  monkeypatch.setattr(curves, 'Networks', lambda: TINY)
  out = tmp_path / 'curves.json'
  assert command.main(['--curves=batch,steps', '--repeats=1', f'--out={out}']) == 0
  rows = json.loads(out.read_text())['curves']
  assert [(r['curve'], r['case'], r['value']) for r in rows] == [
    *(('batch', case, size) for size in (2, 4) for case in ('attack', 'GAN step')),
    *(('steps', 'attack', steps) for steps in (1, 2)),
  ]
  assert all(r['images_per_sec'] > 0 and len(r['seconds_quartiles']) == 2 for r in rows)
  page_of([out], tmp_path / 'page.md')


def test_resolutions_halve_and_double_and_the_last_is_mixed():
  found = [(len(n.fmaps), n.mixing_level) for n in curves.networks_by_resolution(reference_cases.Networks())]
  assert found == [(3, 4), (4, 6), (5, 8)]


@pytest.mark.slow
def test_devices_are_simulated_in_processes_of_their_own(monkeypatch):
  monkeypatch.setattr(curves, 'NUM_DEVICES', (1, 2))
  rows = curves.curves(['devices'], 1, TINY)
  assert [(row['value'], row['simulated']) for row in rows] == [(1, True), (2, True)]


def test_unknown_curves_are_bad_input(capsys):
  assert command.main(['--curves=batch,time']) == 2
  assert "error: --curves: found 'time', expected some of batch, restarts, " in capsys.readouterr().err


def test_the_first_line_of_progress_is_the_first_step():
  program = (
    'import sys, time; print("note: no step", file=sys.stderr); time.sleep(0.2); '
    'print("encode train: 1/20  0:00", file=sys.stderr, flush=True); time.sleep(0.4)'
  )
  seconds = start_time.seconds_to_first_step([sys.executable, '-c', program], {})
  assert seconds >= 0.2


def test_a_command_that_fails_is_an_error_with_its_last_line():
  program = 'import sys; print("error: no data", file=sys.stderr); sys.exit(2)'
  with pytest.raises(RunError, match='ended with 2 before its first step: error: no data'):
    start_time.seconds_to_first_step([sys.executable, '-c', program], {})


@pytest.mark.slow
def test_the_second_run_of_every_stage_starts_sooner():
  """By how much is for a quiet machine to say."""
  rows = start_time.start_times('configs/smoke.py')
  assert [row['command'] for row in rows] == [f'launch.{stage}' for stage in start_time.STAGES]
  assert all(row['second_seconds'] < row['first_seconds'] for row in rows)
