"""Trains the StyleGAN.

python -m launch.train_gan --config=configs/digits.py --workdir=runs/digits [--config.key=value] [--dry_run]
"""

from launch import job

if __name__ == '__main__':
  job.main(stages=('train_gan',))
