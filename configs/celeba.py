"""CelebA (section 5.2): does a face smile? Training and test images from the official parts.

    python -m launch.pipeline --config=configs/celeba.py:small --workdir=runs/celeba --config.data.dir=DIR \
        [--config.data.attribute=Wearing_Hat]

DIR holds img_align_celeba/, list_attr_celeba.txt and list_eval_partition.txt as they are distributed, for
non-commercial research only. The attributes fixed before any run: Smiling, Wearing_Hat, Mouth_Slightly_Open,
High_Cheekbones; colour and fine texture do not decide them.

Variants:
  small: a 64-pixel StyleGAN of 10,000 faces, classifiers of 2,000 with as many of either class. Networks and
    training are those of table3:cpu, whose numbers and times are in docs/results.md.
  paper: an FFHQ generator of 1024 pixels (--config.generator.path=DIR, made by launch.convert) cut at level
    8, its images resized to 64 for the classifier, all images; needs an accelerator. Not run yet.
"""

import ml_collections

from configs import default


def get_config(variant: str = 'small') -> ml_collections.ConfigDict:
  c = default.get_config()
  c.data.name = 'celeba'
  c.data.resolution = 64
  c.data.attribute = 'Smiling'
  c.data.num_validation = 0
  c.cutout.size = 32
  c.at.epsilon = 8 / 255  # The paper has 4/255 and 8/255.
  c.at.step_size = 2.5 * c.at.epsilon / 7
  if variant == 'small':
    set_small(c)
  elif variant == 'paper':
    set_paper(c)
  else:
    raise ValueError(f'celeba.py has the variants small and paper, not {variant!r}')
  return c


def set_small(c: ml_collections.ConfigDict) -> None:
  c.data.num_train = 2000
  c.data.num_generator = 10_000
  c.data.num_test = 300
  c.data.num_validation = 300
  c.data.crop = 'face'  # Large mouths: the coarse layers carry the smile.
  c.attack.mixing_level = 6  # 32 and 64 pixels are free.
  c.generator.fmaps = (96, 96, 48, 24, 12)  # Maps at 4 to 16 pixels cost little.
  c.generator.latent_size = 64
  c.generator.w_size = 64
  c.generator.mirror = True
  c.generator.r1_gamma = 1.0  # 10 is for 1024 pixels.
  c.generator.total_kimg = 120.0
  c.generator.sample_kimg = 20.0
  c.encode.init_kimg = 20.0
  c.encode.init_fmaps = (16, 32, 48, 64, 64)
  c.encode.rule = 'whitened_adam'
  c.encode.schedule = 'cosine'
  c.encode.learning_rate = 0.5
  c.encode.num_steps = 20
  c.encode.batch_size = 64
  c.attack.num_restarts = 2
  c.attack.num_steps = 4
  c.train.num_epochs = 10.0
  c.train.batch_size = 16  # Small, for 1,250 steps of so few images.
  # Against a whole attack from the start nothing is learnt in so few: the loss stays at log 2.
  c.at.ramp_steps = c.attack.ramp_steps = 800
  c.evaluate.batch_size = 64
  c.report.explorer_examples = 48  # Ten seconds each on two cores.


def set_paper(c: ml_collections.ConfigDict) -> None:
  c.data.crop = 'centre'
  c.attack.mixing_level = 8  # Listing: 64 to 1024 pixels are free; the text has 128 to 1024, level 10 (open).
  c.generator.fmaps = (512, 512, 512, 512, 256, 128, 64, 32, 16)
  c.generator.latent_size = 512
  c.generator.w_size = 512
  c.generator.mapping_layers = 8
  c.encode.resolution = 256  # The aligned pictures have 178 pixels, so 1024 would hold no more.
  c.encode.init = 'mean'
  c.encode.num_steps = 2000
  c.encode.features = 'vgg16'  # Needs config.encode.vgg16_weights.
  c.encode.batch_size = 8
  c.attack.num_restarts = 5
  c.attack.num_steps = 7
  c.train.fmaps = (32, 32, 64, 64)
  c.train.num_epochs = 20.0
  c.evaluate.batch_size = 32
