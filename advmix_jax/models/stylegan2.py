"""StyleGAN 2 generator (Karras et al. 2020; 2-ADA, Karras et al. 2020a), cut at any row of `w`.

Convolution i works at resolution `4 * 2 ** ((i + 1) // 2)` and takes row i of `w`. Row `2k + 1` is also that
of the k-th output layer, which adds to the image at the resolution it has reached. So the rows are taken in
order, each turns (features, image so far) into the next pair, and the cut between two rows is exact. The
trunk of `coarse(w[:, :m])` is that pair; its image is already upsampled for the next output layer.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen import initializers

from advmix_jax.models import conv, fir
from advmix_jax.models.layers import SQRT2, Dense, along_channels, leaky_relu, pixel_norm
from advmix_jax.types import Array, Decoder, PyTree

Noise = tuple[Array, ...] | None
Trunk = tuple[Array, Array]


def clamp(x: Array, limit: float | None) -> Array:
  """`x` held within +-`limit`; None = as it is."""
  return x if limit is None else jnp.clip(x, -limit, limit)


def activate(x: Array) -> Array:
  """Leaky rectifier times the square root of 2: in StyleGAN 2 the gain follows the activation."""
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
  """

  channels: int
  upsample: bool
  conv_clamp: float | None = None

  @nn.compact
  def __call__(self, x: Array, w: Array, noise: Array | None) -> Array:
    """Args: `x [B, H, W, I]`; `w [B, D]`; `noise [1 or B, R, R, 1]`, None = none. Returns `[B, R, R, C]`."""
    weight = self.param('weight', initializers.normal(1.0), (3, 3, x.shape[-1], self.channels))
    noise_strength = self.param('noise_strength', initializers.zeros, ())
    bias = self.param('bias', initializers.zeros, (self.channels,))
    scale = Affine(x.shape[-1], name='affine')(w)
    norm = jnp.square(scale) @ jnp.sum(jnp.square(weight), axis=(0, 1))
    x = x * scale[:, None, None]
    x = fir.upsample_conv(x, weight) if self.upsample else conv.conv2d(x, weight)
    x = x * jax.lax.rsqrt(norm + 1e-8)[:, None, None]
    if noise is not None:
      x = x + noise * noise_strength
    return clamp(activate(x + along_channels(bias, 4)), self.conv_clamp)


class ToRGB(nn.Module):
  """Modulated 1x1 convolution to the channels of an image; not demodulated, no activation."""

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


