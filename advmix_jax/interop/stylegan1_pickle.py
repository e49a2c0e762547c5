"""Official StyleGAN 1 networks (Karras et al. 2019), as released: one pickle of G, D and Gs.

    generator, discriminator, average = read_networks('karras2019stylegan-ffhq-1024x1024.pkl')
    sizes, params = stylegan1_generator(average)
    model = StyleGAN(**sizes)

`average` (Gs) draws the images; the other two are for going on with training. The files also hold the
source code of the networks: it is never run. What it computes is known from the name of its function and its
options, and an option we do not compute is refused.
"""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from advmix_jax.interop import safe_pickle
from advmix_jax.types import BadInputError, PyTree

# Options of the official code that change the function: the only values our modules compute.
_FIXED_OPTIONS: dict[str, tuple[Any, ...]] = {
  'label_size': (0,),
  'mapping_lrmul': (0.01,),
  'mapping_nonlinearity': ('lrelu',),
  'normalize_latents': (True,),
  'use_styles': (True,),
  'const_input_layer': (True,),
  'use_noise': (True,),
  'use_pixel_norm': (False,),
  'use_instance_norm': (True,),
  'nonlinearity': ('lrelu',),
  'use_wscale': (True,),
  'fused_scale': ('auto',),
  'blur_filter': ([1, 2, 1], (1, 2, 1)),
  'mbstd_group_size': (4,),
  'mbstd_num_features': (1,),
  'dtype': ('float32',),
}
# Options that the shapes tell as well, or that concern how a network is called or trained.
_FREE_OPTIONS = frozenset((
  'num_channels', 'resolution', 'fmap_base', 'fmap_decay', 'fmap_max', 'latent_size', 'dlatent_size',
  'dlatent_broadcast', 'mapping_layers', 'mapping_fmaps', 'structure', 'randomize_noise', 'truncation_psi',
  'truncation_cutoff', 'truncation_psi_val', 'truncation_cutoff_val', 'dlatent_avg_beta',
  'style_mixing_prob', 'is_template_graph',
))  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Network:
  """One network of the file.

  Attributes:
    name: 'G', 'D' or 'Gs'.
    static_kwargs: the options given when it was built; defaults are absent.
    build_func_name: the function that computed it, such as 'G_style'; tells the architecture.
    variables: arrays by name. Those of a component carry its name in front: 'G_mapping/Dense0/weight'.
  """

  name: str
  static_kwargs: Mapping[str, Any]
  build_func_name: str
  variables: Mapping[str, np.ndarray]


class Networks(NamedTuple):
  """What a file holds, in its order."""

  generator: Network
  discriminator: Network
  average: Network


def read_networks(path: str | os.PathLike[str]) -> Networks:
  """Reads an official pickle `(G, D, Gs)`; nothing stored in it is run.

  Raises:
    BadInputError: the file is damaged, names anything beyond arrays and networks, or holds something else.
  """
  allowed = safe_pickle.numpy_globals() | {
    ('dnnlib.tflib.network', 'Network'): _PickledNetwork,
    ('dnnlib.util', 'EasyDict'): dict,
    ('dnnlib', 'EasyDict'): dict,
    ('collections', 'OrderedDict'): dict,
  }
  found = safe_pickle.load(path, allowed)
  if not (isinstance(found, tuple | list) and len(found) == 3):
    raise BadInputError(f'{path}: found {_describe(found)}, expected the three networks (G, D, Gs)')
  try:
    return Networks(*(_network(part) for part in found))
  except BadInputError as error:
    raise BadInputError(f'{path}: {error}') from None


