"""Measures images per second of the steps that take the time, on reference networks.

python -m launch.benchmark --out=bench.json
python -m launch.benchmark --cases=gan_step,attack_train_cnn --repeats=9
python -m launch.benchmark --against=torch --out=bench.json
python -m launch.benchmark --precision=bfloat16 --batch_size=1024 --cases=attack_train_cnn --out=bfloat16.json
python -m launch.benchmark --against=torch --cases=encoder_equal_quality --run=runs/digits --out=encoder.json
python -m launch.benchmark --curves=batch,restarts,steps,resolution,devices --out=curves.json
python -m launch.benchmark --profile=attack_train_cnn --out=profile.json
python -m launch.benchmark --start_time=configs/digits.py --out=start.json
python -m launch.benchmark --pipeline=runs/digits --out=pipeline.json
python -m launch.benchmark --page=docs/performance.md --from=bench.json,curves.json
"""

import argparse
import os
import shlex
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from ml_collections import ConfigDict

from advmix_jax import threads
from advmix_jax.bench import (
  curves,
  equal_quality,
  measurement,
  page,
  pipeline,
  profile,
  reference_cases,
  start_time,
)
from advmix_jax.stages.experiment import Experiment
from advmix_jax.types import BadInputError
from advmix_jax.workdir import Workdir, check_writable, read_config, write_json
from configs import default
from launch import allocation, common, cores


@common.exit_status
def main(arguments: list[str] | None = None) -> None:
  parser = argparse.ArgumentParser(prog='python -m launch.benchmark', description=__doc__.split('\n')[0])
  parser.add_argument('--out', type=Path, help='file for the figures, JSON')
  parser.add_argument('--cases', default=','.join(reference_cases.CASES), help='some of %(default)s')
  parser.add_argument(
    '--precision', choices=['float32', 'bfloat16'], default='float32', help='of the reference networks'
  )
  usual = reference_cases.Networks().batch_size
  parser.add_argument('--batch_size', type=int, default=usual, help='images in a step of them (%(default)s)')
  parser.add_argument('--run', type=Path, help=f'folder of a finished run, for the case {equal_quality.NAME}')
  parser.add_argument(
    '--encode_steps', type=int, default=2000, help='of it: steps from the mean (%(default)s)'
  )
  parser.add_argument('--encode_images', type=int, default=64, help='its images (%(default)s)')
  parser.add_argument('--encode_mixing_share', type=float, help="its config.encode.mixing_share (the run's)")
  parser.add_argument('--repeats', type=int, default=5, help='runs of which the median counts (%(default)s)')
  parser.add_argument('--against', choices=['torch'], help='does the same work with it, in turns')
  parser.add_argument(
    '--curves', help=f'what the cost grows with, instead of cases: {",".join(curves.CURVES)}'
  )
  parser.add_argument('--profile', help='cases, to see where their time goes')
  parser.add_argument('--start_time', help='seconds to the first step of the stages of a configuration file')
  parser.add_argument('--pipeline', type=Path, help='seconds per image of a finished run in this workdir')
  parser.add_argument('--page', type=Path, help='Markdown file to write from the files of --from')
  parser.add_argument('--from', dest='sources', default='', help='files that --out wrote, comma-separated')
  arguments = sys.argv[1:] if arguments is None else arguments
  options = parser.parse_args(arguments)
  check(options)
  if options.page is not None:
    page.write_page(options.page, [Path(name) for name in options.sources.split(',') if name])
    return
  figures = measure(options)
  figures['command'] = shlex.join(['python', '-m', 'launch.benchmark', *arguments])
  if options.out is not None:
    write_json(options.out, figures)


def check(options: argparse.Namespace) -> None:
  """Raises `BadInputError` for flags that cannot work."""
  for flag in ('repeats', 'encode_steps', 'batch_size'):
    if getattr(options, flag) < 1:
      raise BadInputError(f'--{flag} is {getattr(options, flag)}, expected at least 1')
  share = options.encode_mixing_share
  if share is not None and not 0 <= share <= 1:
    raise BadInputError(f'--encode_mixing_share is {share}, expected a number in [0, 1]')
  if equal_quality.NAME in options.cases.split(',') and options.run is None:
    raise BadInputError(f'--cases: {equal_quality.NAME} needs --run, the folder of a finished run')
  if options.run is not None and not (options.run / 'config.json').exists():
    raise BadInputError(f'--run={options.run}: found no config.json, expected the folder of a run')
  if options.page is not None and not options.sources:
    raise BadInputError('--page: found no --from, expected the files that --out wrote')
  for flag, file in (('--out', options.out), ('--page', options.page)):
    if file is not None:
      check_writable(file.parent, f'{flag}={file}')


def measure(options: argparse.Namespace) -> dict[str, Any]:
  """What the flags ask for, with machine and date."""
  sizes = {'precision': options.precision, 'batch_size': options.batch_size}
  networks = reference_cases.Networks()._replace(**sizes)
  if options.curves is not None:
    names = options.curves.split(',')
    curves.check_names(names)
    return measurement.stamp(options.repeats) | {'curves': curves.curves(names, options.repeats, networks)}
  if options.profile is not None:
    return measurement.stamp(options.repeats) | {
      'profiles': profile.profile_cases(options.profile.split(','), networks)
    }
  if options.start_time is not None:
    return measurement.stamp(options.repeats) | {'start_times': start_time.start_times(options.start_time)}
  if options.pipeline is not None:
    case = pipeline.pipeline_case(options.pipeline)
    print(pipeline.in_words(case))
    return measurement.stamp(options.repeats) | {'cases': [case]}
  return measure_cases(options, networks)


def measure_cases(options: argparse.Namespace, networks: reference_cases.Networks) -> dict[str, Any]:
  """Cases on reference networks, and the one on a run."""
  names = options.cases.split(',')
  experiment = open_run(options.run) if equal_quality.NAME in names else None
  figures = measurement.run_cases(
    [name for name in names if name != equal_quality.NAME], options.repeats, networks, options.against
  )
  if experiment is not None:
    if options.encode_mixing_share is not None:
      experiment.config.encode.mixing_share = options.encode_mixing_share
    sizes = (options.encode_steps, options.encode_images, options.repeats)
    figures['cases'].append(equal_quality.equal_quality(experiment, *sizes, options.against))
    figures['run'] = str(options.run)
  return figures


def open_run(folder: Path) -> Experiment:
  """A run to read from; nothing is written. Keys that its configuration lacks are the defaults."""
  config = default.get_config()
  with config.unlocked():
    config.update(ConfigDict(read_config(folder)))
  return Experiment(cast(Workdir, SimpleNamespace(path=folder.absolute(), config=config)))


def use_cores(arguments: list[str]) -> None:
  """As runs do, before jax starts. A profile is of one: the profiler does not see all that others do."""
  if any(word.startswith('--profile') for word in arguments):
    os.environ['NPROC'] = '1'
  cores.set_devices(cores.largest_divisor(reference_cases.Networks().batch_size, threads.count()))


if __name__ == '__main__':
  common.end_when_asked()
  allocation.tune_malloc()  # As every run does; PyTorch's process has the same settings.
  use_cores(sys.argv[1:])
  sys.exit(main())
