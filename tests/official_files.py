"""Writes files as NVIDIA's code pickles them, with stand-ins for its TensorFlow and torch classes.

The stand-ins carry the names under which the real classes are found, and exist only while a file is written.
"""

import contextlib
import io
import pickle
import sys
import types

import numpy as np

TRAP = 'raise SystemExit("the source code of a file was run")'

STORAGES = {
  'f8': 'DoubleStorage', 'f4': 'FloatStorage', 'f2': 'HalfStorage', 'i8': 'LongStorage', 'i4': 'IntStorage',
  'i2': 'ShortStorage', 'i1': 'CharStorage', 'u1': 'ByteStorage', 'b1': 'BoolStorage',
}  # fmt: skip
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
SYSTEM = {
  'protocol_version': 1001,
  'little_endian': True,
  'type_sizes': {'short': 2, 'int': 4, 'long': 4},
}


def global_of(module, name, kind=type):
  """A class or function that pickles as `module.name`."""
  if kind is type:
    return type(name, (), {'__module__': module, '__qualname__': name})

  def function(*args):
    raise AssertionError(f'{module}.{name} was called')

  function.__module__, function.__qualname__, function.__name__ = module, name, name
  return function


class EasyDict(dict):
  """As `dnnlib.util.EasyDict`."""


EasyDict.__module__, EasyDict.__qualname__ = 'dnnlib.util', 'EasyDict'
Network = global_of('dnnlib.tflib.network', 'Network')
reconstruct = global_of('torch_utils.persistence', '_reconstruct_persistent_obj', 'function')
rebuild_tensor = global_of('torch._utils', '_rebuild_tensor_v2', 'function')
rebuild_parameter = global_of('torch._utils', '_rebuild_parameter', 'function')
load_from_bytes = global_of('torch.storage', '_load_from_bytes', 'function')
storage_types = {name: global_of('torch', name) for name in STORAGES.values()}


@contextlib.contextmanager
def importable(*values):
  """The modules that the values name exist within the block, and hold them."""
  names = {value.__module__ for value in values}
  names |= {'.'.join(name.split('.')[:n]) for name in names for n in range(1, name.count('.') + 1)}
  before = {name: sys.modules.get(name) for name in names}
  for name in names:
    sys.modules[name] = types.ModuleType(name)
  for value in values:
    setattr(sys.modules[value.__module__], value.__qualname__, value)
  try:
    yield
  finally:
    for name, module in before.items():
      if module is None:
        del sys.modules[name]
      else:
        sys.modules[name] = module


class Call:
  """Pickles as a call of a function."""

  def __init__(self, function, *args):
    self.parts = (function, args)

  def __reduce__(self):
    return self.parts


def dump(value, protocol=4):
  """The bytes of a pickle that may hold any of the stand-ins."""
  everything = (EasyDict, Network, reconstruct, rebuild_tensor, rebuild_parameter, load_from_bytes)
  with importable(*everything):
    return pickle.dumps(value, protocol)


# TensorFlow.


def network(name, build_func_name, variables, components=None, version=4, **static_kwargs):
  """A record of a network; components by their key."""
  made = Network()
  made.__dict__ = {
    'version': version,
    'name': name,
    'static_kwargs': static_kwargs,
    'components': components or {},
    'build_module_src': TRAP,
    'build_func_name': build_func_name,
    'variables': list(variables.items()),
  }
  return made


# torch.


def storage_bytes(array, *, magic=LEGACY_MAGIC, system=SYSTEM, kind=None, numel=None):
  """The torch file, in the form before zip archives, of a flat storage; the options forge parts of it."""
  array = np.ascontiguousarray(array).reshape(-1)
  kind = kind or storage_types[STORAGES[array.dtype.str[1:]]]
  stream = io.BytesIO()
  for value in (magic, 1001, system):
    pickle.dump(value, stream, 2)
  identity = ('storage', kind, '94', 'cpu', array.size if numel is None else numel, None)

  class Pickler(pickle.Pickler):
    def persistent_id(self, value):
      return identity if value is array else None

  with importable(*storage_types.values(), kind):
    Pickler(stream, 2).dump(array)
    pickle.dump(['94'], stream, 2)
  stream.write((array.size if numel is None else numel).to_bytes(8, 'little'))
  stream.write(array.astype(array.dtype.newbyteorder('<')).tobytes())
  return stream.getvalue()


