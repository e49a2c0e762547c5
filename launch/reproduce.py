"""A figure or table of the paper: runs what it needs, and shows the paper's numbers beside ours.

python -m launch.reproduce NAME[:VARIANT] --workdir=DIR [--record=docs/results] [--render_only]
    [--config.key=value ...] [--slots=N] [--dry_run] [any other flag of launch.sweep]
python -m launch.reproduce page --record=docs/results

NAME is figure4, figure7, table1, table2, table3 or table4: configs/paper/NAME.py, whose header says what the
variants (cpu, paper, paper_exact, smoke) are, and what they take. The sweep is in DIR; the same command goes
on after a break or a kill, and runs nothing twice. DIR/NAME.md, .csv, .png and .json are made of the runs
that are done; tables 3 and 4 are of the same runs. With --render_only nothing is run. --record also puts
NAME.json and NAME.png into a folder, and makes the page FOLDER.md of all that is there, which the last
command does alone. Seeds that were run apart (--seeds=0 here, --seeds=1,2 there) add up in a record; so do
runs of the same seed. To a record of another configuration nothing is added: it is refused.

Exit status as of launch.sweep: 0 done, 1 a run failed (the others are shown), 2 bad input, 75 interrupted.
"""

import os
import re
import shlex
import sys
from pathlib import Path
from typing import Any

from absl import flags

from launch import common, sweep

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / 'configs' / 'paper'
NAMES = ('figure4', 'figure7', 'table1', 'table2', 'table3', 'table4')
RECORD = flags.DEFINE_string(
  'record', None, 'reproduce: folder of records that result and page are put into.'
)
RENDER_ONLY = flags.DEFINE_bool('render_only', False, 'reproduce: show what is done, run nothing.')
PATHS = ('config.data.dir', 'config.data.cache_dir', 'config.encode.vgg16_weights', 'config.generator.path')


def main(argv: list[str]) -> int:
  common.show_help(argv)
  try:
    name, variant, given = read_command(argv)
    if name == 'page':
      flags.FLAGS([argv[0], *given])
      return make_page()
    common.read_config([argv[0], f'--config={source_of(name)}:{variant}', *as_sweep(given)])
    sweep.check_flags()
    if not sweep.OUT.value:
      raise ValueError('--workdir is missing, expected the folder of the runs')
    out = Path(sweep.OUT.value).absolute()
  except Exception as error:  # The libraries' flag parsers raise many kinds.
    return common.complain(common.flag_error(error), common.BAD_INPUT)
  command = spelled(name, variant, given)
  if RENDER_ONLY.value:
    return render(name, variant, out, command)
  status = sweep.run(out, lambda planned: begin(name, variant, out, planned))
  is_begun = (out / 'sweep' / 'plan.json').exists()
  if common.DRY_RUN.value or status in (common.BAD_INPUT, common.INTERRUPTED) or not is_begun:
    return status
  if sweep.EXECUTOR.value == 'slurm' and not sweep.WAIT.value:
    print('--render_only shows what is done')
    return status
  shown = render(name, variant, out, command)
  return status or shown


def read_command(argv: list[str]) -> tuple[str, str, list[str]]:
  """Name, variant and the other arguments."""
  expected = f'expected one of {", ".join(NAMES)}, each with :VARIANT or without, or page'
  if len(argv) < 2 or argv[1].startswith('-'):
    raise ValueError(f'the name of a figure or table is missing, {expected}')
  name, _, variant = argv[1].partition(':')
  if name not in (*NAMES, 'page'):
    raise ValueError(f'unknown name {name!r}, {expected}')
  if stray := [word for word in argv[2:] if re.match(r'--?config=', word)]:
    raise ValueError(f'{stray[0]}: expected none, {name} is configs/paper/{name}.py')
  return name, variant or 'cpu', argv[2:]


def source_of(name: str) -> str:
  """The configuration, from here if that is not far."""
  file = CONFIGS / f'{name}.py'
  return os.path.relpath(file) if file.is_relative_to(Path.cwd()) else str(file)


