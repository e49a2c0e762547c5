"""Layers with an equalised learning rate (StyleGAN, appendix of Karras et al. 2018).

A stored weight has standard deviation `1 / lr_multiplier`; the weight used is
`weight * gain / sqrt(fan_in) * lr_multiplier`. The gain belongs to the weight, not to the activation.

Every network has a `dtype`, of the operands and results of its convolutions and of what its layers hand on.
Parameters, dense layers, biases, noise, styles, statistics, images and scores are float32 whatever it is.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen import initializers

from advmix_jax.models import conv, resampling
from advmix_jax.types import Array

SQRT2 = math.sqrt(2.0)
Dtype = Any


def at_least_float32(x: Array) -> Array:
  """`x` in float32, or as it is where that is more precise."""
  return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def recomputed(fn: Callable, module: Any) -> Callable:
  """`fn(module, *arrays)`; where `module.remat`, what it computes inside is not kept for a backward pass."""
  return nn.remat(fn) if module.remat and not module.is_initializing() else fn


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def leaky_relu(x: Array, slope: float = 0.2) -> Array:
  """`max(x, slope x)`, slope in [0, 1]; 0 is the plain rectifier. The derivative at 0 is the slope."""
  return jnp.maximum(x, slope * x)


@leaky_relu.defjvp
def _leaky_relu_jvp(slope, primals, tangents):
  # By the sign of y, which the next layer needs too: a backward pass does not keep x.
  (x,), (dx,) = primals, tangents
  y = leaky_relu(x, slope)
  return y, jnp.where(y > 0, dx, slope * dx)


@jax.custom_jvp
def instance_norm(x: Array) -> Array:
  """Each channel of each image of `x [B, H, W, C]` with mean 0 and variance 1."""
  return _normalised(x)[0]


@instance_norm.defjvp
def _instance_norm_jvp(primals, tangents):
  # In terms of y, which is needed anyway: a backward pass keeps neither x nor what is between.
  (x,), (dx,) = primals, tangents
  y, scale = _normalised(x)
  return y, scale * (dx - _spatial_mean(dx) - y * _spatial_mean(y * dx))


def _normalised(x: Array) -> tuple[Array, Array]:
  x = x - _spatial_mean(x)
  scale = jax.lax.rsqrt(_spatial_mean(jnp.square(x)) + 1e-8)
  return x * scale, scale


def _spatial_mean(x: Array) -> Array:
  return jnp.mean(x, axis=(1, 2), keepdims=True)


def along_channels(vector: Array, ndim: int) -> Array:
  """`[C]` shaped for explicit broadcasting against `[..., C]` of `ndim` axes."""
  return vector.reshape((1,) * (ndim - 1) + (-1,))


def pixel_norm(x: Array) -> Array:
  """Divides each row of `x [B, Z]` by its root mean square."""
  return x / jnp.sqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True) + 1e-8)


class Dense(nn.Module):
  """`[B, I]` to `[B, features]`."""

  features: int
  gain: float = SQRT2
  lr_multiplier: float = 1.0

  @nn.compact
  def __call__(self, x: Array) -> Array:
    fan_in = x.shape[-1]
    weight = self.param('weight', initializers.normal(1 / self.lr_multiplier), (fan_in, self.features))
    bias = self.param('bias', initializers.zeros, (self.features,))
    scale = self.gain / math.sqrt(fan_in) * self.lr_multiplier
    return x @ (weight * scale) + along_channels(bias * self.lr_multiplier, x.ndim)


class Conv(nn.Module):
  """`[B, H, W, I]` to `[B, H, W, features]`, or half that size with `downsample`.

  Attributes:
    features: number of output channels.
    kernel_size: 1 or 3.
    gain: of the weight.
    downsample: takes the mean of each 2x2 block of the result.
    dtype: of the convolution; the bias is added, and the result comes, in float32.
  """

  features: int
  kernel_size: int = 3
  gain: float = SQRT2
  downsample: bool = False
  dtype: Dtype = jnp.float32

  @nn.compact
  def __call__(self, x: Array) -> Array:
    shape = (self.kernel_size, self.kernel_size, x.shape[-1], self.features)
    weight = self.param('weight', initializers.normal(1.0), shape)
    bias = self.param('bias', initializers.zeros, (self.features,))
    weight = weight * (self.gain / math.sqrt(math.prod(shape[:3])))
    x = x.astype(self.dtype)
    y = resampling.downsample_conv(x, weight) if self.downsample else conv.conv2d(x, weight)
    return at_least_float32(y) + along_channels(bias, y.ndim)
