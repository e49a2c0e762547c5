"""A generator of any architecture as the `Decoder` that the algorithms take, with images of any size.

The model is a Flax module with the sizes `resolution`, `image_channels`, `latent_size`, `label_size`,
`w_size`, `num_layers` and `noise_sizes`, and the methods `map_z(z)`, or with classes `map_z(z, labels)`,
`coarse(w_par, noise)`, `fine(trunk, w_perp, noise)` and, for both together, `synthesis(w, noise)`; where it
grows, `coarse` and `fine` also take `lod`. Its parameters are initialised by `__call__(z, noise, labels)`;
`dtype` and `remat` say how it is computed.
"""

from typing import Any

import jax
import jax.numpy as jnp

from advmix_jax.models import resampling
from advmix_jax.models.growing import Lod
from advmix_jax.models.mapping import split_label
from advmix_jax.models.noise import draw_noise
from advmix_jax.types import Array, Decoder, PyTree

Module = Any  # A Flax module as described above.


def init_generator(key: Array, model: Module) -> PyTree:
  """Generator parameters as a decoder holds them. The key is consumed.

  Returns:
    `{'params', 'noise', 'w_avg'}`: trained parameters; the constant noise of each layer; `[D]` zeros.
  """
  params_key, noise_key = jax.random.split(key)
  noise = draw_noise(noise_key, model.noise_sizes)
  labels = jnp.zeros((1, model.label_size)) if model.label_size else None
  params = model.init(params_key, jnp.zeros((1, model.latent_size)), noise, labels)['params']
  return {'params': params, 'noise': noise, 'w_avg': jnp.zeros(model.w_size)}


def generator_decoder(
  model: Module, mixing_level: int, lod: Lod | None = None, resolution: int | None = None
) -> Decoder:
  """The generator as a `Decoder`, with the noise among its parameters, cut at `mixing_level`.

  A conditional generator takes its label from K more coordinates of z: see `mapping.split_label`.

  Args:
    model: the generator.
    mixing_level: m.
    lod: level of detail of a generator that grows; None = the model's own.
    resolution: side of the images, a power of two; see `resize`. None = the model's own.

  Raises:
    ValueError: if the level is not in 1..L-1.
  """
  if not 1 <= mixing_level < model.num_layers:
    raise ValueError(
      f'mixing level {mixing_level} is outside 1..{model.num_layers - 1} '
      f'of a generator with {model.num_layers} layers'
    )
  detail = () if lod is None else (lod,)

  def call(params: PyTree, *args: PyTree, method: str) -> PyTree:
    return model.apply({'params': params['params']}, *args, method=method)

  def map_z(params: PyTree, z: Array) -> Array:
    given = split_label(z, model.latent_size) if model.label_size else (z,)
    return call(params, *given, method='map_z')

  def fine(params: PyTree, trunk: PyTree, w_perp: Array) -> Array:
    images = call(params, trunk, w_perp, params['noise'], *detail, method='fine')
    return resize(images, resolution or model.resolution)

  return Decoder(
    map_z=map_z,
    coarse=lambda params, w_par: call(params, w_par, params['noise'], *detail, method='coarse'),
    fine=fine,
    w_avg=lambda params: params['w_avg'],
    mixing_level=mixing_level,
    num_layers=model.num_layers,
    latent_size=model.latent_size + model.label_size,
    w_size=model.w_size,
  )


def resize(images: Array, resolution: int) -> Array:
  """Images `[B, R, R, C]` of another side: means of squares where it is smaller, bilinear where larger.

  Both sides are powers of two.
  """
  size = images.shape[1]
  if resolution <= size:
    return resampling.downsample_mean(images, size // resolution)
  shape = (images.shape[0], resolution, resolution, images.shape[3])
  return jax.image.resize(images, shape, 'bilinear')
