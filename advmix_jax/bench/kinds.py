"""What kind of work an instruction of a compiled program is, and which part of a network it belongs to."""

import re

from advmix_jax.bench import hlo

CONVOLUTION = 'convolution'
INPUT_GRADIENT = 'convolution, input gradient'
KERNEL_GRADIENT = 'convolution, kernel gradient'
MATRIX_PRODUCT = 'matrix product'
REDUCTION = 'reduction'
COPY = 'copy, transpose, slice'
RANDOM = 'random numbers'
COMMUNICATION = 'between devices'
ELEMENTWISE = 'elementwise'
KINDS = (
  *(CONVOLUTION, INPUT_GRADIENT, KERNEL_GRADIENT, MATRIX_PRODUCT, REDUCTION, COPY, RANDOM, COMMUNICATION),
  ELEMENTWISE,
)

CONTROL = ('while', 'conditional', 'call')  # Their time is that of what they run.
MOVING = {
  *('copy', 'copy-start', 'copy-done', 'transpose', 'bitcast', 'reshape', 'slice', 'concatenate', 'pad'),
  *(
    'reverse',
    'broadcast',
    'gather',
    'dynamic-slice',
    'dynamic-update-slice',
    'constant',
    'parameter',
    'tuple',
  ),
  *('tuple', 'get-tuple-element', 'iota'),
}
_CUDNN = {
  'convForward': CONVOLUTION,
  'convBiasActivationForward': CONVOLUTION,
  'convBackwardInput': INPUT_GRADIENT,
  'convBackwardFilter': KERNEL_GRADIENT,
}
_PRODUCTS = re.compile(r'gemm|matmul|__cublas|__ynn|triton_dot', re.IGNORECASE)
_RANDOM = re.compile(r'threefry|_normal|_uniform|random_bits|rng|erf_inv')
_NO_MODULES = {
  *('jit', '_fun', 'shard_map', 'jvp', 'transpose', 'vmap', 'while', 'body', 'closed_call', 'checkpoint'),
}
_METHODS = ('map_z', 'coarse', 'fine')
_MODULE = re.compile(r'\b([A-Z]\w+)(?:\.(\w+))?')


def kind_of(program: hlo.Program, instruction: hlo.Instruction, convolved: set[str]) -> str:
  """One of `KINDS`; of a fusion, what takes the time in it.

  Args:
    program: the whole.
    instruction: any of it but those of `CONTROL`.
    convolved: `modules_that_convolve(program)`.
  """
  inner = [instruction] + [i for name in instruction.called for i in hlo.reached(program, name)]
  for i in inner:
    if i.opcode == 'convolution':
      return _kind_of_convolution(i)
  target = instruction.attribute('custom_call_target')
  if target.startswith('__cudnn$'):
    return _CUDNN.get(target.removeprefix('__cudnn$'), CONVOLUTION)
  if any(i.opcode == 'dot' for i in inner) or _PRODUCTS.search(target):
    is_kernel = is_backward(instruction.op_name) and module_path(instruction.op_name) in convolved
    return KERNEL_GRADIENT if is_kernel else MATRIX_PRODUCT
  if re.match(r'all-reduce|all-gather|all-to-all|collective|reduce-scatter|partition-id', instruction.opcode):
    return COMMUNICATION
  if any(_RANDOM.search(i.op_name) for i in inner):
    return RANDOM
  opcodes = {i.opcode for i in inner} - {'fusion'}
  if opcodes & {'reduce', 'reduce-window', 'scatter', 'sort', 'select-and-scatter'}:
    return REDUCTION
  return COPY if opcodes <= MOVING else ELEMENTWISE


def _kind_of_convolution(instruction: hlo.Instruction) -> str:
  if instruction.attribute('dim_labels').startswith('f'):  # The batch is summed over.
    return KERNEL_GRADIENT
  return INPUT_GRADIENT if is_backward(instruction.op_name) else CONVOLUTION


def is_backward(op_name: str) -> bool:
  """Whether an odd number of transpositions led to it: that of an input gradient runs forward again."""
  return op_name.count('transpose(') % 2 == 1


def modules_that_convolve(program: hlo.Program) -> set[str]:
  """Modules with a convolution: matrix products in their backward passes are gradients of its kernel."""
  return {module_path(i.op_name) for lines in program.values() for i in lines if i.opcode == 'convolution'}


def module_path(op_name: str) -> str:
  """The path of modules without transformations and without the operation itself."""
  names = [part for part in re.split(r'[/()]', op_name.rpartition('/')[0]) if part]
  dropped = {
    'jit',
    '_fun',
    'shard_map',
    'jvp',
    'transpose',
    'vmap',
    'while',
    'body',
    'closed_call',
    'checkpoint',
  }
  return '/'.join(name for name in names if name not in dropped)


def part_of(op_name: str) -> str:
  """Network, and of a generator its mapping, coarse or fine part; `other` outside of any network."""
  found = _MODULE.findall(op_name)
  for name, method in found:
    if method in _METHODS:
      return f'{name}.{method}'
  return found[0][0] if found else 'other'
