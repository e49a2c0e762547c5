"""Official files give networks whatever they were written by; every option is known, or refused by name."""

import jax
import numpy as np
import pytest

from advmix_jax.interop.official import read_official
from advmix_jax.types import BadInputError
from tests import official_files as files
from tests.compare import assert_same_bits
from tests.official_networks import G_STATE, SOURCES, TORCH_G, stylegan1_file, tf_file, torch_file


@pytest.mark.parametrize('name', SOURCES)
@pytest.mark.parametrize('protocol', [2, 3, 5])
def test_every_protocol_gives_the_same_networks(name, protocol, tmp_path):
  expected = read_official(SOURCES[name](tmp_path / 'a.pkl'))
  found = read_official(SOURCES[name](tmp_path / 'b.pkl', protocol))
  assert (found.generator, found.discriminator) == (expected.generator, expected.discriminator)
  assert_same_bits(found.params, expected.params)
  assert_same_bits(found.discriminator_params, expected.discriminator_params)


def test_both_spellings_of_numpy_are_read(tmp_path):
  content = tf_file(tmp_path / 'a.pkl').read_bytes()
  old, new = (bytes([len(name)]) + name for name in (b'numpy.core.multiarray', b'numpy._core.multiarray'))
  here, other = (old, new) if old in content else (new, old)
  assert here in content
  # A frame's length would change with the name, so the frame around all is left out.
  assert content[2:3] == b'\x95'
  (tmp_path / 'b.pkl').write_bytes(content[:2] + content[11:].replace(here, other))
  assert_same_bits(read_official(tmp_path / 'b.pkl').params, read_official(tmp_path / 'a.pkl').params)


def test_tensorflow_and_torch_files_of_one_network_agree(tmp_path):
  tf, torch = read_official(tf_file(tmp_path / 'a.pkl')), read_official(torch_file(tmp_path / 'b.pkl'))
  assert jax.tree.structure(tf.params) == jax.tree.structure(torch.params)
  for a, b in zip(jax.tree.leaves(tf.params), jax.tree.leaves(torch.params), strict=True):
    np.testing.assert_allclose(a, b, rtol=0, atol=3e-7)  # Biases are stored less one, which rounds.
  assert_same_bits(tf.discriminator_params, torch.discriminator_params)


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
