"""Trains the StyleGAN.

python -m launch.train_gan --config=configs/digits.py --workdir=runs/digits [--config.key=value] [--dry_run]
"""

from launch import common

if __name__ == '__main__':
  common.main(stages=('train_gan',))
