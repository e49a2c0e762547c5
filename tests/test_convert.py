"""Official files become folders of plain arrays, every bit kept; damaged folders are named."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from advmix_jax.interop import convert, generator_folder
from advmix_jax.interop.official import read_official
from advmix_jax.models.decoder import init_generator
from advmix_jax.types import BadInputError
from launch import convert as command
from tests import official_files as files
from tests import stylegan2_reference as reference
from tests import tiny
from tests.compare import assert_same_bits
from tests.official_networks import FMAPS, SOURCES, stylegan1_file, torch_file

KINDS = {
  'stylegan1': 'StyleGAN 1 (TensorFlow)',
  'stylegan2': 'StyleGAN 2-ADA (TensorFlow)',
  'ada': 'StyleGAN 2-ADA (PyTorch)',
}


@pytest.fixture(params=SOURCES)
def source(request, tmp_path):
  return request.param, SOURCES[request.param](tmp_path / 'misleading_name.txt')


def test_a_folder_holds_what_the_file_holds_bit_for_bit(source, tmp_path, capsys):
  name, path = source
  assert command.main([str(path), str(tmp_path / 'out')]) == 0
  official = read_official(path)
  generator = generator_folder.load_generator(tmp_path / 'out')
  critic, critic_params = generator_folder.load_discriminator(tmp_path / 'out')
  assert generator.module == official.generator and critic == official.discriminator
  assert_same_bits(generator.params, official.params)
  assert_same_bits(critic_params, official.discriminator_params)

  description = json.loads((tmp_path / 'out' / 'architecture.json').read_text())
  assert description['architecture'] == ('stylegan1' if name == 'stylegan1' else 'stylegan2')
  assert (description['resolution'], description['num_styles']) == (16, 6)
  assert description['generator']['fmaps'] == list(FMAPS)
  assert description['source'] == {
    'file': 'misleading_name.txt',
    'kind': KINDS[name],
    'network': 'G_ema' if name == 'ada' else 'Gs',
    'sha256': hashlib.sha256(path.read_bytes()).hexdigest(),
  }
  psi, cutoff = {'stylegan1': (0.7, 8), 'stylegan2': (0.5, None), 'ada': (1.0, None)}[name]
  assert description['truncation'] == {'psi': psi, 'cutoff': cutoff}
  printed = capsys.readouterr().out
  for words in (KINDS[name], description['source']['sha256'], '16 x 16', '6 of', 'non-commercial', 'wrote'):
    assert words in printed, words


def test_the_same_file_twice_gives_the_same_bytes_and_another_file_is_refused(source, tmp_path):
  _, path = source

  def contents():
    list(convert.convert(path, tmp_path / 'out'))
    return {p.name: p.read_bytes() for p in (tmp_path / 'out').iterdir()}

  first = contents()
  assert first.keys() == {'architecture.json', 'discriminator.safetensors', 'generator.safetensors'}
  assert contents() == first
  path.write_bytes(path.read_bytes() + b'more')
  with pytest.raises(BadInputError, match='found the generator of misleading_name.txt, expected an empty'):
    contents()
  with pytest.raises(BadInputError, match='found a file, expected a folder'):
    list(convert.convert(path, path))


def test_classes_are_kept(tmp_path):
  state = reference.random_generator(FMAPS, label_size=2)
  critic = reference.random_discriminator(FMAPS, label_size=2)
  path = torch_file(tmp_path / 'a.pkl', g={'c_dim': 2}, d={'c_dim': 2}, g_state=state, d_state=critic)
  found = read_official(path)
  assert (found.generator.label_size, found.discriminator.label_size) == (2, 2)
  found = read_official(stylegan1_file(tmp_path / 'b.pkl', labels=3))
  assert (found.generator.label_size, found.discriminator.label_size) == (3, 3)
  out = tmp_path / 'out'
  assert '  classes        3' in list(convert.convert(tmp_path / 'b.pkl', out))
  assert generator_folder.load_generator(out).module.label_size == 3
  assert generator_folder.load_discriminator(out)[0].label_size == 3


def test_a_generator_of_a_run_is_a_folder_too(tmp_path):
  model = tiny.generator()
  params = tiny.generator_params(model)
  description = generator_folder.describe(model)
  generator_folder.save_generator(tmp_path, description, params)
  found = generator_folder.load_generator(tmp_path)
  assert found.module == model and found.truncation == generator_folder.Truncation()
  assert generator_folder.load_discriminator(tmp_path) is None
  decoder, w = found.decoder(2), tiny.normal(0, 3, 4, 7)
  expected = jax.jit(lambda p: model.apply({'params': p}, w, params['noise'], method='synthesis'))(
    params['params']
  )
  np.testing.assert_allclose(jax.jit(decoder.decode)(found.params, w), expected, atol=1e-5)
  for level in (0, 4):
    with pytest.raises(BadInputError, match=f'mixing level {level}: the generator has 4 styled layers'):
      found.decoder(level)


F8 = b'{"a":{"dtype":"F8_E4M3","shape":[4],"data_offsets":[0,4]}}'


@pytest.mark.parametrize(
  'name, change, message',
  [
    ('architecture.json', None, 'architecture.json is missing, expected a folder that'),
    ('generator.safetensors', None, 'generator.safetensors is missing'),
    ('generator.safetensors', lambda b: b[:-9], 'cannot be read as safetensors'),
    ('architecture.json', lambda b: b[:-9], 'cannot be read as JSON'),
    ('architecture.json', lambda b: b'[]', 'expected the description of a generator'),
    (
      'architecture.json',
      lambda b: b.replace(b'stylegan1', b'stylegan9'),
      'found the architecture stylegan9',
    ),
    ('architecture.json', lambda b: b.replace(b'"w_size": 7', b'"w_size": 8'), r'is \(.*\), expected'),
    ('architecture.json', lambda b: b.replace(b'"w_size": 7', b'"w_size": "a"'), 'describes no StyleGAN'),
    (
      'architecture.json',
      lambda b: b.replace(b'"w_size"', b'"v_size"'),
      'found v_size, which StyleGAN does not',
    ),
    *(
      ('architecture.json', lambda b, new=new: b.replace(b'"psi": 1.0', new), 'as truncation, expected psi')
      for new in (b'"psi": []', b'"psi": NaN', b'"psi": 1' + b'0' * 400)
    ),
    *(
      ('architecture.json', lambda b, new=new: b.replace(b'"cutoff": null', new), 'as truncation, expected')
      for new in (b'"cutoff": -3', b'"cutoff": Infinity', b'"cutoff": 1.5')
    ),
    ('architecture.json', lambda b: b'[' * 200_000, 'cannot be read as JSON'),
    ('generator.safetensors', lambda b: b[:-4] + b'\xff' * 4, 'found numbers that are not finite'),
    ('generator.safetensors', lambda b: b'\x40' + bytes(7) + F8.ljust(64) + bytes(4), 'cannot be read'),
  ],
)
def test_damaged_folders_are_named(name, change, message, tmp_path):
  model = tiny.generator()
  params = tiny.random_params(jax.eval_shape(lambda: init_generator(jax.random.key(0), model)), 0)
  generator_folder.save_generator(tmp_path, generator_folder.describe(model), params)
  path = tmp_path / name
  if change is None:
    path.unlink()
  else:
    before = path.read_bytes()
    path.write_bytes(change(before))
    assert path.read_bytes() != before
  with pytest.raises(BadInputError, match=message):
    generator_folder.load_generator(tmp_path)


def test_bad_input_on_the_command_line_is_one_line_and_status_2(tmp_path):
  path = tmp_path / 'file.pkl'
  path.write_bytes(b'\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x04true\x85R.')
  done = subprocess.run(
    [sys.executable, '-m', 'launch.convert', str(path), str(tmp_path / 'out')],
    cwd=Path(__file__).parents[1],
    capture_output=True,
    text=True,
  )
  (line,) = done.stderr.splitlines()
  assert done.returncode == 2 and done.stdout == ''
  assert line.startswith(f'error: {path}: ') and 'posix.system, which is not allowed' in line
  assert not (tmp_path / 'out').exists()


def test_reference_files(reference_dir, tmp_path):
  """The official file, and a pickle of the reference state dict, as the folder's numbers."""
  list(convert.convert(reference_dir / 'stylegan1_32.pkl', tmp_path / 'one'))
  found = generator_folder.load_generator(tmp_path / 'one')
  assert found.description['num_styles'] == 8 and found.module.latent_size == 48
  with np.load(reference_dir / 'stylegan1_32_vectors.npz') as file:
    np.testing.assert_array_equal(found.params['w_avg'], file['dlatent_avg'])
  with np.load(reference_dir / 'stylegan2_ada_32.npz') as file:
    g, d = (
      {name.removeprefix(prefix): file[name] for name in file.files if name.startswith(prefix)}
      for prefix in ('G_ema/', 'D/')
    )
  sizes = {'img_resolution': 32, 'c_dim': 0}
  generator = files.module_of(g, 'Generator', sizes | {'z_dim': 48, 'w_dim': 64})
  discriminator = files.module_of(d, 'Discriminator', sizes)
  (tmp_path / 'two.pkl').write_bytes(files.dump(files.ada(generator, discriminator)))
  list(convert.convert(tmp_path / 'two.pkl', tmp_path / 'two'))
  found = generator_folder.load_generator(tmp_path / 'two')
  weight = found.params['params']['layers_1']['weight']
  np.testing.assert_array_equal(weight.transpose(3, 2, 0, 1), g['synthesis.b8.conv0.weight'])
