"""The form of the messages about `config.data`."""

from advmix_jax.types import BadInputError


def bad_key(key: str, found: object, expected: str) -> BadInputError:
  """The error for `config.data.KEY`, to be raised."""
  return BadInputError(f'config.data.{key}: found {found}, expected {expected}')
