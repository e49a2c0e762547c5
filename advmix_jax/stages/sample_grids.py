"""What a generator draws: samples, and mixes of them at the mixing level."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from advmix_jax.models.decoder import generator_decoder
from advmix_jax.models.growing import Lod
from advmix_jax.models.mapping import join_label
from advmix_jax.ranges import to_uint8
from advmix_jax.report.grids import save_grid, save_style_mixing
from advmix_jax.stages.experiment import Experiment
from advmix_jax.types import Array, Decoder, PyTree

GRID_SIDE = 8


def grid_writer(experiment: Experiment) -> Callable[[PyTree, Lod | None, str], None]:
  """`(decoder parameters, level of detail, name)` -> writes `gan/samples-NAME.png` and `gan/mixing-NAME.png`.

  Of a conditional generator every column of the samples has one label.
  """
  folder, model = experiment.workdir.path / 'gan', experiment.generator_model
  latent_size = experiment.decoder.latent_size
  samples_key, sources_key = jax.random.split(experiment.key('grids'))
  z = jax.random.normal(samples_key, (GRID_SIDE * GRID_SIDE, latent_size))
  if model.label_size:
    columns = np.arange(len(z)) % GRID_SIDE % model.label_size
    z = join_label(z[:, : model.latent_size], jax.nn.one_hot(columns, model.label_size))
  sources = jax.random.normal(sources_key, (2 * GRID_SIDE, latent_size))

  def decoder_at(lod: Lod | None) -> Decoder:
    return generator_decoder(model, experiment.decoder.mixing_level, lod) if lod else experiment.decoder

  @jax.jit
  def decode(params, lod, z):
    decoder = decoder_at(lod)
    return to_uint8(decoder.decode(params, decoder.map_z(params, z)))

  mixed = jax.jit(lambda params, lod, z: to_uint8(style_mixing(decoder_at(lod), params, z)))

  def write(params: PyTree, lod: Lod | None, name: str) -> None:
    images = np.asarray(decode(params, lod, z))
    save_grid(folder / f'samples-{name}.png', images.reshape(GRID_SIDE, GRID_SIDE, *images.shape[1:]))
    images = np.asarray(decode(params, lod, sources))
    table = np.asarray(mixed(params, lod, sources)).reshape(GRID_SIDE, GRID_SIDE, *images.shape[1:])
    save_style_mixing(folder / f'mixing-{name}.png', images[:GRID_SIDE], images[GRID_SIDE:], table)

  return write


def style_mixing(decoder: Decoder, params: PyTree, z: Array) -> Array:
  """Every mix of the first half of `z [2N, Z]` (label-carrying rows) with the second half (the others).

  Returns:
    Images `[N * N, H, W, C]`; N variants of each of the first half in turn.
  """
  w = decoder.map_z(params, z)
  coarse, fine = w[: len(w) // 2], w[len(w) // 2 :]
  trunk = decoder.coarse(params, coarse.repeat(len(fine), axis=0)[:, : decoder.mixing_level])
  return decoder.fine(params, trunk, jnp.tile(fine, (len(coarse), 1, 1))[:, decoder.mixing_level :])
