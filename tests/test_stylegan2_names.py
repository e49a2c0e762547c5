"""Names and axes of other software: nothing lost on the way and back, nothing unknown let through."""

import jax
import numpy as np
import pytest

from advmix_jax.interop.stylegan2_names import (
  RESAMPLE_FILTER,
  discriminator_from_state,
  discriminator_to_state,
  generator_from_state,
  generator_to_state,
  torch_names,
)
from advmix_jax.interop.weights import load_tree, save_tree
from advmix_jax.models.decoder import init_generator
from advmix_jax.types import BadInputError
from tests import stylegan2_reference as reference

FMAPS = (5, 4, 3)  # 16 pixels.
GENERATOR = reference.random_generator(FMAPS, label_size=2)
DISCRIMINATOR = reference.random_discriminator(FMAPS, label_size=2)


def without_filters(state):
  return {name: array for name, array in state.items() if not name.endswith('resample_filter')}


def assert_same(found, expected):
  assert found.keys() == expected.keys()
  for name, array in expected.items():
    assert found[name].dtype == np.float32 and found[name].shape == array.shape, name
    np.testing.assert_array_equal(found[name], array, err_msg=name)


def test_sizes_are_read_off_the_shapes():
  model, params = generator_from_state(GENERATOR, conv_clamp=256.0)
  assert (model.fmaps, model.latent_size, model.w_size, model.image_channels) == (FMAPS, 5, 6, 3)
  assert (model.mapping_layers, model.mapping_fmaps) == (3, 8)
  assert (model.label_size, model.embed_size, model.concat_labels) == (2, 7, False)
  assert model.conv_clamp == 256.0
  shapes = jax.eval_shape(lambda: init_generator(jax.random.key(0), model))
  assert jax.tree.map(np.shape, params) == jax.tree.map(np.shape, shapes)
  model, _ = discriminator_from_state(DISCRIMINATOR, mbstd_group_size=None)
  assert (model.fmaps, model.dense_features, model.label_size, model.cmap_size) == (FMAPS, 5, 2, 5)
  assert (model.mapping_layers, model.mapping_fmaps, model.embed_size) == (2, 8, 7)
  assert (model.conv_clamp, model.mbstd_group_size) == (None, None)


def test_there_and_back_changes_no_bit():
  assert_same(without_filters(generator_to_state(*generator_from_state(GENERATOR))), GENERATOR)
  assert_same(
    without_filters(discriminator_to_state(*discriminator_from_state(DISCRIMINATOR))), DISCRIMINATOR
  )


def test_files_of_our_own_hold_every_array_as_it_is(tmp_path):
  """Noise strengths are scalars."""
  _, params = generator_from_state(GENERATOR)
  save_tree(tmp_path / 'generator.safetensors', params)
  found = load_tree(tmp_path / 'generator.safetensors', params)
  jax.tree.map(np.testing.assert_array_equal, found, params)
  assert found['params']['layers_0']['noise_strength'].shape == ()


def test_official_names_there_and_back(reference_dir):
  with np.load(reference_dir / 'stylegan2_ada_32.npz') as file:
    parts = [
      {name.removeprefix(prefix): file[name] for name in file.files if name.startswith(prefix)}
      for prefix in ('G_ema/', 'D/')
    ]
  assert_same(generator_to_state(*generator_from_state(parts[0])), parts[0])
  assert_same(discriminator_to_state(*discriminator_from_state(parts[1])), parts[1])


def changed(state, name, value):
  return {k: v for k, v in (state | {name: value}).items() if v is not None}


