"""NVIDIA's official files as modules and parameters of ours: StyleGAN 1, StyleGAN 2 and 2-ADA.

    network = read_official('stylegan2-ffhq-config-f.pkl')
    images = network.generator.apply({'params': network.params['params']}, w, network.params['noise'],
                                     method='synthesis')

What a file is, is told by what it holds, not by its name. Of its generators the averaged one (Gs, G_ema) is
taken, which draws the images. Nothing stored in it is run.
"""

import dataclasses
import hashlib
import math
import os
from typing import Any

import jax

from advmix_jax.interop import safe_pickle, stylegan1_options, stylegan2_options, tf_pickle, torch_pickle
from advmix_jax.interop.generator_folder import Truncation
from advmix_jax.interop.pickle_values import shorten
from advmix_jax.interop.stylegan1_pickle import stylegan1_discriminator, stylegan1_generator
from advmix_jax.interop.stylegan2_names import discriminator_from_state, generator_from_state, torch_names
from advmix_jax.models.discriminator import Discriminator
from advmix_jax.models.stylegan import StyleGAN
from advmix_jax.types import BadInputError, PyTree


@dataclasses.dataclass(frozen=True)
class Official:
  """What a file holds.

  Attributes:
    kind: in words.
    generator: the module; its name in the file is `generator_name`.
    params: `{'params', 'noise', 'w_avg'}` float32, as `init_generator` of the architecture makes them.
    discriminator: the module; None where the file has none.
    discriminator_params: float32; None where the file has none.
    truncation: with which the official code draws images when it is told nothing else.
    sha256: of the file.
  """

  kind: str
  generator: Any
  generator_name: str
  params: PyTree
  discriminator: Any
  discriminator_params: PyTree | None
  truncation: Truncation
  sha256: str = ''


def read_official(path: str | os.PathLike[str]) -> Official:
  """Reads an official pickle.

  Raises:
    BadInputError: the file cannot be read, is damaged, names anything beyond arrays and networks, holds
      something else than the official networks, or networks with an option that we do not compute.
  """
  content = safe_pickle.read_bytes(path)
  allowed = safe_pickle.numpy_globals() | tf_pickle.network_globals() | torch_pickle.module_globals()
  found = safe_pickle.loads(path, content, allowed)
  try:
    official = _convert(found)
  except BadInputError as error:
    raise BadInputError(f'{path}: {_one_line(str(error))}') from None
  except Exception as error:  # The parts of a forged file may contradict each other in any way.
    raise BadInputError(
      f'{path}: found networks that do not fit together ({_one_line(str(error)) or type(error).__name__})'
    ) from None
  return dataclasses.replace(official, sha256=hashlib.sha256(content).hexdigest())


def count_numbers(params: PyTree) -> int:
  """How many numbers the arrays of a tree hold."""
  return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


def _one_line(text: str) -> str:
  text = ' '.join(''.join(c if c.isprintable() else ' ' for c in text[:2000]).split())
  return text if len(text) <= 500 else f'{text[:497]}...'


def _convert(found: Any) -> Official:
  if isinstance(found, tuple | list) and len(found) == 3:
    _, discriminator, average = (tf_pickle.read_network(part) for part in found)
    if average.build_func_name == 'G_style':
      return _stylegan1(discriminator, average)
    if average.build_func_name == 'G_main':
      return _tf_stylegan2(discriminator, average)
    raise BadInputError(
      f'found the architecture {shorten(average.build_func_name)} in {shorten(average.name)}, '
      'expected G_style (StyleGAN 1) or G_main (StyleGAN 2)'
    )
  if isinstance(found, dict) and isinstance(found.get('G_ema'), torch_pickle.Module):
    return _torch_stylegan2(found['G_ema'], found.get('D'))
  if isinstance(found, dict):
    names = ', '.join(shorten(name) for name in list(found)[:8]) or 'nothing'
    raise BadInputError(f'found a dictionary of {names}, expected one with a network G_ema')
  raise BadInputError(
    f'found {shorten(found)}, expected the networks (G, D, Gs) of StyleGAN 1 or 2, or those of 2-ADA by name'
  )


