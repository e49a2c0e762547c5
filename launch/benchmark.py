"""Measures images per second of the steps that take the time, on reference networks.

python -m launch.benchmark --out=bench.json
python -m launch.benchmark --cases=gan_step,attack_train_cnn --repeats=9
python -m launch.benchmark --against=torch --out=bench.json
python -m launch.benchmark --against=torch --cases=encoder_equal_quality --run=WORKDIR
"""

import argparse
import shlex
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import cast

from ml_collections import ConfigDict

from advmix_jax import benchmark, benchmark_run, measurement
from advmix_jax.stages.experiment import Experiment
from advmix_jax.types import BadInputError
from advmix_jax.workdir import Workdir, check_writable, read_json, write_json
from configs import default
from launch import common


@common.exit_status
def main(arguments: list[str] | None = None) -> None:
  parser = argparse.ArgumentParser(prog='python -m launch.benchmark', description=__doc__.split('\n')[0])
  parser.add_argument('--out', type=Path, help='file for the figures, JSON')
  parser.add_argument('--cases', default=','.join(benchmark.CASES), help='some of %(default)s')
  parser.add_argument('--run', type=Path, help=f'folder of a finished run, for the case {benchmark_run.NAME}')
  parser.add_argument(
    '--encode_steps', type=int, default=2000, help='of it: steps from the mean (%(default)s)'
  )
  parser.add_argument('--encode_images', type=int, default=64, help='its images (%(default)s)')
  parser.add_argument('--repeats', type=int, default=5, help='runs of which the median counts (%(default)s)')
  parser.add_argument('--against', choices=['torch'], help='does the same work with it, in turns')
  arguments = sys.argv[1:] if arguments is None else arguments
  options = parser.parse_args(arguments)
  if options.repeats < 1:
    raise BadInputError(f'--repeats is {options.repeats}, expected at least 1')
  names = options.cases.split(',')
  if benchmark_run.NAME in names and options.run is None:
    raise BadInputError(f'--cases: {benchmark_run.NAME} needs --run, the folder of a finished run')
  if options.encode_steps < 1:
    raise BadInputError(f'--encode_steps is {options.encode_steps}, expected at least 1')
  experiment = None if options.run is None else open_run(options.run)
  if options.out is not None:
    check_writable(options.out.parent, f'--out={options.out}')
  figures = measurement.run_cases(
    [name for name in names if name != benchmark_run.NAME], options.repeats, against=options.against
  )
  if experiment is not None:
    torch_cases = None if options.against is None else measurement.load_torch()
    sizes = (options.encode_steps, options.encode_images, options.repeats)
    figures['cases'].append(benchmark_run.equal_quality(experiment, *sizes, torch_cases))
    figures['run'] = str(options.run)
  figures['command'] = shlex.join(['python', '-m', 'launch.benchmark', *arguments])
  if options.out is not None:
    write_json(options.out, figures)


def open_run(folder: Path) -> Experiment:
  """A run to read from; nothing is written. Keys that its configuration lacks are the defaults."""
  if not (folder / 'config.json').exists():
    raise BadInputError(f'--run={folder}: found no config.json, expected the folder of a run')
  config = default.get_config()
  with config.unlocked():
    config.update(ConfigDict(read_json(folder / 'config.json')))
  return Experiment(cast(Workdir, SimpleNamespace(path=folder.absolute(), config=config)))


if __name__ == '__main__':
  sys.exit(main())
