"""StyleGAN 1 by its description; the official numbers are in test_stylegan1_pickle."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advmix_jax import mixing
from advmix_jax.models import resampling
from advmix_jax.models.decoder import generator_decoder, init_generator
from advmix_jax.models.discriminator import Discriminator, init_discriminator
from advmix_jax.models.growing import at_lod, lod_of
from advmix_jax.models.mapping import join_label, truncate
from advmix_jax.models.noise import NOISE_MODES, choose_noise, draw_noise
from advmix_jax.models.stylegan import StyledLayer, StyleGAN
from tests import tiny
from tests.tiny import normal

FMAPS = (5, 4, 3)  # 16 pixels, six layers.


def count(shapes) -> int:
  return sum(int(np.prod(x.shape)) for x in jax.tree.leaves(shapes))


def test_coarse_then_fine_is_the_whole_network_at_every_level():
  model = tiny.generator(FMAPS)
  params = tiny.generator_params(model)
  w = normal(0, 2, 6, 7)

  @jax.jit
  def images(w):
    whole = model.apply({'params': params['params']}, w, params['noise'], method='synthesis')
    return whole, [generator_decoder(model, level).decode(params, w) for level in range(1, 6)]

  whole, cut = images(w)
  assert whole.shape == (2, 16, 16, 3) and np.std(whole) > 0.1
  for image in cut:
    np.testing.assert_allclose(image, whole, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('level', [1, 3, 5])
def test_layers_below_the_level_do_not_see_w_perp(level):
  """The activations that lead to the trunk are the same bits for any `w_perp`; the image is another."""
  model = tiny.generator(FMAPS)
  params = tiny.generator_params(model)
  w = normal(0, 2, 6, 7)

  @jax.jit
  def activations(w):
    image, state = model.apply(
      {'params': params['params']},
      w,
      params['noise'],
      method='synthesis',
      capture_intermediates=lambda module, name: name == 'features',
    )
    return image, [state['intermediates'][f'layers_{i}']['features'][0] for i in range(6)]

  image, before = activations(w)
  other_image, after = activations(mixing.mix(w, normal(1, 2, 6, 7), level))
  for i in range(6):
    same = np.array_equal(before[i], after[i])
    assert same == (i <= level), f'layer {i}'  # Layer m's own features come before its style.
  assert np.abs(image - other_image).max() > 1e-3


@pytest.mark.parametrize('level', [0, 6, -1])
def test_levels_outside_the_network_are_refused(level):
  with pytest.raises(ValueError, match=f'mixing level {level} is outside 1..5 of a generator with 6 layers'):
    generator_decoder(tiny.generator(FMAPS), level)


@pytest.mark.parametrize(
  'resolution, generator_total, discriminator_total',
  [
    (32, 22_841_356, 20_726_785),
    (64, 25_137_935, 22_498_049),
    (256, 26_086_229, 23_052_353),
    (1024, 26_219_627, 23_087_249),
  ],
)
def test_default_networks_have_the_official_number_of_parameters(
  resolution, generator_total, discriminator_total
):
  """Networks that grow; those of fixed structure are without ToRGB and FromRGB of the lower resolutions."""
  fmaps = tuple(min(16384 // r, 512) for r in 4 * 2 ** np.arange(np.log2(resolution) - 1, dtype=int))
  lower = sum(fmaps[:-1])
  for structure, rgb, from_rgb in (('linear', 0, 0), ('fixed', 3 * lower + 3 * (len(fmaps) - 1), 4 * lower)):
    model, critic = (cls(fmaps=fmaps, structure=structure) for cls in (StyleGAN, Discriminator))
    assert model.resolution == resolution
    generator = jax.eval_shape(lambda key, m=model: init_generator(key, m), jax.random.key(0))
    assert count(generator['params']) == generator_total - rgb
    assert count(generator['params']['mapping']) == 2_101_248
    shape = (resolution, resolution, 3)
    discriminator = jax.eval_shape(
      lambda key, m=critic, s=shape: init_discriminator(key, m, s), jax.random.key(0)
    )
    assert count(discriminator) == discriminator_total - from_rgb


def test_growing_and_labels_add_parameters_and_change_none():
  """What a fixed network has, one that grows has under the same names."""
  sizes = {'latent_size': 5, 'w_size': 7, 'mapping_layers': 2}

  def shapes(**options):
    model, critic = StyleGAN(FMAPS, **sizes, **options), Discriminator(FMAPS, **options)
    g = jax.eval_shape(lambda key: init_generator(key, model), jax.random.key(0))['params']
    return g, jax.eval_shape(lambda key: init_discriminator(key, critic, (16, 16, 3)), jax.random.key(0))

  for fixed, grown in zip(shapes(), shapes(structure='linear'), strict=True):
    assert {name: grown[name] for name in fixed} == fixed
    assert {name[:-1] for name in grown.keys() - fixed.keys()} <= {'to_rgb_lod_', 'from_rgb_lod_'}
    assert len(grown) == len(fixed) + 2
  (g, d), (conditional_g, conditional_d) = shapes(), shapes(label_size=4)
  assert conditional_g['mapping']['label_weight'].shape == (4, 5)
  assert conditional_g['mapping']['dense_0']['weight'].shape == (10, 7)
  assert (conditional_g['layers_3'], conditional_d['conv']) == (g['layers_3'], d['conv'])
  assert conditional_d['out']['bias'].shape == (4,)


def test_initial_parameters_are_as_described():
  """Weights N(0, 1 / lr multiplier): standard deviation 100 in the mapping; ones and zeros elsewhere."""
  model = StyleGAN(fmaps=(16, 8), latent_size=64, w_size=64, mapping_layers=2)
  variables = jax.jit(init_generator, static_argnums=1)(jax.random.key(0), model)
  params = variables['params']
  assert np.std(params['mapping']['dense_1']['weight']) == pytest.approx(100, rel=0.1)
  assert np.std(params['layers_2']['weight']) == pytest.approx(1, rel=0.1)
  np.testing.assert_array_equal(params['layers_0']['const'], 1)
  for name in ('noise_weight', 'bias'):
    np.testing.assert_array_equal(params['layers_3'][name], 0)
  assert [n.shape for n in variables['noise']] == [(1, s, s, 1) for s in (4, 4, 8, 8)]


def test_mapping_ignores_the_length_of_z():
  decoder, params = tiny.decoder()
  map_z = jax.jit(decoder.map_z)
  z = normal(0, 3, 5)
  w = map_z(params, z)
  assert w.shape == (3, 4, 7)
  np.testing.assert_allclose(map_z(params, 7 * z), w, rtol=1e-4, atol=1e-5)
  np.testing.assert_array_equal(w[:, 0], w[:, 3])
  assert np.abs(map_z(params, -z) - w).max() > 1e-2


def test_truncation_moves_the_first_rows_towards_the_mean():
  w, w_avg = normal(0, 2, 4, 3), normal(1, 3)
  expected = np.array(w)
  expected[:, :2] = np.asarray(w_avg) + (expected[:, :2] - np.asarray(w_avg)) * 0.7
  np.testing.assert_allclose(truncate(w, w_avg, 0.7, 2), expected, rtol=1e-5)
  for cutoff in (9, None):
    np.testing.assert_allclose(truncate(w, w_avg, 0.0, cutoff), np.broadcast_to(w_avg, w.shape), rtol=1e-5)
  for psi, cutoff in ((1.0, 2), (1.0, None), (0.7, 0), (0.7, -1)):
    np.testing.assert_array_equal(truncate(w, w_avg, psi, cutoff), w)


@pytest.mark.parametrize(
  'fused_from, flipped', [(128, {10, 12, 14}), (8, {2, 4, 6, 8, 10, 12, 14}), (None, set())]
)
def test_kernels_are_stored_as_fused_from_a_resolution_on(fused_from, flipped):
  model = StyleGAN((2,) * 8, latent_size=2, w_size=2, fused_from=fused_from)
  bound = model.bind({})
  assert {i for i, layer in enumerate(bound.layers) if layer.upsample and layer.flipped} == flipped


def test_the_kernel_of_a_fused_layer_is_flipped():
  x, noise = normal(0, 2, 4, 4, 3), normal(1, 1, 8, 8, 1)
  layers = {
    r: StyledLayer(in_channels=3, channels=2, w_size=4, upsample=True, flipped=r == 128) for r in (64, 128)
  }
  shapes = jax.eval_shape(lambda: layers[64].init(jax.random.key(0), x, noise, method='features'))['params']
  params = tiny.random_params(shapes, 0)
  flipped = params | {'weight': params['weight'][::-1, ::-1]}
  features = {
    r: jax.jit(lambda p, r=r: layers[r].apply({'params': p}, x, noise, method='features')) for r in layers
  }
  np.testing.assert_allclose(features[128](params), features[64](flipped), rtol=1e-5, atol=1e-5)
  assert np.abs(features[128](params) - features[64](params)).max() > 0.1


def test_the_flipped_upsampling_convolution_is_the_fused_transposed_one():
  """`out[2i + a - 1, 2j + b - 1] += x[i, j] K4[a, b]`, `K4` the sum of the kernel's four shifts."""
  rng = np.random.default_rng(0)
  x, kernel = rng.standard_normal((3, 3, 2)), rng.standard_normal((3, 3, 2, 2))
  padded = np.pad(kernel, ((1, 1), (1, 1), (0, 0), (0, 0)))
  k4 = padded[1:, 1:] + padded[:-1, 1:] + padded[1:, :-1] + padded[:-1, :-1]
  out = np.zeros((8, 8, 2))
  for i in range(3):
    for j in range(3):
      out[2 * i : 2 * i + 4, 2 * j : 2 * j + 4] += np.einsum('c,abco->abo', x[i, j], k4)
  found = resampling.upsample_conv(
    jnp.asarray(x[None], jnp.float32), jnp.asarray(kernel[::-1, ::-1], jnp.float32)
  )
  np.testing.assert_allclose(found[0], out[1:7, 1:7], rtol=1e-4, atol=1e-5)