def tensor(array, *, offset=0, size=None, stride=None, content=None):
  """A tensor with the array's own strides; the options forge parts of it."""
  array = np.asarray(array)
  base = array if array.flags.c_contiguous else array.transpose(np.argsort(array.strides)[::-1])
  steps = tuple(step // array.itemsize for step in array.strides)
  content = storage_bytes(base) if content is None else content
  storage = Call(load_from_bytes, content)
  size, stride = array.shape if size is None else size, steps if stride is None else stride
  return Call(rebuild_tensor, storage, offset, size, stride, False, {})


def parameter(array):
  return Call(rebuild_parameter, tensor(array), False, {})


def module(class_name, parameters=(), buffers=(), modules=(), init_kwargs=(), **attributes):
  """The record of a module."""
  state = {
    'training': False,
    '_parameters': dict(parameters),
    '_buffers': dict(buffers),
    '_non_persistent_buffers_set': set(),
    '_modules': dict(modules),
    '_init_args': (),
    '_init_kwargs': EasyDict(init_kwargs),
    'weight_gain': np.float64(0.5),
    **attributes,
  }
  meta = {
    'type': 'class', 'version': 6, 'module_src': TRAP, 'class_name': class_name, 'state': state,
  }  # fmt: skip
  return Call(reconstruct, meta)


BUFFERS = ('resample_filter', 'noise_const', 'w_avg')


def module_of(state, class_name, init_kwargs=()):
  """A module whose state dict is `state`. Kernels lie in memory with their channels last, as on a GPU."""
  parts, own = {}, {}
  for name, value in state.items():
    first, _, rest = name.partition('.')
    if rest:
      parts.setdefault(first, {})[rest] = value
    else:
      own[name] = np.asarray(value)
  own = {
    name: value.transpose(0, 2, 3, 1).copy().transpose(0, 3, 1, 2) if value.ndim == 4 else value
    for name, value in own.items()
  }
  return module(
    class_name,
    {name: parameter(value) for name, value in own.items() if name not in BUFFERS},
    {name: tensor(value) for name, value in own.items() if name in BUFFERS},
    {name: module_of(part, 'Part') for name, part in parts.items()},
    init_kwargs,
  )


def ada(generator, discriminator=None):
  """What stylegan2-ada-pytorch dumps."""
  return {
    'training_set_kwargs': EasyDict(path='data.zip'),
    'G': None,
    'D': discriminator,
    'G_ema': generator,
    'augment_pipe': None,
  }


# StyleGAN 2 under the names of TensorFlow, from those of torch.


def _tf_weight(array, turned=False):
  array = array.T if array.ndim == 2 else array.transpose(2, 3, 1, 0)
  return array[::-1, ::-1] if turned else array


def tf_generator_variables(state, label_layer='LabelEmbed'):
  """(G, G_synthesis, G_mapping) of the state dict of a generator."""
  whole = {'dlatent_avg': state['mapping.w_avg']}
  synthesis, mapping = {}, {}
  for name, array in state.items():
    network, layer, *rest = name.split('.')
    if network == 'mapping' and rest:
      layer = label_layer if layer == 'embed' else layer.replace('fc', 'Dense')
      mapping[f'{layer}/{rest[0]}'] = _tf_weight(array) if rest[0] == 'weight' else array
    if network == 'mapping':
      continue
    size = int(layer[1:])
    if rest == ['const']:
      synthesis['4x4/Const/const'] = array[None]
      continue
    kind = {'conv0': 'Conv0_up', 'conv1': 'Conv' if size == 4 else 'Conv1', 'torgb': 'ToRGB'}[rest[0]]
    place, part = f'{size}x{size}/{kind}', '.'.join(rest[1:])
    if part == 'noise_const':
      index = 2 * int(np.log2(size)) - (5 if rest[0] == 'conv0' else 4)
      synthesis[f'noise{index}'] = array[None, None]
    elif part == 'weight':
      synthesis[f'{place}/weight'] = _tf_weight(array, turned=kind == 'Conv0_up')
    elif part == 'affine.weight':
      synthesis[f'{place}/mod_weight'] = _tf_weight(array)
    elif part == 'affine.bias':
      synthesis[f'{place}/mod_bias'] = array - np.float32(1)
    else:
      synthesis[f'{place}/{part}'] = np.float32(array) if array.ndim == 0 else array
  return whole, synthesis, mapping


def tf_discriminator_variables(state):
  """Of the state dict of a discriminator."""
  names = {'b4.conv': '4x4/Conv', 'b4.fc': '4x4/Dense0', 'b4.out': 'Output', 'mapping.embed': 'LabelEmbed'}
  parts = {'fromrgb': 'FromRGB', 'conv0': 'Conv0', 'conv1': 'Conv1_down', 'skip': 'Skip'}
  variables = {}
  for name, array in state.items():
    layer, _, part = name.rpartition('.')
    block, _, kind = layer.partition('.')
    if layer not in names:
      size = block[1:]
      names[layer] = kind.replace('fc', 'Mapping') if block == 'mapping' else f'{size}x{size}/{parts[kind]}'
    variables[f'{names[layer]}/{part}'] = _tf_weight(array) if part == 'weight' else array
  return variables


def tf_networks(generator, discriminator, d_function='D_main', lod=False, g_options=(), d_options=()):
  """(G, D, Gs) of the state dicts of a StyleGAN 2."""
  whole, synthesis, mapping = tf_generator_variables(generator)
  whole = ({'lod': np.float32(0)} if lod else {}) | whole
  options = dict(g_options)
  parts = {
    'synthesis': network('G_synthesis', 'G_synthesis', synthesis, **options),
    'mapping': network('G_mapping', 'G_mapping', mapping, dlatent_broadcast=6, **options),
  }
  d = network('D', d_function, tf_discriminator_variables(discriminator), **dict(d_options))
  g, gs = (network(name, 'G_main', whole, parts, **options) for name in ('G', 'Gs'))
  return g, d, gs
