"""Options of official StyleGAN 2 networks: which of them our networks compute, and as what.

StyleGAN 2 and 2-ADA for TensorFlow share their spelling, 2-ADA for PyTorch nests its options. Sizes are
derived from the shapes of the arrays. What no shape tells is taken from the options, or from the defaults of
the official code where these say nothing. An option we do not know or do not compute is refused.
"""

from collections.abc import Mapping
from typing import Any

from advmix_jax.interop.pickle_values import shorten
from advmix_jax.interop.tf_pickle import Network
from advmix_jax.interop.torch_pickle import Module
from advmix_jax.types import BadInputError

Options = Mapping[str, Any]
# Of each option the values that we compute; None if any will do, because the function that reads the option
# checks it, the shapes tell it as well, or it concerns how a network is called, trained or stored.
Rules = Mapping[str, tuple[Any, ...] | None]

_FILTER = ([1, 3, 3, 1],)

_TF_GENERATOR: Rules = dict.fromkeys((
  'num_channels', 'resolution', 'label_size', 'fmap_base', 'fmap_decay', 'fmap_min', 'fmap_max', 'fmap_const',
  'latent_size', 'dlatent_size', 'dlatent_broadcast', 'mapping_layers', 'mapping_fmaps', 'mapping_lrmul',
  'label_fmaps', 'randomize_noise', 'truncation_psi', 'truncation_cutoff', 'truncation_psi_val',
  'truncation_cutoff_val', 'dlatent_avg_beta', 'w_avg_beta', 'style_mixing_prob', 'structure',
  'is_template_graph', 'num_fp16_res', 'conv_clamp', 'fused_modconv',
)) | {
  'architecture': ('skip',), 'nonlinearity': ('lrelu',), 'mapping_nonlinearity': ('lrelu',),
  'resample_kernel': _FILTER, 'use_noise': (True,), 'normalize_latents': (True,), 'dtype': ('float32',),
  'mapping_func': ('G_mapping',), 'synthesis_func': ('G_synthesis_stylegan2', 'G_synthesis'),
}  # fmt: skip
_TF_DISCRIMINATOR: Rules = dict.fromkeys((
  'num_channels', 'resolution', 'label_size', 'fmap_base', 'fmap_decay', 'fmap_min', 'fmap_max',
  'mapping_layers', 'mapping_fmaps', 'mapping_lrmul', 'mbstd_group_size', 'mbstd_num_features',
  'num_fp16_res', 'conv_clamp',
  'freeze_layers', 'structure', 'is_template_graph', 'augment_strength', 'pagan_num', 'pagan_fade',
)) | {
  'architecture': ('resnet',), 'nonlinearity': ('lrelu',), 'resample_kernel': _FILTER,
  'dtype': ('float32',), 'use_pagan': (False,), 'use_spectral_norm': (False,),
  'adaptive_dropout': (0,), 'score_size': (1,), 'score_max': (1,),
}  # fmt: skip
_TORCH_MAPPING = ('num_layers', 'embed_features', 'layer_features', 'lr_multiplier', 'w_avg_beta')
_TORCH_GENERATOR: Rules = dict.fromkeys((
  'z_dim', 'c_dim', 'w_dim', 'img_resolution', 'img_channels',
  *(f'mapping_kwargs.{name}' for name in _TORCH_MAPPING),
  *(f'synthesis_kwargs.{name}' for name in (
    'channel_base', 'channel_max', 'num_fp16_res', 'fp16_channels_last', 'conv_clamp',
  )),
)) | {
  'mapping_kwargs.activation': ('lrelu',), 'synthesis_kwargs.architecture': ('skip',),
  'synthesis_kwargs.resample_filter': _FILTER, 'synthesis_kwargs.use_noise': (True,),
  'synthesis_kwargs.activation': ('lrelu',),
}  # fmt: skip
_TORCH_DISCRIMINATOR: Rules = dict.fromkeys((
  'c_dim', 'img_resolution', 'img_channels', 'channel_base', 'channel_max', 'num_fp16_res', 'conv_clamp',
  'cmap_dim', 'block_kwargs.fp16_channels_last', 'block_kwargs.freeze_layers',
  'epilogue_kwargs.mbstd_group_size', 'epilogue_kwargs.mbstd_num_channels',
  *(f'mapping_kwargs.{name}' for name in _TORCH_MAPPING),
)) | {
  'architecture': ('resnet',), 'block_kwargs.activation': ('lrelu',), 'block_kwargs.resample_filter': _FILTER,
  'mapping_kwargs.activation': ('lrelu',), 'epilogue_kwargs.activation': ('lrelu',),
}  # fmt: skip
# Their first constructor arguments, in order.
_TORCH_ARGUMENTS = {
  'Generator': ('z_dim', 'c_dim', 'w_dim', 'img_resolution', 'img_channels'),
  'Discriminator': ('c_dim', 'img_resolution', 'img_channels'),
}


