"""Reads the text of a compiled program (HLO): its computations, their instructions, and who calls whom."""

import re
from typing import NamedTuple

_COMPUTATION = re.compile(r'^(?:ENTRY )?%?([\w.\-]+) .*\{$')
_INSTRUCTION = re.compile(r'^\s+(?:ROOT )?%?([\w.\-]+) = (.*)$')
_OPCODE = re.compile(r'(?:^|\s)([a-z][\w\-]*)\(')
_CALLED = re.compile(r'(?:calls|to_apply|body|condition)=%?([\w.\-]+)|branch_computations=\{([^}]*)\}')


class Instruction(NamedTuple):
  """One line.

  Attributes:
    name: unique in the program.
    shape: of its result, as written.
    opcode: convolution, fusion, while, ...
    text: all that follows the opcode: operands and attributes.
    op_name: the path of jax's operation: transformations, modules, primitive; '' where there is none.
    called: computations it runs.
  """

  name: str
  shape: str
  opcode: str
  text: str
  op_name: str
  called: tuple[str, ...]

  def attribute(self, key: str) -> str:
    """The value of `key=...`, without blanks or commas; '' where there is none."""
    found = re.search(rf'\b{key}="?([^",\s]+)', self.text)
    return found.group(1) if found else ''


Program = dict[str, list[Instruction]]  # By the names of the computations.


def parse(text: str) -> Program:
  """Reads what `compiled.as_text()` gives."""
  program: Program = {}
  lines: list[Instruction] = []
  for line in text.splitlines():
    if computation := _COMPUTATION.match(line):
      lines = program.setdefault(computation.group(1), [])
    elif found := _INSTRUCTION.match(line):
      name, rest = found.groups()
      opcode = _OPCODE.search(rest)
      if opcode:
        lines.append(_instruction(name, rest, opcode))
  return program


def _instruction(name: str, rest: str, opcode: re.Match[str]) -> Instruction:
  text = rest[opcode.end() - 1 :]
  op_name = re.search(r'op_name="([^"]*)"', text)
  called = [
    part.strip().lstrip('%') for one, many in _CALLED.findall(text) for part in (many or one).split(',')
  ]
  return Instruction(
    name, rest[: opcode.start()], opcode.group(1), text, op_name.group(1) if op_name else '', tuple(called)
  )


def reached(program: Program, name: str) -> list[Instruction]:
  """All instructions that run within a computation, those of what it calls among them, each once."""
  found: list[Instruction] = []
  waiting, seen = [name], {name}
  while waiting:
    for instruction in program.get(waiting.pop(), ()):
      found.append(instruction)
      new = [called for called in instruction.called if called not in seen]
      seen.update(new)
      waiting += new
  return found


def loop_bodies(program: Program) -> list[list[Instruction]]:
  """What runs within each `while` loop, loops within loops counted in both."""
  return [
    reached(program, i.attribute('body').lstrip('%'))
    for instructions in program.values()
    for i in instructions
    if i.opcode == 'while'
  ]
