"""Figure 7: accuracy on uniformly drawn colours against sigma, the spread of the training colours.

    python -m launch.reproduce figure7[:VARIANT] --workdir=runs/figure7 --config.data.dir=FOLDER_OF_MNIST

Expected: RandMix and AdvMix above nominal, mixup and AT at every sigma; the gap closes as sigma grows; at
sigma 0 RandMix 99.1 and AdvMix 99.2 % (paper, Table 1).

Variants:
  cpu: sigma 0, 0.2, 0.4, the classifier on 2,500 images; two cores (--slots=2). A seed is the whole chain,
    generator included. A run takes 23 minutes of a core that trains the generator on 170 images a second, so
    nine runs two hours of two such; docs/results.md has what they gave.
  paper: sigma 0 to 0.4 in steps of 0.05, all 60,000 images, the paper's attack and epochs; a seed is the
    whole chain, generator included. 27 runs, reckoned as color_mnist.py says: some five hours of an H200. Not
    run yet.
  paper_exact: the paper's encoder as well, 2,000 steps with VGG-16 features, whose ImageNet weights
    --config.encode.vgg16_weights names. Not run.
  smoke: digits and tiny networks, four runs in two minutes on two cores; the numbers mean nothing.
"""

from collections.abc import Callable

import ml_collections

from configs.paper import colour_mnist

METHODS = ('nominal', 'mixup', 'at', 'randmix', 'advmix')  # As in the figure.
SIGMAS = {'cpu': (0.0, 0.2, 0.4), 'smoke': (0.0, 0.2)}
PAPER_SIGMAS = tuple(round(0.05 * i, 2) for i in range(9))


def get_config(variant: str = 'cpu') -> ml_collections.ConfigDict:
  colour_mnist.check_variant('figure7.py', variant)
  return colour_mnist.make_config(variant, METHODS)


def sweep(add: Callable[..., None], variant: str = 'cpu') -> None:
  for seed in colour_mnist.seeds(variant):
    for sigma in SIGMAS.get(variant, PAPER_SIGMAS):
      add(**{'data.sigma': sigma}, **seed)
