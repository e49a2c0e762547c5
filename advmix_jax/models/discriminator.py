"""StyleGAN 1 discriminator (Karras et al. 2018, 2019); its activations also serve the encoder as features."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from advmix_jax.models import resampling
from advmix_jax.models.growing import Lod, fade, is_fading, resolve_lod
from advmix_jax.models.layers import Conv, Dense, Dtype, at_least_float32, leaky_relu, recomputed
from advmix_jax.models.mapping import given_labels
from advmix_jax.types import Array, PyTree


def minibatch_stddev(
  x: Array, group_size: int = 4, axis_name: str | None = None, num_features: int = 1
) -> Array:
  """Appends channels: the mean standard deviation within each example's group.

  Args:
    x: `[B, H, W, C]`; B a multiple of the group size (or smaller than it).
    group_size: members of a group. They are strided: of M groups, example n is in group n mod M. 1 or less
      appends nothing.
    axis_name: groups are formed over the batch of all devices of this axis, so that their number does not
      change the mathematics.
    num_features: F; the channels are split in as many parts, each of which gives one. F divides C.

  Returns:
    `[B, H, W, C + F]`.
  """
  if group_size <= 1:
    return x
  whole = x if axis_name is None else jax.lax.all_gather(x, axis_name, tiled=True)
  size = min(group_size, whole.shape[0])
  if whole.shape[0] % size:
    raise ValueError(
      f'minibatch stddev: a batch of {whole.shape[0]} is not a multiple of the group size {size}'
    )
  groups = whole.reshape(size, -1, *x.shape[1:3], num_features, x.shape[3] // num_features)
  variance = jnp.mean(jnp.square(groups - jnp.mean(groups, axis=0, keepdims=True)), axis=0)
  statistic = jnp.tile(jnp.mean(jnp.sqrt(variance + 1e-8), axis=(1, 2, 4)), (size, 1))
  if axis_name is not None:
    start = jax.lax.axis_index(axis_name) * x.shape[0]
    statistic = jax.lax.dynamic_slice_in_dim(statistic, start, x.shape[0])
  channels = jnp.broadcast_to(statistic[:, None, None], (*x.shape[:3], num_features))
  return jnp.concatenate([x, channels], axis=-1)


def block_names(resolution: int) -> tuple[str, ...]:
  """Names of the features of a discriminator of images of so many pixels, in their order."""
  return tuple(f'block_{resolution >> i}' for i in range(resolution.bit_length() - 2))


class Discriminator(nn.Module):
  """Images `[B, R, R, C]` to scores `[B]`. Initialise through `__call__` only.

  Attributes:
    fmaps: channels at 4, 8, 16, ... pixels, as in the generator.
    dense_features: width of the hidden dense layer; None = as at 4 pixels.
    label_size: K; a conditional discriminator has a score for each label and is told which counts. 0 = none.
    structure: 'fixed', or 'linear' for a network that grows: it has an input layer at every resolution.
    lod: level of detail where a call names none; above 0 only with 'linear'.
    blur: filters before downsampling.
    slope: of the activations below zero.
    mbstd_group_size, mbstd_num_features: of the minibatch standard deviation.
    dtype: of the convolutions and of what blocks hand on, see `layers`.
    remat: a backward pass computes again what is within a block. This and `dtype` say how a discriminator is
      computed and are not saved with it.
  """

  fmaps: tuple[int, ...]
  dense_features: int | None = None
  label_size: int = 0
  structure: str = 'fixed'
  lod: float = 0.0
  blur: bool = True
  slope: float = 0.2
  mbstd_group_size: int = 4
  mbstd_num_features: int = 1
  dtype: Dtype = jnp.float32
  remat: bool = False

  def setup(self):
    self.from_rgb = Conv(self.fmaps[-1], kernel_size=1, dtype=self.dtype)
    if self.structure == 'linear':
      lower = enumerate(self.fmaps[-2::-1], 1)
      self.from_rgb_lod = {str(n): Conv(width, kernel_size=1, dtype=self.dtype) for n, width in lower}
    pairs = list(zip(self.fmaps[1:], self.fmaps[:-1], strict=True))[::-1]
    self.convs = [Conv(wide, dtype=self.dtype) for wide, _ in pairs]
    self.downs = [Conv(narrow, downsample=True, dtype=self.dtype) for _, narrow in pairs]
    self.conv = Conv(self.fmaps[0], dtype=self.dtype)
    self.dense = Dense(self.dense_features or self.fmaps[0])
    self.out = Dense(max(self.label_size, 1), gain=1.0)

  def features(self, images: Array, lod: Lod | None = None) -> dict[str, Array]:
    """Activations after each resolution's block, by name `block_<resolution>`; each example by itself.

    They are float32.
    """
    own = 0.0 if self.is_initializing() else self.lod  # Every layer is initialised.
    lod = resolve_lod(lod, own, self.structure, len(self.fmaps))
    images = resampling.downsample_mean(images, 2**lod.floor)
    x = self._from_rgb(images, lod.floor).astype(self.dtype)
    activations = {}
    for k in range(lod.floor, len(self.convs)):
      block = recomputed(lambda model, x, k=k: model._block(k, x), self)
      activation, x = block(self, x)
      activations[f'block_{activation.shape[1]}'] = at_least_float32(activation)
      if self.is_initializing() and self.structure == 'linear':
        self._from_rgb(resampling.downsample_mean(images, 2 ** (k + 1)), k + 1)
      if k == lod.floor and is_fading(lod):
        x = fade(x, self._from_rgb(resampling.downsample_mean(images, 2), k + 1), lod)
      x = x.astype(self.dtype)
    activations['block_4'] = at_least_float32(x)
    return activations

  def _block(self, k: int, x: Array) -> tuple[Array, Array]:
    """What a resolution makes of `x`, and that at half the size; the latter in float32."""
    x = self._activate(self.convs[k](x)).astype(self.dtype)
    return x, self._activate(self.downs[k](resampling.blur(x) if self.blur else x))

  def __call__(
    self, images: Array, labels: Array | None = None, axis_name: str | None = None, lod: Lod | None = None
  ) -> Array:
    """Scores `[B]`.

    Args:
      images: `[B, R, R, C]` in [-1, 1].
      labels: `[B, K]`, one-hot, for a conditional discriminator.
      axis_name: see `minibatch_stddev`.
      lod: level of detail; None = the network's own.
    """
    x = self.features(images, lod)['block_4']
    x = minibatch_stddev(x, self.mbstd_group_size, axis_name, self.mbstd_num_features)
    x = self._activate(self.conv(x))
    x = x.transpose(0, 3, 1, 2).reshape(
      x.shape[0], math.prod(x.shape[1:])
    )  # Official weights expect C, H, W.
    scores = self.out(self._activate(self.dense(x)))
    if not self.label_size:
      return scores[:, 0]
    return jnp.sum(scores * given_labels(labels, self.label_size), axis=1)

  def _activate(self, x: Array) -> Array:
    return leaky_relu(x, self.slope)

  def _from_rgb(self, images: Array, lod: int) -> Array:
    """The input layer of a resolution, counted from the highest."""

    def layer(model: Discriminator, images: Array) -> Array:
      return model._activate((model.from_rgb if lod == 0 else model.from_rgb_lod[str(lod)])(images))

    return recomputed(layer, self)(self, images)


def init_discriminator(key: Array, model: Discriminator, image_shape: tuple[int, int, int]) -> PyTree:
  """Parameters for images of shape `(R, R, C)`. The key is consumed."""
  labels = jnp.zeros((4, model.label_size)) if model.label_size else None
  return model.init(key, jnp.zeros((4, *image_shape)), labels)['params']