def _stylegan1(discriminator: tf_pickle.Network, average: tf_pickle.Network) -> Official:
  sizes, params = stylegan1_generator(average)
  critic_sizes, critic_params = stylegan1_discriminator(discriminator)
  psi, cutoff = stylegan1_options.truncation(average)
  is_off = psi is None or cutoff is None or cutoff <= 0
  truncation = Truncation() if is_off else _truncation(psi, cutoff)
  return Official(
    kind='StyleGAN 1 (TensorFlow)',
    generator=StyleGAN(**sizes),
    generator_name=average.name,
    params=params,
    discriminator=Discriminator(**critic_sizes),
    discriminator_params=critic_params,
    truncation=truncation,
  )


def _tf_stylegan2(discriminator: tf_pickle.Network, average: tf_pickle.Network) -> Official:
  options = stylegan2_options.tf_generator_options(average)
  critic_options = stylegan2_options.tf_discriminator_options(discriminator)
  model, params = generator_from_state(torch_names(average.variables), **options)
  names = {'latent_size': model.latent_size, 'dlatent_size': model.w_size}
  names |= {'mapping_layers': model.mapping_layers}
  _check_sizes(average.name, average.static_kwargs, model, names)
  critic, critic_params = discriminator_from_state(torch_names(discriminator.variables), **critic_options)
  critic_sizes = {'label_size': critic.label_size, 'mbstd_num_features': critic.mbstd_num_features}
  _check_sizes(discriminator.name, discriminator.static_kwargs, model, critic_sizes)
  is_ada = discriminator.build_func_name == 'D_main'
  psi = average.static_kwargs.get('truncation_psi', 0.5)
  cutoff = average.static_kwargs.get('truncation_cutoff')
  return Official(
    kind=f'StyleGAN 2{"-ADA" if is_ada else ""} (TensorFlow)',
    generator=model,
    generator_name=average.name,
    params=params,
    discriminator=critic,
    discriminator_params=critic_params,
    truncation=Truncation() if psi is None else _truncation(psi, cutoff),
  )


def _torch_stylegan2(average: torch_pickle.Module, discriminator: Any) -> Official:
  options = stylegan2_options.torch_options('G_ema', average)
  model, params = generator_from_state(
    torch_pickle.state_dict(average), **stylegan2_options.torch_generator_options(options)
  )
  declared = {'z_dim': model.latent_size, 'w_dim': model.w_size, 'c_dim': model.label_size}
  declared |= {'img_resolution': model.resolution, 'img_channels': model.image_channels}
  stylegan2_options.check_declared('G_ema', options, declared)
  critic, critic_params = None, None
  if discriminator is not None:
    if not isinstance(discriminator, torch_pickle.Module):
      raise BadInputError(f'found {shorten(discriminator)} as D, expected a network')
    options = stylegan2_options.torch_options('D', discriminator)
    critic, critic_params = discriminator_from_state(
      torch_pickle.state_dict(discriminator), **stylegan2_options.torch_discriminator_options(options)
    )
    declared = {'img_resolution': model.resolution, 'c_dim': critic.label_size}
    declared |= {'epilogue_kwargs.mbstd_num_channels': critic.mbstd_num_features}
    stylegan2_options.check_declared('D', options, declared)
  return Official(
    kind='StyleGAN 2-ADA (PyTorch)',
    generator=model,
    generator_name='G_ema',
    params=params,
    discriminator=critic,
    discriminator_params=critic_params,
    truncation=Truncation(),
  )


def _check_sizes(name: str, options: Any, model: Any, found: dict[str, int]) -> None:
  sizes = {
    'resolution': model.resolution,
    'num_channels': model.image_channels,
    'label_size': model.label_size,
  }
  stylegan2_options.check_declared(name, options, sizes | found)


def _truncation(psi: Any, cutoff: Any) -> Truncation:
  if not isinstance(psi, int | float) or not math.isfinite(psi) or not isinstance(cutoff, int | None):
    raise BadInputError(
      f'found truncation_psi = {shorten(psi)} and truncation_cutoff = {shorten(cutoff)}, expected numbers'
    )
  return Truncation(float(psi), cutoff)
