"""Official StyleGAN 1 networks (Karras et al. 2019) as parameters of ours.

    _, discriminator, average = tf_pickle.read_networks('karras2019stylegan-ffhq-1024x1024.pkl')
    sizes, params = stylegan1_generator(average)
    model = StyleGAN(**sizes)

Sizes are derived from the shapes of the variables; an option we do not compute is refused.
"""

from typing import Any

from advmix_jax.interop.stylegan1_options import check_declared, discriminator_options, generator_options
from advmix_jax.interop.tf_pickle import Network
from advmix_jax.interop.tf_variables import Variables
from advmix_jax.types import BadInputError, PyTree


def stylegan1_generator(network: Network) -> tuple[dict[str, Any], PyTree]:
  """Converts G or Gs.

  Args:
    network: of `tf_pickle.read_networks`. One with output layers at lower resolutions keeps them all
      (`structure='linear'`); one that was saved while it grew keeps its level of detail.

  Returns:
    The sizes, keyword arguments of `models.stylegan.StyleGAN` (options only where they are not its defaults),
    and the parameters `{'params', 'noise': L x [1, R_i, R_i, 1], 'w_avg': [D]}` as
    `models.decoder.init_generator` makes them; float32, images NHWC.

  Raises:
    BadInputError: another architecture, an option we do not compute, or a variable that is missing, unknown
      or of the wrong shape.
  """
  options = generator_options(network)
  v = Variables(network)
  num_layers = v.count('G_synthesis/noise{}')
  if num_layers < 4 or num_layers % 2:
    raise BadInputError(f'{network.name}: found {num_layers} noise inputs, expected an even number from 4')
  mapping_sizes, mapping = _mapping(network, v)
  fmaps, layers = _layers(v, num_layers, mapping_sizes['w_size'])
  noise = tuple(
    v.take(f'G_synthesis/noise{i}', (1, 1, size, size)).transpose(0, 2, 3, 1)
    for i, size in enumerate(4 * 2 ** (i // 2) for i in range(num_layers))
  )
  image_channels = v.shape('G_synthesis/ToRGB_lod0/weight', 4)[3]
  is_linear = v.has('G_synthesis/ToRGB_lod1/weight')
  rgb = {
    f'to_rgb_lod_{lod}' if lod else 'to_rgb': v.layer(
      f'G_synthesis/ToRGB_lod{lod}', (1, 1, fmaps[-1 - lod], image_channels)
    )
    for lod in range(len(fmaps) if is_linear else 1)
  }
  params = {'mapping': mapping, **layers, **rgb}
  w_avg = v.take('dlatent_avg', (mapping_sizes['w_size'],))
  v.take('G_synthesis/lod', ())  # Used only when the component is run alone.
  growth = _growth(network, v, is_linear, len(fmaps))
  v.check_all_taken()

  sizes = {'fmaps': fmaps, **mapping_sizes, 'image_channels': image_channels, **growth, **options}
  declared = {'resolution': 2 ** (len(fmaps) + 1), 'num_channels': image_channels}
  names = {'latent_size': 'latent_size', 'dlatent_size': 'w_size', 'mapping_layers': 'mapping_layers'}
  declared |= {name: sizes[ours] for name, ours in names.items()}
  check_declared(network, declared | {'label_size': sizes.get('label_size', 0)})
  return sizes, {'params': params, 'noise': noise, 'w_avg': w_avg}


def stylegan1_discriminator(network: Network) -> tuple[dict[str, Any], PyTree]:
  """Converts D.

  Args:
    network: of `tf_pickle.read_networks`, with or without the input layers of lower resolutions.

  Returns:
    The sizes, keyword arguments of `models.discriminator.Discriminator`, and its parameters.

  Raises:
    BadInputError: as for `stylegan1_generator`.
  """
  options = discriminator_options(network)
  v = Variables(network)
  num_resolutions = sum(name.endswith('/Conv1_down/weight') for name in network.variables) + 1
  resolutions = [4 * 2**i for i in range(num_resolutions)]
  if num_resolutions < 2:
    raise BadInputError(f'{network.name}: found no Conv1_down/weight, expected one per resolution from 8')
  fmaps = tuple(v.shape(f'{r}x{r}/Conv1_down/weight', 4)[3] for r in resolutions[1:])
  image_channels, widest = v.shape('FromRGB_lod0/weight', 4)[2:]
  fmaps = (*fmaps, widest)

  is_linear = v.has('FromRGB_lod1/weight')
  params: dict[str, Any] = {
    f'from_rgb_lod_{lod}' if lod else 'from_rgb': v.layer(
      f'FromRGB_lod{lod}', (1, 1, image_channels, fmaps[-1 - lod])
    )
    for lod in range(num_resolutions if is_linear else 1)
  }
  for k, r in enumerate(resolutions[:0:-1]):
    wide, narrow = fmaps[-1 - k], fmaps[-2 - k]
    params[f'convs_{k}'] = v.layer(f'{r}x{r}/Conv0', (3, 3, wide, wide))
    params[f'downs_{k}'] = v.layer(f'{r}x{r}/Conv1_down', (3, 3, wide, narrow))
  dense_features = v.shape('4x4/Dense0/weight', 2)[1]
  label_size = network.static_kwargs.get('label_size', 0)  # The shapes do not tell 0 from 1.
  if not isinstance(label_size, int) or label_size < 0:
    raise BadInputError(
      f'{network.name}: found the option label_size = {label_size!r}, expected a number from 0'
    )
  is_grouped = options.get('mbstd_group_size', 4) > 1
  extra = options.get('mbstd_num_features', 1) if is_grouped else 0
  params['conv'] = v.layer('4x4/Conv', (3, 3, fmaps[0] + extra, fmaps[0]))
  params['dense'] = v.layer('4x4/Dense0', (16 * fmaps[0], dense_features))
  params['out'] = v.layer('4x4/Dense1', (dense_features, max(label_size, 1)))
  growth = _growth(network, v, is_linear, num_resolutions)
  v.check_all_taken()
  check_declared(network, {'resolution': resolutions[-1], 'num_channels': image_channels})
  labels = {'label_size': label_size} if label_size else {}
  return {'fmaps': fmaps, 'dense_features': dense_features, **labels, **growth, **options}, params


def _mapping(network: Network, v: Variables) -> tuple[dict[str, Any], PyTree]:
  """Sizes and parameters of the mapping network."""
  depth = v.count('G_mapping/Dense{}/weight')
  if not depth:
    raise BadInputError(f'{network.name}: found no G_mapping/Dense0/weight, expected a mapping network')
  widths = [v.shape('G_mapping/Dense0/weight', 2)[0]]
  widths += [v.shape(f'G_mapping/Dense{i}/weight', 2)[1] for i in range(depth)]
  if len(set(widths[1:-1])) > 1:
    raise BadInputError(f'{network.name}: found mapping layers of widths {widths[1:-1]}, expected equal ones')
  sizes = {'latent_size': widths[0], 'w_size': widths[-1], 'mapping_layers': depth}
  params: dict[str, Any] = {
    f'dense_{i}': v.layer(f'G_mapping/Dense{i}', (widths[i], widths[i + 1])) for i in range(depth)
  }
  if v.has('G_mapping/LabelConcat/weight'):  # Half of the first layer's input is z, half the label's.
    label_size, latent_size = v.shape('G_mapping/LabelConcat/weight', 2)
    params['label_weight'] = v.take('G_mapping/LabelConcat/weight', (label_size, widths[0] // 2))
    if widths[0] != 2 * latent_size:
      raise BadInputError(
        f'{network.name}: found G_mapping/Dense0 for inputs of {widths[0]}, expected {2 * latent_size}'
      )
    sizes |= {'latent_size': latent_size, 'label_size': label_size}
  if depth > 1 and widths[1] != widths[-1]:
    sizes['mapping_fmaps'] = widths[1]
  return sizes, params


def _layers(v: Variables, num_layers: int, w_size: int) -> tuple[tuple[int, ...], PyTree]:
  """Channels at 4, 8, ... pixels and the parameters of the styled layers."""
  fmaps = [v.shape('G_synthesis/4x4/Const/const', 4)[1]]
  params = {}
  for i in range(num_layers):
    size = 4 * 2 ** (i // 2)
    name = f'G_synthesis/{size}x{size}/{_layer_name(i)}'
    if i >= 2 and i % 2 == 0:
      fmaps.append(v.shape(f'{name}/weight', 4)[3])
    channels = fmaps[-1]
    if i == 0:
      kernel = {'const': v.take(f'{name}/const', (1, channels, 4, 4))[0].transpose(1, 2, 0)}
    else:
      kernel = {'weight': v.take(f'{name}/weight', (3, 3, fmaps[(i - 1) // 2], channels))}
    params[f'layers_{i}'] = kernel | {
      'noise_weight': v.take(f'{name}/Noise/weight', (channels,)),
      'bias': v.take(f'{name}/bias', (channels,)),
      'modulation': v.layer(f'{name}/StyleMod', (w_size, 2 * channels)),
    }
  return tuple(fmaps), params


def _layer_name(i: int) -> str:
  """Official name of styled layer i within its resolution."""
  return ('Const', 'Conv')[i] if i < 2 else ('Conv0_up', 'Conv1')[i % 2]


def _growth(network: Network, v: Variables, is_linear: bool, num_resolutions: int) -> dict[str, Any]:
  """Structure and level of detail, where they are not the defaults."""
  lod, most = float(v.take('lod', ())), num_resolutions - 1 if is_linear else 0
  if not 0 <= lod <= most:
    raise BadInputError(f'{network.name}: found lod {lod:g}, expected 0 to {most} for its layers')
  return ({'structure': 'linear'} if is_linear else {}) | ({'lod': lod} if lod else {})
