"""Many runs of one configuration that differ in a few keys: here or on a Slurm cluster, resumed, collected.

python -m launch.sweep --config=configs/paper/figure7.py[:variant] --out=runs/figure7
    [--executor=local|slurm] [--slots=N] [--config.key=value ...] [--dry_run]
python -m launch.sweep status --out=runs/figure7
python -m launch.sweep collect --out=runs/figure7

The file has a function sweep(add) beside get_config; every add(**{'data.sigma': 0.1, 'seed': 1}) is a run, in
a folder of that name. Stages that several runs share are computed once. The same command again runs what is
not done: what was interrupted goes on, what failed is tried again.

Exit status: 0 done (with --executor=slurm without --wait: submitted); 1 a run failed; 2 bad input; 75
interrupted, the same command goes on.
"""

import inspect
import os
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import config_flags

from launch import common

COMMANDS = ('run', 'status', 'collect')
OUT = flags.DEFINE_string('out', None, 'sweep: folder of the sweep; the same command again goes on there.')
EXECUTOR = flags.DEFINE_enum('executor', 'local', ['local', 'slurm'], 'sweep: where its runs are run.')
SLOTS = flags.DEFINE_integer(
  'slots', None, 'local: processes at a time; one for each accelerator, or one on a CPU.', 1
)
THREADS = flags.DEFINE_integer(
  'threads', None, 'sweep: threads of each process; the cores shared out, or slurm_cpus.', 1
)
SEEDS = flags.DEFINE_list('seeds', None, 'sweep: the runs of these seeds alone, such as 0,2.')
WAIT = flags.DEFINE_bool('wait', False, 'slurm: wait for the jobs, and exit as a local sweep does.')
PARTITION = flags.DEFINE_string('slurm_partition', None, 'slurm: partition of each job.')
ACCOUNT = flags.DEFINE_string('slurm_account', None, 'slurm: account of each job.')
QOS = flags.DEFINE_string('slurm_qos', None, 'slurm: quality of service of each job.')
GPUS = flags.DEFINE_integer('slurm_gpus', None, 'slurm: accelerators of each job.', 0)
CPUS = flags.DEFINE_integer('slurm_cpus', None, 'slurm: cores of each job.', 1)
MEMORY = flags.DEFINE_float('slurm_mem_gb', None, 'slurm: memory of each job.', 0)
MINUTES = flags.DEFINE_integer(
  'slurm_time', 240, 'slurm: minutes of each job; it then goes on in another.', 1
)
EXTRA = flags.DEFINE_multi_string('slurm_option', [], 'slurm: another option of sbatch, NAME=VALUE.')


def main(argv: list[str]) -> int:
  common.show_help(argv)
  try:
    command, rest = read_command(argv)
    if command == 'run':
      common.read_config(rest)
    elif stray := flags.FLAGS(rest)[1:]:
      raise ValueError(f'unexpected argument {stray[0]!r}')
    check_flags()
    if not OUT.value:
      raise ValueError('--out is missing, expected the folder of the sweep')
  except Exception as error:  # The libraries' flag parsers raise many kinds.
    return common.complain(common.flag_error(error), common.BAD_INPUT)
  out = Path(OUT.value).absolute()
  return {'run': run, 'status': status, 'collect': collect}[command](out)


def check_flags() -> None:
  """Raises `ValueError` for flags that a sweep would ignore."""
  for flag, expected in (
    (common.WORKDIR, '--out, the folder of the sweep'),
    (common.DOWNLOAD, 'launch.check_data --download before the sweep'),
    (common.DISTRIBUTED, 'none: a member is one process'),
  ):
    if flag.value:
      raise ValueError(f'--{flag.name} is of a single run, expected {expected}')


def read_command(argv: list[str]) -> tuple[str, list[str]]:
  """The command, `run` if none is given, and the other arguments."""
  words = [word for word in argv[1:2] if not word.startswith('-')]
  if not words:
    return 'run', argv
  if words[0] not in COMMANDS:
    raise ValueError(f'unknown command {words[0]!r}, expected one of {", ".join(COMMANDS)}')
  return words[0], [argv[0], *argv[2:]]


