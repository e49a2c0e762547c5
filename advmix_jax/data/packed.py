"""All pictures of a data set, decoded once by grain workers and kept in one memory-mapped file.

The file is named after a hash of everything it depends on (names, sizes and times of the files, framing,
versions), so it is never out of date, and written whole or not at all. Deleting it costs only time.
"""

import contextlib
import errno
import functools
import hashlib
import json
import multiprocessing
import os
import pathlib
import threading
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import PIL
from absl import flags

from advmix_jax import interruption
from advmix_jax.data.collection import Problem
from advmix_jax.data.file_tree import File, read_file
from advmix_jax.data.framing import BadPicture, Framing, frame
from advmix_jax.progress import track
from advmix_jax.types import BadInputError
from advmix_jax.workdir import atomic

_FORMAT = 1  # Of the cache; another number makes all files anew.
_CHUNK = 64  # Pictures that a worker decodes at a time.
_MANY = 20_000  # From so many pictures on, processes are worth their seconds to start.
_MOST_WORKERS = 16
_ABANDONED_SECONDS = 3600.0  # A process at work adds to its file all the time.


class Decoded(NamedTuple):
  """Pictures in the order of their files.

  Attributes:
    pixels: `[N, R, R, 3]` uint8; zeros where a file cannot be used.
    is_grey: `[N]` bool, files without colours.
    problems: files that cannot be used, with their position.
  """

  pixels: np.ndarray
  is_grey: np.ndarray
  problems: tuple[tuple[int, str], ...]


def _decode(framing: Framing, files: Sequence[File]) -> Decoded:
  """A chunk of files, with positions in the chunk. At module level, as processes unpickle it."""
  side = framing.resolution
  pixels = np.zeros((len(files), side, side, 3), np.uint8)
  is_grey = np.zeros(len(files), bool)
  problems = []
  for i, file in enumerate(files):
    try:
      pixels[i], is_grey[i] = frame(read_file(file.root, file.name), framing)
    except BadPicture as error:
      problems.append((i, str(error)))
    except OSError as error:
      problems.append((i, error.strerror or str(error)))
  return Decoded(pixels, is_grey, tuple(problems))


def load(
  files: Sequence[File], framing: Framing, cache_dir: str, num_workers: int
) -> tuple[np.ndarray, list[Problem]]:
  """Decoded pictures, from the cache or made anew.

  Args:
    files: in the order of the result.
    framing: how they become squares.
    cache_dir: as `config.data.cache_dir`.
    num_workers: as `config.data.num_workers`.

  Returns:
    `[N, R, R, 3]` uint8, memory-mapped and read-only, and no problems; or an empty array and all problems.

  Raises:
    BadInputError: the cache cannot be written.
    Interrupted: a signal arrived; nothing is kept.
  """
  shape = (len(files), framing.resolution, framing.resolution, 3)
  path = cache_folder(cache_dir) / f'{cache_key(files, framing)}.npy'
  if (pixels := _open(path, shape)) is not None:
    return pixels, []
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    problems = _write(path, shape, files, framing, num_workers)
  except OSError as error:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
      raise
    raise BadInputError(
      f'config.data.cache_dir={path.parent}: {error.strerror}, expected a folder to write to'
    ) from None
  if problems:
    return np.zeros((0, *shape[1:]), np.uint8), problems
  pixels = _open(path, shape)
  assert pixels is not None
  return pixels, []


def check(files: Sequence[File], framing: Framing, num_workers: int) -> list[Problem]:
  """Decodes every file, keeps nothing, and returns those that cannot be used."""
  problems, is_grey = [], []
  for start, chunk in decode(files, framing, num_workers):
    problems += _named(files, start, chunk)
    is_grey.append(chunk.is_grey)
  return problems + _grey_among_coloured(files, framing, is_grey)


