"""How steep the reconstruction loss of Algorithm 1 is in each direction of a row of w.

L_rec is a sum of squares, so near a good reconstruction its Hessian is about `2 J^T J`, J the Jacobian of
what is compared (Gauss and Newton). In a row of w its eigenvalues lie orders of magnitude apart and its axes
are not the coordinates', so Adam, which scales coordinates, needs many steps. The mean over generated images
is much like that of any one image; its inverse, the same for all, costs little to find and to apply.
"""

import jax
import jax.numpy as jnp
import numpy as np

from advmix_jax import mixing
from advmix_jax.encoding import EncodeSettings, FeaturesFn
from advmix_jax.types import Array, Decoder, PyTree

NUM_BATCHES, BATCH = 64, 16  # Of images, each looked at in one random direction.
DAMPING = 0.1  # Of the mean eigenvalue: where the loss is flatter, steps are not longer.


def inverse_curvature(
  decoder: Decoder,
  features_fn: FeaturesFn,
  settings: EncodeSettings,
  params: PyTree,
  feature_params: PyTree,
  key: Array,
) -> Array:
  """`(2 (E[J^T J] + damping))^-1` of L_rec for each row of w, `[L, D, D]`; see `encoding.update_rule`.

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
    return total + jnp.einsum('bli,blj->lij', g, g), None

  size = decoder.w_size
  total = jnp.zeros((decoder.num_layers, size, size))
  total, _ = jax.lax.scan(add, total, jax.random.split(key, NUM_BATCHES))
  mean = total / (NUM_BATCHES * BATCH)
  damping = DAMPING * jnp.trace(mean, axis1=1, axis2=2).mean() / size
  return jnp.linalg.inv(2 * (mean + damping * jnp.eye(size)[None]))
