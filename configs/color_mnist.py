"""Colour-MNIST (section 5.1): each digit class has a colour of its own in training; any colour at test time.

    python -m launch.pipeline --config=configs/color_mnist.py:cpu --workdir=runs/color_mnist \
        --config.data.dir=FOLDER_OF_MNIST [--config.data.sigma=0.2]

Variants:
  cpu: for two cores; docs/data_sets.md has what it gave, and in what time.
  paper: the paper's attack and epochs, w of 512, all 60,000 images; needs an accelerator. Not run yet;
    launch.scaling (--devices=1 --images=70000 --train_images=60000 --test_images=10000 --num_classes=10)
    reckons with 9 minutes of an H200 for generator, encoding and AdvMix.
  paper_exact: the paper's encoder as well, 2,000 steps from the mean of w with VGG-16 features, whose
    ImageNet weights --config.encode.vgg16_weights names. Not run: that is too much for one accelerator.
"""

import ml_collections

from configs import default


def get_config(variant: str = 'cpu') -> ml_collections.ConfigDict:
  c = default.get_config()
  c.data.name = 'mnist'
  c.data.resolution = 32
  c.data.sigma = 0.0
  c.data.num_validation = 1000
  c.attack.mixing_level = 6  # The last resolution only, as in the paper.
  c.cutout.size = 16
  if variant == 'cpu':
    set_cpu(c)
  elif variant in ('paper', 'paper_exact'):
    set_paper(c)
    if variant == 'paper_exact':
      set_paper_encoder(c)
  else:
    raise ValueError(f'color_mnist.py has the variants cpu, paper and paper_exact, not {variant!r}')
  return c


def set_cpu(c: ml_collections.ConfigDict) -> None:
  c.data.num_train = 12000
  c.generator.fmaps = (64, 48, 32, 16)
  c.generator.latent_size = 64
  c.generator.w_size = 64
  c.generator.total_kimg = 240.0
  c.generator.sample_kimg = 40.0
  c.encode.init_kimg = 30.0
  c.encode.rule = 'whitened_adam'
  c.encode.schedule = 'cosine'
  c.encode.learning_rate = 0.5
  c.encode.num_steps = 25
  c.encode.mixing_share = 0.85
  c.encode.init_fmaps = (16, 32, 48, 64)
  c.attack.num_restarts = 3
  c.attack.num_steps = 4
  c.train.num_epochs = 6.0  # Paper: 5.
  c.train.learning_rate = 2e-3
  c.evaluate.num_examples = 500


def set_paper(c: ml_collections.ConfigDict) -> None:
  c.generator.fmaps = (512, 256, 128, 64)  # With 512 throughout, seventeen times the operations.
  c.generator.latent_size = 512
  c.generator.w_size = 512
  c.generator.mapping_layers = 8
  c.generator.batch_size = 64
  c.generator.learning_rate = 1e-3
  c.generator.style_mixing_cut = 'batch'
  c.generator.ema_kimg = 10.0
  c.generator.total_kimg = 5000.0
  c.generator.sample_kimg = 100.0
  c.encode.init_kimg = 250.0
  c.encode.init_fmaps = (64, 128, 256, 256)
  c.encode.num_steps = 100
  c.train.fmaps = (32, 32, 64, 64)
  c.attack.num_restarts = 5
  c.attack.num_steps = 7
  c.train.num_epochs = 5.0


def set_paper_encoder(c: ml_collections.ConfigDict) -> None:
  c.encode.init = 'mean'
  c.encode.num_steps = 2000
  c.encode.features = 'vgg16'  # Needs config.encode.vgg16_weights.
  c.encode.batch_size = 32
