"""Values of a pickle: what it may name, how much it may hold, and how a message shows them.

`pickle_machine` makes them.
"""

from collections.abc import Callable, Mapping
from typing import Any

# (module, name) as written in the file, to what stands for it: a `Function`, or a class that is made without
# arguments and whose making has no effect.
Globals = Mapping[tuple[str, str], Any]

MAX_NODES = 300_000  # Values met when the result is walked as a tree, shared ones each time.
MAX_DEPTH = 200  # Containers within containers; modules of official files are some thirty deep.


class Refused(Exception):
  """The pickle is damaged, or asks for something that is not allowed."""


class Ended(Refused):
  """The pickle is longer than the bytes that there are."""


class Function:
  """An allowed function. Unlike a plain one, a pickle cannot set attributes on it."""

  __slots__ = ('_function',)

  def __init__(self, function: Callable[..., Any]):
    self._function = function

  def __call__(self, *args: Any) -> Any:
    return self._function(*args)

  def __setstate__(self, state: object) -> None:
    raise Refused('a state is given to a function')


def check_size(value: Any, bytes_left: int) -> None:
  """Refuses what is endless or enormous when walked: values that hold themselves, doubled many times over."""
  nodes, waiting = 0, [(value, 0)]
  while waiting:
    value, depth = waiting.pop()
    nodes += 1
    if isinstance(value, dict):
      parts = list(value.values())
    elif isinstance(value, list | tuple):
      parts = list(value)
    elif isinstance(value, Function):
      parts = []
    else:
      parts = [getattr(value, name, None) for name in getattr(type(value), '__slots__', ())]
    waiting.extend((part, depth + 1) for part in parts)
    bytes_left -= getattr(value, 'nbytes', 0)
    if nodes + len(waiting) > MAX_NODES or bytes_left < 0 or depth > MAX_DEPTH:
      raise Refused('a value in it holds itself, is nested too deeply, or is far more than the file')


def shorten(value: Any) -> str:
  """A value of the file for a message: short, one line, no control characters."""
  if value is None or isinstance(value, bool | int | float):
    return repr(value)
  if isinstance(value, str):
    return value[:100] if value.isprintable() else ascii(value[:100])[1:-1]
  if (
    isinstance(value, list | tuple)
    and len(value) <= 8
    and all(isinstance(item, bool | int | float | str) for item in value)
  ):
    return f'[{", ".join(shorten(item) for item in value)}]'
  return f'a value of type {type(value).__name__.strip("_")}'
