"""Official files become folders of plain arrays: every bit kept, every option known or refused by name."""

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
from tests import stylegan1_by_hand, tiny
from tests import stylegan2_reference as reference

pytestmark = pytest.mark.usefixtures('quick_compile')

FMAPS = (5, 4, 3)  # 16 pixels.
G_STATE = reference.random_generator(FMAPS)
D_STATE = reference.random_discriminator(FMAPS)
TORCH_G = {
  'z_dim': 5, 'c_dim': 0, 'w_dim': 6, 'img_resolution': 16, 'img_channels': 3,
  'mapping_kwargs': files.EasyDict(num_layers=3, layer_features=8),
  'synthesis_kwargs': files.EasyDict(channel_base=99, num_fp16_res=4, conv_clamp=256),
}  # fmt: skip
TORCH_D = {
  'c_dim': 0, 'img_resolution': 16, 'img_channels': 3, 'channel_base': 99, 'num_fp16_res': 4,
  'conv_clamp': 256,
  'block_kwargs': {}, 'mapping_kwargs': {}, 'epilogue_kwargs': files.EasyDict(mbstd_group_size=8),
}  # fmt: skip


def torch_file(path, protocol=4, g=(), d=(), g_state=None, d_state=None):
  generator = files.module_of(g_state or G_STATE, 'Generator', TORCH_G | dict(g))
  discriminator = files.module_of(d_state or D_STATE, 'Discriminator', TORCH_D | dict(d))
  path.write_bytes(files.dump(files.ada(generator, discriminator), protocol))
  return path


def tf_file(path, protocol=4, **options):
  path.write_bytes(files.dump(files.tf_networks(G_STATE, D_STATE, **options), protocol))
  return path


def stylegan1_file(path, protocol=4, labels=0, **options):
  rng = np.random.default_rng(0)
  whole, synthesis, mapping, d = stylegan1_by_hand.random_variables(16, FMAPS, rng, labels=labels)
  options = {'resolution': 16, 'num_channels': 3, 'label_size': labels} | options
  parts = {
    'synthesis': files.network('G_synthesis', 'G_synthesis', synthesis, version=3, **options),
    'mapping': files.network('G_mapping', 'G_mapping', mapping, version=3, **options),
  }
  g, gs = (files.network(name, 'G_style', whole, parts, version=3, **options) for name in ('G', 'Gs'))
  sizes = {key: options[key] for key in ('resolution', 'num_channels', 'label_size')}
  d = files.network('D', 'D_basic', d, version=3, **sizes)
  path.write_bytes(files.dump((g, d, gs), protocol))
  return path


SOURCES = {'stylegan1': stylegan1_file, 'stylegan2': tf_file, 'ada': torch_file}
KINDS = {
  'stylegan1': 'StyleGAN 1 (TensorFlow)',
  'stylegan2': 'StyleGAN 2-ADA (TensorFlow)',
  'ada': 'StyleGAN 2-ADA (PyTorch)',
}


def assert_same(found, expected):
  assert jax.tree.structure(found) == jax.tree.structure(expected)
  for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
    assert a.dtype == b.dtype == np.float32 and a.shape == b.shape
    assert a.tobytes() == np.asarray(b).tobytes()


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
  assert_same(generator.params, official.params)
  assert_same(critic_params, official.discriminator_params)

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


@pytest.mark.parametrize('name', SOURCES)
@pytest.mark.parametrize('protocol', [2, 3, 5])
def test_every_protocol_gives_the_same_networks(name, protocol, tmp_path):
  expected = read_official(SOURCES[name](tmp_path / 'a.pkl'))
  found = read_official(SOURCES[name](tmp_path / 'b.pkl', protocol))
  assert (found.generator, found.discriminator) == (expected.generator, expected.discriminator)
  assert_same(found.params, expected.params)
  assert_same(found.discriminator_params, expected.discriminator_params)


def test_both_spellings_of_numpy_are_read(tmp_path):
  content = tf_file(tmp_path / 'a.pkl').read_bytes()
  old, new = (bytes([len(name)]) + name for name in (b'numpy.core.multiarray', b'numpy._core.multiarray'))
  here, other = (old, new) if old in content else (new, old)
  assert here in content
  # A frame's length would change with the name, so the frame around all is left out.
  assert content[2:3] == b'\x95'
  (tmp_path / 'b.pkl').write_bytes(content[:2] + content[11:].replace(here, other))
  assert_same(read_official(tmp_path / 'b.pkl').params, read_official(tmp_path / 'a.pkl').params)


def test_tensorflow_and_torch_files_of_one_network_agree(tmp_path):
  tf, torch = read_official(tf_file(tmp_path / 'a.pkl')), read_official(torch_file(tmp_path / 'b.pkl'))
  assert jax.tree.structure(tf.params) == jax.tree.structure(torch.params)
  for a, b in zip(jax.tree.leaves(tf.params), jax.tree.leaves(torch.params), strict=True):
    np.testing.assert_allclose(a, b, rtol=0, atol=3e-7)  # Biases are stored less one, which rounds.
  assert_same(tf.discriminator_params, torch.discriminator_params)


