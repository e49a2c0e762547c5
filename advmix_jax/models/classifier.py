"""The classifiers of the paper: a truncated VGG and, for Table 2, a linear model.

No batch normalisation: examples of a batch that is attacked must not influence each other.
"""

import flax.linen as nn
import jax.numpy as jnp
from flax.linen import initializers

from advmix_jax.models import conv, resampling
from advmix_jax.models.layers import Dtype, along_channels, at_least_float32
from advmix_jax.types import Array


class TruncatedVGG(nn.Module):
  """Two blocks of two 3x3 convolutions and a 2x2 maximum, then a dense layer: "5 layers" (open in the paper).

  Attributes:
    fmaps: widths of the four convolutions.
    num_classes: number of logits.
    dtype: of the convolutions and the activations; logits are float32.
  """

  fmaps: tuple[int, int, int, int]
  num_classes: int
  dtype: Dtype = jnp.float32

  @nn.compact
  def __call__(self, images: Array) -> Array:
    """Images `[B, H, W, C]` in [-1, 1] to logits `[B, num_classes]`."""
    x = ((images + 1) / 2).astype(self.dtype)  # Black is zero, the value that the convolutions pad with.
    for i, features in enumerate(self.fmaps):
      kernel = self.param(f'conv_{i}', initializers.he_normal(), (3, 3, x.shape[-1], features))
      bias = self.param(f'bias_{i}', initializers.zeros, (features,))
      x = nn.relu(at_least_float32(conv.conv2d(x, kernel)) + along_channels(bias, 4)).astype(self.dtype)
      if i % 2:
        x = resampling.max_pool(x)
    return nn.Dense(self.num_classes, name='dense')(at_least_float32(x.reshape(x.shape[0], -1)))


class Linear(nn.Module):
  """One dense layer on the pixels."""

  num_classes: int

  @nn.compact
  def __call__(self, images: Array) -> Array:
    """Images `[B, H, W, C]` in [-1, 1] to logits `[B, num_classes]`."""
    x = jnp.reshape(images, (images.shape[0], -1))
    return nn.Dense(self.num_classes, name='dense')((x + 1) / 2)


def make_classifier(
  name: str, fmaps: tuple[int, ...], num_classes: int, dtype: Dtype = jnp.float32
) -> nn.Module:
  """The classifier called `name` (cnn | linear). The linear one has no convolutions for `dtype`."""
  if name == 'linear':
    return Linear(num_classes)
  if name == 'cnn' and len(fmaps) == 4:
    return TruncatedVGG((fmaps[0], fmaps[1], fmaps[2], fmaps[3]), num_classes, dtype)
  raise ValueError(f'no classifier {name!r} with widths {fmaps}')
