"""StyleGAN 1 generator (Karras et al. 2019), cut at any layer.

Layer i works at resolution `4 * 2 ** (i // 2)` and takes row i of `w`. Within a layer everything up to the
instance normalisation is independent of `w`: `features` computes that, `style` applies the row. The trunk of
`coarse(w[:, :m])` holds the normalised features of layer m, so `fine` starts with the style of layer m and
the upsampling convolution in front of it is not repeated for every variant of an image.
"""

import functools
import math

import flax.linen as nn
import jax.numpy as jnp
from flax.linen import initializers

from advmix_jax.models import conv, resampling
from advmix_jax.models.growing import Lod, fade, is_fading, resolve_lod
from advmix_jax.models.layers import (
  SQRT2,
  Conv,
  Dense,
  Dtype,
  along_channels,
  at_least_float32,
  instance_norm,
  leaky_relu,
  recomputed,
)
from advmix_jax.models.mapping import Mapping
from advmix_jax.types import Array, PyTree


class StyledLayer(nn.Module):
  """One layer of the synthesis network.

  Attributes:
    in_channels: channels of the input; 0 for the first layer, whose input is a learned constant.
    channels: channels of the output.
    w_size: D.
    upsample: doubles the size before the convolution.
    flipped: the kernel is stored as that of a fused (transposed) convolution, which equals upsampling
      followed by the convolution with the spatially flipped kernel.
    blur: filters what was upsampled.
    slope: of the activation below zero.
    dtype: of the convolution and of the results.
  """

  in_channels: int
  channels: int
  w_size: int
  upsample: bool
  flipped: bool = False
  blur: bool = True
  slope: float = 0.2
  dtype: Dtype = jnp.float32

  def setup(self):
    if self.in_channels:
      self.weight = self.param('weight', initializers.normal(1.0), (3, 3, self.in_channels, self.channels))
    else:
      self.const = self.param('const', initializers.ones, (4, 4, self.channels))
    self.noise_weight = self.param('noise_weight', initializers.zeros, (self.channels,))
    self.bias = self.param('bias', initializers.zeros, (self.channels,))
    self.modulation = Dense(2 * self.channels, gain=1.0)

  def features(self, x: Array | None, noise: Array) -> Array:
    """Convolution, blur, noise, bias, activation, instance normalisation.

    Args:
      x: `[B, H, W, I]`; None for the first layer.
      noise: `[1 or B, R, R, 1]`.

    Returns:
      `[B, R, R, C]`, or `[1 or B, 4, 4, C]` (as the noise) for the first layer.
    """
    if x is None:
      x = self.const[None]
    else:
      kernel = self.weight * (SQRT2 / math.sqrt(9 * self.in_channels))
      if self.upsample:
        x = resampling.upsample_conv(x, kernel[::-1, ::-1] if self.flipped else kernel)
        x = resampling.blur(x) if self.blur else x
      else:
        x = conv.conv2d(x, kernel)
    x = at_least_float32(x) + noise * along_channels(self.noise_weight, 4)
    x = leaky_relu(x + along_channels(self.bias, 4), self.slope)
    return instance_norm(x).astype(self.dtype)

  def style(self, x: Array, w: Array) -> Array:
    """Scales and shifts each channel of `x [1 or B, R, R, C]` as the row `w [B, D]` says."""
    scale, shift = jnp.split(self.modulation(w)[:, None, None, :], 2, axis=-1)
    return (x * (scale + 1) + shift).astype(self.dtype)