def test_gradients_agree_with_finite_differences():
  """In `w_perp`, through the fine part, as the attack follows them; in double precision."""
  _, params = tiny.decoder(2)  # Made outside, as it is kept for other tests.
  decoder = generator_decoder(tiny.generator((6, 4)).clone(dtype=jnp.float64), 2)
  with jax.enable_x64(True):
    params = jax.tree.map(lambda x: x.astype(jnp.float64), params)
    w, direction, weights = (
      normal(seed, *shape).astype(jnp.float64)
      for seed, shape in enumerate([(1, 4, 7), (1, 2, 7), (1, 8, 8, 3)], 1)
    )
    trunk = jax.jit(decoder.coarse)(params, w[:, :2])
    value_and_grad = jax.jit(jax.value_and_grad(lambda w: jnp.mean(decoder.fine(params, trunk, w) * weights)))
    gradient, h = value_and_grad(w[:, 2:])[1], 1e-5
    up, down = (value_and_grad(w[:, 2:] + step * direction)[0] for step in (h, -h))
    slope = float(jnp.sum(gradient * direction))
    difference = float((up - down) / (2 * h))
  assert abs(slope) > 1e-3
  assert slope == pytest.approx(difference, rel=1e-4)


def test_a_conditional_decoder_takes_its_label_with_z():
  """The largest of the coordinates behind z, so that normal draws give every label as often as the others."""
  model = StyleGAN((6, 4), latent_size=5, w_size=7, mapping_layers=2, label_size=3)
  shapes = jax.eval_shape(lambda: init_generator(jax.random.key(0), model))
  params = tiny.random_params(shapes, 0)
  decoder = generator_decoder(model, 2)
  assert decoder.latent_size == 8
  z, labels = normal(0, 6, 5), jnp.eye(3)[jnp.array([0, 1, 2, 0, 1, 2])]
  map_z = jax.jit(decoder.map_z)
  w = map_z(params, join_label(z, labels))
  expected = jax.jit(functools.partial(model.apply, method='map_z'))({'params': params['params']}, z, labels)
  np.testing.assert_allclose(w, expected, rtol=1e-5, atol=1e-5)
  soft = join_label(z, 0.3 * labels + normal(1, 6, 1))
  np.testing.assert_array_equal(map_z(params, soft), w)
  assert np.abs(map_z(params, join_label(z, labels[::-1])) - w).max() > 1e-2


