"""A folder of labelled pictures through the whole job, by `configs/folder.py`, without a change of code."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from advmix_jax.methods import METHODS
from configs import folder, smoke
from tests.pictures import write_split

ROOT = pathlib.Path(__file__).parents[1]
NAMES = ('a disc for 5 $, of one colour, on a plain ground, $x_', 'a cross & <two bars>')


def tiny_flags() -> list[str]:
  """The sizes of the smoke test as flags, with a map more for 32 pixels."""
  small, own = smoke.get_config(), folder.get_config('32')
  keys = {
    'generator': ('latent_size', 'w_size', 'mapping_layers', 'batch_size', 'total_kimg', 'sample_kimg'),
    'encode': ('init_kimg', 'init_batch_size', 'num_steps', 'batch_size', 'shard_size'),
    'attack': ('num_restarts', 'num_steps'),
    'train': ('batch_size', 'num_epochs'),
    'at': ('num_steps',),
    'evaluate': ('num_restarts', 'num_steps', 'batch_size'),
    'report': ('num_examples',),
  }
  flags = [f'--config.{part}.{name}={small[part][name]}' for part, names in keys.items() for name in names]
  widths = {'generator.fmaps': (8, 8, 8, 8), 'encode.init_fmaps': (8, 8), 'train.fmaps': (4, 4, 8, 8)}
  assert len(own.generator.fmaps) == 4
  return flags + [f'--config.{key}={value}' for key, value in widths.items()]


def run(tmp_path: pathlib.Path, root: pathlib.Path, *flags: str) -> subprocess.CompletedProcess[str]:
  """The job on `root`, in `tmp_path/run`."""
  places = (f'--workdir={tmp_path / "run"}', f'--config.data.dir={root}')
  return subprocess.run(
    [sys.executable, '-m', 'launch.pipeline', '--config=configs/folder.py:32', *places, *flags],
    cwd=ROOT,
    env=os.environ | {'JAX_COMPILATION_CACHE_DIR': str(tmp_path / 'compiled')},
    capture_output=True,
    text=True,
  )


@pytest.mark.slow
def test_a_folder_of_two_classes_runs_to_a_report(tmp_path):
  root = write_split(tmp_path / 'data', NAMES, train=32, validation=4, test=10)
  workdir = tmp_path / 'run'
  done = run(tmp_path, root, *tiny_flags(), f'--config.data.cache_dir={tmp_path / "cache"}')
  assert done.returncode == 0, done.stderr
  results = json.loads((workdir / 'results.json').read_text())
  assert set(results['methods']) == set(METHODS)
  assert results['class_names'] == sorted(NAMES) and results['fit'] == 'none'
  assert all(m['num_examples'] == 20 == m['num_perturbed_examples'] for m in results['methods'].values())
  report = workdir / 'report'
  for name in (
    'methods',
    'style_mixing',
    'attacks',
    'generated',
    'encoder',
    'augmentations',
    'training',
    'gan',
  ):
    assert (report / f'{name}.png').stat().st_size > 1000, name
  assert not (report / 'mean_colours.png').exists()
  page = (report / 'index.html').read_text()
  assert 'Not drawn' not in page and NAMES[0] in page
  assert 'a cross &amp; &lt;two bars&gt;' in page and '<two bars>' not in page
  manifest = json.loads((workdir / 'encode' / 'test' / 'manifest.json').read_text())
  assert all(worst['file'].startswith('test/') for worst in manifest['worst'])

  before = (workdir / 'results.json').read_bytes()
  again = run(tmp_path, root, *tiny_flags(), f'--config.data.cache_dir={tmp_path / "other"}')  # Decoded anew.
  assert again.returncode == 0, again.stderr
  assert (workdir / 'results.json').read_bytes() == before


@pytest.mark.slow
def test_odd_pictures_stop_the_job_in_one_line_before_any_work(tmp_path):
  root = write_split(tmp_path / 'data', NAMES, side=40, train=4, test=2)
  done = run(tmp_path, root, f'--config.data.cache_dir={tmp_path / "cache"}')
  assert done.returncode == 2 and 'Traceback' not in done.stderr
  assert 'found 12 files that cannot be used' in done.stderr.splitlines()[-1]
  assert '--config.data.fit=crop' in done.stderr and '40x40 pixels, not a power of two' in done.stderr
  assert list((tmp_path / 'cache').iterdir()) == []