def as_sweep(given: list[str]) -> list[str]:
  """What is the folder of a run elsewhere is that of the sweep here."""
  return [re.sub(r'^--?workdir(?=$|=)', '--out', word) for word in given]


def spelled(name: str, variant: str, given: list[str]) -> str:
  """The command that gives the same numbers elsewhere: no flags that do not matter to them, no paths."""
  kept = []
  for word, following in zip(given, [*given[1:], '-'], strict=True):
    flag, equals, value = word.lstrip('-').partition('=')
    if not word.startswith('-') or not flag.startswith('config.'):
      continue
    if not equals:
      value = '' if following.startswith('-') else following
    kept.append(shlex.quote(f'--{flag}={"PATH" if flag in PATHS else value}'))
  return ' '.join([f'python -m launch.reproduce {name}:{variant} --workdir=runs/{name}', *kept])


def begin(name: str, variant: str, out: Path, planned: Any) -> None:
  """Notes on which machine and with which code runs are made; refuses a record that they cannot add to."""
  from advmix_jax.bench.measurement import processor
  from advmix_jax.paper import combine, published, record
  from advmix_jax.sweep import slurm

  for shown in published.together(name) if RECORD.value else ():
    combine.recorded(record_file(shown, variant), record.configuration(planned))
  if all(found.state == 'done' for found in slurm.observe(out, planned).values()):
    return
  machine = record.describe_machine(processor(), len(os.sched_getaffinity(0)))
  if sweep.EXECUTOR.value == 'slurm':
    machine = f'jobs of Slurm, submitted from {machine}'
  record.note(out, machine, record.commit_of(ROOT))


def record_file(shown: str, variant: str) -> Path:
  return Path(RECORD.value or '') / f'{shown if variant == "cpu" else f"{shown}-{variant}"}.json'


@common.exit_status
def render(name: str, variant: str, out: Path, command: str) -> None:
  """Writes and prints what the runs that are done came to."""
  from advmix_jax.paper import combine, figures, page, published, record
  from advmix_jax.sweep import plan, slurm
  from advmix_jax.workdir import atomic, check_writable, write_json

  planned = plan.load_plan(out)
  seeds = sweep.all_seeds(sweep.read_sweep(f'{source_of(name)}:{variant}'))
  seen = slurm.observe(out, planned)
  toy = next((out / task.folder / 'report' / 'toy.png' for task in planned.members), None)
  for shown in published.together(name):
    found = record.make_record(shown, out, planned, seen, command, variant)
    found['command'] = record.of_seeds(command, found['rows'], seeds)
    write_json(out / f'{shown}.json', found)
    figures.save_figure(out / f'{shown}.png', found, toy)
    for ending, text in (('md', page.section(found, f'{shown}.png')), ('csv', page.as_csv(found))):
      with atomic(out / f'{shown}.{ending}') as temporary:
        temporary.write_text(text)
    print(f'\n{page.section(found, None)}')
    if RECORD.value:
      folder = Path(RECORD.value)
      check_writable(folder, f'--record={folder}')
      file = record_file(shown, variant)
      together = dict(combine.with_recorded(file, found))
      together['command'] = record.of_seeds(together['command'], together['rows'], seeds)
      figures.save_figure(file.with_suffix('.png'), together, toy)
      write_json(file, together)
  print(', '.join(f'{out / shown}.md' for shown in published.together(name)) + ', .csv, .png, .json')
  if RECORD.value:
    print(page.write_page(Path(RECORD.value)))


@common.exit_status
def make_page() -> None:
  """Makes the page of the records alone."""
  from advmix_jax.paper import page
  from advmix_jax.types import BadInputError

  if not RECORD.value:
    raise BadInputError('--record is missing, expected the folder of the records')
  print(page.write_page(Path(RECORD.value)))


if __name__ == '__main__':
  common.end_when_asked()
  sys.exit(main(sys.argv))
