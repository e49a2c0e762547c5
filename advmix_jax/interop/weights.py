"""Parameter trees as safetensors files: plain arrays, nothing that can run."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import safetensors.numpy

from advmix_jax.types import BadInputError, PyTree
from advmix_jax.workdir import atomic


def _named(tree: PyTree) -> dict[str, Any]:
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return {jax.tree_util.keystr(path, simple=True, separator='/'): leaf for path, leaf in leaves}


def save_tree(path: Path, tree: PyTree) -> None:
  """Writes the arrays of a tree under their paths, whole or not at all."""
  with atomic(path) as temporary:
    arrays = {name: np.asarray(leaf, order='C') for name, leaf in _named(tree).items()}
    safetensors.numpy.save_file(arrays, temporary)


def load_tree(path: Path, template: PyTree) -> PyTree:
  """Reads a tree shaped like `template`, whose leaves are arrays or shapes.

  Raises:
    BadInputError: if the file is not readable, or an array is missing, unknown or of another shape.
  """
  try:
    found = safetensors.numpy.load_file(path)
  except (OSError, TypeError, ValueError, AttributeError, safetensors.SafetensorError) as error:
    problem = f'{path} cannot be read as safetensors ({error})'
    raise BadInputError(f'{problem}; if a run made it there, delete it to have it made again') from error
  expected = _named(template)
  for name in sorted(found.keys() | expected.keys()):
    shapes = [x[name].shape if name in x else 'absent' for x in (found, expected)]
    if shapes[0] != shapes[1]:
      raise BadInputError(f'{path}: array {name} is {shapes[0]}, expected {shapes[1]}')
  return jax.tree.unflatten(jax.tree.structure(template), [found[name] for name in expected])
