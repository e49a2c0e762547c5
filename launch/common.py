"""What the entry points share: flags, exit codes, and errors as one sentence.

Exit status: 0 done; 2 bad input; 75 interrupted, the same command goes on; 1 anything else.
jax is imported only after the flags are read, so that a resumed run can have the thread pool of its start.
"""

import functools
import logging
import os
import shutil
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import ParamSpec

from absl import flags
from ml_collections import config_flags

from launch import allocation, cores
from launch.config_file import ConfigFile

OK, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 75
P = ParamSpec('P')

CONFIG = config_flags.DEFINE_config_file('config', None, 'Configuration file, FILE or FILE:VARIANT.')
flags.FLAGS['config'].parser = ConfigFile()  # The library's own does not name the file.
WORKDIR = flags.DEFINE_string('workdir', None, 'Folder of the run; the same command again goes on there.')
DRY_RUN = flags.DEFINE_bool('dry_run', False, 'Check everything, print what would be run, and stop.')
DISTRIBUTED = flags.DEFINE_bool(
  'distributed', False, 'This is one of several processes that make one run; under srun Slurm says which.'
)
COORDINATOR = flags.DEFINE_string(
  'coordinator', None, 'HOST:PORT where they meet, on the machine of process 0.'
)
NUM_PROCESSES = flags.DEFINE_integer('num_processes', None, 'How many they are.')
PROCESS_ID = flags.DEFINE_integer('process_id', None, 'Which one this is, from 0.')
DOWNLOAD = flags.DEFINE_bool('download', False, 'Fetch missing data files into config.data.dir first.')


def main(stages: tuple[str, ...] | None = None) -> None:
  """Runs the named stages, or those of the configuration, and exits with their status."""
  end_when_asked()
  allocation.tune_malloc()
  sys.exit(run(sys.argv, stages))


def end_when_asked() -> None:
  """Until the run takes note of signals, one ends the process at once, with the same status."""

  def end(number: int, frame: FrameType | None) -> None:
    text = f'stopped by {signal.Signals(number).name}; the same command goes on from here\n'
    os.write(2, text.encode())
    os._exit(INTERRUPTED)

  for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
    signal.signal(number, end)


def keep_libraries_quiet() -> None:
  """Only the project's own lines are shown; orbax logs the errors that it raises, with their stacks."""
  logging.basicConfig(format='%(levelname)s: %(message)s', level=logging.WARNING)
  logging.getLogger('absl').setLevel(logging.CRITICAL)


def run(argv: list[str], stages: tuple[str, ...] | None) -> int:
  """Exit status of a command line."""
  keep_libraries_quiet()
  # Threads of libraries (TensorBoard) fail with a line; what stops the run is raised in the main thread.
  threading.excepthook = lambda thread: print(f'warning: {thread.exc_value}', file=sys.stderr)
  try:
    workdir = read_flags(argv)
    cores.keep(workdir)
  except Exception as error:  # The libraries' flag parsers raise many kinds.
    return complain(flag_error(error), BAD_INPUT)
  return run_together(workdir, stages)


def exit_status(command: Callable[P, None]) -> Callable[P, int]:
  """A command that returns its exit status; what stops it is one line on standard error."""

  @functools.wraps(command)
  def run_command(*args: P.args, **kwargs: P.kwargs) -> int:
    from advmix_jax.types import BadInputError, Interrupted, RunError

    try:
      command(*args, **kwargs)
    except BadInputError as error:
      return complain(str(error), BAD_INPUT)
    except Interrupted as error:
      print(error, file=sys.stderr)
      return INTERRUPTED
    except KeyboardInterrupt:
      print('stopped at once; what was saved is kept', file=sys.stderr)
      return INTERRUPTED
    except (RunError, OSError) as error:
      return complain(str(error), FAILED)
    return OK

  return run_command


def flag_error(error: Exception) -> str:
  """What the flag parser raised, in a sentence."""
  first = error.args[0] if error.args else error
  if isinstance(first, KeyError):  # How an unknown key of a ConfigDict arrives here.
    return f'unknown configuration key {first.args[0]}'
  return str(first)


