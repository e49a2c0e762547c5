"""Mixing of per-layer latents: what carries the label is kept, the rest comes from elsewhere."""

import jax
import jax.numpy as jnp

from advmix_jax import projection
from advmix_jax.types import Array, Decoder, PyTree


def split(w: Array, mixing_level: int) -> tuple[Array, Array]:
  """`w [B, L, D]` to `w_par [B, m, D]`, which carries the label, and `w_perp [B, L - m, D]`."""
  return w[:, :mixing_level], w[:, mixing_level:]


def mix(w: Array, other: Array, mixing_level: int) -> Array:
  """Eq. 11: the label-carrying rows of `w [B, L, D]` with the remaining rows of `other [B, L, D]`."""
  return jnp.concatenate([w[:, :mixing_level], other[:, mixing_level:]], axis=1)


def example_keys(key: Array, index: Array) -> Array:
  """One key for each example, `[B]`, from the examples' global indices `[B]`. The key is consumed.

  What is random for an example then depends on neither its batch nor the number of devices.
  """
  return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, index)


def draw_z(keys: Array, latent_size: int, typical_delta: float = 0.0) -> Array:
  """Standard normal latents from one key each; with `typical_delta`, from the typical set (Eq. 15).

  Args:
    keys: `[B]` keys; consumed.
    latent_size: d.
    typical_delta: if positive, the norm of each z is projected into its typical range.

  Returns:
    `[B, d]` float32.
  """
  z = jax.vmap(lambda k: jax.random.normal(k, (latent_size,)))(keys)
  return projection.typical_shell(z, typical_delta) if typical_delta > 0 else z


def draw_w_perp(keys: Array, decoder: Decoder, params: PyTree, typical_delta: float = 0.0) -> Array:
  """`map(z)_perp [B, L - m, D]` for a fresh z from each of `keys [B]`, which are consumed."""
  z = draw_z(keys, decoder.latent_size, typical_delta)
  return split(decoder.map_z(params, z), decoder.mixing_level)[1]


def random_mix(keys: Array, decoder: Decoder, params: PyTree, w: Array, typical_delta: float = 0.0) -> Array:
  """Eq. 17: images `[B, H, W, C]` that keep `w_par` of `w [B, L, D]` and draw everything else afresh.

  Args:
    keys: `[B]` keys; consumed.
    decoder: cut at the mixing level.
    params: the decoder's parameters.
    w: `[B, L, D]` latents of the images to be varied.
    typical_delta: see `draw_z`.
  """
  w_par, _ = split(w, decoder.mixing_level)
  return decoder.fine(
    params, decoder.coarse(params, w_par), draw_w_perp(keys, decoder, params, typical_delta)
  )
