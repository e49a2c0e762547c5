"""Style mixing (Karras et al. 2019, section 3.1): images of two latents, so that layers stand alone."""

import jax
import jax.numpy as jnp

from advmix_jax.training.gan_state import GanSettings
from advmix_jax.types import Array


def style_mix(
  key: Array, keys: Array, w: Array, other: Array, settings: GanSettings, num_drawn: int | None = None
) -> Array:
  """Rows from a cut on are taken from `other`; both `[B, L, D]`. The keys are consumed.

  Args:
    key: for a cut shared by the minibatch.
    keys: `[B]`, for a cut of each sample's own.
    w: kept below the cut.
    other: taken from the cut on.
    settings: probability, where the cut is, and who shares it.
    num_drawn: layers that are drawn, a random cut is among them; None = L. Below a fixed cut there is nothing
      to mix yet.
  """
  num_layers = w.shape[1]
  last = num_layers if num_drawn is None else num_drawn

  def draw_cut(key):
    coin_key, cut_key = jax.random.split(key)
    cut = settings.fixed_cut or jax.random.randint(cut_key, (), 1, last)
    return jnp.where(jax.random.uniform(coin_key) < settings.style_mixing_prob, cut, num_layers)

  cuts = jax.vmap(draw_cut)(keys) if settings.cut_per_sample else jnp.full(w.shape[0], draw_cut(key))
  keep = jnp.arange(num_layers)[None] < cuts[:, None]
  return jnp.where(keep[:, :, None], w, other)
