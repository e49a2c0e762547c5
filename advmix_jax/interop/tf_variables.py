"""The variables of a network, each asked for by name and shape, so that none is overlooked or misread."""

import numpy as np

from advmix_jax.interop.floats import as_float32
from advmix_jax.interop.tf_pickle import Network
from advmix_jax.types import BadInputError


class Variables:
  """Takes variables out by name and shape, and knows which were not asked for.

  Every method but `count` and `has` raises `BadInputError`, naming the network and the variable, for one that
  is missing or of another shape.
  """

  def __init__(self, network: Network):
    self._name = network.name
    self._variables = network.variables
    self._taken: set[str] = set()

  def has(self, name: str) -> bool:
    return name in self._variables

  def count(self, pattern: str) -> int:
    """How many of `pattern` there are, numbered from 0 without a gap."""
    number = 0
    while pattern.format(number) in self._variables:
      number += 1
    return number

  def shape(self, name: str, ndim: int) -> tuple[int, ...]:
    """Shape of a variable of `ndim` axes; it is not taken by that."""
    shape = self._get(name).shape
    if len(shape) != ndim:
      raise BadInputError(f'{self._name}: found {name} of shape {shape}, expected {ndim} axes')
    return shape

  def take(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A variable of this shape, float32."""
    value = self._get(name)
    if value.shape != shape:
      raise BadInputError(f'{self._name}: found {name} of shape {value.shape}, expected {shape}')
    self._taken.add(name)
    return as_float32(f'{name} of {self._name}', value)

  def layer(self, name: str, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    """`weight` of this shape and `bias` of its last axis, as our layers hold them."""
    return {'weight': self.take(f'{name}/weight', shape), 'bias': self.take(f'{name}/bias', shape[-1:])}

  def check_all_taken(self) -> None:
    """Refuses a network with variables that nothing asked for."""
    unknown = sorted(set(self._variables) - self._taken)
    if unknown:
      raise BadInputError(f'{self._name}: found the variable {unknown[0]}, expected none of that name')

  def _get(self, name: str) -> np.ndarray:
    if name not in self._variables:
      raise BadInputError(f'{self._name}: found no variable {name}, expected one')
    return self._variables[name]
