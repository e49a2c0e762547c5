"""Pages that are written from files of figures: what their commands share."""

import json
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2

from advmix_jax.types import BadInputError
from advmix_jax.workdir import atomic

Filters = dict[str, Callable[..., Any]]


def read_figures(
  path: Path, command: str, parts: str, has_parts: Callable[[dict[str, Any]], bool]
) -> dict[str, Any]:
  """A file that a command's `--out` wrote.

  Args:
    path: given by `--from`.
    command: that writes such files.
    parts: what they hold, in words.
    has_parts: whether that is there.

  Raises:
    BadInputError: if it is none.
  """
  expected = f'expected a file of {command} --out'
  try:
    found: Any = json.loads(path.read_text())
  except (OSError, ValueError) as error:
    raise BadInputError(f'--from={path}: {error}, {expected}') from error
  if not isinstance(found, dict) or 'command' not in found or not has_parts(found):
    raise BadInputError(f'--from={path}: found no {parts} with their command, {expected}')
  return found


def write_page(page: Path, template: str, filters: Filters, **values: Any) -> None:
  """Fills a template of this package, and writes it whole or not at all."""
  environment = jinja2.Environment(
    loader=jinja2.FunctionLoader(lambda name: resources.files(__package__).joinpath(name).read_text()),
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
  )
  environment.filters |= filters
  text = environment.get_template(template).render(**values)
  with atomic(page) as temporary:
    temporary.write_text(''.join(f'{line.rstrip()}\n' for line in text.splitlines()))
