"""Writes the report with its pictures.

python -m launch.report --config=configs/digits.py --workdir=runs/digits [--config.key=value] [--dry_run]
"""

from launch import job

if __name__ == '__main__':
  job.main(stages=('report',))
