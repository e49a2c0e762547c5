"""StyleGAN 1 discriminator (Karras et al. 2018, 2019); its activations also serve the encoder as features."""

import math
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from advmix_jax.models import conv
from advmix_jax.models.layers import Conv, Dense, leaky_relu
from advmix_jax.types import Array


def minibatch_stddev(x: Array, group_size: int = 4, axis_name: str | None = None) -> Array:
  """Appends one channel: the mean standard deviation within each example's group.

  Args:
    x: `[B, H, W, C]`; B a multiple of the group size (or smaller than it).
    group_size: members of a group. They are strided: of M groups, example n is in group n mod M.
    axis_name: groups are formed over the batch of all devices of this axis, so that their number does not
      change the mathematics.

  Returns:
    `[B, H, W, C + 1]`.
  """
  whole = x if axis_name is None else jax.lax.all_gather(x, axis_name, tiled=True)
  size = min(group_size, whole.shape[0])
  if whole.shape[0] % size:
    raise ValueError(
      f'minibatch stddev: a batch of {whole.shape[0]} is not a multiple of the group size {size}'
    )
  groups = whole.reshape(size, -1, *x.shape[1:])
  variance = jnp.mean(jnp.square(groups - jnp.mean(groups, axis=0, keepdims=True)), axis=0)
  statistic = jnp.tile(jnp.mean(jnp.sqrt(variance + 1e-8), axis=(1, 2, 3)), size)
  if axis_name is not None:
    start = jax.lax.axis_index(axis_name) * x.shape[0]
    statistic = jax.lax.dynamic_slice_in_dim(statistic, start, x.shape[0])
  channel = jnp.broadcast_to(statistic[:, None, None, None], (*x.shape[:3], 1))
  return jnp.concatenate([x, channel], axis=-1)


def block_names(fmaps: Sequence[int]) -> tuple[str, ...]:
  """Names of the features of `Discriminator(fmaps)`, in their order."""
  return tuple(f'block_{4 * 2**i}' for i in reversed(range(len(fmaps))))


class Discriminator(nn.Module):
  """Images `[B, R, R, C]` to scores `[B]`.

  Attributes:
    fmaps: channels at 4, 8, 16, ... pixels, as in the generator.
    dense_features: width of the hidden dense layer; None = as at 4 pixels.
  """

  fmaps: tuple[int, ...]
  dense_features: int | None = None

  def setup(self):
    self.from_rgb = Conv(self.fmaps[-1], kernel_size=1)
    pairs = list(zip(self.fmaps[1:], self.fmaps[:-1], strict=True))[::-1]
    self.convs = [Conv(wide) for wide, _ in pairs]
    self.downs = [Conv(narrow, downsample=True) for _, narrow in pairs]
    self.conv = Conv(self.fmaps[0])
    self.dense = Dense(self.dense_features or self.fmaps[0])
    self.out = Dense(1, gain=1.0)

  def features(self, images: Array) -> dict[str, Array]:
    """Activations after each resolution's block, by name `block_<resolution>`; each example by itself."""
    x = leaky_relu(self.from_rgb(images))
    activations = {}
    for same, down in zip(self.convs, self.downs, strict=True):
      x = leaky_relu(same(x))
      activations[f'block_{x.shape[1]}'] = x
      x = leaky_relu(down(conv.blur(x)))
    activations['block_4'] = x
    return activations

  def __call__(self, images: Array, axis_name: str | None = None) -> Array:
    x = minibatch_stddev(self.features(images)['block_4'], axis_name=axis_name)
    x = leaky_relu(self.conv(x))
    x = x.transpose(0, 3, 1, 2).reshape(
      x.shape[0], math.prod(x.shape[1:])
    )  # Official weights expect C, H, W.
    return self.out(leaky_relu(self.dense(x)))[:, 0]
