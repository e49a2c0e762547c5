"""The command that reproduces a figure or table: bad input, what it runs, breaks, and what it leaves."""

import json
import signal
import subprocess
import sys
import time

import pytest
from PIL import Image

from advmix_jax.paper import claims
from advmix_jax.paper.record import read_notes
from launch import reproduce
from tests.pictures import write_celeba
from tests.test_paper_configs import planned
from tests.test_paper_results import finish, table_2
from tests.test_sweep import PATIENCE, ROOT, environment  # noqa: F401 (a fixture)


def command(*arguments: str) -> list[str]:
  return [sys.executable, '-m', 'launch.reproduce', *arguments]


@pytest.fixture(scope='module')
def run(environment):  # noqa: F811
  def run_command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
      command(*arguments), cwd=ROOT, env=environment, capture_output=True, text=True, timeout=PATIENCE
    )

  return run_command


@pytest.mark.usefixtures('fresh_flags')
@pytest.mark.parametrize(
  'arguments, words',
  [
    ((), 'the name of a figure or table is missing, expected one of figure4, figure7, table1'),
    (('--workdir=OUT',), 'the name of a figure or table is missing'),
    (('table9', '--workdir=OUT'), "unknown name 'table9', expected one of figure4, figure7"),
    (('table2:gpu', '--workdir=OUT'), "cpu, paper, paper_exact and smoke, not 'gpu'"),
    (('table2:smoke',), '--workdir is missing'),
    (('table2:smoke', '--workdir=OUT', '--config=configs/smoke.py'), 'table2 is configs/paper/table2.py'),
    (('table2:smoke', '--workdir=OUT', '--config.data.dirr=x'), 'dirr'),
    (('table2:smoke', '--workdir=OUT', 'more'), "unexpected argument 'more'"),
    (('table2:smoke', '--workdir=OUT', '--render_only'), 'sweep/plan.json is missing'),
    (('page',), '--record is missing'),
    (('page', '--record=OUT'), 'found no *.json'),
  ],
)
def test_bad_input_is_one_line_and_status_2(tmp_path, capfd, monkeypatch, arguments, words):
  given = [a.replace('OUT', str(tmp_path / 'out')) for a in arguments]
  monkeypatch.setattr(sys, 'argv', ['reproduce', *given])  # Where ml_collections looks for keys.
  assert reproduce.main(['reproduce', *given]) == 2
  (line,) = capfd.readouterr().err.splitlines()
  assert line.startswith('error: ') and words in line
  assert not (tmp_path / 'out').exists()


def test_values_are_checked_before_anything_is_run(run, tmp_path):
  done = run('table2:smoke', f'--workdir={tmp_path / "out"}', '--config.at.epsilon=-1')
  assert done.returncode == 2
  assert done.stderr.startswith('error: ') and 'at.epsilon is -1.0' in done.stderr
  assert not (tmp_path / 'out').exists()


def test_the_command_that_is_recorded_has_what_counts_and_no_paths():
  given = [
    '--workdir=/home/me/x',
    '--slots=2',
    '--config.data.dir',
    '/data/mnist',
    '--config.attack.epsilon=0.1',
  ]
  given += ['--record=docs/results', '--config.train.num_epochs', '3', '--slurm_account=me', '--threads', '1']
  assert reproduce.spelled('table2', 'cpu', given) == (
    'python -m launch.reproduce table2:cpu --workdir=runs/table2 --config.data.dir=PATH '
    '--config.attack.epsilon=0.1 --config.train.num_epochs=3'
  )


def test_a_record_of_another_configuration_is_refused_before_anything_is_run(run, tmp_path):
  results, out = tmp_path / 'results', tmp_path / 'figure4'
  results.mkdir()
  recorded = json.loads((ROOT / 'docs' / 'results' / 'figure4.json').read_text())
  (results / 'figure4.json').write_text(json.dumps(recorded | {'configuration': 'another'}))
  done = run('figure4', f'--workdir={out}', f'--record={results}')
  assert done.returncode == 2, done.stderr
  assert 'has the seeds 0, 1, 2 of the configuration another, expected' in done.stderr
  assert 'choose another folder for --record, or delete the file' in done.stderr
  assert not (out / 'seed=0').exists()


