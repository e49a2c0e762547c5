"""A generator from elsewhere takes the place of one that is trained, whatever its resolution."""

import json
import pathlib

import jax
import numpy as np
import pytest

from advmix_jax.config_check import check_config
from advmix_jax.interop import generator_folder
from advmix_jax.models.decoder import generator_decoder, resize
from advmix_jax.models.discriminator import Discriminator, init_discriminator
from advmix_jax.models.stylegan2 import StyleGAN2
from advmix_jax.types import BadInputError
from configs import smoke
from tests import tiny
from tests.command_line import smoke_flags

FMAPS = (6, 4, 3)  # 16 pixels, six rows of w.


def save(folder: pathlib.Path, model=None, critic=None) -> pathlib.Path:
  """A generator of random numbers, and a discriminator of them if one is given."""
  model = model or tiny.generator(FMAPS)
  critic_params = None
  if critic is not None:
    shapes = jax.eval_shape(lambda key: init_discriminator(key, critic, (16, 16, 3)), jax.random.key(0))
    critic_params = tiny.random_params(shapes, 1)
  generator_folder.save_generator(
    folder, generator_folder.describe(model, critic), tiny.generator_params(model), critic_params
  )
  return folder


def config_with(folder: pathlib.Path, **changes):
  config = smoke.get_config()
  config.generator.path = str(folder)
  config.update_from_flattened_dict({key.replace('__', '.'): value for key, value in changes.items()})
  return config


def test_smaller_images_are_means_of_squares_and_larger_ones_are_interpolated():
  images = np.asarray(tiny.uniform(0, 2, 8, 8, 3))
  means = images.reshape(2, 4, 2, 4, 2, 3).mean(axis=(2, 4))
  np.testing.assert_allclose(resize(images, 4), means, atol=1e-6)
  np.testing.assert_array_equal(resize(images, 8), images)
  larger = np.asarray(resize(images, 16))
  assert larger.shape == (2, 16, 16, 3)
  weights = np.array([9, 3, 3, 1]) / 16  # A pixel lies a quarter of the way to the next.
  corner = np.einsum('nijc,ij->nc', images[:, :2, :2], weights.reshape(2, 2))
  np.testing.assert_allclose(larger[:, 1, 1], corner, atol=1e-6)


@pytest.mark.parametrize('resolution', [8, 32])
def test_a_decoder_makes_images_of_the_size_that_is_asked_for(resolution):
  model = tiny.generator(FMAPS)
  params, w = tiny.generator_params(model), tiny.normal(0, 3, model.num_layers, model.w_size)
  own, other = generator_decoder(model, 4), generator_decoder(model, 4, resolution=resolution)
  expected = resize(jax.jit(own.decode)(params, w), resolution)
  np.testing.assert_allclose(jax.jit(other.decode)(params, w), expected, atol=1e-5)


def test_what_does_not_fit_is_named(tmp_path):
  critic = Discriminator(FMAPS)
  whole, alone = save(tmp_path / 'whole', critic=critic), save(tmp_path / 'alone')
  grey = save(tmp_path / 'grey', StyleGAN2(FMAPS, 5, 7, mapping_layers=2, image_channels=1))
  check_config(config_with(whole))
  check_config(config_with(alone, encode__features='pixel', encode__resolution=32))
  for config, words in (
    (config_with(tmp_path / 'none'), 'config.generator.path: .*none/architecture.json is missing'),
    (config_with(alone), "config.encode.features is 'discriminator', expected vgg16 or pixel"),
    (config_with(grey), 'config.generator.path: .*grey: found images of 1 channels, expected 3'),
    (config_with(whole, attack__mixing_level=6), 'config.attack.mixing_level is 6, expected 1 to 5'),
    (config_with(whole, encode__resolution=8), 'config.encode.resolution is 8, expected 16 as the generator'),
    (config_with(whole, encode__feature_layers=('block_32',)), 'found block_32, expected some of block_16'),
  ):
    with pytest.raises(BadInputError, match=words):
      check_config(config)
  (whole / generator_folder.GENERATOR).write_bytes(b'{}')
  with pytest.raises(BadInputError, match='config.generator.path: .*generator.safetensors'):
    check_config(config_with(whole))


def test_a_run_adopts_it_and_needs_no_training_of_its_own(launch, tmp_path):
  """16 pixels, compared with discriminator features there; the classifier sees 8."""
  source, workdir = save(tmp_path / 'source', critic=Discriminator(FMAPS)), tmp_path / 'run'
  keys = {'generator.path': source, 'data.resolution': 8, 'cutout.size': 4, 'train.methods': 'nominal,advmix'}
  flags = [*smoke_flags(workdir), *(f'--config.{key}={value}' for key, value in keys.items())]
  done = launch('pipeline', *flags)
  assert done.returncode == 0, done.stderr
  for name in (generator_folder.DESCRIPTION, generator_folder.GENERATOR, generator_folder.DISCRIMINATOR):
    assert (workdir / 'gan' / name).read_bytes() == (source / name).read_bytes(), name
  assert (workdir / 'gan' / 'mixing-adopted.png').stat().st_size > 1000
  results = json.loads((workdir / 'results.json').read_bytes())
  assert set(results['methods']) == {'nominal', 'advmix'}
  assert results['encoder_feature_layers'] == ['block_16', 'block_8', 'block_4']
  broken = np.load(workdir / 'evaluate' / 'advmix.npz')
  assert broken['images'].shape[1:] == (8, 8, 3)
  assert 'Not drawn' not in (workdir / 'report' / 'index.html').read_text()

  save(source, tiny.generator((5, 4, 3)), Discriminator(FMAPS))  # The run has a copy, and goes on with that.
  encoded = workdir / 'encode' / 'test'
  found = {path.name: path.read_bytes() for path in encoded.iterdir()}
  for path in encoded.iterdir():
    path.unlink()
  again = launch('encode', *flags)
  assert again.returncode == 0, again.stderr
  assert {path.name: path.read_bytes() for path in encoded.iterdir()} == found
