"""Networks small enough to compile in a second, with every parameter away from its initial value."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from advmix_jax.models.classifier import Linear, TruncatedVGG
from advmix_jax.models.decoder import generator_decoder, init_generator
from advmix_jax.models.stylegan import StyleGAN
from advmix_jax.types import Array, Decoder, PyTree

NUM_CLASSES = 3


def random_params(shapes: PyTree, seed: int) -> PyTree:
  """Normal numbers of the given shapes: weights as networks start, biases and noise weights away from zero.

  By NumPy, as compiling a network's own initialisation takes longer than most tests.
  """
  rng = np.random.default_rng(seed)

  def draw(path, leaf):
    name = jax.tree_util.keystr(path)
    scale = 100.0 if 'mapping' in name and 'weight' in name else 1.0 if 'weight' in name else 0.3
    return jnp.asarray(scale * rng.standard_normal(leaf.shape), jnp.float32)

  return jax.tree_util.tree_map_with_path(draw, shapes)


def generator(fmaps: tuple[int, ...] = (6, 4)) -> StyleGAN:
  """8 pixels and four layers, if not told otherwise."""
  return StyleGAN(fmaps=fmaps, latent_size=5, w_size=7, mapping_layers=2)


def generator_params(model: StyleGAN, seed: int = 0) -> PyTree:
  """Parameters as a decoder takes them, `w_avg` measured."""
  params = random_params(jax.eval_shape(lambda: init_generator(jax.random.key(0), model)), seed)
  z = normal(seed + 1, 256, model.latent_size)
  w = jax.jit(lambda p: model.apply({'params': p}, z, method='map_z'))(params['params'])
  return params | {'w_avg': jnp.mean(w[:, 0], axis=0)}


@functools.cache
def decoder(mixing_level: int = 2, fmaps: tuple[int, ...] = (6, 4)) -> tuple[Decoder, PyTree]:
  model = generator(fmaps)
  return generator_decoder(model, mixing_level), generator_params(model)


def linear_decoder(mixing_level: int = 1, num_layers: int = 3, w_size: int = 4) -> Decoder:
  """Images `[B, L, D, 1]` that are the latents; `map_z` repeats `z / 10`, so nothing is ever clipped."""

  def map_z(params, z):
    return jnp.broadcast_to(z[:, None] / 10, (z.shape[0], num_layers, w_size))

  return Decoder(
    map_z=map_z,
    coarse=lambda params, w_par: w_par,
    fine=lambda params, trunk, w_perp: jnp.concatenate([trunk, w_perp], axis=1)[..., None],
    w_avg=lambda params: jnp.zeros(w_size),
    mixing_level=mixing_level,
    num_layers=num_layers,
    latent_size=w_size,
    w_size=w_size,
  )


@functools.cache
def classifier(image_shape: tuple[int, int, int], name: str = 'linear', seed: int = 3):
  """`(apply_fn(params, images) -> logits, params)`."""
  model = Linear(NUM_CLASSES) if name == 'linear' else TruncatedVGG((2, 3, 4, 3), NUM_CLASSES)
  shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, *image_shape))))['params']
  params = random_params(shapes, seed)
  return lambda params, images: model.apply({'params': params}, images), params


def normal(seed: int, *shape: int) -> Array:
  return jax.random.normal(jax.random.key(seed), shape)


def uniform(seed: int, *shape: int) -> Array:
  """In [-1, 1]."""
  return jax.random.uniform(jax.random.key(seed), shape, minval=-1.0, maxval=1.0)


def keys(seed: int, number: int) -> Array:
  return jax.random.split(jax.random.key(seed), number)
