"""Stage 1: trains the StyleGAN on the generator's part of the data."""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from advmix_jax import data, hosts, parallel
from advmix_jax.config_keys import has_path_length
from advmix_jax.interop import generator_folder
from advmix_jax.interop.weights import save_tree
from advmix_jax.models.growing import Lod, lod_of
from advmix_jax.ranges import to_float
from advmix_jax.stages import adopt_gan
from advmix_jax.stages.experiment import Experiment
from advmix_jax.stages.networks import Networks, jit_init
from advmix_jax.stages.sample_grids import grid_writer
from advmix_jax.training import gan_losses
from advmix_jax.training.adam import make_adam
from advmix_jax.training.gan import gan_step
from advmix_jax.training.gan_state import (
  GanBatch,
  GanSettings,
  GanState,
  create_gan_state,
  restart_optimisers,
)
from advmix_jax.training.growth import Schedule, constant_schedule, growing_schedule
from advmix_jax.training.loop import Loop, run_loop
from advmix_jax.training.path_length import PathLengthSettings
from advmix_jax.types import Array, PyTree
from advmix_jax.workdir import write_json

WGAN_LEARNING_RATE = 2e-3  # At most (Karras et al. 2018).


def run(experiment: Experiment) -> None:
  """Writes `gan/`: both networks, what they are (`launch.generate` reads the folder), grids of samples."""
  if experiment.config.generator.path:
    hosts.by_first(lambda: adopt_gan.run(experiment))
    return
  if hosts.agreed(experiment.generator_file.exists):
    return
  config = experiment.config.generator
  schedule = make_schedule(experiment.config)
  draw_grids = grid_writer(experiment)
  grids_drawn = np.floor(schedule.first_image / (config.sample_kimg * 1000))

  def hook(step: int, state: GanState) -> None:
    if hosts.is_first() and (grids_drawn[step] > grids_drawn[step - 1] or step == schedule.num_steps):
      lod = (
        None if state.lod is None else lod_of(schedule.lod[step - 1])
      )  # A restored state has its first one.
      draw_grids(state.decoder_params(), lod, f'{schedule.first_image[step] / 1000:06.0f}kimg')

  state = run_loop(
    Loop(
      name='gan',
      folder=experiment.workdir.path / 'gan' / 'checkpoints',
      num_steps=schedule.num_steps,
      batch_size=schedule.batch_size,
      step_fn=step_fn(experiment.config, schedule),
      batch_fn=batch_fn(experiment, schedule),
      saved=(
        *('step', 'key', 'generator', 'discriminator', 'generator_opt', 'discriminator_opt'),
        *('ema', 'w_avg', 'noise'),
        *(('path_length_mean',) if has_path_length(config) else ()),
      ),
      place_fn=parallel.replicate_first,
      hook=hook,
    ),
    jit_init(functools.partial(create, experiment))(experiment.key('gan')),
    experiment.workdir,
  )
  hosts.by_first(lambda: save(experiment, state))


def save(experiment: Experiment, state: GanState) -> None:
  """Writes both networks, and what they are."""
  write_json(
    experiment.generator_file.with_name(generator_folder.DESCRIPTION),
    generator_folder.describe(experiment.generator_model, experiment.discriminator_model),
  )
  save_tree(experiment.discriminator_file, state.discriminator)
  save_tree(experiment.generator_file, state.decoder_params())  # Last: its presence says that all is there.


def make_schedule(config: ConfigDict) -> Schedule:
  """Level of detail and minibatch of every step."""
  generator = config.generator
  if generator.structure == 'fixed':
    size = by_resolution(generator, 'batch_size', 0)
    return constant_schedule(max(1, round(generator.total_kimg * 1000 / size)), size)
  num_doublings = len(generator.fmaps) + 1 - int(math.log2(generator.initial_resolution))
  return growing_schedule(
    num_doublings,
    generator.stable_kimg,
    generator.fading_kimg,
    generator.total_kimg,
    lambda floor: by_resolution(generator, 'batch_size', floor),
  )


def by_resolution(generator: ConfigDict, key: str, floor: int) -> Any:
  """The value of `generator.KEY` while the `floor` highest resolutions are left out."""
  values = generator[f'{key}s']
  return values[len(values) - 1 - floor] if values else generator[key]


