"""Options of official StyleGAN 1 networks: which of them our networks compute, and as what."""

from collections.abc import Mapping
from typing import Any

from advmix_jax.interop.tf_pickle import Network
from advmix_jax.types import BadInputError

# Options that change the function and that our modules have: the values they take, each as an argument of the
# module. The first is what the official code takes when the option is absent.
_SLOPES = {'lrelu': 0.2, 'relu': 0.0}
_BLUR = (([1, 2, 1], True), (None, False))
_GENERATOR: dict[str, tuple[str, Any]] = {
  'mapping_nonlinearity': ('mapping_slope', tuple(_SLOPES.items())),
  'nonlinearity': ('slope', tuple(_SLOPES.items())),
  'fused_scale': ('fused_from', (('auto', 128), (True, 8), (False, None))),
  'blur_filter': ('blur', _BLUR),
}
# Downsampling is one function, fused or not.
_DISCRIMINATOR: dict[str, tuple[str, Any]] = {
  'nonlinearity': ('slope', tuple(_SLOPES.items())),
  'blur_filter': ('blur', _BLUR),
}
_NUMBERS: dict[str, tuple[str, Any]] = {
  'mapping_lrmul': ('mapping_lr_multiplier', 0.01),
  'mbstd_group_size': ('mbstd_group_size', 4),
  'mbstd_num_features': ('mbstd_num_features', 1),
}
# Options whose only value we compute is this one.
_FIXED: dict[str, tuple[Any, ...]] = {
  'normalize_latents': (True,),
  'use_styles': (True,),
  'const_input_layer': (True,),
  'use_noise': (True,),
  'use_pixel_norm': (False,),
  'use_instance_norm': (True,),
  'use_wscale': (True,),
  'fused_scale': ('auto', True, False),
  'structure': ('auto', 'fixed', 'linear', 'recursive'),
  'dtype': ('float32',),
}
# Options that the shapes tell as well, or that concern how a network is called or trained.
_FREE = frozenset((
  'num_channels', 'resolution', 'label_size', 'fmap_base', 'fmap_decay', 'fmap_max', 'latent_size',
  'dlatent_size', 'dlatent_broadcast', 'mapping_layers', 'mapping_fmaps', 'randomize_noise', 'truncation_psi',
  'truncation_cutoff', 'truncation_psi_val', 'truncation_cutoff_val', 'dlatent_avg_beta',
  'style_mixing_prob', 'is_template_graph',
))  # fmt: skip


def generator_options(network: Network) -> dict[str, Any]:
  """The options of G or Gs that are not StyleGAN's own, as arguments of `models.stylegan.StyleGAN`.

  Raises:
    BadInputError: another architecture, or an option we do not know or do not compute; names it.
  """
  return _options(network, 'G_style', _GENERATOR, ('mapping_lrmul',))


def discriminator_options(network: Network) -> dict[str, Any]:
  """The options of D that are not StyleGAN's own, as arguments of `models.discriminator.Discriminator`.

  Raises:
    BadInputError: as for `generator_options`.
  """
  return _options(network, 'D_basic', _DISCRIMINATOR, ('mbstd_group_size', 'mbstd_num_features'))


def truncation(network: Network) -> tuple[float | None, int | None]:
  """Psi and cutoff with which the official code draws images when it is told nothing else."""
  kwargs = network.static_kwargs
  return kwargs.get('truncation_psi', 0.7), kwargs.get('truncation_cutoff', 8)


def check_declared(network: Network, found: Mapping[str, Any]) -> None:
  """Refuses a network whose options name other sizes than its variables have."""
  for key, value in found.items():
    declared = network.static_kwargs.get(key, value)
    if declared != value:
      raise BadInputError(
        f'{network.name}: found variables for {key} = {value!r}, expected {declared!r} as its options say'
      )


def _options(
  network: Network, build_func_name: str, choices: Mapping[str, tuple[str, Any]], numbers: tuple[str, ...]
) -> dict[str, Any]:
  if network.build_func_name != build_func_name:
    raise BadInputError(
      f'{network.name}: found the architecture {network.build_func_name}, '
      f'expected {build_func_name} (StyleGAN 1)'
    )
  options = {}
  for key, value in network.static_kwargs.items():
    if key in choices:
      argument, values = choices[key]
      default = values[0][1]
      chosen = _choose(network, key, value, values)
    elif key in numbers:
      argument, default = _NUMBERS[key]
      chosen = _number(network, key, value, type(default))
    else:
      _check_fixed(network, key, value)
      continue
    if chosen != default:
      options[argument] = chosen
  return options


def _choose(network: Network, key: str, value: Any, values: Any) -> Any:
  for name, argument in values:
    listed = list(value) if isinstance(value, tuple) else value
    if type(listed) is type(name) and listed == name:
      return argument
  expected = ' or '.join(repr(name) for name, _ in values)
  raise BadInputError(f'{network.name}: found the option {key} = {value!r}, expected {expected}')


def _number(network: Network, key: str, value: Any, kind: type[int] | type[float]) -> int | float:
  if isinstance(value, bool) or not isinstance(value, int | kind) or value <= 0:
    raise BadInputError(f'{network.name}: found the option {key} = {value!r}, expected a number above 0')
  return kind(value)


def _check_fixed(network: Network, key: str, value: Any) -> None:
  if key in _FREE:
    return
  if key not in _FIXED:
    raise BadInputError(f'{network.name}: found the option {key} = {value!r}, which is not known')
  if value not in _FIXED[key]:
    expected = ' or '.join(repr(v) for v in _FIXED[key])
    raise BadInputError(f'{network.name}: found the option {key} = {value!r}, expected {expected}')