@pytest.mark.parametrize(
  'name, value, message',
  [
    ('synthesis.b8.conv0.bias', None, 'found no array synthesis.b8.conv0.bias, expected one'),
    ('mapping.w_avg', None, 'found no array mapping.w_avg, expected one'),
    ('synthesis.b4.torgb.weight', None, 'found no array synthesis.b4.torgb.weight, expected one'),
    ('synthesis.b8.conv1.weight', None, 'found no array synthesis.b8.conv1.weight, expected one'),
    ('synthesis.b64.const', np.zeros(1), 'found blocks of .4, 8, 16, 64. pixels, expected 4, 8, ... without'),
    (
      'synthesis.b8.skip.weight',
      np.zeros((4, 5, 1, 1)),
      'found the array synthesis.b8.skip.weight, expected none of that name',
    ),
    (
      'synthesis.b8.conv1.noise_const',
      np.zeros((4, 4)),
      r'found synthesis.b8.conv1.noise_const of shape \(4, 4\), expected \(8, 8\)',
    ),
    ('mapping.fc1.weight', np.zeros((9, 8)), r'found mapping layers of widths \[8, 9\], expected equal ones'),
    ('mapping.fc0.weight', np.zeros(8), r'found mapping.fc0.weight of shape \(8,\), expected 2 axes'),
    (
      'mapping.fc0.weight',
      np.zeros((8, 7)),
      'of 7 inputs, expected more than the 7 that labels are mapped to',
    ),
    ('mapping.w_avg', np.zeros(6, np.int32), 'found mapping.w_avg of int32, expected floating-point numbers'),
    ('mapping.w_avg', np.full(6, np.nan), 'found values in mapping.w_avg that are not finite'),
    ('mapping.w_avg', np.full(6, 1e300), 'found values in mapping.w_avg that are not finite float32'),
    (
      'synthesis.b8.resample_filter',
      RESAMPLE_FILTER + 0.01,
      'found other numbers in synthesis.b8.resample_filter, expected the filter',
    ),
  ],
)
def test_generators_of_another_shape_are_refused(name, value, message):
  with pytest.raises(BadInputError, match=message):
    generator_from_state(changed(GENERATOR, name, value))


@pytest.mark.parametrize(
  'name, value, message',
  [
    ('b8.skip.weight', None, 'found no array b8.skip.weight, expected one'),
    ('b4.conv.weight', np.zeros((5, 7, 3, 3)), 'b4.conv.weight of 7 inputs and 5 outputs, expected as many'),
    ('b8.fromrgb.weight', np.zeros((4, 3, 1, 1)), 'found the array b8.fromrgb.weight, expected none'),
    ('b4.out.weight', None, 'found no array b4.out.weight, expected one'),
  ],
)
def test_discriminators_of_another_shape_are_refused(name, value, message):
  with pytest.raises(BadInputError, match=message):
    discriminator_from_state(changed(DISCRIMINATOR, name, value))


@pytest.mark.parametrize(
  'options, message',
  [
    ({'conv_clamp': -1.0}, 'option conv_clamp = -1.0, expected a number above 0'),
    ({'conv_clamp': 'x'}, "option conv_clamp = 'x', expected a number above 0"),
    ({'mapping_lr_multiplier': None}, 'option mapping_lr_multiplier = None, expected a number above 0'),
    ({'mbstd_group_size': 1}, 'option mbstd_group_size = 1, expected a whole number from 2'),
  ],
)
def test_options_without_a_meaning_are_refused(options, message):
  with pytest.raises(BadInputError, match=message):
    discriminator_from_state(DISCRIMINATOR, **options)


def tensorflow_generator(state):
  """The same network under the names of TensorFlow, written out by hand."""
  tf = {'lod': np.float32(0), 'dlatent_avg': state['mapping.w_avg']}
  for i in range(3):
    tf[f'G_mapping/Dense{i}/weight'] = state[f'mapping.fc{i}.weight'].T
    tf[f'G_mapping/Dense{i}/bias'] = state[f'mapping.fc{i}.bias']
  tf['G_mapping/LabelEmbed/weight'] = state['mapping.embed.weight'].T
  tf['G_mapping/LabelEmbed/bias'] = state['mapping.embed.bias']
  tf['G_synthesis/4x4/Const/const'] = state['synthesis.b4.const'][None]
  layers = {
    '4x4/Conv': 'b4.conv1',
    '4x4/ToRGB': 'b4.torgb',
    '8x8/Conv0_up': 'b8.conv0',
    '8x8/Conv1': 'b8.conv1',
    '8x8/ToRGB': 'b8.torgb',
    '16x16/Conv0_up': 'b16.conv0',
    '16x16/Conv1': 'b16.conv1',
    '16x16/ToRGB': 'b16.torgb',
  }
  for tf_name, name in layers.items():
    tf_name, name = f'G_synthesis/{tf_name}', f'synthesis.{name}'
    weight = state[f'{name}.weight'].transpose(2, 3, 1, 0)
    tf[f'{tf_name}/weight'] = weight[::-1, ::-1] if 'Conv0_up' in tf_name else weight
    tf[f'{tf_name}/bias'] = state[f'{name}.bias']
    tf[f'{tf_name}/mod_weight'] = state[f'{name}.affine.weight'].T
    tf[f'{tf_name}/mod_bias'] = state[f'{name}.affine.bias'] - 1
    if 'ToRGB' not in tf_name:
      tf[f'{tf_name}/noise_strength'] = state[f'{name}.noise_strength']
  for i, name in enumerate(('b4.conv1', 'b8.conv0', 'b8.conv1', 'b16.conv0', 'b16.conv1')):
    tf[f'G_synthesis/noise{i}'] = state[f'synthesis.{name}.noise_const'][None, None]
  return tf