def complain(text: str, status: int) -> int:
  """Prints one line."""
  print('error: ' + ' '.join(text.split()), file=sys.stderr)
  return status


def read_flags(argv: list[str]) -> Path:
  """Parses the command line; the config file is loaded here. Returns the folder of the run."""
  read_config(argv)
  if not WORKDIR.value:
    raise ValueError('--workdir is missing')
  check_address()
  return Path(WORKDIR.value)


def check_address() -> None:
  """Raises `ValueError` for flags of several processes that do not fit together."""
  coordinator, number, process = COORDINATOR.value, NUM_PROCESSES.value, PROCESS_ID.value
  if coordinator is None and number is None and process is None:
    return
  if not DISTRIBUTED.value:
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


def read_config(argv: list[str]) -> None:
  """Parses the command line of a command that needs a configuration alone."""
  rest = flags.FLAGS(argv)[1:]
  if rest:
    raise ValueError(f'unexpected argument {rest[0]!r}; flags look like --config=configs/digits.py')
  if not CONFIG.value:
    raise ValueError('--config is missing')


def use_compile_cache() -> None:
  """Keeps compiled programs in $JAX_COMPILATION_CACHE_DIR or ~/.cache/advmix_jax, the small ones too."""
  import jax

  cache = os.environ.get('JAX_COMPILATION_CACHE_DIR') or str(Path.home() / '.cache' / 'advmix_jax')
  jax.config.update('jax_compilation_cache_dir', cache)
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)
  jax.config.update('jax_persistent_cache_min_entry_size_bytes', 0)


def run_together(folder: Path, stages: tuple[str, ...] | None) -> int:
  """`run_stages`; the processes of one run end together."""
  from advmix_jax import hosts, interruption

  try:
    status = run_stages(folder, stages)
  except BaseException as error:
    if hosts.count() == 1:
      raise
    sentence = hosts.lost(error)
    if sentence is None:
      traceback.print_exception(error)
    status = (
      FAILED if sentence is None else complain(sentence, INTERRUPTED if interruption.requested() else FAILED)
    )
  if hosts.count() > 1:
    hosts.leave(status)
  return status


def remove_all_but(names: set[str], folder: Path) -> None:
  """After a dry run, or bad input, the folder belongs to no configuration unless it did before."""
  for place in folder.iterdir():
    if place.is_dir() and place.name not in names:
      shutil.rmtree(place)
    elif place.name not in names:
      place.unlink()


@exit_status
def run_stages(folder: Path, stages: tuple[str, ...] | None) -> None:
  """Checks everything, then runs."""

  from advmix_jax import config_check, hosts, interruption, parallel
  from advmix_jax.data import mnist
  from advmix_jax.stages import pipeline
  from advmix_jax.stages.experiment import Experiment
  from advmix_jax.types import BadInputError, RunError
  from advmix_jax.workdir import open_workdir

  config = CONFIG.value
  config_check.check_rules(config)
  if not DISTRIBUTED.value:
    cores.share_out(folder, config)
  else:
    address = hosts.Address(COORDINATOR.value, NUM_PROCESSES.value, PROCESS_ID.value)
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
    use_compile_cache()
  if DOWNLOAD.value:
    if not config.data.dir:
      raise BadInputError('--download: config.data.dir is empty, expected the folder to put the files into')
    hosts.by_first(lambda: mnist.download(config.data.dir))
  interruption.install()
  before = {'lock', *(os.listdir(folder) if folder.is_dir() else ())}
  workdir = open_workdir(folder, config)
  try:
    try:
      experiment = hosts.first_before_others(lambda: Experiment(workdir))
      pipeline.describe(experiment)
    except BadInputError:
      if hosts.is_first():
        remove_all_but(before, folder)
      raise
    if DRY_RUN.value:
      hosts.gather()  # All have read what is removed.
      hosts.by_first(lambda: remove_all_but(before, folder))
      return
    if names != ('report',):
      workdir.record_command(['python', *sys.orig_argv[1:]])
    pipeline.run(experiment, names)
    hosts.by_first(lambda: pipeline.print_results(experiment))
  except OSError as error:
    text = f'{error}; what was finished is kept, the same command goes on from there'
    raise RunError(text) from error
  finally:
    workdir.close()
