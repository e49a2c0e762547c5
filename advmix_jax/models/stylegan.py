"""StyleGAN 1 generator (Karras et al. 2019), cut at any layer.

Layer i works at resolution `4 * 2 ** (i // 2)` and takes row i of `w`. Within a layer everything up to the
instance normalisation is independent of `w`: `features` computes that, `style` applies the row. The trunk of
`coarse(w[:, :m])` is the normalised features of layer m, so `fine` starts with the style of layer m and the
upsampling convolution in front of it is not repeated for every variant of an image.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen import initializers

from advmix_jax.models import conv
from advmix_jax.models.layers import SQRT2, Conv, Dense, along_channels, leaky_relu, pixel_norm
from advmix_jax.types import Array, Decoder, PyTree

# From this output resolution on, official weights hold the kernel of a fused (transposed) convolution, which
# equals upsampling followed by the convolution with the spatially flipped kernel.
FUSED_RESOLUTION = 128


class Mapping(nn.Module):
  """`z [B, Z]` to one row of latents `[B, D]`.

  Attributes:
    w_size: D.
    num_layers: dense layers.
    fmaps: width of the hidden ones; None = D.
  """

  w_size: int
  num_layers: int = 8
  fmaps: int | None = None

  @nn.compact
  def __call__(self, z: Array) -> Array:
    x = pixel_norm(z)
    for i in range(self.num_layers):
      width = self.w_size if i == self.num_layers - 1 else self.fmaps or self.w_size
      x = leaky_relu(Dense(width, lr_multiplier=0.01, name=f'dense_{i}')(x))
    return x


class StyledLayer(nn.Module):
  """One layer of the synthesis network.

  Attributes:
    in_channels: channels of the input; 0 for the first layer, whose input is a learned constant.
    channels: channels of the output.
    w_size: D.
    resolution: of the output, in pixels.
    upsample: doubles the size before the convolution.
  """

  in_channels: int
  channels: int
  w_size: int
  resolution: int
  upsample: bool

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
        kernel = kernel[::-1, ::-1] if self.resolution >= FUSED_RESOLUTION else kernel
        x = conv.blur(conv.upsample_conv(x, kernel))
      else:
        x = conv.conv2d(x, kernel)
    x = x + noise * along_channels(self.noise_weight, 4)
    x = leaky_relu(x + along_channels(self.bias, 4))
    x = x - jnp.mean(x, axis=(1, 2), keepdims=True)
    return x * jax.lax.rsqrt(jnp.mean(jnp.square(x), axis=(1, 2), keepdims=True) + 1e-8)

  def style(self, x: Array, w: Array) -> Array:
    """Scales and shifts each channel of `x [1 or B, R, R, C]` as the row `w [B, D]` says."""
    scale, shift = jnp.split(self.modulation(w)[:, None, None, :], 2, axis=-1)
    return x * (scale + 1) + shift


class StyleGAN(nn.Module):
  """Mapping and synthesis. Initialise through `__call__` only, or the parameters are partial.

  Attributes:
    fmaps: channels at 4, 8, 16, ... pixels; their number sets the resolution.
    latent_size: Z.
    w_size: D.
    mapping_layers: depth of the mapping network.
    mapping_fmaps: width of its hidden layers; None = D.
    image_channels: C of the images.
  """

  fmaps: tuple[int, ...]
  latent_size: int = 512
  w_size: int = 512
  mapping_layers: int = 8
  mapping_fmaps: int | None = None
  image_channels: int = 3

  @property
  def num_layers(self) -> int:
    return 2 * len(self.fmaps)

  @property
  def resolution(self) -> int:
    return 2 ** (len(self.fmaps) + 1)

  def setup(self):
    self.mapping = Mapping(self.w_size, self.mapping_layers, self.mapping_fmaps)
    widths = [0] + [self.fmaps[(i - 1) // 2] for i in range(1, self.num_layers)]
    self.layers = [
      StyledLayer(
        in_channels=widths[i],
        channels=self.fmaps[i // 2],
        w_size=self.w_size,
        resolution=4 * 2 ** (i // 2),
        upsample=i > 0 and i % 2 == 0,
      )
      for i in range(self.num_layers)
    ]
    self.to_rgb = Conv(self.image_channels, kernel_size=1, gain=1.0)

  def __call__(self, z: Array, noise: tuple[Array, ...]) -> Array:
    """`z [B, Z]` to images `[B, R, R, C]`."""
    return self.synthesis(self.map_z(z), noise)

  def map_z(self, z: Array) -> Array:
    """`z [B, Z]` to `w [B, L, D]`, all rows equal."""
    w = self.mapping(z)
    return jnp.broadcast_to(w[:, None], (w.shape[0], self.num_layers, w.shape[1]))

  def synthesis(self, w: Array, noise: tuple[Array, ...]) -> Array:
    """`w [B, L, D]` to images `[B, R, R, C]`, not clipped."""
    return self.fine(self.coarse(w[:, :1], noise), w[:, 1:], noise)

  def coarse(self, w_par: Array, noise: tuple[Array, ...]) -> Array:
    """The normalised features of layer m.

    Args:
      w_par: `[B, m, D]`, 1 <= m < L.
      noise: L arrays `[1 or B, R_i, R_i, 1]`.
    """
    x = self.layers[0].features(None, noise[0])
    for i in range(w_par.shape[1]):
      x = self.layers[i].style(x, w_par[:, i])
      x = self.layers[i + 1].features(x, noise[i + 1])
    return x

  def fine(self, trunk: Array, w_perp: Array, noise: tuple[Array, ...]) -> Array:
    """From the trunk of layer m and `w_perp [B, L - m, D]` to images `[B, R, R, C]`, not clipped."""
    first = self.num_layers - w_perp.shape[1]
    x = self.layers[first].style(trunk, w_perp[:, 0])
    for i in range(first + 1, self.num_layers):
      x = self.layers[i].features(x, noise[i])
      x = self.layers[i].style(x, w_perp[:, i - first])
    return self.to_rgb(x)


def draw_noise(key: Array, num_layers: int, batch: int = 1) -> tuple[Array, ...]:
  """Standard normal noise for each layer, `[batch, R_i, R_i, 1]` float32. The key is consumed."""
  sizes = [4 * 2 ** (i // 2) for i in range(num_layers)]
  return tuple(
    jax.random.normal(k, (batch, s, s, 1))
    for k, s in zip(jax.random.split(key, num_layers), sizes, strict=True)
  )


def truncate(w: Array, w_avg: Array, psi: float = 1.0, cutoff: int | None = None) -> Array:
  """Moves the first `cutoff` rows of `w [B, L, D]` towards `w_avg [D]` (Karras et al. 2019, appendix B).

  `psi` 1 or `cutoff` None or <= 0 leaves `w` as it is, as in StyleGAN 1.
  """
  if psi == 1.0 or cutoff is None or cutoff <= 0:
    return w
  rows = (jnp.arange(w.shape[1]) < cutoff)[None, :, None]
  average = w_avg[None, None]
  return jnp.where(rows, average + (w - average) * psi, w)


def init_generator(key: Array, model: StyleGAN) -> PyTree:
  """Generator parameters as a decoder holds them. The key is consumed.

  Returns:
    `{'params', 'noise', 'w_avg'}`: trained parameters; the constant noise of each layer; `[D]` zeros.
  """
  params_key, noise_key = jax.random.split(key)
  noise = draw_noise(noise_key, model.num_layers)
  params = model.init(params_key, jnp.zeros((1, model.latent_size)), noise)['params']
  return {'params': params, 'noise': noise, 'w_avg': jnp.zeros(model.w_size)}


def stylegan_decoder(model: StyleGAN, mixing_level: int) -> Decoder:
  """The generator as a `Decoder`, with constant noise, cut at `mixing_level`.

  Raises:
    ValueError: if the level is not in 1..L-1.
  """
  if not 1 <= mixing_level < model.num_layers:
    raise ValueError(
      f'mixing level {mixing_level} is outside 1..{model.num_layers - 1} '
      f'of a generator with {model.num_layers} layers'
    )

  def call(params: PyTree, *args: PyTree, method: str) -> PyTree:
    return model.apply({'params': params['params']}, *args, method=method)

  return Decoder(
    map_z=lambda params, z: call(params, z, method='map_z'),
    coarse=lambda params, w_par: call(params, w_par, params['noise'], method='coarse'),
    fine=lambda params, trunk, w_perp: call(params, trunk, w_perp, params['noise'], method='fine'),
    w_avg=lambda params: params['w_avg'],
    mixing_level=mixing_level,
    num_layers=model.num_layers,
    latent_size=model.latent_size,
    w_size=model.w_size,
  )
