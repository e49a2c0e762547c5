"""What is in the slots of an unfinished stage, in a file, so that a rerun goes on within its searches.

Saved is what the steps have changed; what follows from the item alone (features, trunks, starts) is made
again when the items re-enter their slots.
"""

import logging
import time
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path

import jax
import numpy as np

from advmix_jax import hosts, interruption, parallel
from advmix_jax.types import PyTree
from advmix_jax.workdir import read_arrays, write_arrays

logger = logging.getLogger(__name__)
SLOTS = 'slots/'


class UnderWay:
  """The file of one stage and part, of each process its own.

  Args:
    folder: of the stage.
    name: of the part.
    seconds: between two saves, `checkpoint.seconds`.
  """

  def __init__(self, folder: Path, name: str, seconds: float):
    whose = '' if hosts.count() == 1 else f'-{hosts.index()}-of-{hosts.count()}'
    self._file, self._seconds = folder / f'{name}.under_way{whose}.npz', seconds
    self._pattern = f'{name}.under_way*.npz'
    self._saved_at = time.monotonic()

  def exists(self) -> bool:
    """Whether there is anything to load."""
    return self._file.exists()

  def is_due(self) -> bool:
    """Whether to save now: time has passed, or a signal arrived."""
    return interruption.requested() or time.monotonic() - self._saved_at > self._seconds

  def save(self, changed: Mapping[str, PyTree], arrays: Mapping[str, np.ndarray]) -> None:
    """Writes fields of slots, which are on the devices, and arrays of the host, whole or not at all."""
    write_arrays(self._file, **arrays, **_named(parallel.unshard(dict(changed))))
    self._saved_at = time.monotonic()

  def load(
    self, template: Mapping[str, PyTree], needed: Collection[str] = ()
  ) -> tuple[dict[str, PyTree], dict[str, np.ndarray]] | None:
    """The fields, as `template` on the devices, and the arrays; None if there are none that can be used.

    Args:
      template: the fields.
      needed: names of arrays without which the others are of no use, as those of another version.
    """
    if not self._file.exists():
      return None
    try:
      found = read_arrays(self._file)
      leaves = {name: found.pop(name) for name in _named(dict(template))}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
      logger.warning('%s cannot be used (%s); its searches begin anew', self._file, error)
      return None
    host = parallel.unshard(dict(template))
    alike = {name: (x.shape, x.dtype) for name, x in _named(host).items()} == {
      name: (x.shape, x.dtype) for name, x in leaves.items()
    }
    if not alike or not found.keys() >= set(needed):
      logger.warning('%s holds slots of another size or version; its searches begin anew', self._file)
      return None
    tree = jax.tree.unflatten(jax.tree.structure(host), list(leaves.values()))
    return parallel.distribute(tree), found

  def remove(self) -> None:
    """For a part that is whole; also what other numbers of processes have left."""
    for file in self._file.parent.glob(self._pattern):
      file.unlink(missing_ok=True)


def _named(tree: PyTree) -> dict[str, np.ndarray]:
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return {SLOTS + jax.tree_util.keystr(path, simple=True, separator='/'): leaf for path, leaf in leaves}
