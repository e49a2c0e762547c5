"""The keys of a configuration, as `a.b`: on which of them results depend, which came later, what follows."""

from collections.abc import Mapping
from typing import Any

# Keys that change neither results nor files that another stage reads, so a run may go on with other values.
FREE_KEYS = (
  'stages',
  'checkpoint',
  'watchdog',
  'log_every_steps',
  'diagnose',
  'compile_cache',
  'devices',
  'distributed',
  'data.dir',
  'data.cache_dir',
  'data.num_workers',
  'encode.vgg16_weights',
  'report.explorer_examples',
)
# Keys that came later, with the value at which a run is as it was before them: where a key has this value, a
# configuration is the same with the key and without.
ADDED = {'attack.ramp_steps': 0, 'encode.mixing_share': 1.0}


def flatten(config: dict, prefix: str = '') -> dict[str, Any]:
  """Nested keys as `a.b`, in order."""
  flat: dict[str, Any] = {}
  for key, value in config.items():
    flat |= flatten(value, f'{prefix}{key}.') if isinstance(value, dict) else {f'{prefix}{key}': value}
  return flat


def unflatten(flat: dict[str, Any]) -> dict:
  nested: dict = {}
  for key, value in flat.items():
    *owners, last = key.split('.')
    place = nested
    for owner in owners:
      place = place.setdefault(owner, {})
    place[last] = value
  return nested


def fixed_keys(config: dict) -> dict[str, Any]:
  """The flat keys on which results depend, but for those of `ADDED` that change nothing."""
  free = tuple(f'{key}.' for key in FREE_KEYS)
  return {
    key: value
    for key, value in flatten(config).items()
    if not f'{key}.'.startswith(free) and not (key in ADDED and value == ADDED[key])
  }


def differences(found: dict[str, Any], wanted: dict[str, Any]) -> str:
  """Those of two configurations' `fixed_keys` that differ, in words; '' if none does."""

  def value(flat: dict[str, Any], key: str) -> Any:
    return flat.get(key, ADDED.get(key, '(absent)'))

  return '; '.join(
    f'{key} is {value(found, key)!r} there, {value(wanted, key)!r} here'
    for key in sorted(found.keys() | wanted.keys())
    if value(found, key) != value(wanted, key)
  )


def classifier_seeds(config: Mapping[str, Any]) -> range:
  """The seeds of the classifiers of each method."""
  train = config['train']
  first = config['seed'] if train['seed'] < 0 else train['seed']
  return range(first, first + train['num_seeds'])


def has_path_length(generator: Mapping[str, Any]) -> bool:
  """Whether path lengths are regularised, from the keys `generator.*`."""
  return generator['architecture'] == 'stylegan2' and generator['path_length_weight'] > 0
