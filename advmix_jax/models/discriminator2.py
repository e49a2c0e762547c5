"""StyleGAN 2 residual discriminator (Karras et al. 2020); its activations also serve as features."""

import math
import sys

import flax.linen as nn
import jax.numpy as jnp
from flax.linen import initializers

from advmix_jax.models import conv, fir
from advmix_jax.models.discriminator import minibatch_stddev
from advmix_jax.models.layers import SQRT2, Dense, Dtype, along_channels, at_least_float32, recomputed
from advmix_jax.models.stylegan2_layers import Mapping, activate, check_labels, clamp
from advmix_jax.types import Array


class EqualizedConv(nn.Module):
  """Convolution, bias, activation. The weight used is `weight / sqrt(fan_in)`.

  Attributes:
    features: channels of the output.
    kernel_size: 1 or 3.
    conv_clamp: limit of the result; None = none.
    dtype: of the convolution and of the result.
  """

  features: int
  kernel_size: int = 3
  conv_clamp: float | None = None
  dtype: Dtype = jnp.float32

  @nn.compact
  def __call__(self, x: Array) -> Array:
    """`[B, H, W, I]` to `[B, H, W, features]`."""
    shape = (self.kernel_size, self.kernel_size, x.shape[-1], self.features)
    weight = self.param('weight', initializers.normal(1.0), shape) / math.sqrt(math.prod(shape[:3]))
    bias = self.param('bias', initializers.zeros, (self.features,))
    x = at_least_float32(conv.conv2d(x.astype(self.dtype), weight))
    return clamp(activate(x + along_channels(bias, 4)), self.conv_clamp).astype(self.dtype)


class Down(nn.Module):
  """The second half of a residual block: both of its ways to half the size, summed.

  Attributes:
    features: channels of the output.
    conv_clamp: limit of the convolution's way, before its weight in the sum; None = none.
    dtype: of the convolutions and of the result; the sum is taken in float32.
  """

  features: int
  conv_clamp: float | None = None
  dtype: Dtype = jnp.float32

  @nn.compact
  def __call__(self, x: Array, block_input: Array) -> Array:
    """`x [B, H, W, I]`, the first convolution of `block_input [B, H, W, I]`, to `[B, H/2, W/2, features]`."""
    channels = x.shape[-1]
    weight = self.param('weight', initializers.normal(1.0), (3, 3, channels, self.features))
    bias = self.param('bias', initializers.zeros, (self.features,))
    skip = self.param('skip', initializers.normal(1.0), (1, 1, channels, self.features))
    x = at_least_float32(fir.downsample_conv(x, weight / math.sqrt(9 * channels)))
    x = clamp(activate(x + along_channels(bias, 4)), self.conv_clamp)
    other = conv.conv2d(fir.downsample(block_input), skip / math.sqrt(channels))
    return ((x + other) / SQRT2).astype(self.dtype)


class Discriminator2(nn.Module):
  """Images `[B, R, R, C]` and labels to scores `[B]`.

  Attributes:
    fmaps: channels at 4, 8, 16, ... pixels, as in the generator.
    dense_features: width of the hidden dense layer; None = as at 4 pixels.
    conv_clamp: limit of what each 3x3 convolution and the first layer make; None = none.
    mbstd_group_size: of the minibatch standard deviation, from 2; None = the whole batch.
    mbstd_num_features: channels it appends; 0 = it is left out.
    label_size: of the labels; 0 = none.
    cmap_size: what a label is mapped to, to be multiplied with the last layer's features; None = `fmaps[0]`;
      0 = the label itself, as the first StyleGAN 2.
    mapping_layers, mapping_fmaps, embed_size, mapping_lr_multiplier: of the labels' network, see `Mapping`.
    dtype: of the convolutions and of what blocks hand on, see `layers`.
    remat: a backward pass computes again what is within a block. This and `dtype` say how a discriminator is
      computed and are not saved with it.
  """

  fmaps: tuple[int, ...]
  dense_features: int | None = None
  conv_clamp: float | None = None
  mbstd_group_size: int | None = 4
  mbstd_num_features: int = 1
  label_size: int = 0
  cmap_size: int | None = None
  mapping_layers: int = 8
  mapping_fmaps: int | None = None
  embed_size: int | None = None
  mapping_lr_multiplier: float = 0.01
  dtype: Dtype = jnp.float32
  remat: bool = False

  def setup(self):
    self.from_rgb = EqualizedConv(self.fmaps[-1], 1, self.conv_clamp, self.dtype)
    pairs = list(zip(self.fmaps[1:], self.fmaps[:-1], strict=True))[::-1]
    self.convs = [EqualizedConv(wide, 3, self.conv_clamp, self.dtype) for wide, _ in pairs]
    self.downs = [Down(narrow, self.conv_clamp, self.dtype) for _, narrow in pairs]
    self.conv = EqualizedConv(self.fmaps[0], 3, self.conv_clamp, self.dtype)
    self.dense = Dense(self.dense_features or self.fmaps[0], gain=1.0)
    cmap_size = self.fmaps[0] if self.cmap_size is None else self.cmap_size
    self.projects = bool(self.label_size and cmap_size)
    if self.projects:
      self.mapping = Mapping(
        w_size=cmap_size,
        num_layers=self.mapping_layers,
        fmaps=self.mapping_fmaps,
        label_size=self.label_size,
        embed_size=self.embed_size,
        lr_multiplier=self.mapping_lr_multiplier,
      )
      self.out = Dense(cmap_size, gain=1.0)
    else:
      self.out = Dense(max(self.label_size, 1), gain=1.0)

  def features(self, images: Array) -> dict[str, Array]:
    """Activations at each resolution, by name `block_<resolution>`; each example by itself.

    They are float32. From 8 pixels on those of a block's first convolution, at 4 the sum that the last block
    makes: names and shapes are those of `discriminator.Discriminator`.
    """
    x = self.from_rgb(images)
    activations = {}
    for k in range(len(self.convs)):
      block = recomputed(lambda model, x, k=k: model._block(k, x), self)
      activation, x = block(self, x)
      activations[f'block_{activation.shape[1]}'] = at_least_float32(activation)
    activations['block_4'] = at_least_float32(x)
    return activations

  def _block(self, k: int, x: Array) -> tuple[Array, Array]:
    """The first convolution of `x`, and the sum that the block makes."""
    y = self.convs[k](x)
    return y, self.downs[k](y, x)

  def __call__(self, images: Array, labels: Array | None = None, axis_name: str | None = None) -> Array:
    """Images, labels `[B, label_size]` if there are any; `axis_name` is that of `minibatch_stddev`."""
    check_labels(labels, self.label_size)
    x = self.features(images)['block_4']
    if self.mbstd_num_features:
      x = minibatch_stddev(x, self.mbstd_group_size or sys.maxsize, axis_name, self.mbstd_num_features)
    x = at_least_float32(self.conv(x))
    x = x.transpose(0, 3, 1, 2).reshape(x.shape[0], -1)  # Official weights expect C, H, W.
    x = self.out(activate(self.dense(x)))
    if labels is None:
      return x[:, 0]
    if self.projects:
      return jnp.sum(x * self.mapping(None, labels), axis=1) / math.sqrt(x.shape[1])
    return jnp.sum(x * labels, axis=1)
