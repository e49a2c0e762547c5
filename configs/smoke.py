"""Every stage in a minute or two, for tests: tiny networks, few steps; the numbers mean nothing.

python -m launch.pipeline --config=configs/smoke.py --workdir=runs/smoke
"""

import ml_collections

from configs import default


def get_config() -> ml_collections.ConfigDict:
  c = default.get_config()
  c.data.num_train = 64
  c.data.num_test = 40
  c.generator.fmaps = (8, 8, 8)
  c.generator.latent_size = 8
  c.generator.w_size = 8
  c.generator.mapping_layers = 2
  c.generator.batch_size = 16
  c.generator.total_kimg = 0.32
  c.generator.sample_kimg = 0.32
  c.generator.r1_interval = 1
  c.encode.init_kimg = 0.16
  c.encode.init_batch_size = 16
  c.encode.init_fmaps = (8, 8)
  c.encode.num_steps = 4
  c.encode.batch_size = 32
  c.encode.shard_size = 32
  c.attack.num_restarts = 2
  c.attack.num_steps = 2
  c.train.fmaps = (4, 4, 8, 8)
  c.train.batch_size = 16
  c.train.num_epochs = 2.0
  c.at.num_steps = 2
  c.evaluate.num_restarts = 2
  c.evaluate.num_steps = 2
  c.evaluate.num_examples = 30
  c.evaluate.batch_size = 32
  c.report.num_examples = 4
  c.diagnose.reference_epochs = 4.0
  c.diagnose.num_images = 24
  c.diagnose.num_draws = 2
  c.diagnose.num_attacked = 16
  c.diagnose.restarts = (1, 2, 3)
  c.diagnose.steps = (0, 2, 3)
  c.diagnose.epsilons = (0.03, 0.3)
  c.report.explorer_examples = 12
  c.checkpoint.seconds = 1.0
  c.log_every_steps = 5
  return c
