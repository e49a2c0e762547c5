"""A run from its command line to its exit status: the flags, what is checked, the stages."""

import contextlib
import os
import sys
import threading
import traceback
from pathlib import Path

from launch import allocation, common, cores


def main(stages: tuple[str, ...] | None = None) -> None:
  """Runs the named stages, or those of the configuration, and exits with their status."""
  common.end_when_asked()
  common.show_help(sys.argv)
  allocation.tune_malloc()
  sys.exit(run(sys.argv, stages))


def run(argv: list[str], stages: tuple[str, ...] | None) -> int:
  """Exit status of a command line."""
  common.keep_libraries_quiet()
  # Threads of libraries (TensorBoard) fail with a line; what stops the run is raised in the main thread.
  threading.excepthook = lambda thread: print(f'warning: {thread.exc_value}', file=sys.stderr)
  try:
    workdir = read_flags(argv)
    cores.keep(workdir)
  except Exception as error:  # The libraries' flag parsers raise many kinds.
    return common.complain(common.flag_error(error), common.BAD_INPUT)
  return run_together(workdir, stages)


def read_flags(argv: list[str]) -> Path:
  """Parses the command line; the config file is loaded here. Returns the folder of the run."""
  common.read_config(argv)
  if not common.WORKDIR.value:
    raise ValueError('--workdir is missing')
  check_address()
  return Path(common.WORKDIR.value)


def check_address() -> None:
  """Raises `ValueError` for flags of several processes that do not fit together."""
  coordinator, number, process = common.COORDINATOR.value, common.NUM_PROCESSES.value, common.PROCESS_ID.value
  if coordinator is None and number is None and process is None:
    return
  if not common.DISTRIBUTED.value:
    raise ValueError(
      '--coordinator, --num_processes or --process_id is given, expected --distributed with it'
    )
  if coordinator is None or number is None or process is None:
    raise ValueError('expected all of --coordinator, --num_processes and --process_id, or none under srun')
  host, _, port = coordinator.rpartition(':')
  if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
    raise ValueError(f'--coordinator={coordinator}, expected HOST:PORT')
  if not 0 <= process < number:
    raise ValueError(f'--process_id={process}, expected 0 to {number - 1}, as --num_processes={number}')


def run_together(folder: Path, stages: tuple[str, ...] | None) -> int:
  """`run_stages`; the processes of one run end together."""
  from advmix_jax import hosts, interruption

  try:
    status = run_stages(folder, stages)
  except BaseException as error:
    if hosts.count() == 1:
      raise
    sentence, status = hosts.lost(error), common.FAILED
    if sentence is None:
      traceback.print_exception(error)
    else:
      status = common.complain(sentence, common.INTERRUPTED if interruption.requested() else status)
  if hosts.count() > 1:
    hosts.leave(status)
  return status


@common.exit_status
def run_stages(folder: Path, stages: tuple[str, ...] | None) -> None:
  """Checks everything, then runs."""

  from advmix_jax import config_check, hosts, interruption, parallel
  from advmix_jax.data import mnist
  from advmix_jax.stages import pipeline
  from advmix_jax.stages.experiment import Experiment
  from advmix_jax.types import BadInputError, RunError
  from advmix_jax.workdir import open_workdir

  config = common.CONFIG.value
  config_check.check_rules(config)
  if not common.DISTRIBUTED.value:
    cores.share_out(folder, config)
  else:
    address = hosts.Address(common.COORDINATOR.value, common.NUM_PROCESSES.value, common.PROCESS_ID.value)
    hosts.start(address, *(config.distributed[f'{key}_seconds'] for key in ('heartbeat', 'start', 'wait')))
    interruption.install()  # One that ended at once would take the others along.
  if not hosts.is_first():
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # What it would print, process 0 prints.
  parallel.use(config.devices, 'config.devices')
  config_check.split_names(config)
  config_check.check_config(config)
  names = stages or tuple(config.stages)
  pipeline.check_stages(names)
  if config.compile_cache:
    common.use_compile_cache()
  if common.DOWNLOAD.value:
    if not config.data.dir:
      raise BadInputError('--download: config.data.dir is empty, expected the folder to put the files into')
    hosts.by_first(lambda: mnist.download(config.data.dir))
  interruption.install()
  try:
    with contextlib.closing(open_workdir(folder, config)) as workdir, workdir.tried(common.DRY_RUN.value):
      experiment = hosts.first_before_others(lambda: Experiment(workdir))
      pipeline.describe(experiment)
      if common.DRY_RUN.value:
        hosts.gather()  # All have read what is removed.
        return
      if names != ('report',):
        workdir.record_command(['python', *sys.orig_argv[1:]])
      pipeline.run(experiment, names)
      hosts.by_first(lambda: pipeline.print_results(experiment))
  except OSError as error:
    text = f'{error}; what was finished is kept, the same command goes on from there'
    raise RunError(text) from error
