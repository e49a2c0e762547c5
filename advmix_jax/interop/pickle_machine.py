"""Takes the instructions of a pickle apart without Python's own unpickler.

A pickle is a small program on a stack. Python's machine runs it with few limits: four bytes in the file make
it fill gigabytes, and nested tuples as a key keep it hashing for ever. This one knows the instructions that
protocols 2 to 5 use for numbers, text, bytes and containers, takes names from an exact table, and bounds
everything by the length of the file. It imports nothing and calls nothing but the entries of the table.
"""

import functools
import struct
import types
from collections.abc import Callable
from typing import Any

from advmix_jax.interop.pickle_values import Ended, Function, Globals, Refused, check_size, shorten

MAX_INSTRUCTIONS = 500_000  # Official files have up to about a hundred thousand.
MAX_GROWTH = 4  # Bytes of all arrays, shared ones each time, for each byte of the file.
MAX_INTEGER_BYTES = 16
MAX_TEXT_BYTES = 1 << 24  # Files of networks hold their source code; longer text is no part of a network.

_PROTOCOLS = range(2, 6)


def run(
  data: bytes, allowed: Globals, persistent: Callable[[Any], Any] | None = None, start: int = 0
) -> tuple[Any, int]:
  """The first object of the pickle that begins at `data[start]`, and where it ends.

  Args:
    data: one or more pickles, one after the other.
    allowed: the names it may use.
    persistent: makes an object of a persistent id; None = such ids are refused.
    start: where in `data`.

  Raises:
    Refused: see there.
  """
  return _Machine(data, allowed, persistent, start).run()


class _Machine:
  def __init__(self, data: bytes, allowed: Globals, persistent: Callable[[Any], Any] | None, start: int):
    self._data = data
    self._position = start
    self._allowed = allowed
    self._persistent = persistent
    self._stack: list[Any] = []
    self._marks: list[int] = []
    self._memo: dict[int, Any] = {}
    self._bytes_left = MAX_GROWTH * (len(data) + 1024)

  def run(self) -> tuple[Any, int]:
    if self._position == len(self._data):
      raise Refused('it is empty')
    if self._data[self._position] != 0x80:
      raise Refused('it does not begin like a pickle of protocol 2 or later')
    for _ in range(MAX_INSTRUCTIONS):
      code = self._take(1)[0]
      if code == ord('.'):
        value = self._pop()
        check_size(value, MAX_GROWTH * (len(self._data) + 1024))
        return value, self._position
      try:
        instruction = _INSTRUCTIONS[code]
      except KeyError:
        raise Refused(f'it uses the instruction {bytes([code])!r}, which plain data need not') from None
      instruction(self)
    raise Refused(f'it has more than {MAX_INSTRUCTIONS} instructions')

  # The file.

  def _take(self, length: int) -> bytes:
    end = self._position + length
    if end > len(self._data):
      raise Ended(f'it ends at byte {len(self._data)}, inside of a value')
    taken = self._data[self._position : end]
    self._position = end
    return taken

  def _number(self, form: str) -> Any:
    return struct.unpack(form, self._take(struct.calcsize(form)))[0]

  def _line(self) -> str:
    end = self._data.find(b'\n', self._position, self._position + 256)
    if end < 0:
      raise Refused('a name in it has no end')
    line = self._take(end - self._position)
    self._take(1)
    return line.decode()

  def _text(self, length: int) -> str:
    if length > MAX_TEXT_BYTES:
      raise Refused(f'a text in it has {length} bytes')
    return self._take(length).decode('utf-8', 'surrogatepass')

  # The stack.

  def _push(self, value: Any) -> None:
    self._stack.append(value)

  def _pop(self) -> Any:
    if len(self._stack) <= (self._marks[-1] if self._marks else 0):
      raise Refused('an instruction in it lacks its operand')
    return self._stack.pop()

  def _top(self, kind: type) -> Any:
    value = self._pop()
    self._push(value)
    if not isinstance(value, kind):
      raise Refused(f'an instruction for a {kind.__name__} meets something else')
    return value

  def _pop_mark(self) -> list[Any]:
    if not self._marks:
      raise Refused('an instruction in it lacks its mark')
    start = self._marks.pop()
    items = self._stack[start:]
    del self._stack[start:]
    return items

  def _pop_tuple(self, size: int) -> None:
    self._push(tuple([self._pop() for _ in range(size)][::-1]))

  # Instructions of more than one line.

  def proto(self) -> None:
    protocol = self._take(1)[0]
    if protocol not in _PROTOCOLS:
      raise Refused(f'it has the protocol {protocol}')

  def frame(self) -> None:
    length = self._number('<Q')
    if length > len(self._data) - self._position:
      raise Refused(f'it announces {length} bytes where {len(self._data) - self._position} are left')

  def integer(self, length: int) -> None:
    if not 0 <= length <= MAX_INTEGER_BYTES:
      raise Refused(f'a whole number in it has {length} bytes')
    self._push(int.from_bytes(self._take(length), 'little', signed=True))

  def recall(self, index: int) -> None:
    if index not in self._memo:
      raise Refused(f'it refers to value {index}, which is not there')
    self._push(self._memo[index])

  def remember(self, index: int) -> None:
    value = self._pop()
    self._push(value)
    self._memo[index] = value

  def find(self, module: Any, name: Any) -> None:
    if type(module) is not str or type(name) is not str:
      raise Refused('a name in it is no text')
    try:
      self._push(self._allowed[module, name])
    except KeyError:
      raise Refused(f'it names {shorten(f"{module}.{name}")}, which is not allowed') from None

  def stack_find(self) -> None:
    name = self._pop()
    self.find(self._pop(), name)

  def construct(self, kinds: tuple[type, ...]) -> None:
    arguments, callee = self._pop(), self._pop()
    is_allowed = isinstance(callee, kinds)
    if type(arguments) is not tuple or not is_allowed:
      raise Refused('it calls something that is no allowed function')
    if isinstance(callee, type) and arguments:
      raise Refused(f'it gives arguments to a new {callee.__name__.strip("_")}')
    made = callee(*arguments)
    self._account(made)
    self._push(made)

  def build(self) -> None:
    state, target = self._pop(), self._pop()
    # Only classes of this package have a `__setstate__` in Python; numpy's own would take anything.
    setstate = type(target).__dict__.get('__setstate__')
    if not isinstance(setstate, types.FunctionType):
      raise Refused(f'it gives a state to a value of type {type(target).__name__}')
    setstate(target, state)
    self._account(getattr(target, 'array', None))
    self._push(target)

  def _account(self, made: Any) -> None:
    """One piece of the file, used again and again, must not become many."""
    self._bytes_left -= len(made) if isinstance(made, bytes) else getattr(made, 'nbytes', 0)
    if self._bytes_left < 0:
      raise Refused('the arrays in it are far larger than the file')

  def persistent_id(self) -> None:
    if self._persistent is None:
      raise Refused('it refers to a persistent id')
    self._push(self._persistent(self._pop()))

  def set_items(self, items: list[Any]) -> None:
    target = self._top(dict)
    if len(items) % 2:
      raise Refused('a dictionary in it has a key without a value')
    for key, value in zip(items[::2], items[1::2], strict=True):
      if type(key) is not str:
        raise Refused('a dictionary in it has a key that is no text')
      target[key] = value

  def append(self) -> None:
    value = self._pop()
    self._top(list).append(value)

  def extend(self) -> None:
    items = self._pop_mark()
    self._top(list).extend(items)

  def pop(self) -> None:
    if self._marks and self._marks[-1] == len(self._stack):
      self._marks.pop()
    else:
      self._pop()

  def add_items(self) -> None:
    items = self._pop_mark()
    target = self._top(set)
    if not all(type(item) is str for item in items):
      raise Refused('a set in it has an element that is no text')
    target.update(items)

  def mark(self) -> None:
    self._marks.append(len(self._stack))


