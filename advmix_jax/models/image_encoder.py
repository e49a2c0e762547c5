"""A feed-forward guess of the latents of an image, where Algorithm 1 then starts."""

import flax.linen as nn
import jax.numpy as jnp

from advmix_jax.models.layers import Conv, Dense, Dtype, leaky_relu
from advmix_jax.types import Array


class ImageEncoder(nn.Module):
  """Images `[B, R, R, C]` to latents `[B, L, D]`, as a deviation from `w_avg`.

  Attributes:
    fmaps: channels at full, half, quarter, ... resolution.
    num_layers: L.
    w_size: D.
    hidden: width of the dense layer.
    dtype: of the convolutions; latents are float32.
  """

  fmaps: tuple[int, ...]
  num_layers: int
  w_size: int
  hidden: int = 256
  dtype: Dtype = jnp.float32

  @nn.compact
  def __call__(self, images: Array, w_avg: Array) -> Array:
    x = images
    for features in self.fmaps[:-1]:
      x = leaky_relu(Conv(features, dtype=self.dtype)(x))
      x = leaky_relu(Conv(features, downsample=True, dtype=self.dtype)(x))
    x = leaky_relu(Conv(self.fmaps[-1], dtype=self.dtype)(x))
    x = leaky_relu(Dense(self.hidden)(x.reshape(x.shape[0], -1)))
    deviation = Dense(self.num_layers * self.w_size, gain=1.0)(x)
    return w_avg[None, None] + deviation.reshape(-1, self.num_layers, self.w_size)
