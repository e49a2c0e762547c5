"""Figure 4: what AdvMix and mixup make of two Gaussian factors, one of which carries the label.

    python -m launch.pipeline --config=configs/toy.py --workdir=runs/toy

No network, no training; seconds on one core. Expect as many AdvMix samples as data points within three
standard deviations of a true mode, about 99 %, and about 85 % of the mixup samples: with the paper's alpha of
0.2 most blends are close to one of their sources, and half of the pairs are of one class.
`--config.mixup.alpha=1.0` blends evenly.
"""

import math

import ml_collections

from configs import default


def get_config() -> ml_collections.ConfigDict:
  c = default.get_config()
  c.stages = ('toy',)

  c.toy = ml_collections.ConfigDict()
  c.toy.num_points = 200  # Data points, as in the paper.
  c.toy.num_samples = 1000  # Samples each method draws from them (open).
  c.toy.par_step = 20.0  # z_par = par_step * label: mean of x2.
  c.toy.par_sd = 1.0  # Standard deviation of x2 around it.
  c.toy.perp_step = 10.0  # z_perp is 0 or this, whatever the label: mean of x1.
  c.toy.perp_sd = math.sqrt(3.0)  # Of x1; the paper's second argument of N read as standard deviation (open).
  return c
