"""The generators a run can have, with what belongs to each."""

from typing import NamedTuple

import flax.linen as nn

from advmix_jax.models import discriminator, discriminator2, stylegan, stylegan2


class Architecture(NamedTuple):
  """Modules of one kind.

  Attributes:
    generator: a module of `fmaps`, `latent_size`, `w_size`, `mapping_layers`, `label_size`, ...
    discriminator: a module of `fmaps`, `label_size`, ...; None = no run trains such a generator, it is given
      one in a folder.
  """

  generator: type[nn.Module]
  discriminator: type[nn.Module] | None


ARCHITECTURES = {
  'stylegan1': Architecture(stylegan.StyleGAN, discriminator.Discriminator),
  'stylegan2': Architecture(stylegan2.StyleGAN2, discriminator2.Discriminator2),
}
