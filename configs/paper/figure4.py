"""Figure 4: what AdvMix and mixup make of two Gaussian factors, one of which carries the label.

    python -m launch.reproduce figure4 --workdir=runs/figure4

No network, no training: seconds on one core, whatever the variant (cpu, paper, paper_exact, smoke). A seed is
everything that is drawn. The picture is that of seed 0; the paper has no numbers.

Expected: as many AdvMix samples as data points within three standard deviations of a true mode, about 99 %,
and about 85 % of the mixup samples.
"""

from collections.abc import Callable

import ml_collections

from configs import toy
from configs.paper import colour_mnist


def get_config(variant: str = 'cpu') -> ml_collections.ConfigDict:
  colour_mnist.check_variant('figure4.py', variant)
  return toy.get_config()


def sweep(add: Callable[..., None], variant: str = 'cpu') -> None:
  for seed in range(3):
    add(seed=seed)
