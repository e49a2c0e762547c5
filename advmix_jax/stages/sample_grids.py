"""What a generator draws: samples, and mixes of them at the mixing level."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from advmix_jax import interruption, mixing
from advmix_jax.models.decoder import generator_decoder
from advmix_jax.models.growing import Lod
from advmix_jax.models.mapping import join_label
from advmix_jax.ranges import to_uint8
from advmix_jax.report.grids import save_grid, save_style_mixing
from advmix_jax.stages.experiment import Experiment
from advmix_jax.types import Array, Decoder, PyTree

GRID_SIDE = 8  # A row is drawn at a time, as the generator may be one of 1024 pixels.


def grid_writer(experiment: Experiment) -> Callable[[PyTree, Lod | None, str], None]:
  """`(decoder parameters, level of detail, name)` -> writes `gan/samples-NAME.png` and `gan/mixing-NAME.png`.

  What is there is not drawn again. Between rows a signal raises `Interrupted`.
  Of a conditional generator every column of the samples has one label.
  """
  folder, model = experiment.workdir.path / 'gan', experiment.generator_model
  latent_size = experiment.decoder.latent_size
  samples_key, sources_key = jax.random.split(experiment.key('grids'))
  z = jax.random.normal(samples_key, (GRID_SIDE * GRID_SIDE, latent_size))
  if model.label_size:
    columns = np.arange(len(z)) % GRID_SIDE % model.label_size
    z = join_label(z[:, : model.latent_size], jax.nn.one_hot(columns, model.label_size))
  rows = jnp.split(z, GRID_SIDE)
  coarse, fine = jnp.split(jax.random.normal(sources_key, (2 * GRID_SIDE, latent_size)), 2)

  def decoder_at(lod: Lod | None) -> Decoder:
    return generator_decoder(model, experiment.decoder.mixing_level, lod) if lod else experiment.decoder

  @jax.jit
  def decode(params, lod, z):
    decoder = decoder_at(lod)
    return to_uint8(decoder.decode(params, decoder.map_z(params, z)))

  @jax.jit
  def mix(params, lod, z, others):
    return to_uint8(mixed_row(decoder_at(lod), params, z, others))

  def drawn(draw_fn: Callable[[Array], Array], parts: list[Array]) -> np.ndarray:
    images = []
    for part in parts:
      interruption.check()
      images.append(np.asarray(draw_fn(part)))
    return np.stack(images)

  def write(params: PyTree, lod: Lod | None, name: str) -> None:
    samples, mixed = folder / f'samples-{name}.png', folder / f'mixing-{name}.png'
    if not samples.exists():
      save_grid(samples, drawn(lambda row: decode(params, lod, row), rows))
    if not mixed.exists():
      left, top = drawn(lambda z: decode(params, lod, z), [coarse, fine])
      save_style_mixing(mixed, left, top, drawn(lambda z: mix(params, lod, z, fine), list(coarse)))

  return write


def mixed_row(decoder: Decoder, params: PyTree, z: Array, others: Array) -> Array:
  """Mixes of `z [Z]` (label-carrying rows) with each of `others [N, Z]` (the other rows): `[N, H, W, C]`."""
  w_par, _ = mixing.split(decoder.map_z(params, z[None]), decoder.mixing_level)
  _, w_perp = mixing.split(decoder.map_z(params, others), decoder.mixing_level)
  trunk = jax.tree.map(lambda x: x.repeat(len(others), axis=0), decoder.coarse(params, w_par))
  return decoder.fine(params, trunk, w_perp)
