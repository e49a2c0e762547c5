"""Parameter trees as torch state dicts: arrays under dotted names, with torch's order of axes.

Names are given by `modules`, a table from beginnings of paths in the tree ('params/to_rgb_0') to torch's
names ('synthesis.b4.torgb'); of several that fit the longest counts, and what follows it is joined by points.
"""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from advmix_jax.interop.floats import as_float32
from advmix_jax.types import BadInputError, PyTree

State = Mapping[str, np.ndarray]

# Torch's axes in the order of our own, by their number: a vector, [out, in], [C, H, W], [out, in, h, w].
_AXES = {0: (), 1: (0,), 2: (1, 0), 3: (1, 2, 0), 4: (2, 3, 1, 0)}


def from_state(state: State, template: PyTree, modules: Mapping[str, str]) -> PyTree:
  """Takes the arrays of a tree out of a state dict, which must hold these and no others.

  Args:
    state: arrays by torch's names.
    template: a tree of arrays or shapes.
    modules: see above.

  Returns:
    A tree like the template, of float32 arrays on the host. Noise `[1, H, W, 1]` is `[H, W]` in torch.

  Raises:
    BadInputError: an array is missing, unknown, of another shape or not of finite floating-point numbers.
  """
  leaves = {}
  for name, leaf in _named(template, modules).items():
    if name.endswith('.noise_const'):
      leaves[name] = array_of(state, name, leaf.shape[1:3])[None, :, :, None]
      continue
    axes = _AXES[leaf.ndim]
    shape = tuple(leaf.shape[a] for a in np.argsort(axes)) if axes else ()
    leaves[name] = array_of(state, name, shape).transpose(axes)
  unknown = sorted(state.keys() - leaves.keys())
  if unknown:
    raise BadInputError(f'found the array {unknown[0]}, expected none of that name')
  arrays = [leaf.copy(order='C') for leaf in leaves.values()]
  return jax.tree.unflatten(jax.tree.structure(template), arrays)


def to_state(tree: PyTree, modules: Mapping[str, str]) -> dict[str, np.ndarray]:
  """What `from_state` reads: the arrays of a tree by torch's names."""
  state = {}
  for name, leaf in _named(tree, modules).items():
    array = np.asarray(leaf)
    if name.endswith('.noise_const'):
      array = array[0, :, :, 0]
    elif array.ndim:
      array = array.transpose(np.argsort(_AXES[array.ndim]))
    state[name] = array.copy(order='C')
  return state


def shape_of(state: State, name: str, ndim: int) -> tuple[int, ...]:
  """Raises `BadInputError` if there is no such array, or it has another number of axes."""
  if name not in state:
    raise BadInputError(f'found no array {name}, expected one')
  shape = np.shape(state[name])
  if len(shape) != ndim:
    raise BadInputError(f'found {name} of shape {shape}, expected {ndim} axes')
  return shape


def array_of(state: State, name: str, shape: tuple[int, ...]) -> np.ndarray:
  """Float32. Raises `BadInputError` if it is missing, of another shape or not of finite numbers."""
  found = shape_of(state, name, len(shape))
  if found != shape:
    raise BadInputError(f'found {name} of shape {found}, expected {shape}')
  return as_float32(name, np.asarray(state[name]))


def _named(tree: PyTree, modules: Mapping[str, str]) -> dict[str, Any]:
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return {
    _torch_name(jax.tree_util.keystr(path, simple=True, separator='/'), modules): leaf
    for path, leaf in leaves
  }


def _torch_name(path: str, modules: Mapping[str, str]) -> str:
  parts = path.split('/')
  for n in range(len(parts), 0, -1):
    known = modules.get('/'.join(parts[:n]))
    if known is not None:
      return '.'.join([known, *parts[n:]])
  raise ValueError(f'no name for {path}')
