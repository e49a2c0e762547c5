"""Path-length regularisation of StyleGAN 2 (Karras et al. 2020, section 3.2).

A step of equal length in w should change the image equally much everywhere. It is applied every few steps, as
a step of the generator's optimiser of its own.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from advmix_jax import micro_batch
from advmix_jax.types import Array, PyTree


class PathLengthSettings(NamedTuple):
  """Settings of the regularisation; the defaults are StyleGAN 2's.

  Attributes:
    weight: of the penalty; 0 = none.
    interval: it is applied every so many steps, that many times as strong.
    decay: share of a batch in the running mean of lengths.
    batch_shrink: it takes so many times fewer latents than the other losses.
  """

  weight: float = 2.0
  interval: int = 4
  decay: float = 0.01
  batch_shrink: int = 2


def path_lengths(synthesis: Callable[[Array], Array], w: Array, direction: Array) -> Array:
  """How far an image moves along a random direction of unit size per pixel when its latents do.

  Args:
    synthesis: `w [B, L, D]` to images `[B, H, W, C]`; each example by itself.
    w: `[B, L, D]` float32.
    direction: `[B, H, W, C]` standard normal.

  Returns:
    `[B]`, the root of the mean over L of the squared norm of the gradient in D.
  """
  scale = 1 / math.sqrt(direction.shape[1] * direction.shape[2])
  gradient = jax.grad(lambda w: jnp.sum(synthesis(w) * direction) * scale)(w)
  return jnp.sqrt(jnp.mean(jnp.sum(jnp.square(gradient), axis=2), axis=1))


def path_length_loss(
  lengths: Array, mean: Array, settings: PathLengthSettings, axis_name: str | None = None
) -> tuple[Array, Array]:
  """Penalty on lengths that differ from their running mean.

  Args:
    lengths: `[B]` of `path_lengths`, this device's share.
    mean: scalar, the running mean before this batch; starts at 0.
    settings: strength and interval.
    axis_name: of the devices; the running mean is over the batch of all.

  Returns:
    The loss, a scalar, `interval * weight` times as strong as the mean penalty; and the new running mean,
    which takes part in the penalty's gradient as in the official code.
  """
  batch = jnp.mean(lengths)
  if axis_name is not None:
    batch = jax.lax.pmean(batch, axis_name)
  mean = mean + (batch - mean) * settings.decay
  penalty = jnp.mean(jnp.square(lengths - mean))
  return penalty * settings.weight * settings.interval, mean


def path_length_gradients(
  lengths_of: Callable[[PyTree, PyTree], Array],
  loss_fn: Callable[[Array], tuple[Array, Array]],
  params: PyTree,
  batch: PyTree,
  parts: int,
) -> tuple[PyTree, Array]:
  """Gradients of a loss of lengths by the parameters, a part of the batch at a time.

  The penalty of a length depends on the mean of all. In parts, lengths are computed twice: once for the
  derivative of the penalty by each of them, then for their own by the parameters.

  Args:
    lengths_of: parameters and a part of the batch to its lengths, each example by itself.
    loss_fn: lengths `[B]` to the loss and the new running mean, see `path_length_loss`.
    params: of the generator.
    batch: tree of `[B, ...]`, B a multiple of the number of parts.
    parts: see `micro_batch`; 1 = all at once.

  Returns:
    The gradients, and the new running mean.
  """
  if parts == 1:
    return jax.grad(lambda params: loss_fn(lengths_of(params, batch)), has_aux=True)(params)
  lengths = micro_batch.collect(lambda part: lengths_of(params, part), batch, parts)
  factors, new_mean = jax.grad(loss_fn, has_aux=True)(lengths)

  def gradients_of(part):
    part, factors = part
    return jax.grad(lambda params: parts * jnp.sum(lengths_of(params, part) * factors))(params)

  return micro_batch.average(gradients_of, (batch, factors), parts), new_mean
