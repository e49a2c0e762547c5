"""Stage 1: trains the StyleGAN on the generator's part of the data."""

import functools
from collections.abc import Callable

import jax
import numpy as np
import optax
from ml_collections import ConfigDict

from advmix_jax import data, parallel
from advmix_jax.interop.weights import save_tree
from advmix_jax.ranges import to_float, to_uint8
from advmix_jax.report.grids import save_grid, save_style_mixing
from advmix_jax.stages.experiment import Experiment
from advmix_jax.training.gan import GanSettings, GanState, create_gan_state, gan_step
from advmix_jax.training.loop import Loop, run_loop
from advmix_jax.types import Array, Decoder, PyTree

GRID_SIDE = 8


def gan_settings(config: ConfigDict) -> GanSettings:
  """A step's settings from the `generator.*` keys."""
  generator = config.generator
  return GanSettings(
    r1_gamma=generator.r1_gamma,
    r1_interval=generator.r1_interval,
    style_mixing_prob=generator.style_mixing_prob,
    cut_per_sample=generator.style_mixing_cut == 'sample',
    ema_decay=0.5 ** (generator.batch_size / (generator.ema_kimg * 1000)),
  )


def run(experiment: Experiment) -> None:
  """Writes `gan/generator.safetensors`, `gan/discriminator.safetensors` and grids of samples."""
  if experiment.generator_file.exists():
    return
  config = experiment.config.generator
  images = experiment.splits.generator.images
  num_images = 2 * len(images) if config.mirror else len(images)
  order = data.index_batches(num_images, config.batch_size, experiment.config.seed)
  settings = gan_settings(experiment.config)
  steps = {
    with_r1: parallel.pmap_step(
      functools.partial(gan_step, settings=settings, with_r1=with_r1, axis_name=parallel.AXIS)
    )
    for with_r1 in (False, True)
  }
  num_steps = round(config.total_kimg * 1000 / config.batch_size)
  grid_every = max(round(config.sample_kimg * 1000 / config.batch_size), 1)
  draw_grids = grid_writer(experiment)

  def hook(step: int, state: GanState) -> None:
    if step % grid_every == 0 or step == num_steps:
      draw_grids(state.decoder_params(), f'{step * config.batch_size / 1000:06.0f}kimg')

  state = run_loop(
    Loop(
      name='gan',
      folder=experiment.workdir.path / 'gan' / 'checkpoints',
      num_steps=num_steps,
      batch_size=config.batch_size,
      step_fn=lambda step, state, batch: steps[step % config.r1_interval == 0](state, batch),
      batch_fn=lambda step: parallel.shard(to_float(data.take_mirrored(images, order[step]))),
      saved=(
        *('step', 'key', 'generator', 'discriminator', 'generator_opt', 'discriminator_opt'),
        *('ema', 'w_avg', 'noise'),
      ),
      place_fn=parallel.replicate,
      hook=hook,
    ),
    jax.jit(functools.partial(create, experiment))(experiment.key('gan')),
    experiment.workdir,
  )
  save_tree(experiment.discriminator_file, state.discriminator)
  save_tree(experiment.generator_file, state.decoder_params())


def create(experiment: Experiment, key: Array) -> GanState:
  """A fresh state."""
  tx = optax.adam(experiment.config.generator.learning_rate, b1=0.0, b2=0.99, eps=1e-8)
  return create_gan_state(key, experiment.generator_model, experiment.discriminator_model, tx)


def grid_writer(experiment: Experiment) -> Callable[[PyTree, str], None]:
  """`(decoder params, name)` -> writes `gan/samples-NAME.png` and `gan/mixing-NAME.png`."""
  decoder, folder = experiment.decoder, experiment.workdir.path / 'gan'
  samples_key, sources_key = jax.random.split(experiment.key('grids'))
  z = jax.random.normal(samples_key, (GRID_SIDE * GRID_SIDE, decoder.latent_size))
  sources = jax.random.normal(sources_key, (2 * GRID_SIDE, decoder.latent_size))
  decode = jax.jit(lambda params, z: to_uint8(decoder.decode(params, decoder.map_z(params, z))))
  mixed = jax.jit(lambda params, z: to_uint8(style_mixing(decoder, params, z)))

  def write(params: PyTree, name: str) -> None:
    images = np.asarray(decode(params, z))
    save_grid(folder / f'samples-{name}.png', images.reshape(GRID_SIDE, GRID_SIDE, *images.shape[1:]))
    images = np.asarray(decode(params, sources))
    table = np.asarray(mixed(params, sources)).reshape(GRID_SIDE, GRID_SIDE, *images.shape[1:])
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
  return decoder.fine(params, trunk, jax.numpy.tile(fine, (len(coarse), 1, 1))[:, decoder.mixing_level :])
