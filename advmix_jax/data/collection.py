"""What a scan of a data set of files finds, before any picture is decoded."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from advmix_jax.data.file_tree import File, printable
from advmix_jax.data.framing import Framing
from advmix_jax.types import BadInputError

PARTS = ('train', 'validation', 'test')
MAX_NAMED = 200  # Files in one message; `launch.check_data` has no bound.


class Problem(NamedTuple):
  """A file that cannot be used."""

  name: str
  reason: str

  def __str__(self) -> str:
    return f'{printable(self.name)} ({self.reason})'


class Collection(NamedTuple):
  """Labelled files.

  Attributes:
    place: what messages call the whole: its folder or zip.
    files: of all parts, those of one part beside each other.
    labels: `[N]` int32.
    parts: `[N]` int8, positions in `PARTS`, ascending.
    has_test: whether the data has a test part; if not, test images are drawn out of training.
    class_names: in the order of the labels.
    framing: how the pictures become squares.
    problems: files that cannot be used.
    hidden: files left out because systems leave such behind.
  """

  place: str
  files: tuple[File, ...]
  labels: np.ndarray
  parts: np.ndarray
  has_test: bool
  class_names: tuple[str, ...]
  framing: Framing
  problems: tuple[Problem, ...]
  hidden: tuple[str, ...] = ()


def problems_error(collection: Collection, problems: Sequence[Problem]) -> BadInputError:
  """The error that names the files that cannot be used, to be raised."""
  named = ', '.join(map(str, problems[:MAX_NAMED]))
  more = f' and {len(problems) - MAX_NAMED} more' if len(problems) > MAX_NAMED else ''
  count = f'{len(problems)} files' if len(problems) > 1 else '1 file'
  way_out = 'replace or remove them'
  if collection.framing.fit == 'none':
    way_out = (
      '--config.data.fit=crop, pad or resize takes pictures of any size and colour mode; '
      'replace or remove what is damaged or misplaced'
    )
  return BadInputError(
    f'config.data.dir={collection.place}: found {count} that cannot be used: {named}{more}; {way_out}; '
    f'python -m launch.check_data --dir={collection.place} lists every one'
  )
