"""MNIST from its four idx files, gzipped or not, each checked to be the official one.

The checksum is that of the unpacked file: mirrors and tools compress the same bytes differently.
"""

import gzip
import hashlib
import io
import os
import pathlib
import struct
import urllib.request
import zlib

import numpy as np

from advmix_jax.data import images as image_ops
from advmix_jax.types import BadInputError, RunError

NUM_CLASSES = 10
NUM_TRAIN = 60_000
NUM_TEST = 10_000
MIRRORS = (
  'https://storage.googleapis.com/cvdf-datasets/mnist/',
  'https://ossci-datasets.s3.amazonaws.com/mnist/',
)
# Official files, unpacked: name -> (number of items, md5).
FILES = {
  'train-images-idx3-ubyte': (NUM_TRAIN, '6bbc9ace898e44ae57da46a324031adb'),
  'train-labels-idx1-ubyte': (NUM_TRAIN, 'a25bea736e30d166cdddb491f175f624'),
  't10k-images-idx3-ubyte': (NUM_TEST, '2646ac647ad5339dbf082846283269ea'),
  't10k-labels-idx1-ubyte': (NUM_TEST, '27ae3e4e09519cfbb04c329615203637'),
}
_IMAGES_MAGIC = 2051
_LABELS_MAGIC = 2049
_MOST_BYTES = 2**26  # Of a file or an answer, packed and unpacked; the longest has 47,040,016.
_TIMEOUT_SECONDS = 30


def find_folder(directory: str = '') -> pathlib.Path:
  """Finds the folder that holds the idx files.

  Args:
    directory: `config.data.dir`; '' means $ADVMIX_DATA_DIR. Its subfolder `mnist` is looked into as well.

  Raises:
    BadInputError: neither holds the files; the text says how to get them.
  """
  root = directory or os.environ.get('ADVMIX_DATA_DIR', '')
  if not root:
    raise BadInputError(
      'data.dir: found nothing and $ADVMIX_DATA_DIR is unset, expected the folder of the MNIST idx files; '
      'get them with: python -m launch.check_data --download --dir=DIR'
    )
  candidates = (pathlib.Path(root), pathlib.Path(root) / 'mnist')
  for folder in candidates:
    if any(_existing(folder, name) for name in FILES):
      return folder
  raise BadInputError(
    f'data.dir: found no MNIST files in {candidates[0]} or {candidates[1]}, expected '
    f'{", ".join(FILES)} (each may end in .gz); '
    f'get them with: python -m launch.check_data --download --dir={root}'
  )


def read(directory: str, part: str, resolution: int) -> tuple[np.ndarray, np.ndarray]:
  """Reads the images and labels of one part, padded from 28 to 32 pixels with zeros.

  Args:
    directory: as in `find_folder`.
    part: 'train' or 'test'.
    resolution: side in pixels, a power of two from 32; beyond 32 the padded images are enlarged.

  Returns:
    `[N, resolution, resolution]` uint8 grey images and `[N]` int32 labels, in the files' order.

  Raises:
    BadInputError: a file is missing, truncated, damaged or not the official one; the text names it.
  """
  folder = find_folder(directory)
  prefix = {'train': 'train', 'test': 't10k'}[part]
  images = _read_file(folder, f'{prefix}-images-idx3-ubyte')
  labels = _read_file(folder, f'{prefix}-labels-idx1-ubyte')
  images = image_ops.pad(images, 32)
  return images if resolution == 32 else image_ops.resize(images, resolution), labels.astype(np.int32)


