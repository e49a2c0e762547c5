"""Whether the networks of a configuration fit the images, each other, and the files they come from."""

from pathlib import Path

import flax.linen as nn
from ml_collections import ConfigDict

from advmix_jax.interop.generator_folder import load_discriminator, load_generator
from advmix_jax.interop.vgg16_weights import read_vgg16
from advmix_jax.models import vgg16
from advmix_jax.models.discriminator import block_names
from advmix_jax.training.growth import kimg_to_grow
from advmix_jax.types import BadInputError


def check_sizes(config: ConfigDict) -> int:
  """The networks must fit the images, and the mixing level must cut the generator.

  Returns:
    The generator's resolution.
  """
  if config.generator.path:
    module = check_generator_folder(config)
    made, num_layers, conditional = module.resolution, module.num_layers, module.label_size > 0
  else:
    conditional = config.generator.conditional
    made, num_layers = 2 ** (len(config.generator.fmaps) + 1), 2 * len(config.generator.fmaps)
    check_trained_size(config, made)
    check_growth(config.generator)
    check_level('generator.style_mixing_level', config.generator.style_mixing_level, 0, num_layers)
  check_level('attack.mixing_level', config.attack.mixing_level, 1, num_layers)
  if conditional and config.attack.typical_delta > 0:  # Eq. 15 is of z alone, which a label is drawn with.
    raise BadInputError(
      f'config.attack.typical_delta is {config.attack.typical_delta}, expected 0 with a conditional generator'
    )
  resolution = config.encode.resolution or made
  if config.encode.features == 'discriminator' and resolution != made:
    raise BadInputError(
      f'config.encode.resolution is {resolution}, expected {made} as the generator has (or 0 for that) with '
      'config.encode.features=discriminator'
    )
  most = resolution.bit_length()
  if len(config.encode.init_fmaps) > most:
    raise BadInputError(
      f'config.encode.init_fmaps has {len(config.encode.init_fmaps)} entries, expected at most {most}: '
      f'each halves the {resolution} pixels of the one before it'
    )
  return made


def check_trained_size(config: ConfigDict, made: int) -> None:
  """A generator that is trained makes images as the classifier sees them."""
  if made != config.data.resolution:
    raise BadInputError(
      f'config.generator.fmaps has {len(config.generator.fmaps)} entries, for images of {made} pixels; '
      f'config.data.resolution is {config.data.resolution}, expected one entry for each of 4, 8, ... '
      f'{config.data.resolution} pixels, or a generator in config.generator.path'
    )


def check_level(key: str, level: int, least: int, num_layers: int) -> None:
  if level >= num_layers:
    raise BadInputError(f'config.{key} is {level!r}, expected {least} to {num_layers - 1}')


def check_generator_folder(config: ConfigDict) -> nn.Module:
  """A generator from elsewhere must be whole and make colour images; returns it."""
  folder = Path(config.generator.path)
  try:
    module = load_generator(folder).module
    critic = load_discriminator(folder)
  except BadInputError as error:
    raise BadInputError(f'config.generator.path: {error}') from None
  if module.image_channels != 3:
    raise BadInputError(
      f'config.generator.path: {folder}: found images of {module.image_channels} channels, expected 3'
    )
  if critic is None and config.encode.features == 'discriminator':
    raise BadInputError(
      "config.encode.features is 'discriminator', expected vgg16 or pixel: the generator in "
      f'config.generator.path={folder} comes without one'
    )
  return module


def check_growth(generator: ConfigDict) -> None:
  """A growing network must reach its full resolution; what is given by resolution must be given for each."""
  resolutions = [4 * 2**i for i in range(len(generator.fmaps))]
  for key in ('batch_sizes', 'learning_rates', 'micro_batches'):
    if len(generator[key]) not in (0, len(resolutions)):
      raise BadInputError(
        f'config.generator.{key} has {len(generator[key])} entries, expected none, or one for each of '
        f'{", ".join(map(str, resolutions))} pixels'
      )
  if generator.structure == 'fixed':
    return
  if generator.architecture != 'stylegan1':
    raise BadInputError(
      f'config.generator.structure is {generator.structure!r}, expected fixed: '
      f'config.generator.architecture={generator.architecture} does not grow'
    )
  if generator.initial_resolution not in resolutions:
    raise BadInputError(
      f'config.generator.initial_resolution is {generator.initial_resolution}, '
      f'expected one of {", ".join(map(str, resolutions))}'
    )
  num_doublings = len(resolutions) - 1 - resolutions.index(generator.initial_resolution)
  needed = kimg_to_grow(num_doublings, generator.stable_kimg, generator.fading_kimg)
  if generator.total_kimg < needed:
    raise BadInputError(
      f'config.generator.total_kimg is {generator.total_kimg}, expected at least {needed:g}, when '
      f'{resolutions[-1]} pixels are reached'
    )


def check_features(config: ConfigDict, made: int) -> None:
  """The layers must be those of the network; of VGG-16 the weights must be there up to the last of them.

  Args:
    config: the configuration.
    made: the generator's resolution.
  """
  encode = config.encode
  if encode.features == 'pixel':
    return
  is_vgg16 = encode.features == 'vgg16'
  known = vgg16.NAMES if is_vgg16 else block_names(made)
  unknown = [name for name in encode.feature_layers if name not in known]
  if unknown:
    raise BadInputError(
      f'config.encode.feature_layers: found {", ".join(unknown)}, expected some of {", ".join(known)}'
    )
  layers = tuple(encode.feature_layers) or (vgg16.PAPER_LAYERS if is_vgg16 else known)
  if len(encode.layer_weights) not in (0, len(layers)):
    raise BadInputError(
      f'config.encode.layer_weights has {len(encode.layer_weights)} entries, expected none or one for each '
      f'of the layers {", ".join(layers)}'
    )
  if not is_vgg16:
    return
  size = encode.vgg16_resize or encode.resolution or made
  least = 2 ** max(vgg16.num_poolings(name) for name in layers)
  if size < least:
    raise BadInputError(
      f'config.encode.vgg16_resize is {encode.vgg16_resize}, for images of {size} pixels, '
      f'expected at least {least} for the layers {", ".join(layers)}'
    )
  if not encode.vgg16_weights:
    raise BadInputError(
      "config.encode.vgg16_weights is '', expected the path of a file of weights (.npz, .safetensors, .pth, "
      '.h5) for config.encode.features=vgg16'
    )
  try:
    read_vgg16(encode.vgg16_weights, layers, encode.vgg16_convention)
  except BadInputError as error:
    raise BadInputError(f'config.encode.vgg16_weights: {error}') from None
