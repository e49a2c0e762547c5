"""StyleGAN 2 parameters under the names of stylegan2-ada-pytorch, and those of the TensorFlow releases.

    model, params = generator_from_state(state, conv_clamp=256.0)  # {'synthesis.b4.const': [C, 4, 4], ...}
    state = generator_to_state(model, params)
    state = torch_names({'G_synthesis/4x4/Const/const': [1, C, 4, 4], 'dlatent_avg': [D], ...})

Sizes are read off the shapes. What no shape tells is an argument, to be taken from the file's own options.
"""

import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from advmix_jax.interop.torch_state import State, array_of, from_state, shape_of, to_state
from advmix_jax.models.decoder import init_generator
from advmix_jax.models.discriminator2 import Discriminator2
from advmix_jax.models.stylegan2 import StyleGAN2
from advmix_jax.types import BadInputError, PyTree

# Torch keeps a copy of it in most layers.
RESAMPLE_FILTER = (np.outer([1, 3, 3, 1], [1, 3, 3, 1]) / 64).astype(np.float32)


def generator_from_state(
  state: State, conv_clamp: float | None = None, mapping_lr_multiplier: float = 0.01
) -> tuple[StyleGAN2, PyTree]:
  """The generator that a torch state dict holds.

  Args:
    state: arrays by name, floating-point and finite, of the skip architecture.
    conv_clamp, mapping_lr_multiplier: see `StyleGAN2`.

  Returns:
    The module, and its parameters as `models.decoder.init_generator` makes them, float32 on the host.

  Raises:
    BadInputError: an array is missing, unknown, of another shape or not of finite numbers.
  """
  _check_options(conv_clamp=conv_clamp, mapping_lr_multiplier=mapping_lr_multiplier)
  state = _without_filters(state)
  resolutions = _resolutions(state, r'synthesis\.b(\d{1,5})\.')
  mapping = _mapping_sizes(state)
  num_layers = mapping['mapping_layers']
  latent_size = shape_of(state, 'mapping.fc0.weight', 2)[1] - (mapping['embed_size'] or 0)
  if latent_size < 1:
    raise BadInputError(
      f'found mapping.fc0.weight of {latent_size + mapping["embed_size"]} inputs, '
      f'expected more than the {mapping["embed_size"]} that labels are mapped to'
    )
  model = StyleGAN2(
    fmaps=tuple(shape_of(state, f'synthesis.b{r}.conv1.weight', 4)[0] for r in resolutions),
    latent_size=latent_size,
    w_size=shape_of(state, f'mapping.fc{num_layers - 1}.weight', 2)[0],
    concat_labels='mapping.concat.weight' in state,
    mapping_lr_multiplier=mapping_lr_multiplier,
    image_channels=shape_of(state, 'synthesis.b4.torgb.weight', 4)[0],
    conv_clamp=conv_clamp,
    **mapping,
  )
  template = jax.eval_shape(lambda: init_generator(jax.random.key(0), model))
  return model, from_state(state, template, _generator_names(model))