@pytest.mark.parametrize('labels', [None, jnp.zeros((2, 4)), jnp.zeros(2)])
def test_conditional_networks_need_their_labels(labels):
  model, critic = StyleGAN((6, 4), latent_size=5, w_size=7, label_size=3), Discriminator((6, 4), label_size=3)
  key = jax.random.key(0)
  with pytest.raises(ValueError, match=r'a network of 3 labels: found labels of shape .*, expected \[B, 3\]'):
    jax.eval_shape(lambda: model.init(key, jnp.zeros((2, 5)), labels, method='map_z'))
  with pytest.raises(ValueError, match=r'a network of 3 labels: found labels of shape .*, expected \[B, 3\]'):
    jax.eval_shape(lambda: critic.init(key, jnp.zeros((2, 8, 8, 3)), labels))


def test_noise_modes():
  own, given = draw_noise(jax.random.key(0), (4, 8)), draw_noise(jax.random.key(1), (4, 8), 3)

  def choose(mode):
    return choose_noise(mode, own, key=jax.random.key(1), batch=3, explicit=given)

  assert choose('const') == own and choose('explicit') == given
  assert [n.shape for n in choose('random')] == [(3, 4, 4, 1), (3, 8, 8, 1)]
  assert np.std(choose('random')[1]) == pytest.approx(1, rel=0.3)
  assert len(np.unique(choose('random')[1])) == 3 * 64  # Another for each image.
  assert not np.any(choose('none')[0]) and choose('none')[1].shape == (1, 8, 8, 1)
  for mode, expected in (('loud', 'expected one of ' + ', '.join(NOISE_MODES)), ('random', 'found no key')):
    with pytest.raises(ValueError, match=expected):
      choose_noise(mode, own)
  with pytest.raises(ValueError, match=r'found arrays of shapes \[\(8, 8, 1\)\], expected'):
    choose_noise('explicit', own, explicit=given[1:])


