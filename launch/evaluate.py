"""Measures clean accuracy and accuracy under perturbation (Algorithm 2).

python -m launch.evaluate --config=configs/digits.py --workdir=runs/digits [--config.key=value] [--dry_run]
"""

from launch import job

if __name__ == '__main__':
  job.main(stages=('evaluate',))