class StyleGAN(nn.Module):
  """Mapping and synthesis. Initialise through `__call__` only, or the parameters are partial.

  Attributes:
    fmaps: channels at 4, 8, 16, ... pixels; their number sets the resolution.
    latent_size: Z.
    w_size: D.
    mapping_layers: depth of the mapping network.
    mapping_fmaps: width of its hidden layers; None = D.
    image_channels: C of the images.
    label_size: K, for a generator that is told the label; 0 = none. Labels enter the mapping only.
    structure: 'fixed', or 'linear' for a network that grows: it has an output layer at every resolution.
    lod: level of detail of the images where a call names none; above 0 only with 'linear'.
    blur: filters after upsampling.
    fused_from: first resolution whose upsampling kernels are stored as of a fused convolution; None = none.
    slope, mapping_slope: of the activations below zero.
    mapping_lr_multiplier: see `Mapping`.
    dtype: of convolutions and features, see `layers`.
    remat: a backward pass computes again what is between the trunks of two layers. This and `dtype` say how
      a generator is computed and are not saved with it.
  """

  fmaps: tuple[int, ...]
  latent_size: int = 512
  w_size: int = 512
  mapping_layers: int = 8
  mapping_fmaps: int | None = None
  image_channels: int = 3
  label_size: int = 0
  structure: str = 'fixed'
  lod: float = 0.0
  blur: bool = True
  fused_from: int | None = 128
  slope: float = 0.2
  mapping_slope: float = 0.2
  mapping_lr_multiplier: float = 0.01
  dtype: Dtype = jnp.float32
  remat: bool = False

  @property
  def num_layers(self) -> int:
    return 2 * len(self.fmaps)

  @property
  def resolution(self) -> int:
    return 2 ** (len(self.fmaps) + 1)

  @property
  def noise_sizes(self) -> tuple[int, ...]:
    """Side of each layer's noise, and of its output."""
    return tuple(4 * 2 ** (i // 2) for i in range(self.num_layers))

  def setup(self):
    self.mapping = Mapping(
      self.w_size,
      self.mapping_layers,
      self.mapping_fmaps,
      self.label_size,
      self.mapping_lr_multiplier,
      self.mapping_slope,
    )
    widths = [0] + [self.fmaps[(i - 1) // 2] for i in range(1, self.num_layers)]
    self.layers = [
      StyledLayer(
        in_channels=widths[i],
        channels=self.fmaps[i // 2],
        w_size=self.w_size,
        upsample=i > 0 and i % 2 == 0,
        flipped=self.fused_from is not None and size >= self.fused_from,
        blur=self.blur,
        slope=self.slope,
        dtype=self.dtype,
      )
      for i, size in enumerate(self.noise_sizes)
    ]
    image_dtype = jnp.promote_types(self.dtype, jnp.float32)
    to_rgb = functools.partial(Conv, self.image_channels, kernel_size=1, gain=1.0, dtype=image_dtype)
    self.to_rgb = to_rgb()
    if self.structure == 'linear':
      self.to_rgb_lod = {str(n): to_rgb() for n in range(1, len(self.fmaps))}

  def __call__(self, z: Array, noise: tuple[Array, ...], labels: Array | None = None) -> Array:
    """`z [B, Z]`, and labels `[B, K]` for a conditional generator, to images `[B, R, R, C]`."""
    return self.synthesis(self.map_z(z, labels), noise)

  def map_z(self, z: Array, labels: Array | None = None) -> Array:
    """`z [B, Z]`, and labels `[B, K]` for a conditional generator, to `w [B, L, D]`, all rows equal."""
    w = self.mapping(z, labels)
    return jnp.broadcast_to(w[:, None], (w.shape[0], self.num_layers, w.shape[1]))

  def synthesis(self, w: Array, noise: tuple[Array, ...], lod: Lod | None = None) -> Array:
    """`w [B, L, D]` to images `[B, R, R, C]`, not clipped."""
    return self.fine(self.coarse(w[:, :1], noise, lod), w[:, 1:], noise, lod)

  def coarse(self, w_par: Array, noise: tuple[Array, ...], lod: Lod | None = None) -> PyTree:
    """Everything that the layers below m compute.

    Args:
      w_par: `[B, m, D]`, 1 <= m < L.
      noise: L arrays `[1 or B, R_i, R_i, 1]`.
      lod: level of detail; None = the network's own.

    Returns:
      The trunk: `features`, the normalised features of layer m; while the resolution of layer m fades in
      also `rgb`, the image of the resolution below; or only `image`, where layer m is not drawn.
    """
    lod = self._resolve(lod)
    trunk = {'features': self.layers[0].features(None, noise[0])}
    for i in range(w_par.shape[1]):
      trunk = self._next(i, trunk, w_par[:, i], noise, lod)
    return trunk

  def fine(self, trunk: PyTree, w_perp: Array, noise: tuple[Array, ...], lod: Lod | None = None) -> Array:
    """From the trunk of layer m and `w_perp [B, L - m, D]` to images `[B, R, R, C]`, not clipped."""
    lod, first = self._resolve(lod), self.num_layers - w_perp.shape[1]
    for i in range(first, self.num_layers):
      trunk = self._next(i, trunk, w_perp[:, i - first], noise, lod)
    return trunk['image']

  def _next(self, i: int, trunk: PyTree, row: Array, noise: tuple[Array, ...], lod: Lod) -> PyTree:
    """From the trunk of layer i, and its row `[B, D]`, to the trunk of layer i + 1."""

    def layer(model: StyleGAN, trunk: PyTree, row: Array) -> PyTree:
      return model._layer(i, trunk, row, noise, lod)

    return recomputed(layer, self)(self, trunk, row)

  def _layer(self, i: int, trunk: PyTree, row: Array, noise: tuple[Array, ...], lod: Lod) -> PyTree:
    last = self.num_layers - 1 - 2 * lod.floor
    if i > last:
      return trunk
    x = self.layers[i].style(trunk['features'], row)
    if self.is_initializing() and self.structure == 'linear' and i % 2:
      self._rgb(x, (last - i) // 2)
    if i == last:
      image = self._rgb(x, lod.floor)
      image = fade(image, trunk['rgb'], lod) if 'rgb' in trunk else image
      return {'image': resampling.upsample_nearest(image, 2**lod.floor)}
    following = {'features': self.layers[i + 1].features(x, noise[i + 1])}
    if i == last - 2 and is_fading(lod):
      return following | {'rgb': resampling.upsample_nearest(self._rgb(x, lod.floor + 1), 2)}
    return following | ({'rgb': trunk['rgb']} if 'rgb' in trunk else {})

  def _resolve(self, lod: Lod | None) -> Lod:
    own = 0.0 if self.is_initializing() else self.lod  # Every layer is initialised.
    return resolve_lod(lod, own, self.structure, len(self.fmaps))

  def _rgb(self, x: Array, lod: int) -> Array:
    """The output layer of a resolution, counted from the highest."""
    return self.to_rgb(x) if lod == 0 else self.to_rgb_lod[str(lod)](x)
