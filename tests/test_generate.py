"""Images from a folder: the network's own numbers, whatever the batches; each flag does what it says."""

import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import PIL.Image
import pytest

from advmix_jax import interruption
from advmix_jax.interop import generator_folder
from advmix_jax.models.decoder import init_generator
from advmix_jax.models.stylegan2 import StyleGAN2
from launch import generate as command
from tests import tiny

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def process_unchanged(monkeypatch):
  """The command sets signal handlers and the precision of products for its whole process."""
  monkeypatch.setattr(interruption, 'install', lambda: None)
  before = jax.config.jax_default_matmul_precision
  yield
  jax.config.update('jax_default_matmul_precision', before)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """A StyleGAN 1 of 8 pixels and four rows: z [5], w [4, 7]."""
  path, model = tmp_path_factory.mktemp('one'), tiny.generator()
  truncation = generator_folder.Truncation(0.7, 2)
  description = generator_folder.describe(model, truncation=truncation)
  generator_folder.save_generator(path, description, tiny.generator_params(model))
  return path


@pytest.fixture(scope='module')
def classes(tmp_path_factory):
  """A StyleGAN 2 of 8 pixels with three classes and grey images."""
  path = tmp_path_factory.mktemp('two')
  model = StyleGAN2(fmaps=(5, 4), latent_size=5, w_size=6, mapping_layers=2, label_size=3, image_channels=1)
  shapes = jax.eval_shape(lambda: init_generator(jax.random.key(0), model))
  params = tiny.random_params(shapes, 3)
  generator_folder.save_generator(path, generator_folder.describe(model), params)
  return path


@pytest.fixture
def run(tmp_path, capsys):
  """`run(folder, **flags)` gives the arrays of the .npz written."""

  def generate(folder, **flags):
    out = tmp_path / 'out.npz'
    out.unlink(missing_ok=True)
    status = command.main(
      [f'--{key}={value}' for key, value in {'generator': folder, 'out': out, **flags}.items()]
    )
    assert status == 0, capsys.readouterr().err
    with np.load(out) as file:
      return dict(file)

  return generate


@pytest.fixture
def save(tmp_path):
  """`save(**arrays)` writes an .npz and gives its path."""

  def write(**arrays):
    np.savez(tmp_path / 'in.npz', **arrays)
    return tmp_path / 'in.npz'

  return write


def network(folder):
  """`(z, labels) -> w` and `(w, noise) -> images`, and the parameters, of a folder."""
  found = generator_folder.load_generator(folder)
  variables = {'params': found.params['params']}
  return (
    jax.jit(lambda *given: found.module.apply(variables, *given, method='map_z')),
    jax.jit(lambda w, noise: found.module.apply(variables, w, noise, method='synthesis')),
    found.params,
  )


def test_images_of_z_are_those_of_the_network(folder, run, save):
  map_z, synthesis, params = network(folder)
  z = np.asarray(tiny.normal(0, 5, 5))
  found = run(folder, latents=save(z=z))
  assert found.keys() == {'w', 'images'}
  assert found['w'].shape == (5, 4, 7) and found['images'].shape == (5, 8, 8, 3)
  assert found['w'].dtype == found['images'].dtype == np.float32
  w = map_z(z)
  np.testing.assert_allclose(found['w'], w, atol=1e-5)
  np.testing.assert_allclose(found['images'], synthesis(w, params['noise']), atol=1e-4)
  assert np.abs(found['images']).max() > 1  # Not clipped.


def test_batches_change_nothing(folder, run, save):
  z = np.asarray(tiny.normal(0, 5, 5), np.float64)
  for mode in ('const', 'random'):
    whole = run(folder, latents=save(z=z), noise_mode=mode)
    parts = run(folder, latents=save(z=z), noise_mode=mode, batch_size=2)
    np.testing.assert_allclose(parts['images'], whole['images'], atol=1e-5)


def test_images_of_w_may_differ_in_every_row(folder, run, save):
  _, synthesis, params = network(folder)
  w = np.asarray(tiny.normal(1, 1, 4, 7))  # As projected_w.npz.
  found = run(folder, latents=save(w=w, z=np.zeros((2, 2))))
  np.testing.assert_array_equal(found['w'], w)
  np.testing.assert_allclose(found['images'], synthesis(w, params['noise']), atol=1e-4)


def test_what_was_written_can_be_read_again(folder, run, tmp_path):
  first = run(folder, count=3, seed=4, truncation_psi=0.5)
  (tmp_path / 'out.npz').rename(tmp_path / 'again.npz')
  again = run(folder, latents=tmp_path / 'again.npz')
  np.testing.assert_array_equal(again['w'], first['w'])
  np.testing.assert_allclose(again['images'], first['images'], atol=1e-5)