def discriminator_from_state(
  state: State,
  conv_clamp: float | None = None,
  mbstd_group_size: int | None = 4,
  mapping_lr_multiplier: float = 0.01,
) -> tuple[Discriminator2, PyTree]:
  """The discriminator that a torch state dict holds.

  Args:
    state: arrays by name, floating-point and finite, of the residual architecture.
    conv_clamp, mbstd_group_size, mapping_lr_multiplier: see `Discriminator2`. When a file says nothing, the
      group size is 4 in the first StyleGAN 2 and in stylegan2-ada-pytorch, but None, the whole batch, in
      2-ADA for TensorFlow; the multiplier is 0.01 in torch, 0.1 in 2-ADA for TensorFlow.

  Returns:
    The module and its parameters, float32 on the host.

  Raises:
    BadInputError: as for `generator_from_state`.
  """
  _check_options(
    conv_clamp=conv_clamp, mbstd_group_size=mbstd_group_size, mapping_lr_multiplier=mapping_lr_multiplier
  )
  state = _without_filters(state)
  resolutions = _resolutions(state, r'b(\d{1,5})\.')
  scores, dense_features = shape_of(state, 'b4.out.weight', 2)
  labels: dict[str, Any] = {}
  if 'mapping.embed.weight' in state:
    labels = _mapping_sizes(state) | {'cmap_size': scores}
  elif scores > 1:
    labels = {'label_size': scores, 'cmap_size': 0}
  model = Discriminator2(
    fmaps=tuple(shape_of(state, f'b{r}.{"conv" if r == 4 else "conv0"}.weight', 4)[0] for r in resolutions),
    dense_features=dense_features,
    conv_clamp=conv_clamp,
    mbstd_group_size=mbstd_group_size,
    mbstd_num_features=_mbstd_num_features(state),
    mapping_lr_multiplier=mapping_lr_multiplier,
    **labels,
  )
  size = resolutions[-1]
  images = jnp.zeros((1, size, size, shape_of(state, f'b{size}.fromrgb.weight', 4)[1]))
  one_label = jnp.zeros((1, model.label_size)) if model.label_size else None
  template = jax.eval_shape(lambda: model.init(jax.random.key(0), images, one_label)['params'])
  return model, from_state(state, template, _discriminator_names(model))


def generator_to_state(model: StyleGAN2, params: PyTree) -> dict[str, np.ndarray]:
  """The state dict that torch has of a generator."""
  state = to_state(params, _generator_names(model))
  convs = {name.rpartition('.')[0] for name in state if name.endswith('.noise_const')}
  return state | _filters(convs | {name.rpartition('.')[0] for name in convs})


def discriminator_to_state(model: Discriminator2, params: PyTree) -> dict[str, np.ndarray]:
  """The state dict that torch has of a discriminator."""
  state = to_state(params, _discriminator_names(model))
  convs = {name.rpartition('.')[0] for name, array in state.items() if array.ndim == 4}
  return state | _filters(convs | {name.rpartition('.')[0] for name in convs} - {'b4'})