def test_options_that_no_shape_tells_come_from_the_file_or_from_its_own_codes_defaults(tmp_path):
  path = tmp_path / 'a.pkl'
  torch = read_official(torch_file(path))
  assert (torch.generator.conv_clamp, torch.discriminator.conv_clamp) == (256, 256)
  assert torch.discriminator.mbstd_group_size == 8
  plain = read_official(
    torch_file(path, g={'synthesis_kwargs': {}}, d={'epilogue_kwargs': {}, 'conv_clamp': None})
  )
  assert (plain.generator.conv_clamp, plain.discriminator.conv_clamp) == (None, None)
  assert plain.discriminator.mbstd_group_size == 4
  assert read_official(tf_file(path)).discriminator.mbstd_group_size is None
  first = read_official(tf_file(path, d_function='D_stylegan2', lod=True))
  assert first.kind == 'StyleGAN 2 (TensorFlow)' and first.discriminator.mbstd_group_size == 4
  clamped = read_official(tf_file(path, g_options={'conv_clamp': 256, 'truncation_psi': 0.8}))
  assert clamped.generator.conv_clamp == 256 and clamped.truncation.psi == 0.8
  for psi, cutoff in ((0.5, None), (None, 8), (0.5, 0)):  # Off, in StyleGAN 1.
    found = read_official(stylegan1_file(path, truncation_psi=psi, truncation_cutoff=cutoff))
    assert (found.truncation.psi, found.truncation.cutoff) == (1.0, None)


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


REFUSED = [
  (torch_file, {'g': {'z_dims': 5}}, 'G_ema: found the option z_dims = 5, which is not known'),
  (
    torch_file,
    {'g': {'synthesis_kwargs': {'architecture': 'resnet'}}},
    'G_ema: found the option synthesis_kwargs.architecture = resnet, expected skip',
  ),
  (
    torch_file,
    {'g': {'synthesis_kwargs': {'magnitude_ema_beta': 0.9}}},
    'synthesis_kwargs.magnitude_ema_beta = 0.9, which is not known',
  ),
  (
    torch_file,
    {'g': {'synthesis_kwargs': {'resample_filter': [1, 2, 1]}}},
    r'resample_filter = \[1, 2, 1\], expected \[1, 3, 3, 1\]',
  ),
  (torch_file, {'g': {'synthesis_kwargs': {'use_noise': 1}}}, 'use_noise = 1, expected True'),
  (
    torch_file,
    {'g': {'mapping_kwargs': {'activation': 'relu'}}},
    'mapping_kwargs.activation = relu, expected',
  ),
  (torch_file, {'g': {'img_resolution': 32}}, 'img_resolution = 16, expected 32 as its options say'),
  (torch_file, {'g': {'synthesis_kwargs': {'conv_clamp': -1}}}, 'the option conv_clamp = -1'),
  (torch_file, {'d': {'architecture': 'orig'}}, 'D: found the option architecture = orig, expected resnet'),
  (torch_file, {'d': {'epilogue_kwargs': {'mbstd_num_channels': 2}}}, 'mbstd_num_channels = 1, expected 2'),
  (tf_file, {'g_options': {'resample_kernel': None}}, r'Gs: found the option resample_kernel = None'),
  (
    tf_file,
    {'g_options': {'synthesis_func': 'G_synthesis_stylegan_revised'}},
    'synthesis_func = G_synthesis_st',
  ),
  (tf_file, {'g_options': {'mystery': 1}}, 'Gs: found the option mystery = 1, which is not known'),
  (
    tf_file,
    {'d_options': {'use_spectral_norm': True}},
    'D: found the option use_spectral_norm = True, expected',
  ),
  (tf_file, {'d_function': 'D_basic'}, 'D: found the architecture D_basic, expected D_stylegan2 or D_main'),
  (tf_file, {'g_options': {'latent_size': 9}}, 'latent_size = 5, expected 9 as its options say'),
  (tf_file, {'g_options': {'truncation_psi': 'x'}}, 'truncation_psi = x'),
  (stylegan1_file, {'use_noise': False}, 'the option use_noise = False, expected True'),
  (stylegan1_file, {'mystery': 1}, 'mystery = 1, which is not known'),
]


@pytest.mark.parametrize('make, options, message', REFUSED)
def test_options_that_are_unknown_or_not_computed_are_refused_by_name(make, options, message, tmp_path):
  with pytest.raises(BadInputError, match=message):
    read_official(make(tmp_path / 'a.pkl', **options))


def test_networks_of_another_kind_are_named(tmp_path):
  path = tmp_path / 'a.pkl'
  path.write_bytes(files.dump(files.ada(files.module_of(G_STATE, 'StyleGenerator'))))
  with pytest.raises(BadInputError, match='G_ema: found the class StyleGenerator, expected Generator'):
    read_official(path)
  path.write_bytes(files.dump(files.ada(files.module_of(G_STATE, 'Generator', TORCH_G), 3)))
  with pytest.raises(BadInputError, match='found 3 as D, expected a network'):
    read_official(path)
  path.write_bytes(files.dump(files.ada(files.module_of(G_STATE, 'Generator', TORCH_G))))
  assert read_official(path).discriminator is None


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
    ('architecture.json', lambda b: b.replace(b'"psi": 1.0', b'"psi": []'), 'as truncation, expected psi'),
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
