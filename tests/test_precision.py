"""bfloat16 convolutions: what stays float32 does, and results are near those of float32."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from advmix_jax import attack, mixing
from advmix_jax.interop import generator_folder
from advmix_jax.methods import METHODS
from advmix_jax.models import vgg16
from advmix_jax.models.classifier import Linear, TruncatedVGG
from advmix_jax.models.decoder import generator_decoder
from advmix_jax.models.discriminator import Discriminator
from advmix_jax.models.discriminator2 import Discriminator2
from advmix_jax.models.image_encoder import ImageEncoder
from advmix_jax.models.stylegan import StyleGAN
from advmix_jax.models.stylegan2 import StyleGAN2
from advmix_jax.training import gan
from advmix_jax.training.classifier import create_train_state, train_step
from advmix_jax.training.gan_state import GanSettings
from advmix_jax.types import Batch
from configs import default
from tests import tiny, tiny_gan
from tests.compare import differ
from tests.tiny import normal, uniform

SIZES = {'latent_size': 5, 'w_size': 7, 'mapping_layers': 2}
GAN_SETTINGS = GanSettings(
  r1_gamma=10.0, r1_interval=2, style_mixing_prob=0.9, cut_per_sample=True, ema_decay=0.75
)
IMAGES = 0.9 * uniform(1, 8, 8, 8, 3)
# A bfloat16 has 8 bits: one rounding is wrong by up to 2^-9; these networks round some ten times in a row.
BOUND = 0.03


def generator_inputs(model):
  return normal(2, 8, 5), tuple(normal(3, 1, s, s, 1) for s in model.noise_sizes)


@functools.cache
def vgg_params():
  fmaps = {'block1_conv1': (3, 64), 'block1_conv2': (64, 64), 'block2_conv1': (64, 128)}
  return {
    name: {'weight': normal(4, 3, 3, *widths) / (3 * widths[0] ** 0.5), 'bias': 10 * normal(5, widths[1])}
    for name, widths in fmaps.items()
  }


def vgg_features(dtype):
  return functools.partial(vgg16.vgg16_features, layers=('block1_conv2', 'block2_conv1'), size=9, dtype=dtype)


def network(make, *inputs):
  """`(fn of a dtype, parameters, inputs)` of a Flax module."""
  model = make(jnp.float32)
  shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), *inputs))
  return lambda dtype: make(dtype).apply, tiny.random_params(shapes, 0), inputs


NETWORKS = {
  'stylegan1': lambda: network(
    lambda d: StyleGAN((4, 3), dtype=d, **SIZES), *generator_inputs(StyleGAN((4, 3)))
  ),
  'stylegan2': lambda: network(
    lambda d: StyleGAN2((4, 3), dtype=d, **SIZES), *generator_inputs(StyleGAN2((4, 3)))
  ),
  'discriminator': lambda: network(lambda d: Discriminator((4, 3), dtype=d), IMAGES),
  'discriminator2': lambda: network(lambda d: Discriminator2((4, 3), dtype=d), IMAGES),
  'classifier': lambda: network(lambda d: TruncatedVGG((2, 3, 4, 3), 3, dtype=d), IMAGES),
  'image encoder': lambda: network(lambda d: ImageEncoder((3, 4), 4, 7, dtype=d), IMAGES, jnp.zeros(7)),
  'vgg16': lambda: (vgg_features, vgg_params(), (IMAGES,)),
}


def equations(jaxpr):
  """All of a program's, also those of the programs inside it."""
  for equation in jaxpr.eqns:
    yield equation
    for inner in jax.tree.leaves(
      equation.params, is_leaf=lambda p: hasattr(p, 'jaxpr') or hasattr(p, 'eqns')
    ):
      if hasattr(inner, 'jaxpr') or hasattr(inner, 'eqns'):
        yield from equations(getattr(inner, 'jaxpr', inner))


