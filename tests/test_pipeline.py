"""The main job from the command line: results, a second run, and runs that were stopped."""

import json
import pathlib
import random
import re
import shutil
import signal
import subprocess
import time

import numpy as np
import pytest

from advmix_jax.config_keys import flatten
from advmix_jax.methods import METHODS
from advmix_jax.workdir import config_hash
from configs import smoke
from tests.command_line import PATIENCE, ROOT, command, refused, smoke_flags

KILLS = 10


@pytest.fixture(scope='module')
def finished(launch, tmp_path_factory) -> pathlib.Path:
  """The workdir of an unbroken run."""
  workdir = tmp_path_factory.mktemp('runs') / 'smoke'
  done = launch('pipeline', *smoke_flags(workdir))
  assert done.returncode == 0, done.stderr
  assert f'report: {workdir}/report/index.html' in done.stdout
  return workdir


def results(workdir: pathlib.Path) -> bytes:
  return (workdir / 'results.json').read_bytes()


def test_a_run_leaves_results_of_all_methods_and_a_report(finished):
  found = json.loads(results(finished))
  assert set(found['methods']) == set(METHODS) and len(METHODS) == 7
  for numbers in found['methods'].values():
    for name in ('clean_accuracy', 'perturbed_accuracy', 'worst_class_accuracy'):
      assert 0 <= numbers[name] <= 1
    assert numbers['worst_class_accuracy'] <= numbers['clean_accuracy']
    assert numbers['num_examples'] == 40 and numbers['num_perturbed_examples'] == 30
    assert numbers['seed'] == 0
  assert found['seed'] == 0 and found['config_hash'] == config_hash(smoke.get_config())
  words = {word for key in flatten(found) for word in re.split('[._/]', key)}
  assert not words & {'time', 'date', 'seconds', 'host', 'path'}  # Equal runs give equal bytes.
  page = (finished / 'report' / 'index.html').read_text()
  assert all(method in page.lower() for method in METHODS)


def test_the_outcome_of_every_example_is_kept(finished):
  for method, numbers in json.loads(results(finished))['methods'].items():
    with np.load(finished / 'evaluate' / f'{method}.npz') as stored:
      correct, held = stored['correct'], ~stored['broken']
    assert correct.shape == (40,) and correct.mean() == numbers['clean_accuracy']
    assert held.shape == (30,) and held.mean() == numbers['perturbed_accuracy']


def test_the_report_explores_what_the_evaluation_found(finished):
  page = (finished / 'report' / 'index.html').read_text()
  data = json.loads(re.search(r'id="explorer-data">(.*?)</script>', page, re.DOTALL)[1])
  attacked = np.sort(
    np.random.default_rng((0, 40)).choice(40, 30, replace=False)
  )  # As data.split_seed draws.
  places = np.searchsorted(attacked, data['index'])
  assert attacked[places].tolist() == data['index'] and len(places) == 12
  assert np.ptp(np.bincount(data['labels'], minlength=10)) <= 1
  (seed,) = data['seeds']
  assert [one['method'] for one in seed['classifiers']] == list(METHODS)
  found = {v['method']: v for v in seed['variants'] if v['kind'] == 'evaluated'}
  for one in seed['classifiers']:
    with np.load(finished / 'evaluate' / f'{one["method"]}.npz') as stored:
      broken, restart = stored['broken'][places], stored['restart'][places]
    assert one['fooled'] == broken.astype(int).tolist()
    assert (np.array(found[one['method']]['cells']) >= 0).tolist() == (broken & (restart >= 0)).tolist()
    misread = np.array([reading[0] for reading in one['original']]) != data['labels']
    assert misread.tolist() == (broken & (restart < 0)).tolist()
    own = one['variants'][seed['variants'].index(found[one['method']])]
    assert all(
      reading is None or reading[0] != label for reading, label in zip(own, data['labels'], strict=True)
    )


def test_a_run_names_the_command_that_made_it(finished):
  (command,) = (finished / 'commands.txt').read_text().splitlines()
  assert command == f'python -m launch.pipeline --config=configs/smoke.py --workdir={finished}'
  assert command in (finished / 'report' / 'index.html').read_text()


def test_a_run_records_its_configuration_versions_and_metrics(finished):
  assert json.loads((finished / 'config.json').read_text())['train']['batch_size'] == 16
  assert json.loads((finished / 'versions.json').read_text())['threads'] >= 1
  lines = [json.loads(line) for line in (finished / 'metrics.jsonl').read_text().splitlines()]
  names = {name for line in lines for name in line}
  assert {'gan/loss/generator', 'encoder/loss', 'train/advmix/loss'} <= names
  assert list((finished / 'events').iterdir()) and list((finished / 'gan').glob('mixing-*.png'))


def test_the_same_command_again_skips_what_is_there(launch, finished):
  made = [p for stage in ('gan', 'encode', 'train', 'evaluate') for p in (finished / stage).rglob('*.*')]
  before, bytes_before = {path: path.stat().st_mtime_ns for path in made}, results(finished)
  again = launch('pipeline', *smoke_flags(finished))
  assert again.returncode == 0, again.stderr
  assert results(finished) == bytes_before
  assert before == {path: path.stat().st_mtime_ns for path in made}
  assert 'images/s' not in again.stderr and 'unbroken' not in again.stderr
  assert 'accuracy on the test images' in again.stdout