def test_the_code_that_is_noted_is_that_with_which_runs_are_begun(tmp_path, monkeypatch):
  """Once, and not where nothing is left to run."""
  monkeypatch.setattr('advmix_jax.paper.record.commit_of', lambda folder: 'abc123')
  found = planned('table2', 'cpu')
  for _ in range(2):
    reproduce.begin('table2', 'cpu', tmp_path, found)
  assert [noted['commit'] for noted in read_notes(tmp_path)] == ['abc123']
  finish(tmp_path / 'done', found, table_2)
  before = read_notes(tmp_path / 'done')
  reproduce.begin('table2', 'cpu', tmp_path / 'done', found)
  assert read_notes(tmp_path / 'done') == before


def test_figure_4_is_drawn_recorded_and_not_drawn_again(run, tmp_path):
  results, out = tmp_path / 'results', tmp_path / 'figure4'
  done = run('figure4', f'--workdir={out}', f'--record={results}')
  assert done.returncode == 0, done.stdout + done.stderr
  record = json.loads((results / 'figure4.json').read_text())
  near = {row['method']: row['accuracy_mean'] for row in record['rows']}
  assert list(near) == ['data', 'mixup', 'advmix']
  assert near['advmix'] > 0.97 and near['data'] > 0.95 and near['mixup'] < 0.92
  assert all(row['seeds'] == [0, 1, 2] and row['paper'] is None for row in record['rows'])
  assert 0 < record['wall_seconds'] < 300 and set(record['seconds']) == {'toy'}
  assert Image.open(results / 'figure4.png').size == Image.open(out / 'seed=0' / 'report' / 'toy.png').size
  assert '## Figure 4, `cpu`' in (tmp_path / 'results.md').read_text()

  again = run('figure4', f'--workdir={out}', f'--record={results}')
  assert again.returncode == 0 and 'started' not in again.stdout
  assert json.loads((results / 'figure4.json').read_text()) == record


def test_a_dry_run_shows_the_plan_and_leaves_nothing(run, tmp_path):
  done = run('table1:smoke', f'--workdir={tmp_path / "none"}', '--dry_run')
  assert done.returncode == 0, done.stderr
  assert done.stdout.splitlines()[0] == 'configs/paper/table1.py:smoke: 6 members, 6 shared stages'
  assert not (tmp_path / 'none').exists()


@pytest.mark.slow
@pytest.mark.parametrize('name, num_rows', [('figure7', 10), ('table1', 6), ('table2', 9)])
def test_a_smoke_variant_is_run_and_shown(run, tmp_path, name, num_rows):
  done = run(f'{name}:smoke', f'--workdir={tmp_path}', '--slots=2')
  assert done.returncode == 0, done.stdout + done.stderr
  rows = json.loads((tmp_path / f'{name}.json').read_text())['rows']
  assert len(rows) == num_rows and all(row['seeds'] == [0, 1] for row in rows)
  assert not [claim for claim in claims.check(name, rows) if claim['verdict'] == 'not run']


@pytest.mark.slow
def test_tables_3_and_4_are_run_on_files_like_celebas(run, tmp_path):
  names = ('Smiling', 'Wearing_Hat', 'High_Cheekbones')
  data = write_celeba(tmp_path / 'celeba', number=160, names=names)
  flags = f'--config.data.dir={data}', f'--config.data.cache_dir={tmp_path / "cache"}'
  done = run('table3:smoke', f'--workdir={tmp_path / "out"}', '--slots=2', *flags)
  assert done.returncode == 0, done.stdout + done.stderr
  for name in ('table3', 'table4'):
    record = json.loads((tmp_path / 'out' / f'{name}.json').read_text())
    assert len(record['rows']) == 16 and {row['setting'] for row in record['rows']} == {
      'Smiling',
      'High_Cheekbones',
    }
  assert len(list((tmp_path / 'out' / 'shared').iterdir())) == 2


@pytest.mark.slow
@pytest.mark.parametrize('number', [signal.SIGKILL, signal.SIGTERM])
def test_one_that_is_killed_goes_on_and_gives_the_same_rows(run, environment, tmp_path, number):  # noqa: F811
  whole, broken = tmp_path / 'whole', tmp_path / 'broken'
  assert run('table2:smoke', f'--workdir={whole}', '--slots=2', '--threads=1').returncode == 0
  arguments = 'table2:smoke', f'--workdir={broken}', '--slots=2', '--threads=1'
  for seconds in (25, 15):
    process = subprocess.Popen(command(*arguments), cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)
    time.sleep(seconds)
    process.send_signal(number)
    assert process.wait(PATIENCE) in (75, -number, 0)
  done = run(*arguments)
  assert done.returncode == 0, done.stdout + done.stderr
  read = [json.loads((folder / 'table2.json').read_text()) for folder in (whole, broken)]
  assert read[0]['rows'] == read[1]['rows']