def test_seeds_fix_images_and_a_larger_count_goes_on(folder, run):
  three, five = run(folder, count=3, seed=1), run(folder, count=5, seed=1)
  np.testing.assert_allclose(five['w'][:3], three['w'], atol=1e-6)
  assert not np.allclose(run(folder, count=3, seed=2)['w'], three['w'])
  assert len(run(folder)['w']) == 16


def test_noise_modes(folder, run, save):
  _, synthesis, params = network(folder)
  w = np.repeat(np.asarray(tiny.normal(1, 1, 4, 7)), 2, axis=0)
  latents = save(w=w)
  const, none, random = (
    run(folder, latents=latents, noise_mode=m)['images'] for m in ('const', 'none', 'random')
  )
  np.testing.assert_allclose(const[0], const[1], atol=1e-6)
  zeros = jax.tree.map(np.zeros_like, params['noise'])
  np.testing.assert_allclose(none, synthesis(w, zeros), atol=1e-4)
  assert np.abs(random[0] - random[1]).max() > 1e-2  # Fresh for each image,
  np.testing.assert_array_equal(random, run(folder, latents=latents, noise_mode='random')['images'])
  other = run(folder, latents=latents, noise_mode='random', seed=1)['images']
  assert np.abs(random - other).max() > 1e-2  # and for each seed.


@pytest.mark.parametrize(
  'psi, cutoff, rows', [(0.5, 3, 3), (0.5, None, 2), (0.5, 0, 0), (-1.0, 99, 4), (1.0, 3, 0)]
)
def test_truncation_moves_the_first_rows_towards_the_mean(folder, run, save, psi, cutoff, rows):
  """Without a cutoff it is that of the generator where it comes from: here 2."""
  _, synthesis, params = network(folder)
  w, average = np.asarray(tiny.normal(1, 2, 4, 7)), params['w_avg']
  flags = {} if cutoff is None else {'truncation_cutoff': cutoff}
  found = run(folder, latents=save(w=w), truncation_psi=psi, **flags)
  expected = w.copy()
  expected[:, :rows] = average + (w[:, :rows] - average) * psi
  np.testing.assert_allclose(found['w'], expected, atol=1e-6)
  np.testing.assert_allclose(found['images'], synthesis(expected, params['noise']), atol=1e-4)


def test_labels(classes, run, save):
  map_z, synthesis, params = network(classes)
  z, labels = np.asarray(tiny.normal(0, 3, 5)), np.array([2, 0, 1])
  one_hot = np.eye(3, dtype=np.float32)[labels]
  found = run(classes, latents=save(z=z, labels=labels))
  np.testing.assert_allclose(found['w'], map_z(z, one_hot), atol=1e-5)
  np.testing.assert_allclose(found['images'], synthesis(found['w'], params['noise']), atol=1e-4)
  assert found['images'].shape == (3, 8, 8, 1)
  again = run(classes, latents=save(z=z, labels=one_hot))
  np.testing.assert_array_equal(again['w'], found['w'])
  same = run(classes, latents=save(z=z), label=1)
  np.testing.assert_allclose(same['w'], map_z(z, np.eye(3, dtype=np.float32)[[1, 1, 1]]), atol=1e-5)


def test_mixing_takes_rows_below_the_level_from_the_first_half(folder, run, save):
  _, synthesis, params = network(folder)
  w = np.asarray(tiny.normal(1, 5, 4, 7))
  found = run(folder, latents=save(w=w), mix_level=3)
  expected = np.stack([np.concatenate([w[r, :3], w[c, 3:]]) for r in (0, 1) for c in (2, 3, 4)])
  np.testing.assert_array_equal(found['w'], expected)
  np.testing.assert_allclose(found['images'], synthesis(expected, params['noise']), atol=1e-4)


def test_grids_are_pictures(folder, classes, tmp_path):
  def size(name, *flags):
    out = tmp_path / name
    assert command.main([f'--out={out}', *flags]) == 0
    with PIL.Image.open(out) as picture:
      return picture.size

  assert size('a.png', f'--generator={folder}', '--count=5') == (3 * 66 + 2, 2 * 66 + 2)
  assert size('b.png', f'--generator={classes}', '--count=4', '--label=0') == (2 * 66 + 2, 2 * 66 + 2)
  assert size('c.png', f'--generator={folder}', '--count=5', '--mix_level=2') == (4 * 66 + 6, 3 * 66 + 6)