def test_a_finished_run_is_diagnosed_the_same_each_time(launch, finished):
  before = results(finished)
  folder = finished / 'diagnostics'
  flags = (
    *smoke_flags(finished),
    '--config.diagnose.num_images=20',
  )  # Other settings than the run's are fine.
  done = launch('diagnose', *flags)
  assert done.returncode == 0, done.stderr
  assert 'At the mixing level of this run, 4' in done.stdout
  text = (folder / 'diagnostics.json').read_bytes()
  found = json.loads(text)
  assert sum(found['classes']['drawn']) == pytest.approx(1)
  assert found['levels']['reference'] == 'recoloured' and len(found['levels']['levels']) == 7
  advmix = found['attack']['methods']['advmix']
  assert advmix['same_as_evaluate'] >= 0.9 and all(x['holds'] for x in advmix['more_is_not_weaker'].values())
  assert set(found['encoder']['train']['accuracy']) == {'advmix', 'randmix', 'nominal', 'reference'}
  figures = {'classes', 'levels', 'levels_pictures', 'encoder', 'colours', 'attack', 'loss'}
  assert {path.stem for path in folder.glob('*.png')} == figures
  again = launch('diagnose', *flags)
  assert 'diagnose: ' not in again.stdout  # Every part is there.
  (folder / 'parts' / 'levels.json').unlink()
  shutil.rmtree(folder / 'reference')
  again = launch('diagnose', *flags)
  assert 'diagnose: levels' in again.stdout and 'diagnose: attack' not in again.stdout
  assert (folder / 'diagnostics.json').read_bytes() == text and results(finished) == before
  classifier = finished / 'train' / 'nominal' / 'classifier.safetensors'
  own = classifier.read_bytes()
  classifier.write_bytes((finished / 'train' / 'randmix' / 'classifier.safetensors').read_bytes())
  again = launch('diagnose', *flags)  # As if it had been trained again.
  classifier.write_bytes(own)
  measured = [line for line in again.stdout.splitlines() if line.startswith('diagnose: ')]
  assert measured == ['diagnose: encoder', 'diagnose: attack-nominal']


def test_a_workdir_of_another_seed_is_refused(launch, finished):
  before = results(finished)
  line = refused(launch('pipeline', *smoke_flags(finished), '--config.seed=1'))
  assert 'seed is 0 there, 1 here' in line
  assert results(finished) == before


def test_a_dry_run_leaves_the_folder_to_any_configuration(launch, tmp_path):
  (tmp_path / 'notes.txt').touch()
  done = launch('pipeline', *smoke_flags(tmp_path), '--dry_run')
  assert done.returncode == 0, done.stderr
  assert '64 training' in done.stdout and 'mixing level 4 of 6' in done.stdout
  assert {path.name for path in tmp_path.iterdir()} == {'lock', 'notes.txt'}
  other = launch('pipeline', *smoke_flags(tmp_path), '--config.seed=1', '--dry_run')
  assert other.returncode == 0, other.stderr


def test_bad_input_leaves_the_folder_to_any_configuration(launch, tmp_path):
  flags = ('--config.data.name=folder', f'--config.data.dir={tmp_path}/none')
  refused(launch('pipeline', *smoke_flags(tmp_path / 'run'), *flags))
  done = launch('pipeline', *smoke_flags(tmp_path / 'run'), '--dry_run')
  assert done.returncode == 0, done.stderr


def test_a_dry_run_leaves_a_run_as_it_is(launch, finished):
  def files():
    found = (path for path in finished.rglob('*') if 'lock' not in path.relative_to(finished).parts)
    return {path: path.stat().st_mtime_ns for path in found}

  before = files()
  done = launch('pipeline', *smoke_flags(finished), '--dry_run')
  assert done.returncode == 0, done.stderr
  assert files() == before


@pytest.mark.slow
def test_a_run_killed_at_ten_random_moments_ends_with_the_same_results(
  launch, environment, finished, tmp_path
):
  chance = random.Random(0)
  kills = 0
  for _ in range(KILLS):
    process = subprocess.Popen(
      command('pipeline', *smoke_flags(tmp_path)),
      cwd=ROOT,
      env=environment,
      stdout=subprocess.DEVNULL,
      stderr=subprocess.DEVNULL,
    )
    try:
      assert process.wait(chance.uniform(3, 12)) == 0
      break
    except subprocess.TimeoutExpired:
      process.kill()
      assert process.wait() == -signal.SIGKILL
      kills += 1
  done = launch('pipeline', *smoke_flags(tmp_path))
  assert done.returncode == 0, done.stderr
  assert kills >= 3, f'only {kills} kills before the end: the test no longer tests much'
  assert results(tmp_path) == results(finished)


@pytest.mark.slow
@pytest.mark.parametrize('stage', ['train_gan', 'encode', 'train', 'evaluate'])
def test_a_run_that_is_asked_to_stop_ends_with_75_and_goes_on(launch, environment, finished, tmp_path, stage):
  output = tmp_path / 'output'
  with output.open('w') as file:
    process = subprocess.Popen(
      command('pipeline', *smoke_flags(tmp_path / 'run')),
      cwd=ROOT,
      env=environment,
      stdout=file,
      stderr=subprocess.PIPE,
      text=True,
    )
  deadline = time.monotonic() + PATIENCE
  while f'== {stage}\n' not in output.read_text() and process.poll() is None and time.monotonic() < deadline:
    time.sleep(0.05)
  process.terminate()
  _, errors = process.communicate(timeout=PATIENCE)
  assert process.returncode == 75, errors
  assert 'stopped by SIGTERM; the same command goes on from here' in errors
  assert not (tmp_path / 'run' / 'results.json').exists()
  done = launch('pipeline', *smoke_flags(tmp_path / 'run'))
  assert done.returncode == 0, done.stderr
  assert results(tmp_path / 'run') == results(finished)