def tensorflow_discriminator(state):
  names = {
    'LabelEmbed': 'mapping.embed',
    'Mapping0': 'mapping.fc0',
    'Mapping1': 'mapping.fc1',
    '16x16/FromRGB': 'b16.fromrgb',
    '16x16/Conv0': 'b16.conv0',
    '16x16/Conv1_down': 'b16.conv1',
    '16x16/Skip': 'b16.skip',
    '8x8/Conv0': 'b8.conv0',
    '8x8/Conv1_down': 'b8.conv1',
    '8x8/Skip': 'b8.skip',
    '4x4/Conv': 'b4.conv',
    '4x4/Dense0': 'b4.fc',
    'Output': 'b4.out',
  }
  tf = {}
  for tf_name, name in names.items():
    weight = state[f'{name}.weight']
    tf[f'{tf_name}/weight'] = weight.T if weight.ndim == 2 else weight.transpose(2, 3, 1, 0)
    if 'Skip' not in tf_name:
      tf[f'{tf_name}/bias'] = state[f'{name}.bias']
  return tf


def test_names_of_tensorflow():
  found = torch_names(tensorflow_generator(GENERATOR))
  assert found.keys() == GENERATOR.keys()
  for name, array in GENERATOR.items():
    np.testing.assert_allclose(found[name], array, atol=1e-6, err_msg=name)  # One is taken off and put on.
  found = torch_names(tensorflow_discriminator(DISCRIMINATOR))
  assert_same(found, DISCRIMINATOR)
  generator_from_state(torch_names(tensorflow_generator(GENERATOR)))


def test_components_of_tensorflow_may_be_named_either_way():
  plain = {k.removeprefix('G_'): v for k, v in tensorflow_generator(GENERATOR).items()}
  assert_same(torch_names(plain), torch_names(tensorflow_generator(GENERATOR)))


def test_label_weights_of_the_first_release():
  tf = tensorflow_generator(GENERATOR)
  weight = tf.pop('G_mapping/LabelEmbed/weight')
  del tf['G_mapping/LabelEmbed/bias']
  model, params = generator_from_state(torch_names(tf | {'G_mapping/LabelConcat/weight': weight}))
  assert model.concat_labels and (model.label_size, model.embed_size, model.latent_size) == (2, 7, 5)
  np.testing.assert_array_equal(params['params']['mapping']['label_weight'], weight)


@pytest.mark.parametrize(
  'name, value, message',
  [
    ('lod', np.float32(1), 'found lod of 1.0, expected 0'),
    ('G_synthesis/8x8/Blur/weight', np.zeros(3), 'variable G_synthesis/8x8/Blur/weight, expected none'),
    ('G_synthesis/ToRGB_lod0/weight', np.zeros(3), 'variable G_synthesis/ToRGB_lod0/weight, expected none'),
    ('G_synthesis/8x8/Conv1/weight', np.zeros(3), r'of shape \(3,\), expected 2 or 4 axes'),
    (
      'G_synthesis/noise1',
      np.zeros((2, 1, 8, 8)),
      r'of shape \(2, 1, 8, 8\), expected \(1, 1, height, width\)',
    ),
  ],
)
def test_variables_of_another_network_are_refused(name, value, message):
  with pytest.raises(BadInputError, match=message):
    torch_names(tensorflow_generator(GENERATOR) | {name: value})
