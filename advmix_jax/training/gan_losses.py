"""Losses of GAN training, `[B]` float32 each, to be minimised; means are taken in the step."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from advmix_jax.types import Array

ScoreFn = Callable[[Array], Array]
GAN_LOSSES = ('logistic', 'relativistic', 'wgan_gp')
WITH_R1 = ('logistic', 'relativistic')
DRIFT = 0.001  # Of Wasserstein scores, as in Karras et al. 2018.
GRADIENT_WEIGHT = 10.0


def generator_loss(name: str, fake: Array, real: Array) -> Array:
  """From the scores `[B]` of generated and of real images; only `relativistic` asks for the latter.

  `logistic` is the non-saturating loss (Goodfellow et al. 2014), `wgan_gp` that of Arjovsky et al. 2017.
  `relativistic` compares each generated image with a real one, so that no class of images can be left out for
  good (Jolicoeur-Martineau 2018; with R1 and R2 as Huang et al. 2024, "The GAN is dead; long live the GAN!").
  """
  if name == 'relativistic':
    return jax.nn.softplus(real - fake)
  return jax.nn.softplus(-fake) if name == 'logistic' else -fake


def discriminator_loss(name: str, fake: Array, real: Array) -> Array:
  """From the scores `[B]` of generated and of real images, without a penalty on gradients."""
  if name == 'relativistic':
    return jax.nn.softplus(fake - real)
  if name == 'logistic':
    return jax.nn.softplus(fake) + jax.nn.softplus(-real)
  return fake - real + DRIFT * jnp.square(real)


def scores_and_squared_gradients(score_fn: ScoreFn, images: Array) -> tuple[Array, Array]:
  """Scores `[B]`, and `|d score / d image|^2` `[B]` (R1, R2: Mescheder et al. 2018), by one pass.

  Args:
    score_fn: images `[B, H, W, C]` to scores `[B]`; examples may influence each other's scores.
    images: where both are taken; the squares are summed over pixels and channels.
  """
  scores, pull = jax.vjp(score_fn, images)
  (gradient,) = pull(jnp.ones_like(scores))
  return scores, jnp.sum(jnp.square(gradient), axis=(1, 2, 3))


def gradient_penalty(score_fn: ScoreFn, real: Array, fake: Array, keys: Array) -> Array:
  """`10 (|d score / d image| - 1)^2` `[B]` between real and generated images (Gulrajani et al. 2017).

  Args:
    score_fn: as for `scores_and_squared_gradients`.
    real, fake: `[B, H, W, C]`.
    keys: `[B]`, consumed: each draws how far its image lies from the real towards the generated one.
  """
  share = jax.vmap(jax.random.uniform)(keys)[:, None, None, None]
  _, squared = scores_and_squared_gradients(score_fn, real + (fake - real) * share)
  length = jnp.sqrt(jnp.maximum(squared, 1e-30))  # At 0 the root has no gradient.
  return GRADIENT_WEIGHT * jnp.square(length - 1)
