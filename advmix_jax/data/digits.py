"""scikit-learn's handwritten digits: 1797 real 8x8 images that come with the library, no download."""

import gzip
import importlib.util
from pathlib import Path

import numpy as np

from advmix_jax.data import images as image_ops
from advmix_jax.types import BadInputError

NUM_IMAGES = 1797
NUM_TEST = 360
NUM_CLASSES = 10
FILE = 'datasets/data/digits.csv.gz'  # In the library.


def read(resolution: int) -> tuple[np.ndarray, np.ndarray]:
  """Reads all digits and enlarges them from 8x8.

  Args:
    resolution: side in pixels, a power of two from 8.

  Returns:
    `[1797, resolution, resolution]` uint8 grey images and `[1797]` int32 labels, in the library's order.

  Raises:
    BadInputError: if scikit-learn is not there, or without its digits.
  """
  table = _table()
  grey = table[:, :-1].reshape(-1, 8, 8).astype(np.float32) * np.float32(255 / 16)
  return image_ops.resize(grey, resolution), table[:, -1].astype(np.int32)


def _table() -> np.ndarray:
  """`[1797, 65]`: pixels in 0..16 and the label.

  The file is read as it is: importing the library would take as long as importing jax, at every start.
  """
  library = importlib.util.find_spec('sklearn')
  if library is None or not library.submodule_search_locations:
    raise BadInputError("config.data.name is digits: scikit-learn is not installed, expected 'scikit-learn'")
  file = Path(library.submodule_search_locations[0]) / FILE
  if not file.exists():
    raise BadInputError(f'{file} is missing, expected the digits that come with scikit-learn')
  with gzip.open(file, 'rt') as lines:
    return np.loadtxt(lines, delimiter=',', ndmin=2)
