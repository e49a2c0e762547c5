"""The whole job: every stage of the configuration, in order.

python -m launch.pipeline --config=configs/digits.py --workdir=runs/digits [--config.key=value] [--dry_run]
"""

from launch import job

if __name__ == '__main__':
  job.main()
