"""Projections onto the sets an attack must stay in. Arrays or pytrees; the first axis is the batch.

"Project" here always means this, never image to latent: that is `encoding`.
"""

import jax
import jax.numpy as jnp

from advmix_jax.types import Array, PyTree


def box(x: PyTree, lower: PyTree | float, upper: PyTree | float) -> PyTree:
  """Nearest point with `lower <= x <= upper`, elementwise; bounds are scalars or trees like `x`."""

  def spread(bound: PyTree | float) -> PyTree:
    return jax.tree.map(lambda _: bound, x) if isinstance(bound, int | float) else bound

  return jax.tree.map(jnp.clip, x, spread(lower), spread(upper))


def linf_ball(x: PyTree, centre: PyTree, epsilon: float | Array) -> PyTree:
  """Nearest point whose every coordinate is within `epsilon` of the centre's (proj of Algorithm 2)."""
  return jax.tree.map(lambda a, c: jnp.clip(a, c - epsilon, c + epsilon), x, centre)


def typical_shell(z: Array, delta: float) -> Array:
  """Nearest point of `z [B, d]` with `sqrt(d) - delta d^(1/4) <= |z| <= sqrt(d) + delta d^(1/4)` (Eq. 15)."""
  size = z.shape[-1]
  width = delta * size**0.25
  norm = jnp.linalg.norm(z, axis=-1, keepdims=True)
  return z * (jnp.clip(norm, max(size**0.5 - width, 0.0), size**0.5 + width) / jnp.maximum(norm, 1e-12))
