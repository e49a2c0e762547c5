"""StyleGAN 2 against a re-implementation from its description, and against official numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advmix_jax.interop.stylegan2_names import discriminator_from_state, generator_from_state
from advmix_jax.models.decoder import generator_decoder, init_generator
from advmix_jax.models.discriminator2 import Discriminator2
from advmix_jax.models.mapping import join_label, truncate
from advmix_jax.models.noise import draw_noise
from advmix_jax.models.stylegan2 import StyleGAN2
from tests import stylegan2_reference as reference
from tests.compare import nhwc
from tests.tiny import normal

FMAPS = (6, 5, 4)  # 16 pixels, six rows of w.
FMAPS_64 = (8, 7, 6, 5, 4)


@pytest.fixture(scope='module')
def generator():
  """16 pixels, without labels: module, decoder parameters, torch's names."""
  state = reference.random_generator(FMAPS)
  return *generator_from_state(state), state


def one_hot(labels, size):
  return np.eye(size, dtype=np.float32)[labels]


def apply(model, params, *args, method):
  return jax.jit(lambda *args: model.apply({'params': params}, *args, method=method))(*args)


@pytest.mark.parametrize('conv_clamp', [None, 0.8])
def test_generator_of_64_pixels_with_labels(conv_clamp):
  state = reference.random_generator(FMAPS_64, label_size=4)
  model, params = generator_from_state(state, conv_clamp=conv_clamp)
  assert (model.resolution, model.num_layers, model.label_size) == (64, 10, 4)
  z, labels = np.asarray(normal(0, 2, 5)), one_hot([3, 1], 4)
  row = reference.mapping(state, z, labels)
  w = apply(model, params['params'], z, labels, method='map_z')
  np.testing.assert_allclose(w, np.repeat(row[:, None], 10, axis=1), atol=1e-5)
  w = np.asarray(normal(1, 2, 10, 6))
  for noise in (params['noise'], None):
    images = apply(model, params['params'], w, noise, method='synthesis')
    expected = reference.synthesis(state, w, conv_clamp, with_noise=noise is not None)
    np.testing.assert_allclose(images, nhwc(expected), atol=1e-4)
  unclamped = reference.synthesis(state, w, None)
  assert (np.abs(unclamped - reference.synthesis(state, w, 0.8)) > 0.1).mean() > 0.1, (
    'the clamp does something'
  )


@pytest.mark.parametrize('conv_clamp, group_size', [(None, 4), (0.8, 2), (0.8, None)])
@pytest.mark.parametrize(
  'cmap_size, num_layers', [(5, 2), (7, 0), (0, 0)], ids=['mlp', 'embedding', 'direct']
)
def test_discriminator_of_64_pixels_with_labels(conv_clamp, group_size, cmap_size, num_layers):
  """Labels through a network, through an embedding alone, and multiplied with the outputs themselves."""
  state = reference.random_discriminator(FMAPS_64, label_size=3, cmap_size=cmap_size, num_layers=num_layers)
  model, params = discriminator_from_state(state, conv_clamp=conv_clamp, mbstd_group_size=group_size)
  images = np.asarray(normal(0, 8, 64, 64, 3))
  labels = one_hot(np.arange(8) % 3, 3)
  scores = jax.jit(lambda x, c: model.apply({'params': params}, x, c))(images, labels)
  expected = reference.discriminator(state, images.transpose(0, 3, 1, 2), labels, conv_clamp, group_size)
  np.testing.assert_allclose(scores, expected, atol=1e-5)


@pytest.mark.parametrize('num_features', [0, 2])
def test_other_numbers_of_minibatch_features(num_features):
  state = reference.random_discriminator((4, 3), num_features=num_features)
  model, params = discriminator_from_state(state, mbstd_group_size=2)
  assert model.mbstd_num_features == num_features
  images = np.asarray(normal(0, 4, 8, 8, 3))
  scores = jax.jit(lambda x: model.apply({'params': params}, x))(images)
  expected = reference.discriminator(state, images.transpose(0, 3, 1, 2), group_size=2)
  np.testing.assert_allclose(scores, expected, atol=1e-5)


