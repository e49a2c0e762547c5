"""A generator in a folder: plain arrays, and a description that says what to build for them.

    generator = load_generator('ffhq')
    w = generator.module.apply({'params': generator.params['params']}, z, method='map_z')
    decoder = generator.decoder(mixing_level=8)

`architecture.json` holds the module's class and attributes, `generator.safetensors` the decoder's parameters
and `discriminator.safetensors`, where there is one, those of the discriminator. Nothing in it can run.
"""

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np

from advmix_jax.interop.weights import load_tree, save_tree
from advmix_jax.models.architectures import ARCHITECTURES
from advmix_jax.models.decoder import generator_decoder, init_generator
from advmix_jax.models.discriminator import init_discriminator
from advmix_jax.types import BadInputError, Decoder, PyTree
from advmix_jax.workdir import write_json

DESCRIPTION = 'architecture.json'
GENERATOR = 'generator.safetensors'
DISCRIMINATOR = 'discriminator.safetensors'

_FORMAT = 1
_NOT_SAVED = ('parent', 'name', 'dtype', 'remat')  # How it is computed, not what it is.


@dataclasses.dataclass(frozen=True)
class Truncation:
  """Of a generator's own default: rows `w[:, :cutoff]` move to `w_avg + psi (w - w_avg)`.

  Attributes:
    psi: 1 = truncation is off.
    cutoff: None = all rows, 0 = none.
  """

  psi: float = 1.0
  cutoff: int | None = None


class Generator(NamedTuple):
  """What a folder holds.

  Attributes:
    architecture: a name of `ARCHITECTURES`.
    module: its methods `map_z`, `synthesis`, `coarse` and `fine` are what the parameters are for.
    params: `{'params', 'noise': tuple of [1, R_i, R_i, 1], 'w_avg': [D]}` float32.
    truncation: the default of the generator where it comes from.
    description: all of `architecture.json`.
  """

  architecture: str
  module: Any
  params: PyTree
  truncation: Truncation
  description: dict[str, Any]

  def decoder(self, mixing_level: int) -> Decoder:
    """The generator cut at `mixing_level`; one with classes takes its label from z (`mapping.split_label`).

    Raises:
      BadInputError: the generator has no such level.
    """
    self.check_level(mixing_level)
    return generator_decoder(self.module, mixing_level)

  def check_level(self, mixing_level: int) -> None:
    """Raises `BadInputError` if the generator cannot be cut there."""
    if not 1 <= mixing_level < self.module.num_layers:
      raise BadInputError(
        f'mixing level {mixing_level}: the generator has {self.module.num_layers} styled layers, '
        f'expected a level from 1 to {self.module.num_layers - 1}'
      )


def describe(
  module: Any,
  critic: Any = None,
  *,
  truncation: Truncation | None = None,
  source: dict[str, Any] | None = None,
) -> dict[str, Any]:
  """What `architecture.json` says.

  Args:
    module: the generator, of `models.stylegan` or `models.stylegan2`.
    critic: the discriminator; None = the folder has none.
    truncation: the default of the generator where it comes from; None = off.
    source: where it comes from, of JSON values; None for one trained here.
  """
  (architecture,) = [name for name, known in ARCHITECTURES.items() if type(module) is known.generator]
  return {
    'format': _FORMAT,
    'architecture': architecture,
    'resolution': module.resolution,
    'num_styles': module.num_layers,
    'generator': _attributes(module),
    'discriminator': None if critic is None else _attributes(critic),
    'truncation': dataclasses.asdict(truncation or Truncation()),
    'source': source,
  }


def save_generator(
  folder: Path, description: dict[str, Any], params: PyTree, critic_params: PyTree | None = None
) -> None:
  """Writes a folder. The description is written last, so a folder that has one is whole.

  Args:
    folder: it is made if it is missing.
    description: of `describe`.
    params: as in `Generator`.
    critic_params: of the discriminator; None = the folder has none.
  """
  save_tree(folder / GENERATOR, params)
  if critic_params is not None:
    save_tree(folder / DISCRIMINATOR, critic_params)
  write_json(folder / DESCRIPTION, description)


def load_generator(folder: Path) -> Generator:
  """Reads a folder that `launch.convert` or the stage `train_gan` wrote.

  Raises:
    BadInputError: a file is missing or damaged, or they do not fit each other.
  """
  description = read_description(folder)
  module, template = _generator(folder, description)
  params = _read(Path(folder) / GENERATOR, template)
  truncation = _truncation(folder, description)
  return Generator(description['architecture'], module, params, truncation, description)


def load_discriminator(folder: Path) -> tuple[Any, PyTree] | None:
  """The discriminator's module and parameters; None if the folder has none. Raises as `load_generator`."""
  description = read_description(folder)
  if description['discriminator'] is None:
    return None
  module, template = _discriminator(folder, description)
  return module, _read(Path(folder) / DISCRIMINATOR, template)


