"""Colour-MNIST with StyleGAN 1 trained as published (Karras et al. 2019): growing, full-size networks.

    python -m launch.pipeline --config=configs/stylegan1.py:8 --workdir=runs/stylegan1 \
        --config.data.dir=FOLDER_OF_MNIST

Variants: 1, 2, 4, 8, the number of accelerators whose published minibatches are taken. Not run yet.
"""

import ml_collections

from configs import color_mnist

# While 4, 8, ... 1024 pixels are drawn.
BATCH_SIZES = {
  '1': (128, 128, 128, 64, 32, 16, 8, 4, 4),
  '2': (256, 256, 128, 64, 32, 16, 8, 8, 8),
  '4': (512, 256, 128, 64, 32, 16, 16, 16, 16),
  '8': (512, 256, 128, 64, 32, 32, 32, 32, 32),
}
LEARNING_RATES = (1e-3, 1e-3, 1e-3, 1e-3, 1e-3, 1.5e-3, 2e-3, 3e-3, 3e-3)
FMAPS = (512, 512, 512, 512, 256, 128, 64, 32, 16)


def get_config(variant: str = '1') -> ml_collections.ConfigDict:
  if variant not in BATCH_SIZES:
    raise ValueError(f'stylegan1.py has the variants {", ".join(BATCH_SIZES)}, not {variant!r}')
  c = color_mnist.get_config('paper')
  set_published(c, variant)
  return c


def set_published(c: ml_collections.ConfigDict, variant: str) -> None:
  """Networks and training of StyleGAN 1 for the images of `c.data`."""
  number = c.data.resolution.bit_length() - 2  # Of resolutions.
  c.generator.fmaps = FMAPS[:number]
  c.generator.latent_size = 512
  c.generator.w_size = 512
  c.generator.mapping_layers = 8
  c.generator.structure = 'linear'
  c.generator.initial_resolution = 8
  c.generator.stable_kimg = 600.0
  c.generator.fading_kimg = 600.0
  c.generator.batch_sizes = BATCH_SIZES[variant][:number]
  c.generator.learning_rate = 1e-3
  c.generator.learning_rates = LEARNING_RATES[:number]
  c.generator.adam = 'tensorflow'
  c.generator.skip_nonfinite = True
  c.generator.r1_gamma = 10.0
  c.generator.r1_interval = 1
  c.generator.style_mixing_prob = 0.9
  c.generator.style_mixing_cut = 'batch'
  c.generator.ema_kimg = 10.0
  c.generator.total_kimg = 25000.0
