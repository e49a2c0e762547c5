"""The pickles that NVIDIA's TensorFlow code wrote (StyleGAN 1 and 2): one file of G, D and Gs.

    generator, discriminator, average = read_networks('karras2019stylegan-ffhq-1024x1024.pkl')

`average` (Gs) draws the images; the other two are for going on with training. The files also hold the
source code of the networks: it is never run. What it computes is known from the name of its function and its
options; `stylegan1_pickle` converts what StyleGAN 1 computes.
"""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from advmix_jax.interop import safe_pickle
from advmix_jax.interop.pickle_values import shorten
from advmix_jax.types import BadInputError


@dataclasses.dataclass(frozen=True)
class Network:
  """One network of the file.

  Attributes:
    name: 'G', 'D' or 'Gs'.
    static_kwargs: the options given when it was built; defaults are absent.
    build_func_name: the function that computed it, such as 'G_style'; tells the architecture.
    variables: arrays by name. Those of a component carry its name in front: 'G_mapping/Dense0/weight'.
  """

  name: str
  static_kwargs: Mapping[str, Any]
  build_func_name: str
  variables: Mapping[str, np.ndarray]


class Networks(NamedTuple):
  """What a file holds, in its order."""

  generator: Network
  discriminator: Network
  average: Network


def read_networks(path: str | os.PathLike[str]) -> Networks:
  """Reads an official pickle `(G, D, Gs)`; nothing stored in it is run.

  Raises:
    BadInputError: the file is damaged, names anything beyond arrays and networks, or holds something else.
  """
  found = safe_pickle.load(path, safe_pickle.numpy_globals() | network_globals())
  if not (isinstance(found, tuple | list) and len(found) == 3):
    raise BadInputError(f'{path}: found {shorten(found)}, expected the three networks (G, D, Gs)')
  try:
    return Networks(*(read_network(part) for part in found))
  except BadInputError as error:
    raise BadInputError(f'{path}: {error}') from None


def network_globals() -> dict[tuple[str, str], Any]:
  """The names that such files use, beside those of numpy."""
  return {
    ('dnnlib.tflib.network', 'Network'): _PickledNetwork,
    ('dnnlib.util', 'EasyDict'): dict,
    ('dnnlib', 'EasyDict'): dict,
    ('collections', 'OrderedDict'): dict,
  }


def read_network(pickled: Any) -> Network:
  """One network of a loaded pickle, its components included.

  Raises:
    BadInputError: it is no network, or holds something else than options and arrays of finite numbers.
  """
  return _network(pickled, 0)


class _PickledNetwork:
  """Stands for `dnnlib.tflib.network.Network`: keeps the state it is given and does nothing with it."""

  __slots__ = ('state',)

  def __setstate__(self, state: Any) -> None:
    self.state = state


def _network(pickled: Any, depth: int) -> Network:
  state = getattr(pickled, 'state', None) if isinstance(pickled, _PickledNetwork) else None
  if not isinstance(state, dict):
    raise BadInputError(f'found {shorten(pickled)}, expected a network')
  expected = {'name': str, 'build_func_name': str, 'static_kwargs': dict, 'variables': list}
  for key, kind in expected.items():
    if not isinstance(state.get(key), kind):
      raise BadInputError(f'a network has {shorten(state.get(key))} as {key}, expected {kind.__name__}')
  name = shorten(state['name'])
  if type(state.get('version')) is not int or state['version'] not in (2, 3, 4):
    raise BadInputError(f'{name}: found version {shorten(state.get("version"))}, expected 2, 3 or 4')

  kwargs = dict(state['static_kwargs'])
  variables: dict[str, np.ndarray] = {}
  for item in state['variables']:
    if not (isinstance(item, tuple | list) and len(item) == 2 and isinstance(item[0], str)):
      raise BadInputError(f'{name}: found {shorten(item)} among the variables, expected (name, value)')
    variables[item[0]] = _variable(name, *item)
  components = state.get('components', {})
  if not isinstance(components, dict) or (components and depth):
    raise BadInputError(f'{name}: found nested components, expected one level of them')
  for part in components.values():
    component = _network(part, depth + 1)
    for key, value in component.static_kwargs.items():
      if kwargs.setdefault(key, value) != value:
        raise BadInputError(
          f'{name}: found {shorten(key)} = {shorten(value)} in {shorten(component.name)}, '
          f'expected {shorten(kwargs[key])} as in the whole'
        )
    variables |= {f'{component.name}/{key}': value for key, value in component.variables.items()}
  return Network(state['name'], kwargs, state['build_func_name'], variables)


def _variable(network: str, name: str, value: Any) -> np.ndarray:
  try:
    array = safe_pickle.to_array(value)
  except BadInputError as error:
    raise BadInputError(f'{network}: variable {shorten(name)}: {error}') from None
  if not np.all(np.isfinite(array)):
    raise BadInputError(f'{network}: found values in {shorten(name)} that are not finite, expected numbers')
  return array