def convolutions(fn, *args):
  """Dtypes of operands and result of every convolution, and all dtypes there are."""
  found, everything = set(), set()
  for equation in equations(jax.make_jaxpr(fn)(*args).jaxpr):
    everything |= {str(v.aval.dtype) for v in equation.outvars}
    if equation.primitive.name == 'conv_general_dilated':
      found |= {str(v.aval.dtype) for v in (*equation.invars, *equation.outvars)}
  return found, everything


def gradient_of(fn):
  return jax.grad(lambda *args: sum(jnp.sum(jnp.square(x)) for x in jax.tree.leaves(fn(*args))))


@pytest.mark.parametrize('name', NETWORKS)
def test_convolutions_are_bfloat16_and_results_float32_near_those_of_float32(name):
  fn, params, inputs = NETWORKS[name]()
  exact, found = (jax.jit(fn(dtype))(params, *inputs) for dtype in (jnp.float32, jnp.bfloat16))
  assert differ(found, exact)
  for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(exact), strict=True):
    assert a.dtype == jnp.float32
    assert np.abs(a - b).max() < BOUND * np.abs(b).max()
  for dtype in ('float32', 'bfloat16'):
    used, everything = convolutions(gradient_of(fn(jnp.dtype(dtype))), params, *inputs)
    assert used == {dtype}
    assert 'float64' not in everything


@pytest.mark.parametrize('name', NETWORKS)
def test_gradients_are_float32_and_near_those_of_float32(name):
  """For the parameters; by their direction, as some are sums in which nearly everything cancels."""
  fn, params, inputs = NETWORKS[name]()
  exact, found = (jax.jit(gradient_of(fn(d)))(params, *inputs) for d in (jnp.float32, jnp.bfloat16))
  assert {str(x.dtype) for x in jax.tree.leaves(found)} == {'float32'}
  a, b = (np.concatenate([np.ravel(x) for x in jax.tree.leaves(tree)]) for tree in (found, exact))
  assert a @ b > 0.99 * np.linalg.norm(a) * np.linalg.norm(b)
  assert np.linalg.norm(a) == pytest.approx(np.linalg.norm(b), rel=2 * BOUND)


@pytest.mark.parametrize('architecture', ['stylegan1', pytest.param('stylegan2', marks=pytest.mark.slow)])
def test_a_gan_step_keeps_float32_parameters_and_optimiser_states(architecture):
  """With R1, whose gradient goes through the networks twice, and path lengths."""
  is_two = architecture == 'stylegan2'
  generator, critic = (StyleGAN2, Discriminator2) if is_two else (StyleGAN, Discriminator)
  mean = {'path_length_mean': jnp.zeros(())} if is_two else {}
  settings = GAN_SETTINGS._replace(lazy_r1=is_two)
  step = jax.jit(functools.partial(gan.gan_step, settings=settings, with_r1=True, with_path_length=is_two))
  results = []
  for dtype in (jnp.float32, jnp.bfloat16):
    state = tiny_gan.gan_state(generator((4, 3), dtype=dtype, **SIZES), critic((4, 3), dtype=dtype), **mean)
    after, metrics = step(state, tiny_gan.batch(conditional=False))
    assert jax.tree.map(lambda x: (x.shape, x.dtype), after) == jax.tree.map(
      lambda x: (x.shape, x.dtype), state
    )
    results.append(metrics)
  exact, found = results
  assert exact.keys() == found.keys()
  for name, value in exact.items():
    assert found[name].dtype == jnp.float32
    assert float(found[name]) == pytest.approx(float(value), rel=0.1, abs=0.05), name