@common.exit_status
def run(out: Path, begin: Callable[[Any], None] | None = None) -> None:
  """Plans, then runs or submits what is not done; before that `begin` is called with the plan of it."""
  import jax

  jax.config.update('jax_platforms', 'cpu')  # For the checks: accelerators are for the runs.
  from advmix_jax import interruption
  from advmix_jax.sweep import accelerators, local, lock, plan, slurm, table
  from advmix_jax.types import BadInputError, RunError
  from advmix_jax.workdir import check_writable

  source = config_flags.get_config_filename(flags.FLAGS['config'])
  slots: list[dict[str, str]] = []
  if EXECUTOR.value == 'slurm':
    slurm.check_client()
    options = slurm_options()
    threads, devices = THREADS.value or CPUS.value, GPUS.value or common.CONFIG.value.devices or 1
  else:
    kind, number = accelerators.find()
    slots = accelerators.share(kind, number, SLOTS.value)
    threads = THREADS.value or max(1, len(os.sched_getaffinity(0)) // len(slots))
    devices = max(1, number // len(slots))
  jax.config.update('jax_num_cpu_devices', devices)
  before = plan.load_plan(out) if plan.has_plan(out) else None
  if before is not None:
    if THREADS.value and before.threads != THREADS.value:
      raise BadInputError(
        f'--threads is {THREADS.value}, expected {before.threads}, with which {out} was begun: another '
        'number would change the last bits'
      )
    threads = before.threads
  added = read_sweep(source)
  chosen = of_seeds(added, SEEDS.value)
  whole = plan.make_plan(source, common.CONFIG.value, added, check, threads, before, chosen)
  planned = plan.part(whole, chosen)
  if common.DRY_RUN.value:
    print(table.planned(planned, slurm.observe(out, planned)))
    return
  check_writable(out, f'--out={out}')
  with lock.held(out):
    interruption.install()
    plan.save_plan(out, whole)
    if begin is not None:
      begin(planned)
    if EXECUTOR.value == 'slurm':
      names = slurm.submit(out, planned, options)
      print(f'submitted {len(names)} of {len(planned.tasks)} tasks', flush=True)
      if not WAIT.value:
        return
      slurm.wait(out, planned)
    else:
      slurm.release(out, planned)
      local.Local(out, planned, slots, lambda line: print(line, flush=True)).run()
  seen = slurm.observe(out, planned)
  print(table.status(out, planned, seen))
  if any(found.state != 'done' for found in seen.values()):
    raise RunError(f'{table.count(seen)}; the same command tries again')


def slurm_options() -> Any:
  """From the flags."""
  from advmix_jax.sweep.slurm import Options
  from advmix_jax.types import BadInputError

  wrong = [given for given in EXTRA.value if '=' not in given]
  if wrong:
    raise BadInputError(f'--slurm_option={wrong[0]}: expected NAME=VALUE')
  return Options(
    partition=PARTITION.value,
    account=ACCOUNT.value,
    qos=QOS.value,
    gpus=GPUS.value,
    cpus=CPUS.value,
    memory_gb=MEMORY.value,
    minutes=MINUTES.value,
    extra=dict(given.split('=', 1) for given in EXTRA.value),
  )


def check(config: Any) -> None:
  """Raises `BadInputError` for a configuration that no run could work with."""
  from advmix_jax import config_check, parallel
  from advmix_jax.stages import pipeline

  config_check.check_rules(config)
  parallel.use(config.devices, 'config.devices')
  config_check.split_names(config)
  config_check.check_config(config)
  pipeline.check_stages(tuple(config.stages))


def read_sweep(source: str) -> list[dict[str, Any]]:
  """What the members change, as `sweep(add)` of the file adds it; it may take the variant as well."""
  from advmix_jax.types import BadInputError

  path, *variant = source.split(':', 1)
  if path.endswith('.json'):
    raise BadInputError(f'--config={path} has no function sweep(add), expected a Python file that has one')
  added: list[dict[str, Any]] = []
  try:
    sweep = runpy.run_path(path).get('sweep')
    if sweep is None:
      raise BadInputError(f'--config={path} has no function sweep(add), expected one beside get_config')
    takes_variant = len(inspect.signature(sweep).parameters) > 1
    sweep(lambda **changes: added.append(changes), *(variant if takes_variant else ()))
  except BadInputError:
    raise
  except Exception as error:  # A configuration file is code and may raise anything.
    raise BadInputError(f'--config={path}: sweep(add): {type(error).__name__}: {error}') from error
  return added


def of_seeds(added: list[dict[str, Any]], chosen: list[str] | None) -> list[dict[str, Any]]:
  """Those of the members that have one of the chosen seeds; None = all."""
  from advmix_jax.types import BadInputError

  if chosen is None:
    return added
  seeds = all_seeds(added)
  unknown = [seed for seed in chosen if seed not in seeds]
  if unknown or not chosen:
    found = f'has {unknown[0]!r}' if unknown else 'is empty'
    raise BadInputError(f'--seeds {found}, expected some of {", ".join(seeds)}')
  return [given for given in added if seed_of(given) in chosen]


def all_seeds(added: list[dict[str, Any]]) -> list[str]:
  """Of the members, each once."""
  return list(dict.fromkeys(map(seed_of, added)))


def seed_of(given: dict[str, Any]) -> str:
  return str(given.get('seed', given.get('train.seed')))


@common.exit_status
def status(out: Path) -> None:
  """Prints how each task is."""
  from advmix_jax.sweep import plan, slurm, table

  planned = plan.load_plan(out)
  print(table.status(out, planned, slurm.observe(out, planned)))


@common.exit_status
def collect(out: Path) -> None:
  """Writes what the members came to."""
  from advmix_jax.sweep import collect, plan, slurm

  planned = plan.load_plan(out)
  print(collect.write(out, planned, slurm.observe(out, planned)))


if __name__ == '__main__':
  common.end_when_asked()
  sys.exit(main(sys.argv))