class StyleGAN2(nn.Module):
  """Mapping and synthesis. Initialise through `__call__` only, or the parameters are partial.

  Attributes:
    fmaps: channels at 4, 8, 16, ... pixels; their number sets the resolution.
    latent_size: Z.
    w_size: D.
    mapping_layers, mapping_fmaps, mapping_lr_multiplier: see `Mapping`.
    label_size, embed_size, concat_labels: see `Mapping`.
    image_channels: C of the images.
    conv_clamp: limit of what each convolution and output layer makes; None = none. Official: 256 or None.
  """

  fmaps: tuple[int, ...]
  latent_size: int = 512
  w_size: int = 512
  mapping_layers: int = 8
  mapping_fmaps: int | None = None
  label_size: int = 0
  embed_size: int | None = None
  concat_labels: bool = False
  mapping_lr_multiplier: float = 0.01
  image_channels: int = 3
  conv_clamp: float | None = None

  @property
  def num_layers(self) -> int:
    """L, the rows of `w`."""
    return 2 * len(self.fmaps)

  @property
  def resolution(self) -> int:
    return 2 ** (len(self.fmaps) + 1)

  @property
  def noise_sizes(self) -> tuple[int, ...]:
    """Pixels a side of the noise of each convolution, L - 1 of them."""
    return tuple(4 * 2 ** ((i + 1) // 2) for i in range(self.num_layers - 1))

  def setup(self):
    self.mapping = Mapping(
      w_size=self.w_size,
      num_layers=self.mapping_layers,
      fmaps=self.mapping_fmaps,
      label_size=self.label_size,
      embed_size=self.embed_size,
      concat_labels=self.concat_labels,
      lr_multiplier=self.mapping_lr_multiplier,
    )
    self.const = self.param('const', initializers.normal(1.0), (4, 4, self.fmaps[0]))
    self.layers = [
      StyledConv(self.fmaps[(i + 1) // 2], upsample=i % 2 == 1, conv_clamp=self.conv_clamp)
      for i in range(self.num_layers - 1)
    ]
    self.to_rgb = [ToRGB(self.image_channels, self.conv_clamp) for _ in self.fmaps]

  def __call__(self, z: Array, noise: Noise, labels: Array | None = None) -> Array:
    """`z [B, Z]` and labels `[B, label_size]` to images `[B, R, R, C]`."""
    return self.synthesis(self.map_z(z, labels), noise)

  def map_z(self, z: Array, labels: Array | None = None) -> Array:
    """`z [B, Z]` and labels `[B, label_size]` to `w [B, L, D]`, all rows equal."""
    w = self.mapping(z, labels)
    return jnp.broadcast_to(w[:, None], (w.shape[0], self.num_layers, w.shape[1]))

  def synthesis(self, w: Array, noise: Noise) -> Array:
    """`w [B, L, D]` to images `[B, R, R, C]`, not clipped."""
    return self.fine(self.coarse(w[:, :1], noise), w[:, 1:], noise)

  def coarse(self, w_par: Array, noise: Noise) -> Trunk:
    """Features and image so far, with `m // 2` resolutions below them.

    Args:
      w_par: `[B, m, D]`, 1 <= m < L.
      noise: L - 1 arrays `[1 or B, R_i, R_i, 1]`; None = no noise.

    Returns:
      What convolution m and the next output layer continue from: `[B, H, H, I]`, and `[B, R, R, C]` of the
      images below, upsampled to where the next one is added (zeros at 4 pixels).
    """
    x = jnp.broadcast_to(self.const[None], (w_par.shape[0], *self.const.shape))
    image = jnp.zeros((*x.shape[:3], self.image_channels), x.dtype)
    return self._rows((x, image), w_par, 0, noise)

  def fine(self, trunk: Trunk, w_perp: Array, noise: Noise) -> Array:
    """From the trunk of row m and `w_perp [B, L - m, D]` to images `[B, R, R, C]`, not clipped."""
    return self._rows(trunk, w_perp, self.num_layers - w_perp.shape[1], noise)[1]

  def _rows(self, trunk: Trunk, w: Array, first: int, noise: Noise) -> Trunk:
    """Takes rows `first`, ..., `first + w.shape[1] - 1`."""
    x, image = trunk
    for i, row in enumerate(jnp.unstack(w, axis=1), first):
      if i % 2:
        image = image + self.to_rgb[i // 2](x, row)
      if i == self.num_layers - 1:
        break
      if i % 2:
        image = fir.upsample(image)
      x = self.layers[i](x, row, None if noise is None else noise[i])
    return x, image


def draw_noise(key: Array, model: StyleGAN2, batch: int = 1) -> tuple[Array, ...]:
  """Standard normal noise for each convolution, `[batch, R_i, R_i, 1]` float32. The key is consumed."""
  keys = jax.random.split(key, len(model.noise_sizes))
  return tuple(jax.random.normal(k, (batch, s, s, 1)) for k, s in zip(keys, model.noise_sizes, strict=True))


def truncate(w: Array, w_avg: Array, psi: float = 1.0, cutoff: int | None = None) -> Array:
  """Moves the first `cutoff` rows of `w [B, L, D]` towards `w_avg [D]`.

  `cutoff` None moves all rows: unlike StyleGAN 1, where it moves none.
  """
  if psi == 1.0:
    return w
  rows = (jnp.arange(w.shape[1]) < (w.shape[1] if cutoff is None else cutoff))[None, :, None]
  average = w_avg[None, None]
  return jnp.where(rows, average + (w - average) * psi, w)


def init_generator(key: Array, model: StyleGAN2) -> PyTree:
  """Generator parameters as a decoder holds them. The key is consumed.

  Returns:
    `{'params', 'noise', 'w_avg'}`: trained parameters; the constant noise of each convolution; `[D]` zeros.
  """
  params_key, noise_key = jax.random.split(key)
  noise = draw_noise(noise_key, model)
  labels = jnp.zeros((1, model.label_size)) if model.label_size else None
  params = model.init(params_key, jnp.zeros((1, model.latent_size)), noise, labels)['params']
  return {'params': params, 'noise': noise, 'w_avg': jnp.zeros(model.w_size)}


def stylegan2_decoder(model: StyleGAN2, mixing_level: int, label: int | None = None) -> Decoder:
  """The generator as a `Decoder`, with constant noise, cut at `mixing_level`.

  Args:
    model: the generator.
    mixing_level: m.
    label: the class with which `map_z` maps every z; None for a generator without labels.

  Raises:
    ValueError: if the level is not in 1..L-1, or the label does not fit the generator.
  """
  if not 1 <= mixing_level < model.num_layers:
    raise ValueError(
      f'mixing level {mixing_level} is outside 1..{model.num_layers - 1} '
      f'of a generator with {model.num_layers} layers'
    )
  if (label is None) != (model.label_size == 0) or not 0 <= (label or 0) < max(model.label_size, 1):
    raise ValueError(f'label {label} is none of a generator with {model.label_size} labels')

  def map_z(params: PyTree, z: Array) -> Array:
    if label is None:
      return call(params, z, method='map_z')
    labels = jnp.broadcast_to(jax.nn.one_hot(label, model.label_size), (z.shape[0], model.label_size))
    return call(params, z, labels, method='map_z')

  def call(params: PyTree, *args: PyTree, method: str) -> PyTree:
    return model.apply({'params': params['params']}, *args, method=method)

  return Decoder(
    map_z=map_z,
    coarse=lambda params, w_par: call(params, w_par, params['noise'], method='coarse'),
    fine=lambda params, trunk, w_perp: call(params, trunk, w_perp, params['noise'], method='fine'),
    w_avg=lambda params: params['w_avg'],
    mixing_level=mixing_level,
    num_layers=model.num_layers,
    latent_size=model.latent_size,
    w_size=model.w_size,
  )
