"""What the entry points share: flags, exit codes, and errors as one sentence.

Exit status: 0 done; 2 bad input; 75 interrupted, the same command goes on; 1 anything else.
jax is imported only after the flags are read, so that a resumed run can have the thread pool of its start.
"""

import json
import logging
import os
import sys
import threading
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict, config_flags

CONFIG = config_flags.DEFINE_config_file('config', None, 'Configuration file, FILE or FILE:VARIANT.')
WORKDIR = flags.DEFINE_string('workdir', None, 'Folder of the run; the same command again goes on there.')
DRY_RUN = flags.DEFINE_bool('dry_run', False, 'Check everything, print what would be run, and stop.')
DOWNLOAD = flags.DEFINE_bool('download', False, 'Fetch missing data files into config.data.dir first.')

OK, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 75


def main(stages: tuple[str, ...] | None = None) -> None:
  """Runs the named stages, or those of the configuration, and exits with their status."""
  sys.exit(run(sys.argv, stages))


def run(argv: list[str], stages: tuple[str, ...] | None) -> int:
  """Exit status of a command line."""
  logging.basicConfig(format='%(levelname)s: %(message)s', level=logging.WARNING)
  logging.getLogger('absl').setLevel(logging.ERROR)
  # Threads of libraries (TensorBoard) fail with a line; what stops the run is raised in the main thread.
  threading.excepthook = lambda thread: print(f'warning: {thread.exc_value}', file=sys.stderr)
  try:
    workdir = read_flags(argv)
    keep_thread_pool(workdir)
  except Exception as error:  # A configuration file is code and may raise anything.
    return complain(flag_error(error), BAD_INPUT)

  from advmix_jax.types import BadInputError, Interrupted, RunError

  try:
    run_stages(workdir, stages)
  except BadInputError as error:
    return complain(str(error), BAD_INPUT)
  except Interrupted as error:
    print(f'{error}; the same command goes on from here', file=sys.stderr)
    return INTERRUPTED
  except RunError as error:
    return complain(str(error), FAILED)
  except OSError as error:
    return complain(f'{error}; what was finished is kept, the same command goes on from there', FAILED)
  return OK


def flag_error(error: Exception) -> str:
  """One sentence of what the flag parser or the configuration file raised; it may hold a whole traceback."""
  first = error.args[0] if error.args else str(error)
  if isinstance(first, KeyError):  # How an unknown key of a ConfigDict arrives here.
    return f'unknown configuration key {first.args[0]}'
  text = str(first)
  if isinstance(error, flags.Error | ValueError) and 'Traceback' not in text:
    return text
  return f'--config: {text.strip().splitlines()[-1].strip()}'


def complain(text: str, status: int) -> int:
  """Prints one line."""
  print('error: ' + ' '.join(text.split()), file=sys.stderr)
  return status


def read_flags(argv: list[str]) -> Path:
  """Parses the command line; the config file is loaded here. Returns the folder of the run."""
  rest = flags.FLAGS(argv)[1:]
  if rest:
    raise ValueError(f'unexpected argument {rest[0]!r}; flags look like --config=configs/digits.py')
  if not CONFIG.value:
    raise ValueError('--config is missing')
  if not WORKDIR.value:
    raise ValueError('--workdir is missing')
  if not isinstance(CONFIG.value, ConfigDict):
    file = Path(config_flags.get_config_filename(flags.FLAGS['config']))
    problem = (
      'expected a function get_config() -> ConfigDict in it' if file.exists() else 'found no such file'
    )
    raise ValueError(f'--config={file}: {problem}')
  return Path(WORKDIR.value)


def keep_thread_pool(workdir: Path) -> None:
  """A run that goes on uses as many threads as it began with: another number would change the last bits."""
  file = workdir / 'versions.json'
  if file.exists():
    os.environ.setdefault('NPROC', str(json.loads(file.read_text())['threads']))


def run_stages(folder: Path, stages: tuple[str, ...] | None) -> None:
  """Checks everything, then runs."""
  import jax

  from advmix_jax import config_check, interruption
  from advmix_jax.data import mnist
  from advmix_jax.stages import pipeline
  from advmix_jax.stages.experiment import Experiment
  from advmix_jax.types import BadInputError
  from advmix_jax.workdir import open_workdir

  config = CONFIG.value
  config_check.split_names(config)
  config_check.check_config(config)
  names = stages or tuple(config.stages)
  pipeline.check_stages(names)
  if config.compile_cache:
    cache = os.environ.get('JAX_COMPILATION_CACHE_DIR') or str(Path.home() / '.cache' / 'advmix_jax')
    jax.config.update('jax_compilation_cache_dir', cache)
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.2)
  if DOWNLOAD.value:
    if not config.data.dir:
      raise BadInputError('--download: config.data.dir is empty, expected the folder to put the files into')
    mnist.download(config.data.dir)
  workdir = open_workdir(folder, config)
  interruption.install()
  try:
    experiment = Experiment(workdir)
    pipeline.describe(experiment)
    if DRY_RUN.value:
      return
    pipeline.run(experiment, names)
    pipeline.print_results(experiment)
  finally:
    workdir.close()
