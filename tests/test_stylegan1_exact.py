"""Every variant of StyleGAN 1 against a second implementation in double precision, at 64 and 256 pixels."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advmix_jax.interop.stylegan1_pickle import stylegan1_discriminator, stylegan1_generator
from advmix_jax.interop.tf_pickle import Network
from advmix_jax.models.decoder import generator_decoder
from advmix_jax.models.discriminator import Discriminator
from advmix_jax.models.growing import lod_of
from advmix_jax.models.mapping import truncate
from advmix_jax.models.stylegan import StyleGAN
from tests import stylegan1_by_hand as by_hand
from tests.compare import nhwc

FMAPS = {64: (10, 9, 8, 7, 6), 256: (8, 8, 7, 7, 6, 5, 4)}
CLASSES, BATCH = 3, 4


class Case:
  """Official variables, and our networks made of them."""

  def __init__(self, resolution, labels=0, structure='linear', lod=0.0, **options):
    self.rng = np.random.default_rng(resolution + labels)
    self.whole, self.synthesis, self.mapping, self.d = by_hand.random_variables(
      resolution, FMAPS[resolution], self.rng, labels=labels, structure=structure
    )
    self.whole['lod'] = self.d['lod'] = np.float32(lod)
    options |= {'label_size': labels, 'resolution': resolution}
    variables = self.whole | {f'G_synthesis/{k}': v for k, v in self.synthesis.items()}
    variables |= {f'G_mapping/{k}': v for k, v in self.mapping.items()}
    sizes, self.params = stylegan1_generator(Network('Gs', options, 'G_style', variables))
    self.generator = StyleGAN(**sizes)
    sizes, self.d_params = stylegan1_discriminator(Network('D', options, 'D_basic', self.d))
    self.discriminator = Discriminator(**sizes)
    self.labels = (
      np.eye(CLASSES, dtype=np.float32)[self.rng.integers(CLASSES, size=BATCH)] if labels else None
    )
    self.z = self.draw(BATCH, self.generator.latent_size)
    self.w = self.draw(BATCH, self.generator.num_layers, self.generator.w_size)

  def draw(self, *shape):
    return self.rng.standard_normal(shape).astype(np.float32)

  def images(self, w, lod=None):
    synthesis = functools.partial(self.generator.apply, method='synthesis')
    return jax.jit(synthesis)({'params': self.params['params']}, w, self.params['noise'], lod)

  def scores(self, images, lod=None):
    return jax.jit(self.discriminator.apply)({'params': self.d_params}, images, self.labels, lod=lod)


@functools.cache
def case(*args, **kwargs) -> Case:
  return Case(*args, **kwargs)


SIZES = [(64, 0), (64, CLASSES), (256, CLASSES)]
TOLERANCE = {64: 2e-4, 256: 1e-3}


@pytest.mark.parametrize('resolution, labels', SIZES)
def test_latents(resolution, labels):
  c = case(resolution, labels)
  expected = by_hand.map_z(c.mapping, c.z, c.labels)
  map_z = jax.jit(functools.partial(c.generator.apply, method='map_z'))
  w = map_z({'params': c.params['params']}, c.z, c.labels)
  assert w.shape == c.w.shape
  for row in range(w.shape[1]):
    np.testing.assert_allclose(w[:, row], expected, atol=1e-5)
  if labels:
    assert np.abs(by_hand.map_z(c.mapping, c.z, c.labels[::-1] * 0.5) - expected).max() > 0.1


@pytest.mark.parametrize('resolution, labels', SIZES)
def test_images(resolution, labels):
  c = case(resolution, labels)
  expected = nhwc(by_hand.synthesis(c.synthesis, c.w))
  assert expected.shape == (BATCH, resolution, resolution, 3) and expected.std() > 0.5
  np.testing.assert_allclose(c.images(c.w), expected, atol=TOLERANCE[resolution])


@pytest.mark.parametrize('resolution, labels', SIZES)
def test_scores(resolution, labels):
  c = case(resolution, labels)
  images = c.draw(BATCH, resolution, resolution, 3)
  expected = by_hand.scores(c.d, images.transpose(0, 3, 1, 2), c.labels)
  assert np.ptp(expected) > 1e-2
  np.testing.assert_allclose(c.scores(images), expected, atol=1e-5)


@pytest.mark.parametrize('resolution, labels', SIZES)
def test_the_gradient_that_r1_punishes(resolution, labels):
  """Its length is the slope of the scores along it, by finite differences in double precision."""
  c = case(resolution, labels)
  images = c.draw(BATCH, resolution, resolution, 3)

  def total(images):
    return jnp.sum(c.discriminator.apply({'params': c.d_params}, images, c.labels))

  gradient = np.asarray(jax.jit(jax.grad(total))(images), np.float64)
  squared = np.sum(gradient**2)
  step = 1e-6 * gradient / np.sqrt(squared)
  up, down = (
    by_hand.scores(c.d, (images + sign * step).transpose(0, 3, 1, 2), c.labels).sum() for sign in (1, -1)
  )
  assert ((up - down) / 2e-6) ** 2 == pytest.approx(squared, rel=1e-4)


LODS = [0.25, 1.0, 1.6, 3.0, 3.5, 4.0]


@pytest.mark.parametrize('lod', LODS)
def test_networks_that_grow(lod):
  """At every level of detail, as the sum over all resolutions; the share is an argument of the program."""
  c = case(64, CLASSES)
  expected = by_hand.synthesis(c.synthesis, c.w, lod)
  found = c.images(c.w, lod_of(lod))
  np.testing.assert_allclose(found, nhwc(expected), atol=2e-4)
  images = c.draw(BATCH, 64, 64, 3)
  scores = by_hand.scores(c.d, images.transpose(0, 3, 1, 2), c.labels, lod)
  np.testing.assert_allclose(c.scores(images, lod_of(lod)), scores, atol=1e-5)


def test_networks_saved_while_they_grew():
  c = Case(64, lod=1.6)
  assert (c.generator.lod, c.discriminator.lod) == (np.float32(1.6),) * 2
  np.testing.assert_allclose(c.images(c.w), nhwc(by_hand.synthesis(c.synthesis, c.w, 1.6)), atol=2e-4)
  images = c.draw(BATCH, 64, 64, 3)
  scores = by_hand.scores(c.d, images.transpose(0, 3, 1, 2), lod=1.6)
  np.testing.assert_allclose(c.scores(images), scores, atol=1e-5)


def test_networks_of_fixed_structure():
  c = Case(64, structure='fixed')
  assert c.generator.structure == c.discriminator.structure == 'fixed'
  np.testing.assert_allclose(c.images(c.w), nhwc(by_hand.synthesis(c.synthesis, c.w)), atol=2e-4)
  with pytest.raises(ValueError, match='a network of fixed structure has 0 only'):
    c.images(c.w, lod_of(1.0))


@pytest.mark.parametrize(
  'official, ours',
  [
    ({'blur_filter': None}, {'filtered': False}),
    ({'fused_scale': True}, {'fused_from': 8}),
    ({'fused_scale': False}, {'fused_from': 10**9}),
  ],
  ids=str,
)
def test_networks_with_other_options(official, ours):
  c = Case(64 if 'fused_scale' not in official or official['fused_scale'] else 256, **official)
  np.testing.assert_allclose(
    c.images(c.w), nhwc(by_hand.synthesis(c.synthesis, c.w, **ours)), atol=TOLERANCE[c.generator.resolution]
  )


def test_scores_of_other_groups():
  """Groups of two, of whose channels two parts are taken apart."""
  c = case(64, CLASSES)
  d = c.d | {'4x4/Conv/weight': c.draw(3, 3, FMAPS[64][0] + 2, FMAPS[64][0])}
  options = {'mbstd_group_size': 2, 'mbstd_num_features': 2, 'label_size': CLASSES}
  sizes, params = stylegan1_discriminator(Network('D', options, 'D_basic', d))
  images = c.draw(BATCH, 64, 64, 3)
  expected = by_hand.scores(d, images.transpose(0, 3, 1, 2), c.labels, group=2, parts=2)
  found = jax.jit(Discriminator(**sizes).apply)({'params': params}, images, c.labels)
  np.testing.assert_allclose(found, expected, atol=1e-5)


def test_truncated_images():
  c = case(64, CLASSES)
  w, w_avg = c.w, c.whole['dlatent_avg']
  truncated = np.concatenate([w_avg + (w[:, :3] - w_avg) * -0.4, w[:, 3:]], axis=1)
  expected = nhwc(by_hand.synthesis(c.synthesis, truncated))
  found = c.images(truncate(jnp.asarray(w), jnp.asarray(c.params['w_avg']), -0.4, 3))
  np.testing.assert_allclose(found, expected, atol=2e-4)


@pytest.mark.parametrize('lod', [0.0, 0.4, 1.0, 2.3, 4.0])
def test_the_cut_holds_at_every_level_of_every_variant(lod):
  """`fine(coarse(w[:m]), w[m:])` is the whole, while a resolution fades in and where layers are not drawn."""
  c = Case(64, CLASSES, lod=lod)
  whole = c.images(c.w)

  @jax.jit
  def cut(params, w):
    return [generator_decoder(c.generator, level).decode(params, w) for level in range(1, 10)]

  for level, images in enumerate(cut(c.params, c.w), 1):
    np.testing.assert_allclose(images, whole, rtol=1e-5, atol=1e-5, err_msg=f'level {level}')
