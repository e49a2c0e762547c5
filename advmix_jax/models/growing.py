"""Level of detail of networks that grow (Karras et al. 2018), and how a new resolution fades in.

A network for `R` pixels at level of detail `lod` draws `R / 2 ** floor(lod)` pixels; the fraction of `lod` is
the share of the resolution below, which fades out as `lod` falls to a whole number. Images keep `R` pixels
throughout: at a lower resolution every pixel is repeated.
"""

import math

import flax.struct

from advmix_jax.models import resampling
from advmix_jax.types import Array

STRUCTURES = ('fixed', 'linear')


@flax.struct.dataclass
class Lod:
  """A level of detail, `floor + share`.

  Attributes:
    floor: number of upper resolutions left out; another one is another compiled program.
    share: of the resolution below, in [0, 1]; a number, or a float32 scalar that a compiled program takes.
  """

  floor: int = flax.struct.field(pytree_node=False)
  share: float | Array


def lod_of(value: float) -> Lod:
  """A number as floor and share."""
  floor = math.floor(value)
  return Lod(floor, value - floor)


def resolve_lod(given: Lod | None, own: float, structure: str, num_resolutions: int) -> Lod:
  """The level of detail of a call: the given one, else the network's own.

  Raises:
    ValueError: a network of this structure has no such level of detail.
  """
  lod = lod_of(own) if given is None else given
  if structure not in STRUCTURES:
    raise ValueError(f'structure is {structure!r}, expected {" or ".join(STRUCTURES)}')
  if structure == 'fixed' and (lod.floor or is_fading(lod)):
    raise ValueError(f'level of detail {lod.floor} + {lod.share}: a network of fixed structure has 0 only')
  most = num_resolutions - 1
  if not 0 <= lod.floor <= most or (lod.floor == most and isinstance(lod.share, float) and lod.share):
    raise ValueError(f'level of detail {lod.floor} + {lod.share}, expected 0 to {most}')
  return lod


def is_fading(lod: Lod) -> bool:
  """Whether the resolution below may have a share."""
  return not (isinstance(lod.share, int | float) and lod.share == 0)


def fade(upper: Array, lower: Array, lod: Lod) -> Array:
  """`upper + (lower - upper) * share`, both `[B, H, W, C]`."""
  return upper + (lower - upper) * lod.share


def at_lod(images: Array, lod: Lod) -> Array:
  """Real images as the discriminator is shown them while the networks grow.

  Args:
    images: `[B, R, R, C]` float32 in [-1, 1].
    lod: the present level of detail.

  Returns:
    `[B, R, R, C]`: reduced by means of blocks to the present resolution, faded with their own half
    resolution, and repeated to R pixels.
  """
  x = resampling.downsample_mean(images, 2**lod.floor)
  if is_fading(lod) and x.shape[1] > 1:
    x = fade(x, resampling.upsample_nearest(resampling.downsample_mean(x, 2), 2), lod)
  return resampling.upsample_nearest(x, 2**lod.floor)