def test_a_classifier_step_keeps_float32_parameters_and_optimiser_states():
  """The attack included."""
  decoder, generator = tiny_decoder(jnp.bfloat16)
  model = TruncatedVGG((2, 3, 4, 3), tiny.NUM_CLASSES, dtype=jnp.bfloat16)
  state = create_train_state(
    jax.random.key(0), model, (8, 8, 3), optax.adam(1e-3), decoder=decoder, generator=generator
  )
  labels = jnp.arange(8, dtype=jnp.int32) % tiny.NUM_CLASSES
  batch = Batch(IMAGES, labels, normal(2, 8, 4, 7), jnp.arange(8))
  step = jax.jit(functools.partial(train_step, perturb_fn=METHODS['advmix'](default.get_config())))
  after, metrics = step(state, batch)
  assert jax.tree.map(lambda x: x.dtype, after) == jax.tree.map(lambda x: x.dtype, state)
  assert {x.dtype for x in metrics.values()} == {jnp.dtype('float32')}
  assert np.isfinite(metrics['loss']) and differ(after.params, state.params)


def tiny_decoder(dtype):
  model = tiny.generator()
  return generator_decoder(model.clone(dtype=dtype), 2), tiny.generator_params(model)


def test_the_attack_stays_in_its_box_and_finds_what_it_finds_in_float32():
  """The box and the steps are float32's to the last bit; the loss is near. Both are of the same starts."""
  epsilon, settings = 0.03, attack.LatentAttack(0.03, 1, 7, attack.ascent_rule('sign', 0.005))
  labels = jnp.arange(16, dtype=jnp.int32) % tiny.NUM_CLASSES
  w, keys = normal(7, 16, 4, 7), tiny.keys(6, 16)
  _, classifier = tiny.classifier((8, 8, 3), 'cnn')

  def search(dtype):
    decoder, params = tiny_decoder(dtype)
    model = TruncatedVGG((2, 3, 4, 3), tiny.NUM_CLASSES, dtype=dtype)

    def objective_fn(images):
      logits: jax.Array = model.apply({'params': classifier}, images)
      return attack.objective(logits, labels, 'highest_loss')

    trunk = decoder.coarse(params, w[:, :2])
    assert {x.dtype for x in jax.tree.leaves(trunk)} == {jnp.dtype(dtype)}
    found = attack.latent_search(settings, keys, decoder, params, trunk, objective_fn)
    start = mixing.draw_w_perp(keys, decoder, params)
    begun = objective_fn(attack.decode_clipped(decoder, params, trunk, start))[0]
    return found, start, begun

  # Outside of jit, as two compiled programs may round the same draws differently.
  exact, start, begun = search(jnp.float32)
  found, other_start, other_begun = search(jnp.bfloat16)
  np.testing.assert_array_equal(other_start, start)
  assert found.best.dtype == found.score.dtype == jnp.float32
  start = np.asarray(start)
  low, high = start - np.float32(epsilon), start + np.float32(epsilon)
  assert (low <= found.best).all() and (found.best <= high).all()
  np.testing.assert_allclose(found.score, exact.score, rtol=0.05, atol=0.05)
  gain, other_gain = (np.mean(a) - np.mean(b) for a, b in ((exact.score, begun), (found.score, other_begun)))
  assert gain > 0.01
  assert other_gain == pytest.approx(gain, rel=0.25)


def test_the_linear_classifier_has_no_convolutions_to_change():
  assert 'dtype' in TruncatedVGG.__dataclass_fields__ and 'dtype' not in Linear.__dataclass_fields__


@pytest.mark.parametrize('kind', [StyleGAN, StyleGAN2])
def test_precision_is_no_part_of_a_saved_generator(kind, tmp_path):
  """A folder written by a run in bfloat16 holds what one of a run in float32 holds."""
  model = kind((4, 3), **SIZES)
  described = generator_folder.describe(model.clone(dtype=jnp.bfloat16))
  assert described == generator_folder.describe(model)
  noise = tuple(normal(3, 1, s, s, 1) for s in model.noise_sizes)
  shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 5)), noise))['params']
  params = {'params': tiny.random_params(shapes, 0), 'noise': noise, 'w_avg': jnp.zeros(7)}
  generator_folder.save_generator(tmp_path, described, params)
  assert generator_folder.load_generator(tmp_path).module == model
