"""Figure 7: accuracy on uniformly drawn colours against sigma, the spread of the training colours.

    python -m launch.sweep --config=configs/sweeps/figure7.py:cpu --out=runs/figure7 \
        --config.data.dir=FOLDER_OF_MNIST [--slots=2]
    python -m launch.sweep collect --out=runs/figure7

Variants:
  cpu: sigma 0, 0.2, 0.4 on 6,000 images, for two cores; one generator for each sigma, so a seed is the
    classifier's alone. Not run yet.
  paper: sigma 0 to 0.4 in steps of 0.05, all 60,000 images; a seed is the whole chain, generator included.
    For accelerators: 27 runs. Not run yet.
  smoke: digits and tiny networks, four runs in two minutes on two cores; the numbers mean nothing.
"""

from collections.abc import Callable

import ml_collections

from configs import color_mnist, smoke

METHODS = ('nominal', 'mixup', 'at', 'randmix', 'advmix')  # As in the figure.


def get_config(variant: str = 'cpu') -> ml_collections.ConfigDict:
  if variant == 'smoke':
    c = smoke.get_config()
    c.train.methods = ('nominal', 'advmix')
    return c
  if variant not in ('cpu', 'paper'):
    raise ValueError(f'figure7.py has the variants cpu, paper and smoke, not {variant!r}')
  c = color_mnist.get_config(variant)
  c.train.methods = METHODS
  if variant == 'cpu':
    c.data.num_train = 6000
    c.generator.total_kimg = 150.0
    c.evaluate.num_examples = 300
  return c


def sweep(add: Callable[..., None], variant: str = 'cpu') -> None:
  sigmas: tuple[float, ...]
  seeds: tuple[int, ...]
  if variant == 'smoke':
    sigmas, seed_key, seeds = (0.0, 0.2), 'train.seed', (0, 1)
  elif variant == 'cpu':
    sigmas, seed_key, seeds = (0.0, 0.2, 0.4), 'train.seed', (0, 1, 2)
  else:
    sigmas, seed_key, seeds = tuple(round(0.05 * i, 2) for i in range(9)), 'seed', (0, 1, 2)
  for sigma in sigmas:
    for seed in seeds:
      add(**{'data.sigma': sigma, seed_key: seed})
