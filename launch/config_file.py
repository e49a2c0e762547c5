"""The flag --config: FILE, FILE:VARIANT, or a run's config.json."""

import inspect
import json
import runpy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict

from advmix_jax.config_keys import ADDED, flatten, unflatten
from configs import default

KINDS = {
  bool: 'true or false',
  int: 'a whole number',
  float: 'a number',
  str: 'text',
  tuple: 'a list',
  dict: 'keys and values',
}


class ConfigFile(flags.ArgumentParser):
  """Reads a configuration with all keys of `configs.default`; what is wrong is an error that names it."""

  def parse(self, argument: str) -> ConfigDict:
    file, *variant = argument.split(':', 1)
    if not Path(file).is_file():
      raise flags.Error(f'--config={file}: found no such file')
    try:
      if file.endswith('.json'):
        config = stored_config(Path(file))
      else:
        get_config = runpy.run_path(file).get('get_config')
        if get_config and variant and not inspect.signature(get_config).parameters:
          raise ValueError(f'found the variant {variant[0]!r}, expected none: the file has no variants')
        config = get_config and get_config(*variant)
    except Exception as error:  # A configuration file is code and may raise anything.
      raise flags.Error(f'--config={file}: {type(error).__name__}: {error}') from error
    if not isinstance(config, ConfigDict):
      raise flags.Error(f'--config={file}: expected a function get_config() -> ConfigDict in it')
    given, expected = config.to_dict(), default.get_config().to_dict()
    if lacking := missing_keys(given, expected):
      raise flags.Error(f'--config={file}: found no {", ".join(lacking)}, expected all keys of this version')
    if wrong := wrong_kinds(given, expected):
      raise flags.Error(f'--config={file}: {wrong[0]}')
    return config.lock()


def stored_config(file: Path) -> ConfigDict:
  """A configuration as runs store it, with the keys that came later where they change nothing."""
  given = with_tuples(json.loads(file.read_text()))
  if not isinstance(given, dict):
    raise ValueError('expected a JSON object')
  return ConfigDict(unflatten(ADDED | flatten(given)))


def with_tuples(value: Any) -> Any:
  """A value of JSON with its lists as the tuples that they were."""
  if isinstance(value, dict):
    return {key: with_tuples(part) for key, part in value.items()}
  return tuple(with_tuples(part) for part in value) if isinstance(value, list) else value


def missing_keys(given: Mapping[str, Any], expected: Mapping[str, Any], prefix: str = '') -> list[str]:
  """Nested keys as `a.b`."""
  lacking = []
  for key, value in expected.items():
    if key not in given:
      lacking.append(prefix + key)
    elif isinstance(value, dict) and isinstance(given[key], dict):
      lacking += missing_keys(given[key], value, f'{prefix}{key}.')
  return lacking


def wrong_kinds(given: Mapping[str, Any], expected: Mapping[str, Any], prefix: str = '') -> list[str]:
  """A sentence for each value that is of another kind than expected; numbers may be without a point."""
  wrong = []
  for key, value in expected.items():
    found = given[key]
    if type(value) is float and type(found) is int and abs(found) < 2**63:
      continue
    if type(found) is not type(value):
      wrong.append(f'config.{prefix}{key} is {found!r}, expected {KINDS[type(value)]}')
    elif isinstance(value, dict):
      wrong += wrong_kinds(found, value, f'{prefix}{key}.')
  return wrong
