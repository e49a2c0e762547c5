"""Pickles of stylegan2-ada-pytorch: modules and tensors, without torch and without running anything.

A module in such a file is a record of its class name, its source code and its attributes; here the record is
kept and the source is dropped. A tensor's numbers are in a torch file of its own inside of the pickle, which
torch would hand to an unrestricted unpickler; here `torch_storage` takes it apart.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from advmix_jax.interop import safe_pickle
from advmix_jax.interop.pickle_values import Function, Refused, shorten
from advmix_jax.interop.torch_storage import storage_from_bytes
from advmix_jax.interop.torch_tensor import rebuild_tensor
from advmix_jax.types import BadInputError

MAX_STORAGES = 10_000
MAX_DEPTH = 20  # Modules within modules.


class Module:
  """The record of a module.

  Attributes:
    class_name: as in the source, such as 'Generator'.
    attributes: of the object, by name.
  """

  __slots__ = ('attributes', 'class_name')

  def __init__(self, class_name: str, attributes: Mapping[str, Any]):
    self.class_name = class_name
    self.attributes = attributes


def module_globals() -> dict[tuple[str, str], Any]:
  """A new table of the names that such files use, beside those of numpy."""
  storages = 0

  def load_storage(content: Any) -> np.ndarray:
    nonlocal storages
    storages += 1
    if storages > MAX_STORAGES:
      raise Refused(f'it has more than {MAX_STORAGES} torch storages')
    return _storage(content)

  return {
    ('torch_utils.persistence', '_reconstruct_persistent_obj'): Function(_module),
    ('torch._utils', '_rebuild_tensor_v2'): Function(_tensor),
    ('torch._utils', '_rebuild_parameter'): Function(_parameter),
    ('torch.storage', '_load_from_bytes'): Function(load_storage),
    ('builtins', 'set'): Function(_set),
    ('__builtin__', 'set'): Function(_set),
  }


def state_dict(module: Module) -> dict[str, np.ndarray]:
  """All parameters and buffers by their paths, such as 'synthesis.b4.conv1.weight'.

  Raises:
    BadInputError: the record does not hold arrays of finite numbers in modules.
  """
  state: dict[str, np.ndarray] = {}
  _collect(module, '', 0, state)
  return state


def _collect(module: Any, prefix: str, depth: int, state: dict[str, np.ndarray]) -> None:
  if not isinstance(module, Module) or depth > MAX_DEPTH:
    raise BadInputError(f'{prefix or "the network"} is {shorten(module)}, expected a module')
  groups: dict[str, Any] = {}
  for group in ('_parameters', '_buffers', '_modules'):
    groups[group] = module.attributes.get(group)
    if not isinstance(groups[group], dict):
      raise BadInputError(f'{prefix}{group} is {shorten(groups[group])}, expected a dictionary')
  for name, value in (groups['_parameters'] | groups['_buffers']).items():
    if value is None:
      continue
    try:
      array = safe_pickle.to_array(value)
    except BadInputError as error:
      raise BadInputError(f'{shorten(prefix + name)}: {error}') from None
    if not np.isfinite(array).all():
      raise BadInputError(f'{shorten(prefix + name)} holds numbers that are not finite')
    state[prefix + name] = array
  for name, part in groups['_modules'].items():
    if part is not None:
      _collect(part, f'{prefix}{name}.', depth + 1, state)


def _module(meta: Any) -> Module:
  if not isinstance(meta, dict) or meta.get('type') != 'class':
    raise Refused('a persistent object in it is no class')
  if meta.get('version') != 6:
    raise Refused(f'a persistent object in it has version {shorten(meta.get("version"))} instead of 6')
  if not isinstance(meta.get('class_name'), str) or not isinstance(meta.get('state'), dict):
    raise Refused('a persistent object in it has no class name or no attributes')
  return Module(meta['class_name'], meta['state'])


def _set(items: Any = ()) -> tuple[str, ...]:
  """How protocols 2 and 3 write a set."""
  if not isinstance(items, list) or not all(type(item) is str for item in items):
    raise Refused('a set in it has an element that is no text')
  return tuple(items)


def _parameter(data: Any, *unused_options: Any) -> np.ndarray:
  if not isinstance(data, np.ndarray):
    raise Refused('a parameter in it is no tensor')
  return data


def _storage(content: Any) -> np.ndarray:
  if not isinstance(content, bytes):
    raise Refused('a torch storage in it is not in bytes')
  return storage_from_bytes(content)


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *unused_options: Any) -> np.ndarray:
  if not isinstance(storage, np.ndarray) or storage.ndim != 1:
    raise Refused('a tensor in it has no storage')
  return rebuild_tensor(storage, offset, size, stride)
