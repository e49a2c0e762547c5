"""Encodes the images into per-layer latents (Algorithm 1).

python -m launch.encode --config=configs/digits.py --workdir=runs/digits [--config.key=value] [--dry_run]
"""

from launch import job

if __name__ == '__main__':
  job.main(stages=('encode',))
