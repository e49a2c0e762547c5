"""Layers of StyleGAN 2 (Karras et al. 2020): mapping, modulated convolution, output layer.

Weights have the equalised learning rate of `layers`, with gain 1: here the gain follows the activation.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen import initializers

from advmix_jax.models import conv, fir
from advmix_jax.models.layers import (
  SQRT2,
  Dense,
  Dtype,
  along_channels,
  at_least_float32,
  leaky_relu,
  pixel_norm,
)
from advmix_jax.types import Array


def clamp(x: Array, limit: float | None) -> Array:
  """`x` held within +-`limit`; None = as it is."""
  return x if limit is None else jnp.clip(x, -limit, limit)


def activate(x: Array) -> Array:
  """Leaky rectifier times the square root of 2."""
  return leaky_relu(x) * SQRT2


def check_labels(labels: Array | None, label_size: int) -> None:
  """Raises `ValueError` unless `labels` is `[B, label_size]`, None for size 0."""
  found = 0 if labels is None else labels.shape[-1]
  if found != label_size:
    raise ValueError(f'labels: found {found or "none"} per example, expected {label_size or "none"}')


class Mapping(nn.Module):
  """Latent noise and labels to one row of latents `[B, D]`.

  Attributes:
    w_size: D.
    num_layers: dense layers; 0 = the normalised input.
    fmaps: width of the hidden ones; None = D.
    label_size: of the labels; 0 = none.
    embed_size: what a label is mapped to before it joins `z`; None = D.
    concat_labels: as the first StyleGAN 2: labels are mapped without bias, and `z` and they are normalised
      together. False = each by itself.
    lr_multiplier: of the dense layers, but for that of the labels.
  """

  w_size: int
  num_layers: int = 8
  fmaps: int | None = None
  label_size: int = 0
  embed_size: int | None = None
  concat_labels: bool = False
  lr_multiplier: float = 0.01

  @nn.compact
  def __call__(self, z: Array | None, labels: Array | None = None) -> Array:
    """`z [B, Z]`, None where labels are all there is; `labels [B, label_size]` float32, None without."""
    check_labels(labels, self.label_size)
    parts = [] if z is None else [z]
    if labels is not None and self.concat_labels:
      shape = (self.label_size, self.embed_size or self.w_size)
      parts.append(labels @ self.param('label_weight', initializers.normal(1.0), shape))
      parts = [jnp.concatenate(parts, axis=1)]
    elif labels is not None:
      parts.append(Dense(self.embed_size or self.w_size, gain=1.0, name='embed')(labels))
    x = jnp.concatenate([pixel_norm(part) for part in parts], axis=1)
    for i in range(self.num_layers):
      width = self.w_size if i == self.num_layers - 1 else self.fmaps or self.w_size
      dense = Dense(width, gain=1.0, lr_multiplier=self.lr_multiplier, name=f'dense_{i}')
      x = activate(dense(x))
    return x


class Affine(nn.Module):
  """A row `w [B, D]` to one factor per channel, `[B, features]`, around 1."""

  features: int

  @nn.compact
  def __call__(self, w: Array) -> Array:
    weight = self.param('weight', initializers.normal(1.0), (w.shape[-1], self.features))
    bias = self.param('bias', initializers.ones, (self.features,))
    return w @ (weight / math.sqrt(w.shape[-1])) + along_channels(bias, 2)


class StyledConv(nn.Module):
  """3x3 convolution whose kernel is modulated by a row of `w`, noise, bias, activation.

  To modulate the kernel by example is to scale the input's channels; to demodulate it, the output's. So all
  examples share one plain convolution.

  Attributes:
    channels: of the output.
    upsample: doubles the size.
    conv_clamp: limit of the result; None = none.
    dtype: of the convolution and of the result.
  """

  channels: int
  upsample: bool
  conv_clamp: float | None = None
  dtype: Dtype = jnp.float32

  @nn.compact
  def __call__(self, x: Array, w: Array, noise: Array | None) -> Array:
    """Args: `x [B, H, W, I]`; `w [B, D]`; `noise [1 or B, R, R, 1]`, None = none. Returns `[B, R, R, C]`."""
    weight = self.param('weight', initializers.normal(1.0), (3, 3, x.shape[-1], self.channels))
    noise_strength = self.param('noise_strength', initializers.zeros, ())
    bias = self.param('bias', initializers.zeros, (self.channels,))
    scale = Affine(x.shape[-1], name='affine')(w)
    norm = jnp.square(scale) @ jnp.sum(jnp.square(weight), axis=(0, 1))
    x = (x * scale[:, None, None]).astype(self.dtype)
    x = fir.upsample_conv(x, weight) if self.upsample else conv.conv2d(x, weight)
    x = at_least_float32(x) * jax.lax.rsqrt(norm + 1e-8)[:, None, None]
    if noise is not None:
      x = x + noise * noise_strength
    return clamp(activate(x + along_channels(bias, 4)), self.conv_clamp).astype(self.dtype)


class ToRGB(nn.Module):
  """Modulated 1x1 convolution to the channels of an image, in float32; not demodulated, no activation."""

  channels: int
  conv_clamp: float | None = None

  @nn.compact
  def __call__(self, x: Array, w: Array) -> Array:
    """`x [B, R, R, I]` and `w [B, D]` to `[B, R, R, channels]`."""
    weight = self.param('weight', initializers.normal(1.0), (1, 1, x.shape[-1], self.channels))
    bias = self.param('bias', initializers.zeros, (self.channels,))
    scale = Affine(x.shape[-1], name='affine')(w) / math.sqrt(x.shape[-1])
    x = conv.conv2d(x * scale[:, None, None], weight)
    return clamp(x + along_channels(bias, 4), self.conv_clamp)