def parse(data: bytes, path: str | os.PathLike[str], num_items: int) -> np.ndarray:
  """Parses one unpacked idx file.

  Args:
    data: the bytes of the file.
    path: named in errors; 'idx3' in its name means images.
    num_items: how many images or labels it must hold.

  Returns:
    `[num_items, 28, 28]` uint8 images or `[num_items]` uint8 labels in 0..9.

  Raises:
    BadInputError: wrong magic number, count, size, length or label.
  """
  is_images = 'idx3' in pathlib.Path(path).name
  magic, shape = (_IMAGES_MAGIC, (num_items, 28, 28)) if is_images else (_LABELS_MAGIC, (num_items,))
  header_size = 4 * (1 + len(shape))
  if len(data) < header_size:
    raise BadInputError(f'{path}: found {len(data)} bytes, expected a header of {header_size}: truncated')
  found_magic, *found_shape = struct.unpack(f'>{1 + len(shape)}I', data[:header_size])
  if found_magic != magic:
    raise BadInputError(f'{path}: found the magic number {found_magic}, expected {magic}: not this idx file')
  if tuple(found_shape) != shape:
    raise BadInputError(f'{path}: found the shape {tuple(found_shape)} in its header, expected {shape}')
  expected = header_size + int(np.prod(shape))
  if len(data) != expected:
    problem = 'truncated' if len(data) < expected else 'bytes too many'
    raise BadInputError(f'{path}: found {len(data)} bytes, expected {expected}: {problem}')
  items = np.frombuffer(data, np.uint8, offset=header_size).reshape(shape)
  if not is_images and items.max() >= NUM_CLASSES:
    where = int(np.argmax(items))
    raise BadInputError(f'{path}: found the label {items[where]} at position {where}, expected 0 to 9')
  return items


def download(directory: str | os.PathLike[str]) -> list[pathlib.Path]:
  """Fetches what is missing of the four files into a folder. Called only when a user asks for it.

  A file gets its name only after its checksum was found right, so an interrupted call leaves no damaged file.

  Returns:
    The paths of the four files.

  Raises:
    RunError: no mirror gave a good copy, as when offline; the text names the mirrors.
  """
  folder = pathlib.Path(directory)
  folder.mkdir(parents=True, exist_ok=True)
  paths = []
  for name, (_, md5) in FILES.items():
    path = _existing(folder, name)
    if path is None or _md5_or_none(path) != md5:
      path = folder / f'{name}.gz'
      _download_file(path, md5)
    paths.append(path)
  return paths


def _download_file(path: pathlib.Path, md5: str) -> None:
  problems = []
  for mirror in MIRRORS:
    url = mirror + path.name
    try:
      with urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS) as response:
        data = response.read(_MOST_BYTES)
      found = hashlib.md5(_gunzip(data), usedforsecurity=False).hexdigest()
    except (OSError, EOFError, zlib.error) as error:  # URLError, HTTPError and timeouts are OSErrors.
      problems.append(f'{url} ({error})')
      continue
    if found != md5:
      problems.append(f'{url} (md5 {found} of the unpacked file, expected {md5})')
      continue
    temporary = path.with_name(f'.{path.name}.{os.getpid()}')
    temporary.write_bytes(data)
    os.replace(temporary, path)
    return
  raise RunError(
    f'{path.name} could not be downloaded from any mirror: {"; ".join(problems)}; '
    f'connect to a network, or put the file into {path.parent} by hand.'
  )


def _existing(folder: pathlib.Path, name: str) -> pathlib.Path | None:
  for path in (folder / name, folder / f'{name}.gz'):
    if path.is_file():
      return path
  return None


def _unpacked(path: pathlib.Path) -> bytes:
  with path.open('rb') as file:
    data = file.read(_MOST_BYTES)
  if path.suffix != '.gz':
    return data
  try:
    return _gunzip(data)
  except (OSError, EOFError, zlib.error) as error:
    raise BadInputError(
      f'{path}: found a gzip file of {len(data)} bytes that does not unpack ({error}), expected a whole one'
    ) from None


def _gunzip(data: bytes) -> bytes:
  return gzip.GzipFile(fileobj=io.BytesIO(data)).read(_MOST_BYTES)


def _md5_or_none(path: pathlib.Path) -> str | None:
  try:
    return hashlib.md5(_unpacked(path), usedforsecurity=False).hexdigest()
  except BadInputError:
    return None


def _read_file(folder: pathlib.Path, name: str) -> np.ndarray:
  num_items, md5 = FILES[name]
  path = _existing(folder, name)
  if path is None:
    raise BadInputError(
      f'{folder / name}: not found, expected it or {name}.gz; '
      f'get it with: python -m launch.check_data --download --dir={folder}'
    )
  data = _unpacked(path)
  items = parse(data, path, num_items)
  found = hashlib.md5(data, usedforsecurity=False).hexdigest()
  if found != md5:
    raise BadInputError(
      f'{path}: found md5 {found} of the unpacked file, expected {md5}: not the official MNIST file; '
      f'remove it and run: python -m launch.check_data --download --dir={folder}'
    )
  return items
