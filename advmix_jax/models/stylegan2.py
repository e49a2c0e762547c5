"""StyleGAN 2 generator (Karras et al. 2020; 2-ADA, Karras et al. 2020a), cut at any row of `w`.

Convolution i works at resolution `4 * 2 ** ((i + 1) // 2)` and takes row i of `w`. Row `2k + 1` is also that
of the k-th output layer, which adds to the image at the resolution it has reached. So the rows are taken in
order, each turns (features, image so far) into the next pair, and the cut between two rows is exact. The
trunk of `coarse(w[:, :m])` is that pair; its image is already upsampled for the next output layer.
"""

import flax.linen as nn
import jax.numpy as jnp
from flax.linen import initializers

from advmix_jax.models import fir
from advmix_jax.models.layers import Dtype, recomputed
from advmix_jax.models.stylegan2_layers import Mapping, StyledConv, ToRGB
from advmix_jax.types import Array

Noise = tuple[Array, ...] | None
Trunk = tuple[Array, Array]


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
    dtype: of convolutions and features, see `layers`.
    remat: a backward pass computes again what is between two rows. This and `dtype` say how a generator is
      computed and are not saved with it.
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
  dtype: Dtype = jnp.float32
  remat: bool = False

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
      StyledConv(self.fmaps[(i + 1) // 2], i % 2 == 1, self.conv_clamp, self.dtype)
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
    image = jnp.zeros((*x.shape[:3], self.image_channels))
    return self._rows((x.astype(self.dtype), image), w_par, 0, noise)

  def fine(self, trunk: Trunk, w_perp: Array, noise: Noise) -> Array:
    """From the trunk of row m and `w_perp [B, L - m, D]` to images `[B, R, R, C]`, not clipped."""
    return self._rows(trunk, w_perp, self.num_layers - w_perp.shape[1], noise)[1]

  def _rows(self, trunk: Trunk, w: Array, first: int, noise: Noise) -> Trunk:
    """Takes rows `first`, ..., `first + w.shape[1] - 1`."""
    for i, row in enumerate(jnp.unstack(w, axis=1), first):

      def layer(model: StyleGAN2, trunk: Trunk, row: Array, i: int = i) -> Trunk:
        return model._row(i, trunk, row, noise)

      trunk = recomputed(layer, self)(self, trunk, row)
    return trunk

  def _row(self, i: int, trunk: Trunk, row: Array, noise: Noise) -> Trunk:
    x, image = trunk
    if i % 2:
      image = image + self.to_rgb[i // 2](x, row)
    if i == self.num_layers - 1:
      return x, image
    if i % 2:
      image = fir.upsample(image)
    return self.layers[i](x, row, None if noise is None else noise[i]), image
