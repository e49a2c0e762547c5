"""Mapping network of StyleGAN 1: noise, and a label if there is one, to a row of latents."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen import initializers

from advmix_jax.models.layers import Dense, leaky_relu, pixel_norm
from advmix_jax.types import Array


class Mapping(nn.Module):
  """`z [B, Z]`, and labels `[B, K]` for a conditional network, to one row of latents `[B, D]`.

  Attributes:
    w_size: D.
    num_layers: dense layers.
    fmaps: width of the hidden ones; None = D.
    label_size: K; 0 = no labels.
    lr_multiplier: of every layer; stored weights have standard deviation `1 / lr_multiplier`.
    slope: of the activation below zero.
  """

  w_size: int
  num_layers: int = 8
  fmaps: int | None = None
  label_size: int = 0
  lr_multiplier: float = 0.01
  slope: float = 0.2

  @nn.compact
  def __call__(self, z: Array, labels: Array | None = None) -> Array:
    if self.label_size:
      weight = self.param('label_weight', initializers.normal(1.0), (self.label_size, z.shape[1]))
      z = jnp.concatenate([z, given_labels(labels, self.label_size) @ weight], axis=1)
    x = pixel_norm(z)
    for i in range(self.num_layers):
      width = self.w_size if i == self.num_layers - 1 else self.fmaps or self.w_size
      x = Dense(width, lr_multiplier=self.lr_multiplier, name=f'dense_{i}')(x)
      x = leaky_relu(x, self.slope)
    return x


def given_labels(labels: Array | None, label_size: int) -> Array:
  """The labels `[B, K]` of a conditional network. Raises `ValueError` if they are missing or of another K."""
  if labels is None or labels.ndim != 2 or labels.shape[1] != label_size:
    found = None if labels is None else labels.shape
    raise ValueError(
      f'a network of {label_size} labels: found labels of shape {found}, expected [B, {label_size}]'
    )
  return labels


def join_label(z: Array, labels: Array) -> Array:
  """`z [B, Z]` and one-hot labels `[B, K]` as the `[B, Z + K]` that a conditional decoder maps."""
  return jnp.concatenate([z, labels], axis=1)


def split_label(z: Array, latent_size: int) -> tuple[Array, Array]:
  """What a conditional decoder is given, `[B, Z + K]`, as `z [B, Z]` and one-hot labels `[B, K]`.

  The label is the largest of the last K coordinates. When these are normal draws like the rest, every label
  is as likely, whatever z is; so an algorithm that only draws z needs to know nothing of labels.
  """
  rest = z[:, latent_size:]
  return z[:, :latent_size], jax.nn.one_hot(jnp.argmax(rest, axis=1), rest.shape[1], dtype=z.dtype)


def truncate(w: Array, w_avg: Array, psi: float, cutoff: int | None = None) -> Array:
  """Moves rows of `w [B, L, D]` towards `w_avg [D]` (Karras et al. 2019, appendix B).

  Args:
    w: mapped latents.
    w_avg: their mean.
    psi: 1 = nothing moves, 0 = the rows become the mean.
    cutoff: how many rows, from the first; None = all.
  """
  if psi == 1.0:
    return w
  rows = (jnp.arange(w.shape[1]) < (w.shape[1] if cutoff is None else cutoff))[None, :, None]
  average = w_avg[None, None]
  return jnp.where(rows, average + (w - average) * psi, w)
