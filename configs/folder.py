"""Labelled pictures of your own: classifiers that do not mind what the fine layers of a generator hold.

    python -m launch.check_data --dir=DIR
    python -m launch.pipeline --config=configs/folder.py --workdir=runs/mine --config.data.dir=DIR \
        [--config.data.fit=crop]

DIR holds train/CLASS/*.png and test/CLASS/*.png (jpg as well; validation/ if you have one), or is a folder or
zip with StyleGAN's dataset.json. A StyleGAN is trained on the training pictures; what its last layers set,
colours and fine texture, is what the classifier learns to ignore, so it must not decide the class.

Variants: the side of the images in pixels.
  32, 64 (default): sized for two cores and some thousand pictures.
  128: an accelerator. Not run yet.
"""

import ml_collections

from configs import default

# Pixels: maps of the generator, maps of the start encoder, mixing level.
SIZES = {
  '32': ((64, 48, 32, 16), (16, 32, 48, 64), 6),
  '64': ((96, 96, 48, 24, 12), (16, 32, 48, 64, 64), 6),
  '128': ((256, 256, 128, 64, 32, 16), (16, 32, 64, 128, 128), 8),
}


def get_config(variant: str = '64') -> ml_collections.ConfigDict:
  if variant not in SIZES:
    raise ValueError(f'folder.py has the variants {", ".join(SIZES)}, not {variant!r}')
  c = default.get_config()
  c.data.name = 'folder'
  c.data.resolution = int(variant)
  c.data.num_validation = 0  # All of validation/, or nothing held out where there is none.
  c.generator.fmaps, c.encode.init_fmaps, c.attack.mixing_level = SIZES[variant]
  c.generator.latent_size = 64
  c.generator.w_size = 64
  c.generator.r1_gamma = 1.0  # 10 is for 1024 pixels.
  c.generator.total_kimg = 160.0
  c.generator.sample_kimg = 20.0
  c.encode.init_kimg = 40.0
  c.encode.num_steps = 30
  c.encode.batch_size = 64
  c.attack.num_restarts = 2
  c.attack.num_steps = 4
  c.cutout.size = int(variant) // 2
  c.at.epsilon = 8 / 255
  c.at.step_size = 2.5 * c.at.epsilon / 7
  c.train.num_epochs = 20.0
  c.evaluate.batch_size = 64
  return c
