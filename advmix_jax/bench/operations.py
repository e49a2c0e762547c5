"""What a program has to compute and to move, read from its jaxpr; nothing is compiled or run.

    found = operations(jax.make_jaxpr(step)(*shapes).jaxpr, while_trips=(7,))
    sum(o.flops * o.times for o in found)

Operations are counted in matrix products and convolutions, of those of `models/conv` only what the algorithm
asks for: not the rows and columns that are computed for speed and dropped. Bytes are those of
a compiler that fuses what works element by element, and nothing else: matrix products, convolutions and
reductions read arrays from memory and write one; all between them is computed on the way to the next array
that has to be written.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

PRODUCTS = ('dot_general', 'conv_general_dilated')
REDUCTIONS = ('reduce_', 'arg', 'cum', 'sort', 'top_k', 'scatter', 'dynamic_update_slice')
PARTLY_READ = ('gather', 'dynamic_slice')
COLLECTIVES = ('psum', 'all_gather', 'all_reduce')
NO_REDUCTION = ('reduce_precision',)


class Operation(NamedTuple):
  """Something that reads and writes memory.

  Attributes:
    kind: product (of matrices, or convolution) | pass (element by element, or a reduction) | collective.
    dtype: of what is multiplied.
    flops: additions and multiplications of a product, 0 for the others.
    bytes: read and written; of a collective, what a device contributes.
    times: how often.
  """

  kind: str
  dtype: str
  flops: float
  bytes: float
  times: float


@dataclasses.dataclass(eq=False)
class _Array:
  """A value of the program.

  Attributes:
    size: bytes.
    is_stored: it is in memory, or will have been when it is read.
    sources: what it is computed from on the way, where it is not.
    times: how often it is computed.
  """

  size: float
  is_stored: bool = True
  sources: Sequence['_Array'] = ()
  times: float = 1.0


def operations(jaxpr: Any, while_trips: Sequence[float] = ()) -> list[Operation]:
  """All operations of a program, loops counted out.

  Args:
    jaxpr: of the program.
    while_trips: how often each `while` loop turns, in the order in which they begin.

  Returns:
    Operations with their number; those that nothing needs are left out.

  Raises:
    ValueError: the program has more or fewer loops.
  """
  walk = _Walk(while_trips)
  arguments = [_Array(_size(v.aval)) for v in jaxpr.invars]
  for result in walk.visit(jaxpr, arguments, 1.0):
    walk.store(result)
  if walk.loops != len(while_trips):
    raise ValueError(f'found {walk.loops} while loops, expected {len(while_trips)}')
  return walk.found


class _Walk:
  """Goes through a program in the order of its equations."""

  def __init__(self, while_trips: Sequence[float]):
    self.found: list[Operation] = []
    self.loops = 0
    self._while_trips = while_trips

  def visit(self, jaxpr: Any, arguments: Sequence[_Array], times: float) -> list[_Array]:
    """Counts a program that runs so many times; its results."""
    values = dict(zip(jaxpr.invars, arguments, strict=True))
    values |= {v: _Array(_size(v.aval)) for v in jaxpr.constvars}

    def value(atom):
      return _Array(0) if _is_literal(atom) else values[atom]

    for equation in _needed(jaxpr):
      inputs = [value(atom) for atom in equation.invars]
      values |= dict(zip(equation.outvars, self._outputs(equation, inputs, times), strict=True))
    return [value(atom) for atom in jaxpr.outvars]

  def _outputs(self, equation: Any, inputs: list[_Array], times: float) -> list[_Array]:
    name, sizes = equation.primitive.name, [_size(v.aval) for v in equation.outvars]
    stored = [_Array(size) for size in sizes]
    if name in PRODUCTS or _is_convolution(equation):
      self._store_all(inputs)
      dtype = str(equation.invars[0].aval.dtype)
      self._add('product', sum(a.size for a in inputs) + sum(sizes), times, dtype, flops(equation))
    elif name == 'while':
      self._loop(equation, inputs, times)
    elif name == 'scan':
      self._scan(equation, inputs, times)
    elif name == 'cond':
      self._store_all(inputs)
      self._branches(equation.params['branches'], inputs[1:], times)
    elif name.startswith(COLLECTIVES):
      self._store_all(inputs)
      self._add('collective', sum(a.size for a in inputs), times)
    elif name.startswith(REDUCTIONS) and name not in NO_REDUCTION:
      self._add('pass', _read(inputs) + sum(sizes), times)
    elif name in PARTLY_READ:
      self._store_all(inputs)
      self._add('pass', 2 * sum(sizes), times)
    elif inner := list(_inner(equation)):
      (program,) = inner
      return self.visit(program, inputs, times)
    else:
      return [_Array(size, False, inputs, times) for size in sizes]
    return stored

  def _loop(self, equation: Any, inputs: list[_Array], times: float) -> None:
    """The body of a while loop; its condition is next to nothing."""
    self._store_all(inputs)
    body = equation.params['body_jaxpr'].jaxpr
    trips = self._while_trips[self.loops] if self.loops < len(self._while_trips) else 0.0
    self.loops += 1
    self._body(body, [_Array(_size(v.aval)) for v in body.invars], times * trips)

  def _scan(self, equation: Any, inputs: list[_Array], times: float) -> None:
    self._store_all(inputs)
    body = equation.params['jaxpr'].jaxpr
    self._body(body, [_Array(_size(v.aval)) for v in body.invars], times * equation.params['length'])

  def _body(self, body: Any, arguments: list[_Array], times: float) -> None:
    for result in self.visit(body, arguments, times):
      self.store(result)

  def _branches(self, branches: Sequence[Any], inputs: list[_Array], times: float) -> None:
    """The one with the most to do."""
    before, counted = self.found, []
    for branch in branches:
      self.found = []
      self._body(branch.jaxpr, inputs, times)
      counted.append(self.found)
    self.found = before + max(counted, key=lambda own: sum((o.flops + o.bytes) * o.times for o in own))

  def store(self, array: _Array) -> None:
    """Writes what was to be computed on the way."""
    if not array.is_stored:
      self._add('pass', _read(array.sources) + array.size, array.times)
      array.is_stored, array.sources = True, ()

  def _store_all(self, arrays: Sequence[_Array]) -> None:
    for array in arrays:
      self.store(array)

  def _add(self, kind: str, size: float, times: float, dtype: str = '', flops: float = 0.0) -> None:
    self.found.append(Operation(kind, dtype, flops, size, times))


def flops(equation: Any) -> float:
  """Of a matrix product or convolution."""
  out_size = float(np.prod(equation.outvars[0].aval.shape))
  left, right = (v.aval.shape for v in equation.invars[:2])
  if equation.primitive.name == 'dot_general':
    contracted = equation.params['dimension_numbers'][0][0]
    return 2 * out_size * float(np.prod([left[i] for i in contracted]))
  if equation.primitive.name == 'conv_general_dilated':
    features = right[equation.params['dimension_numbers'].rhs_spec[0]]
    return 2 * out_size * float(np.prod(right)) / features
  # Those of `models/conv`: a sum over k k I of an image and a kernel, or over B H W of two images.
  return 2 * out_size * float(np.prod(right[:3]))


def _is_convolution(equation: Any) -> bool:
  """One of those of `models/conv` or their kernel gradients: two arrays of four axes to one.

  Those of `models/resampling` look alike; they call one of these, or have a stride along the height.
  """
  arrays = [v.aval for v in (*equation.invars, *equation.outvars)]
  if equation.primitive.name != 'custom_vjp_call' or [a.ndim for a in arrays] != [4, 4, 4]:
    return False
  return not any(
    _is_convolution(e) or e.params.get('window_strides', (1,))[0] > 1
    for program in _inner(equation)
    for e in program.eqns
  )


def _needed(jaxpr: Any) -> list[Any]:
  """The equations that its results need, in order."""
  used, kept = {v for v in jaxpr.outvars if not _is_literal(v)}, []
  for equation in reversed(jaxpr.eqns):
    if not used.isdisjoint(equation.outvars):
      used |= {v for v in equation.invars if not _is_literal(v)}
      kept.append(equation)
  return kept[::-1]


def _inner(equation: Any) -> Iterator[Any]:
  """The program that an equation calls, if it does."""
  leaves = jax.tree.leaves(equation.params, is_leaf=lambda p: hasattr(p, 'jaxpr'))
  for leaf in (getattr(p, 'jaxpr', p) for p in leaves):
    if hasattr(leaf, 'eqns'):
      yield leaf


def _is_literal(atom: Any) -> bool:
  return hasattr(atom, 'val')


def _read(arrays: Sequence[_Array]) -> float:
  """Bytes of the arrays in memory that these are computed from, each read once."""
  total, seen, todo = 0.0, set(), list(arrays)
  while todo:
    array = todo.pop()
    if id(array) not in seen:
      seen.add(id(array))
      total += array.size if array.is_stored else 0
      todo += array.sources
  return total


def _size(aval: Any) -> float:
  """Bytes of a value; keys and tokens count as nothing."""
  if not hasattr(aval, 'shape') or jax.dtypes.issubdtype(aval.dtype, jax.dtypes.extended):
    return 0.0
  return float(np.prod(aval.shape)) * aval.dtype.itemsize
