"""What the entry points share: flags, exit codes, and errors as one sentence.

Exit status: 0 done; 2 bad input; 75 interrupted, the same command goes on; 1 anything else.
jax is imported only after the flags are read, so that a resumed run can have the thread pool of its start.
"""

import functools
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import ParamSpec

from absl import flags
from ml_collections import config_flags

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


def show_help(argv: list[str]) -> None:
  """With -h or --help prints what the command does, and its flags, and ends the process."""
  if not {'-h', '--help'}.intersection(argv[1:]):
    return
  signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `--help | head` is no error.
  print(sys.modules['__main__'].__doc__)
  modules = [name for name in flags.FLAGS.flags_by_module_dict() if name.startswith('launch.')]
  print(flags.FLAGS.main_module_help(), *map(flags.FLAGS.module_help, reversed(modules)), sep='\n')
  print('\n  --config.KEY=VALUE: another value of a key of the configuration.')
  sys.exit(OK)


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
  if isinstance(error, OSError):
    return str(error)
  first = error.args[0] if error.args else error
  if isinstance(first, KeyError):  # How an unknown key of a ConfigDict arrives here.
    return f'unknown configuration key {first.args[0]}'
  return str(first)


def complain(text: str, status: int) -> int:
  """Prints one line."""
  print('error: ' + ' '.join(text.split()), file=sys.stderr)
  return status


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