@pytest.mark.parametrize('lod', [0.0, 0.25, 1.0, 1.5, 2.0])
def test_real_images_fade_as_the_generator_does(lod):
  images = np.random.default_rng(0).uniform(-1, 1, (2, 16, 16, 3)).astype(np.float32)

  def means(x, factor):
    return x.reshape(2, 16 // factor, factor, 16 // factor, factor, 3).mean((2, 4))

  def repeated(x):
    return x.repeat(16 // x.shape[1], axis=1).repeat(16 // x.shape[1], axis=2)

  floor = int(lod)
  upper, lower = repeated(means(images, 2**floor)), repeated(means(images, 2 ** (floor + 1)))
  expected = upper + (lower - upper) * (lod - floor)
  np.testing.assert_allclose(at_lod(jnp.asarray(images), lod_of(lod)), expected, atol=1e-6)


@pytest.mark.parametrize('lod', [-0.5, 2.25, 3.0])
def test_levels_of_detail_that_a_network_does_not_have_are_refused(lod):
  model = StyleGAN(FMAPS, latent_size=5, w_size=7, mapping_layers=2, structure='linear')
  with pytest.raises(ValueError, match='level of detail .*, expected 0 to 2'):
    generator_decoder(model, 2, lod_of(lod)).decode({'params': {}, 'noise': ()}, normal(0, 1, 6, 7))