def gan_settings(config: ConfigDict, floor: int = 0) -> GanSettings:
  """A step's settings from the `generator.*` keys while the `floor` highest resolutions are left out."""
  generator = config.generator
  learning_rate = by_resolution(generator, 'learning_rate', floor)
  if generator.loss == 'wgan_gp':
    learning_rate = min(learning_rate, WGAN_LEARNING_RATE)
  return GanSettings(
    r1_gamma=generator.r1_gamma,
    r1_interval=generator.r1_interval,
    style_mixing_prob=generator.style_mixing_prob,
    cut_per_sample=generator.style_mixing_cut == 'sample',
    ema_decay=0.5 ** (by_resolution(generator, 'batch_size', floor) / (generator.ema_kimg * 1000)),
    loss=generator.loss,
    learning_rate_scale=learning_rate / generator.learning_rate,
    skip_nonfinite=generator.skip_nonfinite,
    lazy_r1=generator.architecture == 'stylegan2' and generator.loss == 'logistic',
    path_length=PathLengthSettings(generator.path_length_weight, generator.path_length_interval),
    part_size=generator.micro_batches[-1 - floor] if generator.micro_batches else generator.micro_batch,
    fixed_cut=generator.style_mixing_level,
  )


def has_r1(generator: ConfigDict) -> bool:
  """Whether steps have the penalty R1."""
  return generator.loss in gan_losses.WITH_R1


def create(networks: Networks, key: Array) -> GanState:
  """A fresh state."""
  config = networks.config.generator
  with_path_length = has_path_length(config)
  has_lazy_r1 = gan_settings(networks.config).lazy_r1
  generator_tx, discriminator_tx = (
    make_adam(config.adam, config.learning_rate, lazy_interval=interval if is_lazy else 0)
    for interval, is_lazy in (
      (config.path_length_interval, with_path_length),
      (config.r1_interval, has_lazy_r1),
    )
  )
  lod = None if config.structure == 'fixed' else lod_of(make_schedule(networks.config).lod[0])
  return create_gan_state(
    key,
    networks.generator_model,
    networks.discriminator_model,
    generator_tx,
    discriminator_tx,
    lod=lod,
    with_path_length=with_path_length,
  )


def program(config: ConfigDict, with_r1: bool, with_path_length: bool, floor: int) -> Callable:
  """`(state, batch) -> (state, metrics)`, over all devices; `floor` of the upper resolutions are left out."""
  return parallel.pmap_step(
    functools.partial(
      gan_step,
      settings=gan_settings(config, floor),
      with_r1=with_r1,
      with_path_length=with_path_length,
      axis_name=parallel.AXIS,
    )
  )


def step_fn(config: ConfigDict, schedule: Schedule) -> Callable[[int, GanState, GanBatch], PyTree]:
  """`(step, state, batch) -> (state, metrics)`; one compiled program by resolution and regularisations."""
  is_growing = config.generator.structure != 'fixed'

  compiled = functools.cache(functools.partial(program, config))

  def run_step(step: int, state: GanState, batch: GanBatch) -> PyTree:
    if schedule.is_restart(step):
      # Waits for the step before: on a CPU of several devices small programs started between the parts of an
      # unfinished collective can take the threads that its other parts need.
      state = parallel.replicate(restart_optimisers(jax.block_until_ready(state)))
    lod = lod_of(schedule.lod[step])
    if is_growing:
      state = state.replace(lod=parallel.replicate(Lod(lod.floor, jnp.float32(lod.share))))
    with_r1 = has_r1(config.generator) and step % config.generator.r1_interval == 0
    with_path_length = has_path_length(config.generator) and step % config.generator.path_length_interval == 0
    return compiled(with_r1, with_path_length, lod.floor)(state, batch)

  return run_step


def batch_fn(experiment: Experiment, schedule: Schedule) -> Callable[[int], GanBatch]:
  """`step -> batch`, random access: shuffled epochs without end, cut into the minibatches of the schedule."""
  dataset, config = experiment.splits.generator, experiment.config
  unit = int(np.gcd.reduce(schedule.batch_size))
  order = data.index_batches(len(dataset), unit, config.seed)

  def batch(step: int) -> GanBatch:
    first, end = schedule.first_image[step : step + 2] // unit
    index = np.concatenate([order[int(k)] for k in range(first, end)])
    rng = np.random.default_rng((config.seed, step))
    own = parallel.own_part(index)
    images = dataset.images[own]
    if config.generator.mirror:
      is_mirrored = parallel.own_part(rng.random(len(index)) < 0.5)
      images[is_mirrored] = images[is_mirrored][:, :, ::-1]
    labels: PyTree = None
    drawn: PyTree = None
    if config.generator.conditional:
      drawn_at = parallel.own_part(rng.integers(len(dataset), size=len(index)))
      labels, drawn = dataset.labels[own], dataset.labels[drawn_at]
    return parallel.shard(GanBatch(to_float(images), labels, drawn))

  return batch