def _forms(push: Callable[[_Machine, int], None]) -> list[Callable[[_Machine], None]]:
  """An instruction whose number takes 1, 4 or 8 bytes."""
  return [functools.partial(_with_number, push, form) for form in ('<B', '<I', '<Q')]


def _with_number(push: Callable[[_Machine, int], None], form: str, machine: _Machine) -> None:
  push(machine, machine._number(form))


_text = _forms(lambda m, n: m._push(m._text(n)))
_bytes = _forms(lambda m, n: m._push(m._take(n)))
_recall = _forms(lambda m, n: m.recall(n))
_remember = _forms(lambda m, n: m.remember(n))

_INSTRUCTIONS: dict[int, Callable[[_Machine], Any]] = {
  0x80: _Machine.proto,
  0x95: _Machine.frame,
  ord('('): _Machine.mark,
  ord('0'): _Machine.pop,
  ord('1'): lambda m: m._pop_mark(),
  ord('2'): lambda m: m._stack.extend([m._pop()] * 2),
  # Numbers and constants.
  ord('N'): lambda m: m._push(None),
  0x88: lambda m: m._push(True),
  0x89: lambda m: m._push(False),
  ord('J'): lambda m: m._push(m._number('<i')),
  ord('K'): lambda m: m._push(m._number('<B')),
  ord('M'): lambda m: m._push(m._number('<H')),
  0x8A: lambda m: m.integer(m._number('<B')),
  0x8B: lambda m: m.integer(m._number('<i')),
  ord('G'): lambda m: m._push(m._number('>d')),
  # Text and bytes.
  0x8C: _text[0],
  ord('X'): _text[1],
  0x8D: _text[2],
  ord('C'): _bytes[0],
  ord('B'): _bytes[1],
  0x8E: _bytes[2],
  0x96: _bytes[2],
  # Containers.
  ord(']'): lambda m: m._push([]),
  ord('a'): _Machine.append,
  ord('e'): _Machine.extend,
  ord(')'): lambda m: m._push(()),
  0x85: lambda m: m._pop_tuple(1),
  0x86: lambda m: m._pop_tuple(2),
  0x87: lambda m: m._pop_tuple(3),
  ord('t'): lambda m: m._push(tuple(m._pop_mark())),
  ord('}'): lambda m: m._push({}),
  ord('s'): lambda m: m.set_items([m._pop(), m._pop()][::-1]),
  ord('u'): lambda m: m.set_items(m._pop_mark()),
  0x8F: lambda m: m._push(set()),
  0x90: _Machine.add_items,
  # Values met before.
  ord('q'): _remember[0],
  ord('r'): _remember[1],
  0x94: lambda m: m.remember(len(m._memo)),
  ord('h'): _recall[0],
  ord('j'): _recall[1],
  # Names and objects.
  ord('c'): lambda m: m.find(m._line(), m._line()),
  0x93: _Machine.stack_find,
  ord('R'): lambda m: m.construct((Function, type)),
  0x81: lambda m: m.construct((type,)),
  ord('b'): _Machine.build,
  ord('Q'): _Machine.persistent_id,
}