def load_modules(folder: Path) -> tuple[Any, Any]:
  """The generator's module and the discriminator's, or None, without weights. Raises as `load_generator`."""
  description = read_description(folder)
  critic = None if description['discriminator'] is None else _discriminator(folder, description)[0]
  return _generator(folder, description)[0], critic


def read_description(folder: Path) -> dict[str, Any]:
  """`architecture.json`, with all its entries and known classes. Raises as `load_generator`."""
  path = require(Path(folder) / DESCRIPTION)
  try:
    description = json.loads(path.read_text())
  except (OSError, ValueError, RecursionError) as error:
    raise BadInputError(f'{path} cannot be read as JSON ({error})') from None
  expected = {'architecture': str, 'generator': dict, 'resolution': int, 'discriminator': dict | None}
  if not isinstance(description, dict) or description.get('format') != _FORMAT:
    raise BadInputError(f'{path}: expected the description of a generator, format {_FORMAT}')
  for key, kind in expected.items():
    if not isinstance(description.get(key), kind):
      raise BadInputError(f'{path}: found {json.dumps(description.get(key))} as {key}')
  if description['architecture'] not in ARCHITECTURES:
    raise BadInputError(
      f'{path}: found the architecture {description["architecture"]}, '
      f'expected one of {", ".join(ARCHITECTURES)}'
    )
  return description


def require(path: Path) -> Path:
  """The path, if there is such a file; else raises `BadInputError`."""
  if not path.is_file():
    raise BadInputError(f'{path} is missing, expected a folder that launch.convert or a run (gan) wrote')
  return path


def _attributes(module: Any) -> dict[str, Any]:
  """With which the module's class makes it again."""
  names = [field.name for field in dataclasses.fields(module) if field.name not in _NOT_SAVED]
  return {name: getattr(module, name) for name in names}


def _generator(folder: Path, description: dict[str, Any]) -> tuple[Any, PyTree]:
  """The module, and the shapes of its parameters."""
  kind = ARCHITECTURES[description['architecture']].generator
  return _build(folder, kind, description['generator'], lambda made: init_generator(jax.random.key(0), made))


def _discriminator(folder: Path, description: dict[str, Any]) -> tuple[Any, PyTree]:
  """The module, and the shapes of its parameters."""
  size, channels = description['resolution'], description['generator'].get('image_channels', 3)
  kind = ARCHITECTURES[description['architecture']].discriminator
  if kind is None:
    raise BadInputError(
      f'{Path(folder) / DESCRIPTION}: found a discriminator, expected null with {description["architecture"]}'
    )
  return _build(
    folder,
    kind,
    description['discriminator'],
    lambda made: init_discriminator(jax.random.key(0), made, (size, size, channels)),
  )


def _read(path: Path, template: PyTree) -> PyTree:
  tree = load_tree(require(path), template)
  for leaf in jax.tree.leaves(tree):
    if leaf.dtype != np.float32:
      raise BadInputError(f'{path}: found arrays of {leaf.dtype}, expected float32')
    if not np.isfinite(leaf).all():
      raise BadInputError(f'{path}: found numbers that are not finite, expected a network that works')
  return tree


def _build(
  folder: Path, kind: type[nn.Module], values: dict[str, Any], init: Callable[[Any], PyTree]
) -> tuple[Any, PyTree]:
  """The module of attributes that `attributes` wrote, and the shapes of what it is initialised with."""
  path = Path(folder) / DESCRIPTION
  known = {field.name for field in dataclasses.fields(kind)}.difference(_NOT_SAVED)
  unknown = sorted(values.keys() - known)
  if unknown:
    raise BadInputError(f'{path}: found {unknown[0]}, which {kind.__name__} does not have')
  try:
    module = kind(
      **{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    )
    return module, jax.eval_shape(lambda: init(module))
  except (TypeError, ValueError, ArithmeticError, RecursionError, MemoryError) as error:
    raise BadInputError(f'{path} describes no {kind.__name__} that can be built ({error})') from None


def _truncation(folder: Path, description: dict[str, Any]) -> Truncation:
  found: Any = description.get('truncation')
  try:
    psi, cutoff = float(found['psi']), found['cutoff']
    if math.isfinite(psi) and (cutoff is None or (isinstance(cutoff, int) and cutoff >= 0)):
      return Truncation(psi, cutoff)
  except (KeyError, TypeError, ValueError, OverflowError):
    pass
  raise BadInputError(
    f'{Path(folder) / DESCRIPTION}: found {json.dumps(found)} as truncation, expected psi, a number, and '
    'cutoff, a whole number from 0 or null'
  )
