"""A folder or a zip as a flat list of files that are read by name.

Whatever a stranger put into it: links are not followed out of the folder, nothing in a zip is unpacked to
disk (its names are only keys), and no file is read beyond a bound.
"""

import functools
import itertools
import os
import pathlib
import stat
import zipfile
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from advmix_jax.types import BadInputError

MAX_FILE_BYTES = 2**28  # Of one picture or list, unpacked: 256 MiB.
_PLAIN_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # Others unpack without a bound.
_EMPTY = 'an empty folder'
_SYSTEM_FILES = {'thumbs.db', 'desktop.ini', '__macosx'}


class File(NamedTuple):
  """One file of a tree, or a folder with nothing in it.

  Attributes:
    root: the folder or zip.
    name: path within it, with slashes; that of a folder ends in one.
    size: in bytes, unpacked.
    stamp: changes when the contents do: time of change, or checksum in a zip.
    problem: why it must not be read; '' = it may.
  """

  root: str
  name: str
  size: int
  stamp: int
  problem: str = ''


def list_files(root: pathlib.Path) -> list[File]:
  """Every file and every empty folder of a folder or zip, by name.

  Those that must not be read have a `problem`; what `is_hidden` does not fill a folder.

  Raises:
    BadInputError: it is neither, or cannot be listed.
  """
  if root.is_dir():
    return sorted(_walk(root), key=lambda file: file.name)
  try:
    with zipfile.ZipFile(root) as archive:
      entries = {info.filename: info for info in archive.infolist()}
  except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile) as error:
    raise BadInputError(
      f'{root}: found neither a folder nor a readable zip ({error}), expected one'
    ) from None
  names = sorted(entries)
  following = [name for name in names if not is_hidden(name)]
  filled = {name for name, after in itertools.pairwise(following) if after.startswith(name)}
  return [_zip_entry(root, entries[name]) for name in names if not name.endswith('/') or name not in filled]


def is_hidden(name: str) -> bool:
  """Whether a file is one that systems leave behind: `.name` or in a folder `.name`, Thumbs.db, ..."""
  return any(part.startswith('.') or part.lower() in _SYSTEM_FILES for part in name.split('/'))


def printable(name: str) -> str:
  """A name with what is no text in it as escapes: file systems take any bytes for one."""
  return name.encode('utf-8', 'backslashreplace').decode()


def read_file(root: str, name: str) -> bytes:
  """The bytes of a file that `list_files` gave without a problem.

  Raises:
    OSError: it cannot be read, or is longer than `MAX_FILE_BYTES`.
  """
  if os.path.isdir(root):
    with open(os.path.join(root, name), 'rb') as file:
      data = file.read(MAX_FILE_BYTES + 1)
  else:
    try:
      with _open_zip(root, os.getpid()).open(name) as entry:
        data = entry.read(MAX_FILE_BYTES + 1)
    except (KeyError, ValueError, RuntimeError, EOFError, zlib.error, zipfile.BadZipFile) as error:
      raise OSError(f'does not unpack: {error}') from None
  if len(data) > MAX_FILE_BYTES:
    raise OSError(_too_long(len(data)))
  return data


@functools.lru_cache(maxsize=8)
def _open_zip(root: str, process: int) -> zipfile.ZipFile:
  """Open once for all threads of a process; its own lock keeps their reads apart."""
  return zipfile.ZipFile(root)


def _walk(root: pathlib.Path) -> Iterator[File]:
  def fail(error: OSError) -> None:
    raise BadInputError(f'{error.filename}: {error.strerror}, expected a folder that can be read')

  for folder, folders, files in os.walk(root, onerror=fail):
    for name in folders:
      path = os.path.join(folder, name)
      if os.path.islink(path):
        yield _unread(root, path, 'a link to a folder, not followed')
    if all(is_hidden(name) for name in [*folders, *files]) and folder != str(root):
      yield _unread(root, f'{folder}/', _EMPTY)
    for name in files:
      yield _plain_file(root, os.path.join(folder, name))


def _plain_file(root: pathlib.Path, path: str) -> File:
  name = _relative(root, path)
  if printable(name) != name:
    return _unread(root, path, 'a name that is not UTF-8')
  try:
    found = os.lstat(path)
    if stat.S_ISLNK(found.st_mode):
      if not pathlib.Path(path).resolve().is_relative_to(root.resolve()):
        return _unread(root, path, 'a link that leads out of the folder, not followed')
      found = os.stat(path)
  except (OSError, RuntimeError):  # Nothing there, or links in a circle.
    return _unread(root, path, 'a link that leads nowhere')
  if not stat.S_ISREG(found.st_mode):  # Reading a pipe would never end.
    return _unread(root, path, 'not a plain file')
  if found.st_size > MAX_FILE_BYTES and not path.endswith('.zip'):  # A zip is read file by file.
    return _unread(root, path, _too_long(found.st_size))
  return File(str(root), name, found.st_size, found.st_mtime_ns)


def _unread(root: pathlib.Path, path: str, problem: str) -> File:
  return File(str(root), _relative(root, path), 0, 0, problem)


def _relative(root: pathlib.Path, path: str) -> str:
  return path[len(str(root)) :].lstrip('/')


def _zip_entry(root: pathlib.Path, info: zipfile.ZipInfo) -> File:
  if info.is_dir():
    problem = _EMPTY
  elif stat.S_ISLNK(info.external_attr >> 16):
    problem = 'a link inside a zip, not followed'
  elif info.flag_bits & 1:
    problem = 'encrypted'
  elif info.compress_type not in _PLAIN_METHODS:
    problem = f'packed by method {info.compress_type}, expected stored or deflated'
  elif info.file_size > MAX_FILE_BYTES:
    problem = _too_long(info.file_size)
  else:
    problem = ''
  return File(str(root), info.filename, info.file_size, info.CRC, problem)


def _too_long(size: int) -> str:
  return f'{size} bytes, expected at most {MAX_FILE_BYTES}'
