"""Layers computed again in the backward pass: the same numbers, less kept."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advmix_jax.models.discriminator import Discriminator
from advmix_jax.models.discriminator2 import Discriminator2
from advmix_jax.models.growing import Lod
from advmix_jax.models.stylegan import StyleGAN
from advmix_jax.models.stylegan2 import StyleGAN2
from advmix_jax.training.gan_losses import scores_and_squared_gradients
from tests import tiny
from tests.compare import assert_close
from tests.tiny import normal, uniform

SIZES = {'latent_size': 5, 'w_size': 7, 'mapping_layers': 2}
GENERATORS = {
  'stylegan1': lambda remat: StyleGAN((5, 4, 3), remat=remat, **SIZES),
  'stylegan1 that grows': lambda remat: StyleGAN(
    (5, 4, 3), structure='linear', lod=0.3, remat=remat, **SIZES
  ),
  'stylegan2': lambda remat: StyleGAN2((5, 4, 3), remat=remat, **SIZES),
}
CRITICS = {
  'stylegan1': lambda remat: Discriminator((5, 4, 3), remat=remat),
  'stylegan1 that grows': lambda remat: Discriminator((5, 4, 3), structure='linear', lod=0.3, remat=remat),
  'stylegan2': lambda remat: Discriminator2((5, 4, 3), remat=remat),
}


def generator(name, remat):
  """`(synthesis(params, w), parameters)`."""
  model = GENERATORS[name](remat)
  noise = tuple(normal(3, 1, s, s, 1) for s in model.noise_sizes)
  shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 5)), noise))
  return lambda params, w: model.apply(params, w, noise, method='synthesis'), tiny.random_params(shapes, 0)


def critic(name, remat):
  """`(scores(params, images), parameters)`."""
  model = CRITICS[name](remat)
  shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((4, 16, 16, 3))))
  return model.apply, tiny.random_params(shapes, 0)


def assert_same(found, expected):
  scale = max(float(np.abs(x).max()) for x in jax.tree.leaves(expected))
  assert scale > 1e-3
  assert_close(found, expected, rtol=1e-4, atol=1e-5 * scale)


def test_parameters_are_the_same_ones():
  """Of the same names and shapes, so a generator trained with is loaded without."""
  for name in GENERATORS:
    (_, kept), (_, again) = (generator(name, remat) for remat in (False, True))
    assert_close(again, kept)
  for name in CRITICS:
    (_, kept), (_, again) = (critic(name, remat) for remat in (False, True))
    assert_close(again, kept)


@pytest.mark.parametrize(
  'name',
  ['stylegan1', pytest.param('stylegan1 that grows', marks=pytest.mark.slow), 'stylegan2'],
)
def test_a_generator_gives_the_same_images_and_gradients(name):
  """Gradients for the latents, as in the attack, for the parameters, and for path lengths (second order)."""
  w, direction = normal(1, 4, 6, 7), normal(2, 4, 16, 16, 3)

  def everything(remat):
    fn, params = generator(name, remat)

    def product(params, w):
      return jnp.sum(fn(params, w) * direction)

    def path(params):
      return jnp.sum(jnp.square(jax.grad(product, argnums=1)(params, w)))

    return fn(params, w), jax.grad(product, argnums=(0, 1))(params, w), jax.grad(path)(params)

  expected, found = (jax.jit(functools.partial(everything, remat))() for remat in (False, True))
  for a, b in zip(found, expected, strict=True):
    assert_same(a, b)


@pytest.mark.parametrize('name', CRITICS)
def test_a_discriminator_gives_the_same_scores_and_gradients(name):
  """Gradients for the images, for the parameters, and of R1 (second order)."""
  images = 0.9 * uniform(1, 4, 16, 16, 3)

  def everything(remat):
    fn, params = critic(name, remat)
    gradients = jax.grad(lambda params, x: jnp.sum(jnp.square(fn(params, x))), argnums=(0, 1))
    r1 = jax.grad(lambda params: jnp.sum(scores_and_squared_gradients(lambda x: fn(params, x), images)[1]))
    return fn(params, images), gradients(params, images), r1(params)

  expected, found = (jax.jit(functools.partial(everything, remat))() for remat in (False, True))
  for a, b in zip(found, expected, strict=True):
    assert_same(a, b)


def test_a_growing_generator_may_be_given_a_traced_level_of_detail():
  model = GENERATORS['stylegan1 that grows'](True)
  _, params = generator('stylegan1 that grows', True)
  noise, w = tuple(normal(3, 1, s, s, 1) for s in model.noise_sizes), normal(1, 4, 6, 7)

  @jax.jit
  def draw(share, w):
    return jax.grad(lambda w: jnp.sum(model.apply(params, w, noise, Lod(1, share), method='synthesis') ** 2))(
      w
    )

  assert np.any(draw(jnp.float32(0.3), w) != draw(jnp.float32(0.6), w))


def kept(fn, *args):
  """Numbers that `fn` keeps for a backward pass beside its arguments, as the tracing sees it."""
  jaxpr = jax.make_jaxpr(lambda *args: jax.vjp(fn, *args)[1])(*args).jaxpr
  return sum(x.aval.size for x in jaxpr.outvars if x not in jaxpr.invars)


@pytest.mark.parametrize('name', GENERATORS)
def test_less_of_a_generator_is_kept(name):
  fn, params = generator(name, False)
  fn_again, _ = generator(name, True)
  w = normal(1, 4, 6, 7)
  assert kept(fn_again, params, w) < 0.5 * kept(fn, params, w)


@pytest.mark.parametrize('name', CRITICS)
def test_less_of_a_discriminator_is_kept(name):
  fn, params = critic(name, False)
  fn_again, _ = critic(name, True)
  images = uniform(1, 4, 16, 16, 3)
  assert kept(fn_again, params, images) < 0.5 * kept(fn, params, images)
