"""Faces of 1024 pixels on accelerators of 16 GiB: training of the generator, and the paper's use of one.

    python -m launch.train_gan --config=configs/ffhq1024.py:gan --workdir=runs/ffhq --config.data.dir=DIR
    python -m launch.pipeline --config=configs/ffhq1024.py:mix --workdir=runs/celeba \
        --config.data.dir=CELEBA --config.generator.path=runs/ffhq/gan --config.encode.vgg16_weights=FILE

Variants:
  gan: StyleGAN 1 as published for one accelerator, on pictures of 1024 pixels (DIR as for folder.py). Where
    1024 pixels are drawn, the minibatch of 4 goes in two parts, so the discriminator's minibatch standard
    deviation is of two images each there.
  mix: celeba.py:paper with a generator of 1024 pixels, from `gan` or from launch.convert.

Every step is planned below 16 GiB for one device (of the methods, advmix needs most). In GiB, batch and part
in brackets, as the compiler for CPUs of jax 0.10.2 plans them; an accelerator's plans differently:

    python -m launch.memory --config=configs/ffhq1024.py:gan
      while 8 to 512 pixels are drawn at most 12.0 (8, 8 at 256 pixels); 1024 pixels 7.3 (4, 2)
    python -m launch.memory --config=configs/ffhq1024.py:mix --config.train.methods=advmix
      encode 7.8 (4, 4); train/advmix 8.6 (64, 8); evaluate 8.3 (8, 8)

Nothing of it has been run yet.
"""

import ml_collections

from configs import celeba, folder, stylegan1


def get_config(variant: str = 'gan') -> ml_collections.ConfigDict:
  if variant == 'gan':
    c = folder.get_config('128')
    c.stages = ('train_gan',)
    c.data.resolution = 1024
    c.attack.mixing_level = 8
    stylegan1.set_published(c, '1')
    c.generator.micro_batches = (32, 32, 32, 32, 0, 0, 0, 0, 2)  # While 4, 8, ... pixels are drawn.
  elif variant == 'mix':
    c = celeba.get_config('paper')
    c.stages = ('train_gan', 'encode', 'train', 'evaluate', 'report')
    c.encode.batch_size = 4
    c.train.micro_batch = 8
    c.evaluate.batch_size = 8
  else:
    raise ValueError(f'ffhq1024.py has the variants gan and mix, not {variant!r}')
  c.precision = 'bfloat16'
  c.remat = True
  return c
