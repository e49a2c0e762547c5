"""The folder of a run: its configuration, versions, metrics, and files that are either whole or absent."""

import contextlib
import functools
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import shlex
import shutil
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

import jax
import numpy as np
from ml_collections import ConfigDict

from advmix_jax import hosts, parallel, run_lock, threads
from advmix_jax.config_keys import differences, fixed_keys, flatten
from advmix_jax.types import BadInputError, RunError

UNFINISHED_CHECKPOINT = '.orbax-checkpoint-tmp'
PACKAGES = ('jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'grain', 'numpy')


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
  """Yields a temporary path that becomes `path` when the block ends well.

  Raises:
    RunError: if the path lies in the folder of a run that another process has taken over.
  """
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp{path.suffix}')
  try:
    yield temporary
    run_lock.check(path)
    os.replace(temporary, path)
  finally:
    temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
  """Writes `value` whole or not at all."""
  with atomic(path) as temporary:
    temporary.write_text(json.dumps(value, indent=2, sort_keys=True) + '\n')


def read_json(path: Path) -> Any:
  """Raises `RunError`, naming the file, if it is not JSON."""
  try:
    return json.loads(path.read_text())
  except json.JSONDecodeError as error:
    raise RunError(f'{path} is not valid JSON ({error}); delete it to have it made again') from error


def read_config(folder: Path) -> dict[str, Any]:
  """The configuration of a run. Raises `BadInputError` for a damaged file."""
  file = folder / 'config.json'
  try:
    found = json.loads(file.read_text())
    reason = f'found {type(found).__name__}'
  except ValueError as error:
    found, reason = None, str(error)
  if not isinstance(found, dict):
    raise BadInputError(
      f'{file} is damaged ({reason}), expected an object: restore it from the command in commands.txt'
    )
  return found


def write_arrays(path: Path, **arrays: np.ndarray) -> None:
  """Writes an .npz whole or not at all."""
  with atomic(path) as temporary, temporary.open('wb') as file:
    np.savez(file, **arrays)  # type: ignore[arg-type]


def read_arrays(path: Path) -> dict[str, np.ndarray]:
  """Reads an .npz without pickles."""
  with np.load(path, allow_pickle=False) as data:
    return dict(data)


def classifier_names(method: str, seeds: Sequence[int]) -> tuple[str, ...]:
  """Of the classifiers of a method, as their files have it: METHOD, or METHOD/seed-N of several."""
  return (method,) if len(seeds) == 1 else tuple(f'{method}/seed-{seed}' for seed in seeds)


def config_hash(config: ConfigDict) -> str:
  """Short hash of the keys on which results depend."""
  text = json.dumps(fixed_keys(json.loads(config.to_json())), sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()[:16]


def environment() -> dict[str, Any]:
  """What the bits of a result depend on beside the configuration, and the versions of the packages."""
  return {
    'python': platform.python_version(),
    'packages': {name: importlib.metadata.version(name) for name in PACKAGES},
    'backend': jax.default_backend(),
    'devices': parallel.num_devices(),
    'processes': hosts.count(),
    'threads': threads.count(),
  }


class Workdir:
  """An opened run folder.

  Attributes:
    path: the folder.
    config: the resolved configuration.

  Args:
    lock: of the folder, released when it is closed; None in processes that do not hold it.
    found: what was in the folder when it was locked.
  """

  def __init__(
    self, path: Path, config: ConfigDict, lock: run_lock.Lock | None = None, found: Collection[str] = ()
  ):
    self.path = path
    self.config = config
    self._lock = lock
    self._found = found
    self._commands = path / 'commands.txt'
    if hosts.is_first():
      self._metrics = open_lines(path / 'metrics.jsonl')

  @functools.cached_property
  def _events(self) -> Any:
    """TensorBoard's, from the first log on: it takes seconds to import PyTorch, where that is there."""
    import tensorboardX

    return tensorboardX.SummaryWriter(str(self.path / 'events'))

  def log(self, step: int, values: dict[str, float]) -> None:
    """One line in `metrics.jsonl` and the same numbers as TensorBoard events. A later line replaces an
    earlier one with the same name and step (a resumed run repeats some)."""
    if not hosts.is_first():
      return
    values = {name: float(value) for name, value in values.items()}
    run_lock.check(self.path)
    self._metrics.write(json.dumps({'step': step, **values}) + '\n')
    self._metrics.flush()
    for name, value in values.items():
      self._events.add_scalar(name, value, step)

  def record_command(self, words: list[str]) -> None:
    """Notes a command line that worked on this folder; each is noted once."""
    line = shlex.join(words)
    if hosts.is_first() and line not in self.commands():
      self._write_commands([*self.commands(), line])

  def _write_commands(self, lines: list[str]) -> None:
    with atomic(self._commands) as temporary:
      temporary.write_text(''.join(f'{line}\n' for line in lines))

  def commands(self) -> list[str]:
    """The command lines that were noted, in their order."""
    return self._commands.read_text().splitlines() if self._commands.exists() else []

  @contextlib.contextmanager
  def tried(self, dry: bool) -> Iterator[None]:
    """After a dry run, or bad input before any stage made something, the folder is as it was found: it
    belongs to no configuration unless it did before."""
    commands, undo = self.commands(), dry
    try:
      yield
    except BadInputError:
      undo = dry or not any(place.is_dir() for place in self._new())
      raise
    finally:
      if undo and hosts.is_first():
        run_lock.check(self.path)
        for place in self._new():
          shutil.rmtree(place) if place.is_dir() else place.unlink()
        if self.commands() != commands:
          self._write_commands(commands)

  def _new(self) -> list[Path]:
    return [place for place in self.path.iterdir() if place.name not in self._found]

  def close(self) -> None:
    if not hosts.is_first():
      return
    self._metrics.close()
    if '_events' in vars(self):
      self._events.close()
    if self._lock is not None:
      self._lock.release()


def open_lines(path: Path) -> TextIO:
  """Opens a file of lines to append to; a last line that a kill cut off is ended first."""
  cut_off = path.exists() and path.stat().st_size and not path.read_bytes().endswith(b'\n')
  file = path.open('a')
  if cut_off:
    file.write('\n')
  return file


LEFTOVER = re.compile(r'\..+\.\d+\.tmp(\.\w+)?')  # As `atomic` names its files.


def remove_leftovers(folder: Path) -> None:
  """Removes what killed processes were writing: temporary files, and checkpoints that are not whole.

  To be called by the process that holds the folder's lock.
  """
  for place, folders, files in os.walk(folder):
    for name in files:
      if LEFTOVER.fullmatch(name):
        Path(place, name).unlink(missing_ok=True)
    for name in [name for name in folders if UNFINISHED_CHECKPOINT in name]:
      folders.remove(name)
      shutil.rmtree(Path(place, name), ignore_errors=True)


def check_writable(folder: Path, flag: str) -> None:
  """Makes the folder; raises `BadInputError` that begins with `flag` if files cannot be put into it."""
  try:
    folder.mkdir(parents=True, exist_ok=True)
    with atomic(folder / '.writable') as probe:
      probe.touch()
    (folder / '.writable').unlink(missing_ok=True)  # Two runs may try at once.
  except OSError as error:
    raise BadInputError(f'{flag} cannot be written: {error.strerror or error}') from error


def open_workdir(path: Path, config: ConfigDict) -> Workdir:
  """Makes the folder, or checks that it was made with the same configuration; locked until it is closed.

  Of several processes that make one run the first does, for all of them.

  Raises:
    BadInputError: if the folder cannot be written, is in use by another run, or belongs to another
      configuration; names the keys.
  """
  path = path.absolute()
  lock, found = open_locked(path, config) if hosts.is_first() else (None, [])
  token = hosts.gather(None if lock is None else lock.token)[0]
  if lock is None:
    run_lock.follow(path, token)
  return Workdir(path, config, lock, found)


def open_locked(path: Path, config: ConfigDict) -> tuple[run_lock.Lock, list[str]]:
  """The lock of the folder and what was in it then, put in order by this process; see `open_workdir`."""
  check_writable(path, f'--workdir={path}')
  lock = run_lock.acquire(path)
  try:
    remove_leftovers(path)
    found = os.listdir(path)  # Not before: another run may have written while this one waited.
    wanted = json.loads(config.to_json())
    file = path / 'config.json'
    if file.exists():
      if differing := differences(fixed_keys(read_config(path)), fixed_keys(wanted)):
        raise BadInputError(f'--workdir={path} was made with another configuration: {differing}')
      warn_of_other_environment(path)
    else:
      write_json(path / 'versions.json', environment())
      write_json(file, wanted)
    return lock, found
  except BaseException:
    lock.release()
    raise


def warn_of_other_environment(path: Path) -> None:
  """Says when a resumed run cannot give the same bits as an unbroken one."""
  file = path / 'versions.json'
  before, now = (flatten(read_json(file)) if file.exists() else {}), flatten(environment())
  changed = [f'{key} {before[key]} -> {now[key]}' for key in now if key in before and before[key] != now[key]]
  if changed:
    print(f'note: results may differ in the last bits from a run without a break: {", ".join(changed)}')


def read_metrics(path: Path) -> dict[str, dict[int, float]]:
  """`metrics.jsonl` as `{name: {step: value}}`; a line cut off by a kill is left out."""
  series: dict[str, dict[int, float]] = {}
  for line in path.read_text().splitlines() if path.exists() else ():
    try:
      record = json.loads(line)
    except json.JSONDecodeError:
      continue
    step = record.pop('step')
    for name, value in record.items():
      series.setdefault(name, {})[step] = value
  return series
