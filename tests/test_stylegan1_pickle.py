"""Official pickles of StyleGAN 1: converted to the numbers that the official code computes, or refused."""

import dataclasses
import functools
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advmix_jax.interop import stylegan1_options, stylegan1_pickle, tf_pickle
from advmix_jax.models.decoder import generator_decoder, init_generator
from advmix_jax.models.discriminator import Discriminator
from advmix_jax.models.mapping import truncate
from advmix_jax.models.noise import choose_noise
from advmix_jax.models.stylegan import StyleGAN
from advmix_jax.types import BadInputError
from tests import official_files
from tests import stylegan1_by_hand as by_hand
from tests.compare import nhwc

network = functools.partial(official_files.network, version=3)


def tiny_variables(fmaps=(6, 4), hidden=5, w_size=7, latent=3):
  """Random variables of an official generator at 8 pixels: (G, G_synthesis, G_mapping)."""
  rng = np.random.default_rng(0)

  def draw(*shape):
    return rng.standard_normal(shape).astype(np.float32)

  synthesis = {'lod': np.float32(0)}
  synthesis |= {f'noise{i}': draw(1, 1, 4 * 2 ** (i // 2), 4 * 2 ** (i // 2)) for i in range(4)}
  synthesis['4x4/Const/const'] = draw(1, fmaps[0], 4, 4)
  for i, name in enumerate(('4x4/Const', '4x4/Conv', '8x8/Conv0_up', '8x8/Conv1')):
    out = fmaps[i // 2]
    if i:
      synthesis[f'{name}/weight'] = draw(3, 3, fmaps[(i - 1) // 2], out)
    synthesis |= {f'{name}/Noise/weight': draw(out), f'{name}/bias': draw(out)}
    synthesis |= {f'{name}/StyleMod/weight': draw(w_size, 2 * out), f'{name}/StyleMod/bias': draw(2 * out)}
  for lod, channels in enumerate(fmaps[::-1]):
    synthesis |= {f'ToRGB_lod{lod}/weight': draw(1, 1, channels, 3), f'ToRGB_lod{lod}/bias': draw(3)}
  widths = (latent, hidden, w_size)
  mapping = {}
  for i in range(2):
    mapping |= {f'Dense{i}/weight': draw(*widths[i : i + 2]), f'Dense{i}/bias': draw(widths[i + 1])}
  return {'lod': np.float32(0), 'dlatent_avg': draw(w_size)}, synthesis, mapping


def tiny_generator(edit=lambda whole, synthesis, mapping: None, **static_kwargs):
  whole, synthesis, mapping = tiny_variables()
  edit(whole, synthesis, mapping)
  options = {'num_channels': 3, 'resolution': 8, 'label_size': 0, **static_kwargs}
  parts = {
    'synthesis': network('G_synthesis', 'G_synthesis', synthesis, **options),
    'mapping': network('G_mapping', 'G_mapping', mapping, **options, dlatent_broadcast=4),
  }
  return network('Gs', 'G_style', whole, parts, **options)


def write(path, value, protocol=4):
  path.write_bytes(official_files.dump(value, protocol))
  return path


def test_every_truncation_of_a_file_is_refused(tmp_path):
  path = write(tmp_path / 'a.pkl', (tiny_generator(),) * 3)
  content = path.read_bytes()
  for length in range(0, len(content) - 1, 97):
    path.write_bytes(content[:length])
    with pytest.raises(BadInputError, match=r'a\.pkl'):
      tf_pickle.read_networks(path)


def test_a_missing_file_is_named(tmp_path):
  with pytest.raises(BadInputError, match=r'none\.pkl: cannot be read \(No such file'):
    tf_pickle.read_networks(tmp_path / 'none.pkl')


def test_other_contents_are_refused(tmp_path):
  for value, message in (
    ([1, 2], 'expected the three networks'),
    ((1, 2, 3), 'found 1, expected a network'),
    ((network('G', 3, {}),) * 3, 'as build_func_name, expected str'),
    ((network('G', 'G_style', {'a': 'text'}),) * 3, 'G: variable a: found str'),
    ((network('G', 'G_style', {'a': np.float32('nan')}),) * 3, 'values in a that are not finite'),
  ):
    with pytest.raises(BadInputError, match=message):
      tf_pickle.read_networks(write(tmp_path / 'a.pkl', value))


@pytest.mark.parametrize('protocol', [2, 4, 5])
def test_conversion_places_every_variable(tmp_path, protocol):
  networks = tf_pickle.read_networks(write(tmp_path / 'a.pkl', (tiny_generator(),) * 3, protocol))
  sizes, params = stylegan1_pickle.stylegan1_generator(networks.average)
  assert sizes == {
    'fmaps': (6, 4),
    'latent_size': 3,
    'w_size': 7,
    'mapping_layers': 2,
    'image_channels': 3,
    'mapping_fmaps': 5,
    'structure': 'linear',
  }
  whole, synthesis, mapping = tiny_variables()
  tree = params['params']
  np.testing.assert_array_equal(params['w_avg'], whole['dlatent_avg'])
  np.testing.assert_array_equal(tree['layers_0']['const'][1, 2], synthesis['4x4/Const/const'][0, :, 1, 2])
  np.testing.assert_array_equal(tree['layers_2']['weight'], synthesis['8x8/Conv0_up/weight'])
  np.testing.assert_array_equal(tree['to_rgb']['weight'], synthesis['ToRGB_lod0/weight'])
  np.testing.assert_array_equal(tree['to_rgb_lod_1']['bias'], synthesis['ToRGB_lod1/bias'])
  np.testing.assert_array_equal(tree['mapping']['dense_1']['weight'], mapping['Dense1/weight'])
  np.testing.assert_array_equal(params['noise'][3][0, :, :, 0], synthesis['noise3'][0, 0])


@pytest.mark.parametrize(
  'edit, options, message',
  [
    (lambda w, s, m: w.update(lod=np.float32(1.5)), {}, 'found lod 1.5, expected 0 to 1 for its layers'),
    (lambda w, s, m: s.pop('ToRGB_lod1/weight'), {}, 'the variable G_synthesis/ToRGB_lod1/bias'),
    (
      lambda w, s, m: m.update({'LabelConcat/weight': np.zeros((2, 3))}),
      {},
      r'LabelConcat/weight of shape \(2, 3\), expected \(2, 1\)',
    ),
    (lambda w, s, m: s.pop('8x8/Conv1/bias'), {}, 'found no variable G_synthesis/8x8/Conv1/bias'),
    (lambda w, s, m: s.update(extra=np.zeros(2)), {}, 'found the variable G_synthesis/extra'),
    (
      lambda w, s, m: m.update({'Dense1/bias': np.zeros(9)}),
      {},
      r'Dense1/bias of shape \(9,\), expected \(7,\)',
    ),
    (lambda w, s, m: None, {'use_noise': False}, 'the option use_noise = False, expected True'),
    (lambda w, s, m: None, {'use_pixel_norm': True}, 'the option use_pixel_norm = True, expected False'),
    (lambda w, s, m: None, {'const_input_layer': False}, 'const_input_layer = False, expected True'),
    (lambda w, s, m: None, {'fused_scale': 1}, "fused_scale = 1, expected 'auto' or True or False"),
    (lambda w, s, m: None, {'blur_filter': [1, 3, 3, 1]}, r'\[1, 3, 3, 1\], expected \[1, 2, 1\] or None'),
    (lambda w, s, m: None, {'nonlinearity': 'elu'}, "nonlinearity = 'elu', expected 'lrelu' or 'relu'"),
    (lambda w, s, m: None, {'mapping_lrmul': 'x'}, "mapping_lrmul = 'x', expected a number above 0"),
    (
      lambda w, s, m: None,
      {'label_size': 10},
      'variables for label_size = 0, expected 10 as its options say',
    ),
    (lambda w, s, m: None, {'resolution': 16}, 'variables for resolution = 8, expected 16'),
    (lambda w, s, m: None, {'mystery': 1}, 'mystery = 1, which is not known'),
  ],
)
def test_what_we_do_not_compute_is_refused(tmp_path, edit, options, message):
  path = write(tmp_path / 'a.pkl', (tiny_generator(edit, **options),) * 3)
  networks = tf_pickle.read_networks(path)
  with pytest.raises(BadInputError, match=message):
    stylegan1_pickle.stylegan1_generator(networks.average)
  with pytest.raises(BadInputError, match='architecture G_style, expected D_basic'):
    stylegan1_pickle.stylegan1_discriminator(networks.average)


@pytest.mark.parametrize(
  'options, expected',
  [
    ({}, {}),
    ({'fused_scale': 'auto', 'blur_filter': [1, 2, 1], 'nonlinearity': 'lrelu', 'mapping_lrmul': 0.01}, {}),
    ({'fused_scale': True, 'blur_filter': None}, {'fused_from': 8, 'blur': False}),
    ({'fused_scale': False}, {'fused_from': None}),
    ({'nonlinearity': 'relu', 'mapping_nonlinearity': 'relu'}, {'slope': 0.0, 'mapping_slope': 0.0}),
    ({'mapping_lrmul': 1}, {'mapping_lr_multiplier': 1.0}),
    ({'structure': 'recursive', 'truncation_psi': 0.5, 'fmap_base': 16384}, {}),
  ],
)
def test_options_become_arguments_of_the_module(tmp_path, options, expected):
  path = write(tmp_path / 'a.pkl', (tiny_generator(**options),) * 3)
  network = tf_pickle.read_networks(path).average
  plain, _ = stylegan1_pickle.stylegan1_generator(dataclasses.replace(network, static_kwargs={}))
  assert stylegan1_pickle.stylegan1_generator(network)[0] == plain | expected
  StyleGAN(**plain, **expected)
  psi = options.get('truncation_psi', 0.7)
  assert stylegan1_options.truncation(network) == (psi, 8)


def test_a_discriminator_of_labels_is_told_their_number():
  """One score for each; the variables do not tell one label from none."""
  *_, variables = by_hand.random_variables(8, (6, 4), np.random.default_rng(0), labels=3)

  def convert(**options):
    return stylegan1_pickle.stylegan1_discriminator(tf_pickle.Network('D', options, 'D_basic', variables))[0]

  assert convert(label_size=3)['label_size'] == 3
  for options, message in (
    ({}, r'4x4/Dense1/weight of shape \(7, 3\), expected \(7, 1\)'),
    ({'label_size': 4}, r'expected \(7, 4\)'),
    ({'label_size': 'many'}, "label_size = 'many', expected a number from 0"),
    ({'label_size': 3, 'num_channels': 1}, 'variables for num_channels = 3, expected 1'),
  ):
    with pytest.raises(BadInputError, match=message):
      convert(**options)


def test_hostile_file_runs_nothing(reference_dir):
  sys.__dict__.pop('PWNED', None)
  with pytest.raises(BadInputError, match='posix.getcwd, which is not allowed'):
    tf_pickle.read_networks(reference_dir / 'hostile.pkl')
  assert 'PWNED' not in sys.__dict__


@pytest.fixture(scope='module')
def reference(reference_dir):
  """The official networks at 32 pixels, and what the official code computed with them."""
  networks = tf_pickle.read_networks(reference_dir / 'stylegan1_32.pkl')
  with np.load(reference_dir / 'stylegan1_32_vectors.npz') as file:
    return networks, dict(file)


def test_reference_networks_read(reference):
  networks, vectors = reference
  assert [n.name for n in networks] == ['G', 'D', 'Gs']
  assert [n.build_func_name for n in networks] == ['G_style', 'D_basic', 'G_style']
  assert [len(n.variables) for n in networks] == [75, 27, 75]
  np.testing.assert_array_equal(networks.average.variables['dlatent_avg'], vectors['dlatent_avg'])


def test_reference_parameters_have_the_modules_structure(reference):
  networks, _ = reference
  sizes, params = stylegan1_pickle.stylegan1_generator(networks.average)
  expected = jax.eval_shape(lambda key: init_generator(key, StyleGAN(**sizes)), jax.random.key(0))
  assert jax.tree.map(lambda x: (x.shape, x.dtype), params) == jax.tree.map(
    lambda x: (x.shape, x.dtype), expected
  )


def test_reference_images(reference):
  networks, vectors = reference
  sizes, params = stylegan1_pickle.stylegan1_generator(networks.average)
  decoder = generator_decoder(StyleGAN(**sizes), mixing_level=6)
  w = jax.jit(decoder.map_z)(params, vectors['z'])
  np.testing.assert_allclose(w, vectors['w'], atol=1e-5)
  decode = jax.jit(decoder.decode)
  images = nhwc(vectors['img_psi1_constnoise'])
  np.testing.assert_allclose(decode(params, vectors['w']), images, atol=2e-4)
  truncated = truncate(jnp.asarray(vectors['w']), jnp.asarray(params['w_avg']), psi=0.7, cutoff=8)
  np.testing.assert_allclose(decode(params, truncated), nhwc(vectors['img_psi07_cut8_constnoise']), atol=2e-4)
  explicit = tuple(nhwc(vectors[f'explicit_noise{i}']) for i in range(8))
  for noise, name in (
    (explicit, 'img_psi1_explicitnoise'),
    (choose_noise('none', params['noise']), 'img_psi1_zeronoise'),
  ):
    found = decode({**params, 'noise': noise}, vectors['w'])
    np.testing.assert_allclose(found, nhwc(vectors[name]), atol=2e-4)


def test_reference_training_generator(reference):
  networks, vectors = reference
  sizes, params = stylegan1_pickle.stylegan1_generator(networks.generator)
  decoder = generator_decoder(StyleGAN(**sizes), mixing_level=3)
  images = jax.jit(lambda p, z: decoder.decode(p, decoder.map_z(p, z)))(params, vectors['z'])
  np.testing.assert_allclose(images, nhwc(vectors['img_G_psi1_constnoise']), atol=2e-4)


def test_reference_scores(reference):
  networks, vectors = reference
  sizes, params = stylegan1_pickle.stylegan1_discriminator(networks.discriminator)
  model = Discriminator(**sizes)
  scores = jax.jit(model.apply)({'params': params}, nhwc(vectors['img_psi1_constnoise']))
  np.testing.assert_allclose(scores, vectors['d_scores_of_img_psi1'][:, 0], atol=1e-5)
