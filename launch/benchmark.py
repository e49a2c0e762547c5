"""Measures images per second of the steps that take the time, on reference networks.

python -m launch.benchmark --out=bench.json
python -m launch.benchmark --cases=gan_step,attack_train_cnn --repeats=9
python -m launch.benchmark --against=torch --out=bench.json
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
from typing import Any

from advmix_jax import benchmark, measurement
from advmix_jax.bench import curves, page, pipeline, profile, start_time
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
  if options.repeats < 1:
    raise BadInputError(f'--repeats is {options.repeats}, expected at least 1')
  allocation.keep_freed_memory()
  for flag, file in (('--out', options.out), ('--page', options.page)):
    if file is not None:
      check_writable(file.parent, f'{flag}={file}')
  if options.profile is not None:
    os.environ['NPROC'] = '1'  # Before jax starts: the profiler does not see all that helping threads do.
  if options.page is not None:
    page.write_page(options.page, [Path(name) for name in options.sources.split(',') if name])
    return
  figures = measure(options)
  figures['command'] = shlex.join(['python', '-m', 'launch.benchmark', *arguments])
  if options.out is not None:
    write_json(options.out, figures)


def measure(options: argparse.Namespace) -> dict[str, Any]:
  """What the flags ask for, with machine and date."""
  if options.curves is not None:
    names = options.curves.split(',')
    curves.check_names(names)
    return measurement.stamp(options.repeats) | {'curves': curves.curves(names, options.repeats)}
  if options.profile is not None:
    return measurement.stamp(options.repeats) | {
      'profiles': profile.profile_cases(options.profile.split(','))
    }
  if options.start_time is not None:
    return measurement.stamp(options.repeats) | {'start_times': start_time.start_times(options.start_time)}
  if options.pipeline is not None:
    case = pipeline.pipeline_case(options.pipeline)
    print(pipeline.in_words(case))
    return measurement.stamp(options.repeats) | {'cases': [case]}
  return measurement.run_cases(options.cases.split(','), options.repeats, against=options.against)


if __name__ == '__main__':
  common.use_compile_cache()
  sys.exit(main())
