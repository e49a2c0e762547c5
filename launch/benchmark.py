"""Measures images per second of the steps that take the time, on reference networks.

python -m launch.benchmark --out=bench.json
python -m launch.benchmark --cases=gan_step,attack_train_cnn --repeats=9
python -m launch.benchmark --against=torch --out=bench.json
"""

import argparse
import shlex
import sys
from pathlib import Path

from advmix_jax import benchmark, measurement
from advmix_jax.types import BadInputError
from advmix_jax.workdir import check_writable, write_json
from launch import allocation, common


@common.exit_status
def main(arguments: list[str] | None = None) -> None:
  parser = argparse.ArgumentParser(prog='python -m launch.benchmark', description=__doc__.split('\n')[0])
  parser.add_argument('--out', type=Path, help='file for the figures, JSON')
  parser.add_argument('--cases', default=','.join(benchmark.CASES), help='some of %(default)s')
  parser.add_argument('--repeats', type=int, default=5, help='runs of which the median counts (%(default)s)')
  parser.add_argument('--against', choices=['torch'], help='does the same work with it, in turns')
  arguments = sys.argv[1:] if arguments is None else arguments
  options = parser.parse_args(arguments)
  if options.repeats < 1:
    raise BadInputError(f'--repeats is {options.repeats}, expected at least 1')
  allocation.keep_freed_memory()
  if options.out is not None:
    check_writable(options.out.parent, f'--out={options.out}')
  figures = measurement.run_cases(options.cases.split(','), options.repeats, against=options.against)
  figures['command'] = shlex.join(['python', '-m', 'launch.benchmark', *arguments])
  if options.out is not None:
    write_json(options.out, figures)


if __name__ == '__main__':
  sys.exit(main())