@pytest.mark.parametrize(
  'arrays, flags, message',
  [
    ({'z': np.zeros((2, 6))}, {}, 'found z of float64 [2, 6], expected floating-point numbers [B, 5]'),
    ({'z': np.zeros((2, 5), int)}, {}, 'found z of int64 [2, 5], expected floating-point'),
    ({'z': np.full((2, 5), np.nan)}, {}, 'found values in z that are not finite float32'),
    ({'z': np.zeros((0, 5))}, {}, 'found z of float64 [0, 5]'),
    (
      {'w': np.zeros((2, 5, 7))},
      {},
      'found w of float64 [2, 5, 7], expected floating-point numbers [B, 4, 7]',
    ),
    ({'x': np.zeros(2)}, {}, 'found nothing, expected an array z [B, 5] or w'),
    ({'z': np.zeros((2, 5)), 'labels': np.zeros(2, int)}, {}, 'found labels, expected none for a generator'),
    ({'z': np.zeros((2, 5))}, {'label': 1}, '--label=1: expected none for a generator without classes'),
    ({'w': np.zeros((2, 4, 7))}, {'label': 1}, '--label=1: expected none beside w'),
    ({'z': np.array([[{}] * 5])}, {}, 'cannot be read as .npz without pickles'),
    ({'w': np.zeros((1, 4, 7))}, {'mix_level': 2}, '--mix_level=2: found 1 latent, expected at least 2'),
    ({'w': np.zeros((2, 4, 7))}, {'mix_level': 4}, 'mixing level 4: the generator has 4 styled layers'),
    ({'z': np.zeros((2, 5))}, {'count': 3}, '--count=3: expected no --latents beside it'),
    (None, {'count': 0}, '--count=0: expected 1 to'),
    (None, {'batch_size': 0}, '--batch_size=0: expected at least 1'),
    (None, {'seed': -1}, '--seed=-1: expected 0 to'),
    (None, {'truncation_psi': 'nan'}, '--truncation_psi=nan: expected a number'),
    (None, {'truncation_cutoff': -1}, '--truncation_cutoff=-1: expected 0 or more'),
    (None, {'out': 'images.jpg'}, '--out=images.jpg: expected a name that ends in .npz or .png'),
    (None, {'latents': 'none.npz'}, 'none.npz: found no such file, expected arrays as .npz'),
    (None, {'latents': 'pyproject.toml'}, 'at its start, expected a file of .npz'),
    (None, {'generator': 'no_such_folder'}, 'architecture.json is missing, expected a folder'),
  ],
)
def test_bad_input_is_one_line_and_status_2(folder, save, tmp_path, capsys, arrays, flags, message):
  given = {'generator': folder, 'out': tmp_path / 'out.npz'}
  given |= {} if arrays is None else {'latents': save(**arrays)}
  assert command.main([f'--{key}={value}' for key, value in (given | flags).items()]) == 2
  (line,) = capsys.readouterr().err.splitlines()
  assert line.startswith('error: ') and message in line
  assert not (tmp_path / 'out.npz').exists()


@pytest.mark.parametrize(
  'labels, message',
  [
    (np.array([0, 3]), 'found labels from 0 to 3, expected 0 to 2'),
    (np.array([0.0, 1.0]), 'found labels of float64 [2], expected whole numbers [2] or numbers [2, 3]'),
    (np.zeros((2, 4)), 'found labels of float64 [2, 4]'),
    (None, 'found no label, expected --label from 0 to 2 or labels beside z'),
  ],
)
def test_labels_that_do_not_fit_are_refused(classes, save, tmp_path, capsys, labels, message):
  arrays = {'z': np.zeros((2, 5))} | ({} if labels is None else {'labels': labels})
  flags = [f'--generator={classes}', f'--latents={save(**arrays)}', f'--out={tmp_path / "out.npz"}']
  assert command.main(flags) == 2
  assert message in capsys.readouterr().err


def test_a_signal_ends_with_75_and_writes_nothing(folder, tmp_path, capsys, monkeypatch):
  monkeypatch.setattr(interruption, '_received', [signal.SIGTERM])
  assert command.main([f'--generator={folder}', f'--out={tmp_path / "out.npz"}']) == 75
  assert 'stopped by SIGTERM; nothing was written' in capsys.readouterr().err
  assert not list(tmp_path.iterdir())


def test_the_reference_file_from_the_command_line(reference_dir, tmp_path):
  def launch(name, *flags):
    done = subprocess.run(
      [sys.executable, '-m', f'launch.{name}', *map(str, flags)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr

  with np.load(reference_dir / 'stylegan1_32_vectors.npz') as file:
    vectors = dict(file)
  np.savez(tmp_path / 'in.npz', z=vectors['z'])
  launch('convert', reference_dir / 'stylegan1_32.pkl', tmp_path / 'net')
  given = (
    f'--generator={tmp_path / "net"}',
    f'--latents={tmp_path / "in.npz"}',
    f'--out={tmp_path / "out.npz"}',
  )
  for flags, name in (
    ((), 'img_psi1_constnoise'),
    (('--truncation_psi=0.7', '--truncation_cutoff=8'), 'img_psi07_cut8_constnoise'),
    (('--noise_mode=none',), 'img_psi1_zeronoise'),
  ):
    launch('generate', *given, *flags)
    with np.load(tmp_path / 'out.npz') as file:
      np.testing.assert_allclose(file['images'], vectors[name].transpose(0, 2, 3, 1), atol=2e-4)
      if not flags or flags[0] == '--noise_mode=none':
        np.testing.assert_allclose(file['w'], vectors['w'], atol=1e-5)