def torch_names(tf_variables: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """The torch state dict of a TensorFlow generator (StyleGAN 2 or 2-ADA) or discriminator.

  Args:
    tf_variables: of one network; those of a generator's components begin with `G_synthesis/` and
      `G_mapping/`, or `synthesis/` and `mapping/`.

  Returns:
    What `generator_from_state` or `discriminator_from_state` takes. Weights are transposed, `mod_bias` is one
    more, kernels of a generator's `Conv0_up` and `Skip` are turned by half. The label weights of the first
    StyleGAN 2, which torch cannot hold, are `mapping.concat.weight`.

  Raises:
    BadInputError: a variable is unknown or has another number of axes, or `lod` is not 0.
  """
  state = {}
  for tf_name, value in tf_variables.items():
    array = np.asarray(value)
    name = re.sub(r'^(G_)?(synthesis|mapping)/', r'\2/', tf_name)
    if re.fullmatch(r'(synthesis/)?lod', name):
      if array.shape or array != 0:
        raise BadInputError(f'found {tf_name} of {array}, expected 0')
      continue
    found = [m.expand(torch_name) for pattern, torch_name in _TF_NAMES if (m := re.fullmatch(pattern, name))]
    if noise := re.fullmatch(r'synthesis/noise(\d{1,2})', name):
      state[f'{_conv_name(int(noise[1]))}.noise_const'] = _plane(tf_name, array)
    elif found:
      turned = bool(re.fullmatch(r'synthesis/.*/(Conv0_up|Skip)/weight', name))
      state[found[0].replace('mod_', 'affine.')] = _torch_array(tf_name, array, turned)
    else:
      raise BadInputError(f'found the variable {tf_name}, expected none of that name')
  return state


# Variables of TensorFlow and their names in torch; `mod_` stands for `affine.`.
_TF_NAMES = (
  (r'dlatent_avg', r'mapping.w_avg'),
  (r'(?:mapping/)?LabelEmbed/(weight|bias)', r'mapping.embed.\1'),
  (r'mapping/LabelConcat/(weight)', r'mapping.concat.\1'),
  (r'mapping/Dense(\d+)/(weight|bias)', r'mapping.fc\1.\2'),
  (r'Mapping(\d+)/(weight|bias)', r'mapping.fc\1.\2'),
  (r'synthesis/4x4/Const/(const)', r'synthesis.b4.\1'),
  (r'synthesis/4x4/Conv/(weight|bias|noise_strength|mod_weight|mod_bias)', r'synthesis.b4.conv1.\1'),
  (
    r'synthesis/(\d+)x\1/Conv0_up/(weight|bias|noise_strength|mod_weight|mod_bias)',
    r'synthesis.b\1.conv0.\2',
  ),
  (r'synthesis/(\d+)x\1/Conv1/(weight|bias|noise_strength|mod_weight|mod_bias)', r'synthesis.b\1.conv1.\2'),
  (r'synthesis/(\d+)x\1/ToRGB/(weight|bias|mod_weight|mod_bias)', r'synthesis.b\1.torgb.\2'),
  (r'synthesis/(\d+)x\1/Skip/(weight)', r'synthesis.b\1.skip.\2'),
  (r'(\d+)x\1/FromRGB/(weight|bias)', r'b\1.fromrgb.\2'),
  (r'(\d+)x\1/Conv0/(weight|bias)', r'b\1.conv0.\2'),
  (r'(\d+)x\1/Conv1_down/(weight|bias)', r'b\1.conv1.\2'),
  (r'(\d+)x\1/Skip/(weight)', r'b\1.skip.\2'),
  (r'4x4/Conv/(weight|bias)', r'b4.conv.\1'),
  (r'4x4/Dense0/(weight|bias)', r'b4.fc.\1'),
  (r'Output/(weight|bias)', r'b4.out.\1'),
)


def _torch_array(name: str, array: np.ndarray, turned: bool) -> np.ndarray:
  """A variable of TensorFlow as torch has it; `turned` kernels by half."""
  part = name.rpartition('/')[2]
  ranks = {'weight': (2, 4), 'mod_weight': (2,), 'const': (4,), 'noise_strength': (0,)}.get(part, (1,))
  if array.ndim not in ranks or (turned and array.ndim != 4):
    raise BadInputError(f'found {name} of shape {array.shape}, expected {" or ".join(map(str, ranks))} axes')
  if part == 'const':
    return array[0]
  if part == 'mod_bias':
    return array + np.ones((), array.dtype)
  if array.ndim == 4:
    return (array[::-1, ::-1] if turned else array).transpose(3, 2, 0, 1)
  return array.T


def _plane(name: str, array: np.ndarray) -> np.ndarray:
  if array.ndim != 4 or array.shape[:2] != (1, 1):
    raise BadInputError(f'found {name} of shape {array.shape}, expected (1, 1, height, width)')
  return array[0, 0]


def _conv_name(i: int) -> str:
  """Torch's name of the i-th styled convolution."""
  return f'synthesis.b{4 * 2 ** ((i + 1) // 2)}.conv{1 - i % 2}'


def _generator_names(model: StyleGAN2) -> dict[str, str]:
  convs = {i: _conv_name(i) for i in range(model.num_layers - 1)}
  names = {'params/const': 'synthesis.b4.const', 'w_avg': 'mapping.w_avg'}
  names |= {f'noise/{i}': f'{conv}.noise_const' for i, conv in convs.items()}
  names |= {f'params/layers_{i}': conv for i, conv in convs.items()}
  names |= {f'params/to_rgb_{k}': f'synthesis.b{4 * 2**k}.torgb' for k in range(len(model.fmaps))}
  return names | _mapping_names('params/mapping', model.mapping_layers)


def _discriminator_names(model: Discriminator2) -> dict[str, str]:
  size = 2 ** (len(model.fmaps) + 1)
  names = {'from_rgb': f'b{size}.fromrgb', 'conv': 'b4.conv', 'dense': 'b4.fc', 'out': 'b4.out'}
  for k in range(len(model.fmaps) - 1):
    block = f'b{size // 2**k}'
    names |= {f'convs_{k}': f'{block}.conv0', f'downs_{k}': f'{block}.conv1'}
    names[f'downs_{k}/skip'] = f'{block}.skip.weight'
  return names | _mapping_names('mapping', model.mapping_layers)


def _mapping_names(path: str, num_layers: int) -> dict[str, str]:
  names = {f'{path}/dense_{i}': f'mapping.fc{i}' for i in range(num_layers)}
  return names | {f'{path}/embed': 'mapping.embed', f'{path}/label_weight': 'mapping.concat.weight'}


def _filters(modules: set[str]) -> dict[str, np.ndarray]:
  return {f'{name}.resample_filter': RESAMPLE_FILTER.copy() for name in sorted(modules)}


def _without_filters(state: State) -> State:
  for name in state:
    is_filter = name.endswith('.resample_filter')
    if is_filter and not np.array_equal(array_of(state, name, (4, 4)), RESAMPLE_FILTER):
      raise BadInputError(f'found other numbers in {name}, expected the filter of [1, 3, 3, 1]')
  return {name: array for name, array in state.items() if not name.endswith('.resample_filter')}


def _resolutions(state: State, pattern: str) -> list[int]:
  """4, 8, ... up to the largest block found, which must all be there."""
  found = sorted({int(match[1]) for name in state if (match := re.match(pattern, name))})
  if len(found) < 2 or found != [4 * 2**i for i in range(len(found))]:
    raise BadInputError(f'found blocks of {found} pixels, expected 4, 8, ... without a gap')
  return found


def _mbstd_num_features(state: State) -> int:
  channels, widened = shape_of(state, 'b4.conv.weight', 4)[:2]
  appended = widened - channels
  if appended < 0 or (appended and channels % appended):
    raise BadInputError(
      f'found b4.conv.weight of {widened} inputs and {channels} outputs, expected as many inputs and those '
      'of the minibatch standard deviation, which divide them'
    )
  return appended


def _mapping_sizes(state: State) -> dict[str, Any]:
  """Keyword arguments for the mapping network, all but the sizes of what goes in and comes out."""
  num_layers = 0
  while f'mapping.fc{num_layers}.weight' in state:
    num_layers += 1
  hidden = sorted({shape_of(state, f'mapping.fc{i}.weight', 2)[0] for i in range(num_layers - 1)})
  if len(hidden) > 1:
    raise BadInputError(f'found mapping layers of widths {hidden}, expected equal ones')
  sizes = {'mapping_layers': num_layers, 'mapping_fmaps': hidden[0] if hidden else None}
  for name in ('mapping.embed.weight', 'mapping.concat.weight'):
    if name in state:
      embed_size, label_size = shape_of(state, name, 2)
      return sizes | {'embed_size': embed_size, 'label_size': label_size}
  return sizes | {'embed_size': None, 'label_size': 0}


def _check_options(
  conv_clamp: float | None, mapping_lr_multiplier: float, mbstd_group_size: int | None = None
) -> None:
  numbers = {'conv_clamp': conv_clamp, 'mapping_lr_multiplier': mapping_lr_multiplier}
  for name, value in numbers.items():
    if value is None and name == 'conv_clamp':
      continue
    if not isinstance(value, int | float) or not 0 < value < np.inf:
      raise BadInputError(f'found the option {name} = {value!r}, expected a number above 0')
  if mbstd_group_size is not None and not (isinstance(mbstd_group_size, int) and mbstd_group_size > 1):
    raise BadInputError(
      f'found the option mbstd_group_size = {mbstd_group_size!r}, expected a whole number from 2'
    )