def decode(files: Sequence[File], framing: Framing, num_workers: int) -> Iterator[tuple[int, Decoded]]:
  """Chunks of pictures in order, each with the position of its first file."""
  import grain  # Only here, for it brings orbax along: half a second, which a full cache makes needless.

  chunks = [files[i : i + _CHUNK] for i in range(0, len(files), _CHUNK)]
  source = grain.MapDataset.source(chunks).map(functools.partial(_decode, framing))
  cores = len(os.sched_getaffinity(0))
  if num_workers < 0:
    num_workers = min(cores, _MOST_WORKERS) if cores > 2 and len(files) >= _MANY else 0
  num_workers = min(num_workers, len(chunks))
  if num_workers:
    if not flags.FLAGS.is_parsed():  # grain asks its own flags, also where there is no command line.
      flags.FLAGS.mark_as_parsed()
    options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=2)
    dataset = source.to_iter_dataset(options).mp_prefetch(
      grain.MultiprocessingOptions(num_workers), worker_init_fn=_serve
    )
  else:
    dataset = source.to_iter_dataset(grain.ReadOptions(num_threads=cores, prefetch_buffer_size=2 * cores))
  start = 0
  with contextlib.closing(iter(dataset)) as iterator, track('pictures', len(files)) as update:
    while True:
      try:
        chunk = next(iterator, None)
      except Exception:
        interruption.check()  # A signal to the whole group can end a worker before it ignores signals.
        raise
      interruption.check()
      if chunk is None:
        return
      yield start, chunk
      start += len(chunk.is_grey)
      update(start, '')


def _serve(unused_index: int, unused_count: int) -> None:
  """In a worker: signals are for the process that it works for, with which it ends."""
  interruption.ignore()
  threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
  """A process that is killed cannot tell its workers."""
  parent = multiprocessing.parent_process()
  if parent is not None:
    parent.join()
    os._exit(1)


def cache_folder(cache_dir: str) -> pathlib.Path:
  """Where `config.data.cache_dir` points to."""
  if cache_dir:
    return pathlib.Path(cache_dir)
  return pathlib.Path(os.environ.get('XDG_CACHE_HOME') or '~/.cache').expanduser() / 'advmix_jax' / 'data'


def cache_key(files: Sequence[File], framing: Framing) -> str:
  """A hash of everything that decoded pictures depend on."""
  head = {'format': _FORMAT, 'pillow': PIL.__version__, 'framing': framing._asdict()}
  digest = hashlib.sha256(json.dumps(head, sort_keys=True).encode())
  for file in files:
    line = json.dumps([os.path.abspath(file.root), file.name, file.size, file.stamp])
    digest.update(line.encode())
  return digest.hexdigest()[:32]


def _open(path: pathlib.Path, shape: tuple[int, ...]) -> np.ndarray | None:
  try:
    pixels = np.load(path, mmap_mode='r', allow_pickle=False)
  except (OSError, ValueError, EOFError):  # Absent, or cut off by another hand.
    return None
  return np.asarray(pixels) if pixels.shape == shape and pixels.dtype == np.uint8 else None


def _write(
  path: pathlib.Path, shape: tuple[int, ...], files: Sequence[File], framing: Framing, num_workers: int
) -> list[Problem]:
  """Writes the cache, or, if there are problems, nothing."""
  problems, is_grey = [], []
  with contextlib.suppress(_Problems), atomic(path) as temporary, temporary.open('wb') as file:
    # Written from front to back: a full disk under a memory map would kill the process.
    header = {'descr': '|u1', 'fortran_order': False, 'shape': shape}
    np.lib.format.write_array_header_1_0(file, header)
    file.flush()
    _remove_abandoned(path, temporary)
    for start, chunk in decode(files, framing, num_workers):
      problems += _named(files, start, chunk)
      is_grey.append(chunk.is_grey)
      if not problems:
        file.write(chunk.pixels.data)
    problems += _grey_among_coloured(files, framing, is_grey)
    if problems:
      raise _Problems
  return problems


def _remove_abandoned(path: pathlib.Path, mine: pathlib.Path) -> None:
  """Removes what killed processes have left of the same file: nothing has been added to it for long."""
  now = mine.stat().st_mtime  # As the clock of the file system has it.
  for other in path.parent.glob(f'.{path.name}.*.tmp{path.suffix}'):
    with contextlib.suppress(FileNotFoundError):
      if now - other.stat().st_mtime > _ABANDONED_SECONDS:
        other.unlink()


class _Problems(Exception):
  """Leaves the block that writes a file, without the file."""


def _named(files: Sequence[File], start: int, chunk: Decoded) -> list[Problem]:
  return [Problem(files[start + i].name, reason) for i, reason in chunk.problems]


def _grey_among_coloured(
  files: Sequence[File], framing: Framing, is_grey: Sequence[np.ndarray]
) -> list[Problem]:
  """With `fit` 'none', grey pictures in a coloured data set: they could give a label away."""
  grey = np.concatenate(is_grey) if is_grey else np.zeros(0, bool)
  if framing.fit != 'none' or grey.all():
    return []
  return [
    Problem(files[i].name, 'grey among coloured pictures, expected RGB')
    for i in np.flatnonzero(grey).tolist()
  ]
