"""How much work something is, by a measure that no other load on the machine can change."""

import contextlib
import sys
from collections.abc import Iterator


class Calls:
  number = 0


@contextlib.contextmanager
def counted_calls() -> Iterator[Calls]:
  """Counts the calls of functions, Python's and C's, that the body makes; a second has some ten million."""
  calls = Calls()

  def count(frame: object, event: str, argument: object) -> None:
    if event in ('call', 'c_call'):
      calls.number += 1

  before = sys.getprofile()
  sys.setprofile(count)
  try:
    yield calls
  finally:
    sys.setprofile(before)
