"""RGB Colour-MNIST (Table 2): pure red, green and blue, a linear classifier, a generator that saw mostly red.

    python -m launch.pipeline --config=configs/rgb_mnist.py --workdir=runs/rgb_mnist \
        --config.data.dir=FOLDER_OF_MNIST

Variants (share of red digits in the generator's data): `unbiased` (default), `red99`, `red999`.
On two cores; the sizes are those of color_mnist.py:cpu. docs/results.md has Table 2.
"""

import ml_collections

from configs import color_mnist

RED = {'unbiased': 1 / 3, 'red99': 0.99, 'red999': 0.999}


def get_config(variant: str = 'unbiased') -> ml_collections.ConfigDict:
  if variant not in RED:
    raise ValueError(f'rgb_mnist.py has the variants {", ".join(RED)}, not {variant!r}')
  c = color_mnist.get_config('cpu')
  c.data.name = 'rgb_mnist'
  red = RED[variant]
  c.data.generator_colours = (red, (1 - red) / 2, (1 - red) / 2)
  c.train.classifier = 'linear'
  set_generator(c)
  return c


def set_generator(c: ml_collections.ConfigDict) -> None:
  """Trained so shortly on pure colours, StyleGAN as it is draws few classes, and its mixes lose theirs.

  With its slow mapping a colour may be lacking altogether.
  """
  c.generator.loss = 'relativistic'
  c.generator.r1_gamma = 3.0
  c.generator.mapping_lr_multiplier = 0.1
  c.generator.style_mixing_level = c.attack.get_oneway_ref('mixing_level')
