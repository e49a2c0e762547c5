"""A sweep that takes minutes, for tests: two values of sigma, two seeds; the numbers mean nothing.

python -m launch.sweep --config=configs/sweeps/smoke.py --out=runs/sweep_smoke
"""

from collections.abc import Callable

import ml_collections

from configs import smoke


def get_config() -> ml_collections.ConfigDict:
  c = smoke.get_config()
  c.train.methods = ('nominal', 'advmix')
  c.stages = ('train_gan', 'encode', 'train', 'evaluate')
  return c


def sweep(add: Callable[..., None]) -> None:
  for sigma in (0.0, 0.2):
    for epsilon in (0.03, 0.1):
      add(**{'data.sigma': sigma, 'attack.epsilon': epsilon})