def test_the_gradient_penalty_sees_the_slope_of_the_discriminator():
  """The gradient that R1 squares against differences of the description, in double precision."""
  state = reference.random_discriminator((5, 4, 3))
  model, params = discriminator_from_state(state, conv_clamp=0.5)
  images, direction = (np.asarray(normal(seed, 4, 16, 16, 3), np.float64) for seed in (0, 1))
  gradient = jax.jit(jax.grad(lambda x: jnp.sum(model.apply({'params': params}, x))))(
    images.astype(np.float32)
  )
  h = 1e-6
  up, down = (
    np.sum(reference.discriminator(state, (images + s * direction).transpose(0, 3, 1, 2), None, 0.5))
    for s in (h, -h)
  )
  assert float(np.sum(gradient * direction)) == pytest.approx((up - down) / (2 * h), rel=1e-4)


def test_coarse_then_fine_is_the_whole_network_at_every_level(generator):
  model, params, state = generator
  w = np.asarray(normal(0, 2, 6, 6))
  expected = nhwc(reference.synthesis(state, w))
  whole, cut = jax.jit(
    lambda w: (
      model.apply({'params': params['params']}, w, params['noise'], method='synthesis'),
      [generator_decoder(model, level).decode(params, w) for level in range(1, 6)],
    )
  )(w)
  np.testing.assert_allclose(whole, expected, atol=1e-4)
  for image in cut:
    np.testing.assert_allclose(image, whole, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize('level', range(1, 6))
def test_fine_repeats_only_what_takes_a_row_of_w_perp(generator, level):
  """Convolution i takes row i, the k-th output layer row 2k + 1."""
  model, params, _ = generator

  def called(fn):
    """Layers that `fn` runs, by name."""
    return set(jax.eval_shape(fn)[1]['intermediates'])

  def run(method, *args):
    return model.apply(
      {'params': params['params']}, *args, params['noise'], method=method, capture_intermediates=True
    )

  w = jnp.zeros((1, 6, 6))
  trunk = jax.eval_shape(lambda: run('coarse', w[:, :level])[0])
  trunk = jax.tree.map(lambda x: jnp.zeros(x.shape), trunk)
  rows = {f'layers_{i}': i for i in range(5)} | {f'to_rgb_{k}': 2 * k + 1 for k in range(3)}
  fine = called(lambda: run('fine', trunk, w[:, level:]))
  coarse = called(lambda: run('coarse', w[:, :level]))
  assert fine - {'fine'} == {name for name, row in rows.items() if row >= level}
  assert coarse - {'coarse'} == {name for name, row in rows.items() if row < level}


@pytest.mark.parametrize('level', [0, 6, -1])
def test_levels_outside_the_network_are_refused(generator, level):
  with pytest.raises(ValueError, match=f'mixing level {level} is outside 1..5 of a generator with 6 layers'):
    generator_decoder(generator[0], level)


def test_a_decoder_of_a_generator_with_labels_takes_them_from_z():
  state = reference.random_generator((4, 3), label_size=3)
  model, params = generator_from_state(state)
  z = np.asarray(normal(0, 2, 5))
  decoder = generator_decoder(model, 2)
  assert decoder.latent_size == 5 + 3
  w = jax.jit(decoder.map_z)(params, join_label(z, one_hot([2, 0], 3)))
  np.testing.assert_allclose(w[:, 0], reference.mapping(state, z, one_hot([2, 0], 3)), atol=1e-5)
  with pytest.raises(ValueError, match='labels: found none per example, expected 3'):
    apply(model, params['params'], z, method='map_z')


def test_labels_of_the_first_release_are_normalised_together_with_z():
  """`[z, labels @ weight]` divided by its root mean square."""
  state = reference.random_generator((4, 3), label_size=3)
  weight = state.pop('mapping.embed.weight')
  del state['mapping.embed.bias']
  model, params = generator_from_state(state | {'mapping.concat.weight': weight})
  z, labels = np.asarray(normal(0, 2, 5)), one_hot([2, 0], 3)
  w = apply(model, params['params'], z, labels, method='map_z')
  joined = reference.normalise(np.concatenate([z, labels @ weight.T], axis=1))
  # As one z, whose second normalisation changes nothing.
  np.testing.assert_allclose(w[:, 0], reference.mapping(state, joined, None), atol=1e-5)


def test_noise_of_each_example_its_own(generator):
  model, params, _ = generator
  noise = draw_noise(jax.random.key(0), model.noise_sizes, batch=2)
  assert [n.shape for n in noise] == [(2, s, s, 1) for s in (4, 8, 8, 16, 16)]
  w = np.asarray(normal(0, 2, 6, 6))
  both = apply(model, params['params'], w, noise, method='synthesis')
  for i in range(2):
    alone = apply(
      model, params['params'], w[i : i + 1], tuple(n[i : i + 1] for n in noise), method='synthesis'
    )
    np.testing.assert_allclose(both[i], alone[0], atol=1e-5)


def test_the_largest_official_networks_have_the_published_number_of_parameters():
  """Configuration F at 1024 pixels: 30.37 million and 29.01 million."""
  fmaps = tuple(min(32768 // 2**r, 512) for r in range(2, 11))
  model = StyleGAN2(fmaps)
  shapes = jax.eval_shape(lambda: init_generator(jax.random.key(0), model))['params']
  assert sum(int(np.prod(x.shape)) for x in jax.tree.leaves(shapes)) == 30_370_060
  images = jnp.zeros((1, 1024, 1024, 3))
  shapes = jax.eval_shape(lambda: Discriminator2(fmaps).init(jax.random.key(0), images))
  assert sum(int(np.prod(x.shape)) for x in jax.tree.leaves(shapes)) == 29_012_513


def test_initial_parameters_are_as_described():
  """Weights N(0, 1 / lr multiplier), the styles around 1, no noise."""
  model = StyleGAN2((16, 8), 64, 64, mapping_layers=2)
  variables = jax.jit(init_generator, static_argnums=1)(jax.random.key(0), model)
  params = variables['params']
  assert np.std(params['mapping']['dense_1']['weight']) == pytest.approx(100, rel=0.1)
  for name in ('layers_1', 'to_rgb_0'):
    assert np.std(params[name]['affine']['weight']) == pytest.approx(1, rel=0.1)
    np.testing.assert_array_equal(params[name]['affine']['bias'], 1)
    np.testing.assert_array_equal(params[name]['bias'], 0)
  assert np.std(params['const']) == pytest.approx(1, rel=0.2)
  assert params['layers_1']['noise_strength'] == 0


@pytest.fixture(scope='module')
def official(reference_dir):
  path = reference_dir / 'stylegan2_ada_32.npz'
  if not path.exists():
    pytest.skip(f'{path} is missing')
  with np.load(path) as file:
    return {name: file[name] for name in file.files}


def part(arrays, prefix):
  return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def test_official_generator(official):
  model, params = generator_from_state(part(official, 'G_ema/'))
  w = apply(model, params['params'], official['z'], method='map_z')
  np.testing.assert_allclose(w, official['ws'], atol=1e-5)
  w_avg = params['w_avg']
  cases = {
    'img_const_psi1': (w, params['noise']),
    'img_none_psi1': (w, None),
    'img_const_psi0.7': (truncate(w, w_avg, 0.7), params['noise']),
    'img_const_psi0.5_cut3': (truncate(w, w_avg, 0.5, 3), params['noise']),
    'img_const_wplus': (official['wplus'], params['noise']),
  }
  for name, (w, noise) in cases.items():
    images = apply(model, params['params'], w, noise, method='synthesis')
    np.testing.assert_allclose(images, nhwc(official[name]), atol=2e-4, err_msg=name)


def test_official_generator_cut_at_every_level(official):
  model, params = generator_from_state(part(official, 'G_ema/'))
  decode = jax.jit(
    lambda w: [generator_decoder(model, level).decode(params, w) for level in range(1, model.num_layers)]
  )
  for image in decode(official['wplus']):
    np.testing.assert_allclose(image, nhwc(official['img_const_wplus']), atol=2e-4)


def test_official_discriminator(official):
  model, params = discriminator_from_state(part(official, 'D/'))
  scores = jax.jit(lambda x: model.apply({'params': params}, x))(nhwc(official['d_in']))
  np.testing.assert_allclose(scores, official['d_scores'][:, 0], atol=1e-5)
