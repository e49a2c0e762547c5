"""Coordinates of w in which the reconstruction loss of Algorithm 1 is about as steep in every direction.

L_rec is a sum of squares, so near a good reconstruction its Hessian is about `2 J^T J`, J the Jacobian of
what is compared (Gauss and Newton). Its eigenvalues lie orders of magnitude apart and its axes are not the
coordinates', and join the rows of w, so Adam, which scales coordinates, needs many steps. The mean over
generated images is much like that of any one image; what Adam learns on the way is how they differ.
"""

import jax
import jax.numpy as jnp
import numpy as np

from advmix_jax import mixing
from advmix_jax.encoding import EncodeSettings, FeaturesFn
from advmix_jax.types import Array, Decoder, PyTree

NUM_BATCHES, BATCH = 128, 16  # Of images, each looked at in one random direction.
DAMPING = 0.1  # Of the mean eigenvalue: where the loss is flatter, steps are not longer.


def mean_curvature(
  decoder: Decoder,
  features_fn: FeaturesFn,
  settings: EncodeSettings,
  params: PyTree,
  feature_params: PyTree,
  key: Array,
) -> Array:
  """`E[J^T J]` of L_rec over generated images, `[L D, L D]`.

  For normal numbers v, `J^T v v^T J` has the mean `J^T J`.

  Args:
    decoder: of any level.
    features_fn, settings, params, feature_params: as for `encoding.encode`.
    key: consumed.
  """

  def compared(w):
    image = decoder.decode(params, w)
    layers = dict(settings.layer_weights)
    parts = [(settings.pixel_weight, image)] + [
      (settings.feature_weight * layers.get(name, 1.0), activations)
      for name, activations in features_fn(feature_params, image).items()
    ]
    return [jnp.sqrt(weight / np.prod(part.shape[1:])) * part for weight, part in parts]

  def add(total, key):
    draws, directions = jax.random.split(key)
    w = decoder.map_z(params, mixing.draw_z(jax.random.split(draws, BATCH), decoder.latent_size))
    parts, pull_back = jax.vjp(compared, w)
    keys = jax.random.split(directions, len(parts))
    (g,) = pull_back([jax.random.normal(k, part.shape) for k, part in zip(keys, parts, strict=True)])
    g = g.reshape(BATCH, -1)
    return total + g.T @ g, None

  size = decoder.num_layers * decoder.w_size
  total, _ = jax.lax.scan(add, jnp.zeros((size, size)), jax.random.split(key, NUM_BATCHES))
  return total / (NUM_BATCHES * BATCH)


def whitening(curvature: Array) -> Array:
  """Coordinates u with `w = M u` in which a curvature is even, for `encoding.update_rule`.

  Args:
    curvature: `[L D, L D]`, as `mean_curvature`; it is damped.

  Returns:
    `M [L D, L D]`. A step of one in every u is a step of one in w, in the mean square, so that rates mean
    what they mean to Adam.
  """
  eigenvalues, axes = jnp.linalg.eigh(curvature)
  scales = jax.lax.rsqrt(jnp.maximum(eigenvalues, 0.0) + DAMPING * jnp.mean(eigenvalues))
  return axes * (scales / jnp.sqrt(jnp.mean(jnp.square(scales))))[None]