def tf_generator_options(network: Network) -> dict[str, Any]:
  """Keyword arguments for `stylegan2_names.generator_from_state`.

  Raises:
    BadInputError: another architecture, or an option we do not know or do not compute; names it.
  """
  _check_function(network, ('G_main',))
  options = network.static_kwargs
  _check(network.name, options, _TF_GENERATOR)
  return {
    'conv_clamp': options.get('conv_clamp'),
    'mapping_lr_multiplier': options.get('mapping_lrmul', 0.01),
  }


def tf_discriminator_options(network: Network) -> dict[str, Any]:
  """Keyword arguments for `stylegan2_names.discriminator_from_state`; raises as `tf_generator_options`."""
  _check_function(network, ('D_stylegan2', 'D_main'))
  options = network.static_kwargs
  _check(network.name, options, _TF_DISCRIMINATOR)
  group_size = 4 if network.build_func_name == 'D_stylegan2' else None
  return {
    'conv_clamp': options.get('conv_clamp'),
    'mbstd_group_size': options.get('mbstd_group_size', group_size),
    'mapping_lr_multiplier': options.get('mapping_lrmul', 0.1),
  }


def torch_options(name: str, module: Module) -> dict[str, Any]:
  """The constructor arguments of a module, those in dictionaries as `mapping_kwargs.num_layers`.

  Raises:
    BadInputError: as `tf_generator_options`.
  """
  if module.class_name not in _TORCH_ARGUMENTS:
    raise BadInputError(
      f'{name}: found the class {shorten(module.class_name)}, expected Generator or Discriminator'
    )
  arguments = module.attributes.get('_init_args', ())
  keywords = module.attributes.get('_init_kwargs', {})
  names = _TORCH_ARGUMENTS[module.class_name]
  if not isinstance(arguments, tuple) or not isinstance(keywords, dict) or len(arguments) > len(names):
    raise BadInputError(f'{name}: found constructor arguments that are none of {module.class_name}')
  options = dict(zip(names, arguments, strict=False))
  for key, value in keywords.items():
    if isinstance(value, dict):
      options |= {f'{key}.{inner}': inner_value for inner, inner_value in value.items()}
    else:
      options[key] = value
  _check(name, options, _TORCH_GENERATOR if module.class_name == 'Generator' else _TORCH_DISCRIMINATOR)
  return options


def torch_generator_options(options: Options) -> dict[str, Any]:
  """Keyword arguments for `stylegan2_names.generator_from_state`, of `torch_options`."""
  return {
    'conv_clamp': options.get('synthesis_kwargs.conv_clamp'),
    'mapping_lr_multiplier': options.get('mapping_kwargs.lr_multiplier', 0.01),
  }


def torch_discriminator_options(options: Options) -> dict[str, Any]:
  """Keyword arguments for `stylegan2_names.discriminator_from_state`, of `torch_options`."""
  return {
    'conv_clamp': options.get('conv_clamp'),
    'mbstd_group_size': options.get('epilogue_kwargs.mbstd_group_size', 4),
    'mapping_lr_multiplier': options.get('mapping_kwargs.lr_multiplier', 0.01),
  }


def check_declared(name: str, options: Options, found: Mapping[str, Any]) -> None:
  """Refuses a network whose options name other sizes than its arrays have."""
  for key, value in found.items():
    declared = options.get(key, value)
    if type(declared) is not int or declared != value:
      raise BadInputError(
        f'{name}: found arrays for {key} = {value}, expected {shorten(declared)} as its options say'
      )


def _check_function(network: Network, expected: tuple[str, ...]) -> None:
  if network.build_func_name not in expected:
    raise BadInputError(
      f'{network.name}: found the architecture {shorten(network.build_func_name)}, '
      f'expected {" or ".join(expected)}'
    )


def _check(name: str, options: Options, rules: Rules) -> None:
  for key, value in options.items():
    if key not in rules:
      raise BadInputError(f'{name}: found the option {shorten(key)} = {shorten(value)}, which is not known')
    allowed = rules[key]
    plain = list(value) if isinstance(value, tuple) else value
    if allowed is not None and not any(type(plain) is type(good) and plain == good for good in allowed):
      raise BadInputError(
        f'{name}: found the option {key} = {shorten(value)}, '
        f'expected {" or ".join(shorten(good) for good in allowed)}'
      )
