"""Faces of 1024 pixels on accelerators of 16 GiB: training of the generator, and the paper's use of one.

    python -m launch.train_gan --config=configs/ffhq1024.py:gan --workdir=runs/ffhq --config.data.dir=DIR
    python -m launch.pipeline --config=configs/ffhq1024.py:mix --workdir=runs/celeba \
        --config.data.dir=CELEBA --config.generator.path=runs/ffhq/gan --config.encode.vgg16_weights=FILE

Variants:
  gan: StyleGAN 1 as published for one accelerator, on pictures of 1024 pixels (DIR as for folder.py).
  mix: celeba.py:paper with a generator of 1024 pixels, from `gan` or from launch.convert.

Not run yet.
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
  elif variant == 'mix':
    c = celeba.get_config('paper')
    c.stages = ('train_gan', 'encode', 'train', 'evaluate', 'report')
    c.encode.batch_size = 4
    c.train.micro_batch = 8
    c.evaluate.batch_size = 16
  else:
    raise ValueError(f'ffhq1024.py has the variants gan and mix, not {variant!r}')
  c.precision = 'bfloat16'
  c.remat = True
  return c
