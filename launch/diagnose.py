"""Measures whether the method's assumptions hold on this data, see docs/diagnostics.md.

python -m launch.diagnose --config=configs/digits.py --workdir=runs/digits [--config.key=value] [--dry_run]
"""

from launch import job

if __name__ == '__main__':
  job.main(stages=('diagnose',))
