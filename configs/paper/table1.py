"""Table 1: Colour-MNIST at sigma 0, and a generator that saw mostly zeros and ones, or mostly zeros.

    python -m launch.reproduce table1[:VARIANT] --workdir=runs/table1 --config.data.dir=FOLDER_OF_MNIST

Classifiers learn from digits of all classes in any case; each class has one colour. The generator's data are
all digits; 99 % zeros and ones ("less biased"); 99 % zeros ("more biased"): as many images as these shares
allow, about 11,800 and 5,900. The paper does not say what the shares are.

Expected of RandMix 99.1, 98.9, 97.6 %, of AdvMix 99.2, 99.1, 98.8 % (paper, clean test accuracy).

Variants:
  cpu: the classifier on 2,500 images; two cores (--slots=2). A seed is the whole chain, generator included.
    A run takes 21 minutes of a core that trains the generator on 175 images a second, so nine runs an hour
    and a half of two such; docs/results.md has what they gave.
  paper: all 60,000 images, the paper's attack and epochs; a seed is the whole chain, generator included. Nine
    runs, reckoned as color_mnist.py says: an hour and a half of an H200. Not run yet.
  paper_exact: the paper's encoder as well, 2,000 steps with VGG-16 features, whose ImageNet weights
    --config.encode.vgg16_weights names. Not run.
  smoke: digits and tiny networks, six runs in two minutes on two cores; the numbers mean nothing.
"""

from collections.abc import Callable

import ml_collections

from configs.paper import colour_mnist

# Shares of the digits 0 to 9 in the generator's data, by column; () = as they are.
CLASSES = ((), (0.495,) * 2 + (0.01 / 8,) * 8, (0.99,) + (0.01 / 9,) * 9)


def get_config(variant: str = 'cpu') -> ml_collections.ConfigDict:
  colour_mnist.check_variant('table1.py', variant)
  return colour_mnist.make_config(variant, ('randmix', 'advmix'))


def sweep(add: Callable[..., None], variant: str = 'cpu') -> None:
  for seed in colour_mnist.seeds(variant):
    for shares in CLASSES:
      add(**{'data.generator_classes': shares}, **seed)
