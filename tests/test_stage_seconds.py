"""Seconds of stages add up over the processes of a run, killed ones included."""

import contextlib
import json
import os
import time

import pytest

from advmix_jax.bench.pipeline import pipeline_case, stage_seconds
from advmix_jax.stages import clock
from advmix_jax.types import BadInputError, Interrupted


@pytest.fixture
def seconds(monkeypatch):
  """A clock that is moved by hand: `seconds(5)`."""
  now = [100.0]
  monkeypatch.setattr(clock.time, 'monotonic', lambda: now[0])

  def move(number):
    now[0] += number

  return move


def test_stages_and_processes_add_up(tmp_path, seconds):
  with clock.counted(tmp_path, 'train_gan'):
    seconds(5)
  with contextlib.suppress(Interrupted), clock.counted(tmp_path, 'encode'):
    seconds(2)
    raise Interrupted('stopped')
  for stage, number in (('train_gan', 0), ('encode', 3), ('toy', 9)):
    with clock.counted(tmp_path, stage):
      seconds(number)
  assert stage_seconds(tmp_path) == {'train_gan': 5, 'encode': 5}


def test_a_killed_process_counts_until_its_last_sign_of_life(tmp_path, seconds):
  killed = clock.counted(tmp_path, 'train')
  killed.__enter__()  # And never left.
  begun = json.loads((tmp_path / clock.FILE).read_text())['running']['since']
  (tmp_path / 'metrics.jsonl').touch()
  os.utime(tmp_path / 'metrics.jsonl', (begun + 7, begun + 7))
  assert stage_seconds(tmp_path) == {'train': pytest.approx(7)}
  with clock.counted(tmp_path, 'train'):
    seconds(4)
  assert stage_seconds(tmp_path) == {'train': pytest.approx(11)}


def test_a_process_killed_before_it_wrote_anything_counts_nothing(tmp_path):
  clock.write(tmp_path, {}, {'stage': 'train', 'since': time.time()})
  assert stage_seconds(tmp_path) == {'train': 0}


def test_the_case_of_a_finished_run(tmp_path):
  (tmp_path / 'config.json').write_text('{"data": {"name": "digits"}}')
  (tmp_path / 'versions.json').write_text('{}')
  (tmp_path / 'results.json').write_text('{"num_train": 20, "methods": {"nominal": {}}}')
  lines = [{'step': step, 'timing/gan/data_seconds': 0.5, 'gan/loss': 1.0} for step in (2, 4)]
  (tmp_path / 'metrics.jsonl').write_text(''.join(json.dumps(line) + '\n' for line in lines))
  clock.write(tmp_path, {'encode': 10.0, 'train_gan': 30.0}, None)
  case = pipeline_case(tmp_path)
  assert case['images_per_sec'] == 0.5 and case['seconds_waited_for_data'] == 1
  assert case['seconds_per_image'] == {'train_gan': 1.5, 'encode': 0.5}


def test_a_run_without_a_record_or_without_results_is_refused(tmp_path):
  with pytest.raises(BadInputError, match='stage_seconds.json is missing, expected the workdir of a run'):
    stage_seconds(tmp_path)
  with pytest.raises(BadInputError, match='config.json is missing, expected the workdir of a finished run'):
    pipeline_case(tmp_path)