def stylegan1_generator(network: Network) -> tuple[dict[str, Any], PyTree]:
  """Converts G or Gs.

  The output layers of lower resolutions (`ToRGB_lod1`, ...), which only growing uses, are left out.

  Args:
    network: of `read_networks`, grown to its full resolution.

  Returns:
    The sizes, keyword arguments of `models.stylegan.StyleGAN` (`mapping_fmaps` only where the hidden width of
    the mapping network is not `w_size`), and the parameters
    `{'params', 'noise': L x [1, R_i, R_i, 1], 'w_avg': [D]}` as `models.stylegan.init_generator` makes them.

  Raises:
    BadInputError: another architecture, an option we do not compute, or a variable that is missing, unknown
      or of the wrong shape.
  """
  _check_options(network, 'G_style')
  v = _Variables(network)
  num_layers = v.count('G_synthesis/noise{}')
  if num_layers < 4 or num_layers % 2:
    raise BadInputError(f'{network.name}: found {num_layers} noise inputs, expected an even number from 4')
  num_resolutions = num_layers // 2

  mapping_layers = v.count('G_mapping/Dense{}/weight')
  if not mapping_layers:
    raise BadInputError(f'{network.name}: found no G_mapping/Dense0/weight, expected a mapping network')
  widths = [v.shape('G_mapping/Dense0/weight', 2)[0]]
  widths += [v.shape(f'G_mapping/Dense{i}/weight', 2)[1] for i in range(mapping_layers)]
  w_size = widths[-1]
  if len(set(widths[1:-1])) > 1:
    raise BadInputError(f'{network.name}: found mapping layers of widths {widths[1:-1]}, expected equal ones')
  mapping = {
    f'dense_{i}': {
      'weight': v.take(f'G_mapping/Dense{i}/weight', (widths[i], widths[i + 1])),
      'bias': v.take(f'G_mapping/Dense{i}/bias', (widths[i + 1],)),
    }
    for i in range(mapping_layers)
  }

  params: dict[str, Any] = {'mapping': mapping}
  noise = []
  fmaps = [v.shape('G_synthesis/4x4/Const/const', 4)[1]]
  for i in range(num_layers):
    resolution = 4 * 2 ** (i // 2)
    layer = f'G_synthesis/{resolution}x{resolution}/{_layer_name(i)}'
    if i >= 2 and i % 2 == 0:
      fmaps.append(v.shape(f'{layer}/weight', 4)[3])
    channels = fmaps[-1]
    if i == 0:
      kernel = {'const': v.take(f'{layer}/const', (1, channels, 4, 4))[0].transpose(1, 2, 0)}
    else:
      kernel = {'weight': v.take(f'{layer}/weight', (3, 3, fmaps[(i - 1) // 2], channels))}
    params[f'layers_{i}'] = kernel | {
      'noise_weight': v.take(f'{layer}/Noise/weight', (channels,)),
      'bias': v.take(f'{layer}/bias', (channels,)),
      'modulation': {
        'weight': v.take(f'{layer}/StyleMod/weight', (w_size, 2 * channels)),
        'bias': v.take(f'{layer}/StyleMod/bias', (2 * channels,)),
      },
    }
    values = v.take(f'G_synthesis/noise{i}', (1, 1, resolution, resolution))
    noise.append(values.transpose(0, 2, 3, 1))

  image_channels = v.shape('G_synthesis/ToRGB_lod0/weight', 4)[3]
  for lod in range(num_resolutions):
    if lod and f'G_synthesis/ToRGB_lod{lod}/weight' not in network.variables:
      continue
    rgb = {
      'weight': v.take(f'G_synthesis/ToRGB_lod{lod}/weight', (1, 1, fmaps[-1 - lod], image_channels)),
      'bias': v.take(f'G_synthesis/ToRGB_lod{lod}/bias', (image_channels,)),
    }
    if lod == 0:
      params['to_rgb'] = rgb
  w_avg = v.take('dlatent_avg', (w_size,))
  v.check_grown('lod')
  v.take('G_synthesis/lod', ())  # Used only when the component is run alone.
  v.check_all_taken()

  sizes = {
    'fmaps': tuple(fmaps),
    'latent_size': widths[0],
    'w_size': w_size,
    'mapping_layers': mapping_layers,
    'image_channels': image_channels,
  }
  if mapping_layers > 1 and widths[1] != w_size:
    sizes['mapping_fmaps'] = widths[1]
  return sizes, {'params': params, 'noise': tuple(noise), 'w_avg': w_avg}


def stylegan1_discriminator(network: Network) -> tuple[dict[str, Any], PyTree]:
  """Converts D.

  The input layers of lower resolutions (`FromRGB_lod1`, ...), which only growing uses, are left out.

  Args:
    network: of `read_networks`, grown to its full resolution.

  Returns:
    The sizes, keyword arguments of `models.discriminator.Discriminator`, and its parameters.

  Raises:
    BadInputError: as for `stylegan1_generator`.
  """
  _check_options(network, 'D_basic')
  v = _Variables(network)
  names = [name for name in network.variables if name.endswith('/Conv1_down/weight')]
  num_resolutions = len(names) + 1
  resolutions = [4 * 2**i for i in range(num_resolutions)]
  if num_resolutions < 2:
    raise BadInputError(f'{network.name}: found no Conv1_down/weight, expected one per resolution from 8')
  fmaps = [v.shape(f'{r}x{r}/Conv1_down/weight', 4)[3] for r in resolutions[1:]]
  fmaps.append(v.shape('FromRGB_lod0/weight', 4)[3])
  image_channels = v.shape('FromRGB_lod0/weight', 4)[2]

  params: dict[str, Any] = {}
  for lod in range(num_resolutions):
    if lod and f'FromRGB_lod{lod}/weight' not in network.variables:
      continue
    rgb = v.layer(f'FromRGB_lod{lod}', (1, 1, image_channels, fmaps[-1 - lod]))
    if lod == 0:
      params['from_rgb'] = rgb
  for k, r in enumerate(resolutions[:0:-1]):
    wide, narrow = fmaps[-1 - k], fmaps[-2 - k]
    params[f'convs_{k}'] = v.layer(f'{r}x{r}/Conv0', (3, 3, wide, wide))
    params[f'downs_{k}'] = v.layer(f'{r}x{r}/Conv1_down', (3, 3, wide, narrow))
  dense_features = v.shape('4x4/Dense0/weight', 2)[1]
  params['conv'] = v.layer('4x4/Conv', (3, 3, fmaps[0] + 1, fmaps[0]))
  params['dense'] = v.layer('4x4/Dense0', (16 * fmaps[0], dense_features))
  params['out'] = v.layer('4x4/Dense1', (dense_features, 1))
  v.check_grown('lod')
  v.check_all_taken()
  return {'fmaps': tuple(fmaps), 'dense_features': dense_features}, params


class _PickledNetwork:
  """Stands for `dnnlib.tflib.network.Network`: keeps the state it is given and does nothing with it."""

  __slots__ = ('state',)

  def __setstate__(self, state: Any) -> None:
    self.state = state


class _Variables:
  """Takes variables out by name and shape, and knows which were not asked for."""

  def __init__(self, network: Network):
    self._name = network.name
    self._variables = network.variables
    self._taken: set[str] = set()

  def count(self, pattern: str) -> int:
    number = 0
    while pattern.format(number) in self._variables:
      number += 1
    return number

  def shape(self, name: str, ndim: int) -> tuple[int, ...]:
    shape = self._get(name).shape
    if len(shape) != ndim:
      raise BadInputError(f'{self._name}: found {name} of shape {shape}, expected {ndim} axes')
    return shape

  def take(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
    value = self._get(name)
    if value.shape != shape:
      raise BadInputError(f'{self._name}: found {name} of shape {value.shape}, expected {shape}')
    self._taken.add(name)
    return value.astype(np.float32, copy=False)

  def layer(self, name: str, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    return {'weight': self.take(f'{name}/weight', shape), 'bias': self.take(f'{name}/bias', shape[-1:])}

  def check_grown(self, name: str) -> None:
    lod = float(self.take(name, ()))
    if lod != 0:
      raise BadInputError(f'{self._name}: found lod {lod:g}, a network not fully grown, expected 0')

  def check_all_taken(self) -> None:
    unknown = sorted(set(self._variables) - self._taken)
    if unknown:
      raise BadInputError(f'{self._name}: found the variable {unknown[0]}, expected none of that name')

  def _get(self, name: str) -> np.ndarray:
    if name not in self._variables:
      raise BadInputError(f'{self._name}: found no variable {name}, expected one')
    return self._variables[name]


def _layer_name(i: int) -> str:
  """Official name of styled layer i within its resolution."""
  if i < 2:
    return ('Const', 'Conv')[i]
  return ('Conv0_up', 'Conv1')[i % 2]


def _network(pickled: Any, depth: int = 0) -> Network:
  state = getattr(pickled, 'state', None) if isinstance(pickled, _PickledNetwork) else None
  if not isinstance(state, dict):
    raise BadInputError(f'found {_describe(pickled)}, expected a network')
  expected = {'name': str, 'build_func_name': str, 'static_kwargs': dict, 'variables': list}
  for key, kind in expected.items():
    if not isinstance(state.get(key), kind):
      raise BadInputError(f'a network has {_describe(state.get(key))} as {key}, expected {kind.__name__}')
  if state.get('version') not in (2, 3, 4):
    raise BadInputError(f'{state["name"]}: found version {state.get("version")!r}, expected 2, 3 or 4')

  kwargs = dict(state['static_kwargs'])
  variables: dict[str, np.ndarray] = {}
  for item in state['variables']:
    if not (isinstance(item, tuple | list) and len(item) == 2 and isinstance(item[0], str)):
      raise BadInputError(
        f'{state["name"]}: found {_describe(item)} among the variables, expected (name, value)'
      )
    variables[item[0]] = _variable(state['name'], *item)
  components = state.get('components', {})
  if not isinstance(components, dict) or (components and depth):
    raise BadInputError(f'{state["name"]}: found nested components, expected one level of them')
  for part in components.values():
    component = _network(part, depth + 1)
    for key, value in component.static_kwargs.items():
      if kwargs.setdefault(key, value) != value:
        raise BadInputError(
          f'{state["name"]}: found {key} = {value!r} in {component.name}, '
          f'expected {kwargs[key]!r} as in the whole'
        )
    variables |= {f'{component.name}/{name}': value for name, value in component.variables.items()}
  return Network(state['name'], kwargs, state['build_func_name'], variables)


def _variable(network: str, name: str, value: Any) -> np.ndarray:
  try:
    array = safe_pickle.to_array(value)
  except BadInputError as error:
    raise BadInputError(f'{network}: variable {name}: {error}') from None
  if not np.all(np.isfinite(array)):
    raise BadInputError(f'{network}: found values in {name} that are not finite, expected numbers')
  return array


def _check_options(network: Network, build_func_name: str) -> None:
  if network.build_func_name != build_func_name:
    raise BadInputError(
      f'{network.name}: found the architecture {network.build_func_name}, '
      f'expected {build_func_name} (StyleGAN 1)'
    )
  for key, value in network.static_kwargs.items():
    if key in _FREE_OPTIONS:
      continue
    if key not in _FIXED_OPTIONS:
      raise BadInputError(f'{network.name}: found the option {key} = {value!r}, which is not known')
    if value not in _FIXED_OPTIONS[key]:
      raise BadInputError(
        f'{network.name}: found the option {key} = {value!r}, expected {_FIXED_OPTIONS[key][0]!r}'
      )


def _describe(value: Any) -> str:
  return 'a network' if isinstance(value, _PickledNetwork) else f'a value of type {type(value).__name__}'
