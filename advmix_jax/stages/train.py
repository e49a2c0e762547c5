"""Stage 3: trains one classifier with each method, on the same images, in the same order, for as long."""

import functools
from collections.abc import Callable

import jax
import numpy as np
from ml_collections import ConfigDict

from advmix_jax import data, hosts, parallel
from advmix_jax.interop.weights import save_tree
from advmix_jax.methods import METHODS, NEEDS_LATENTS
from advmix_jax.ranges import to_float
from advmix_jax.stages.encoded import load_latents
from advmix_jax.stages.experiment import Experiment, require
from advmix_jax.training import seeds
from advmix_jax.training.classifier import train_step
from advmix_jax.training.loop import Loop, run_loop
from advmix_jax.types import Batch, PyTree, TrainState


def run(experiment: Experiment) -> None:
  """Writes `train/METHOD/classifier.safetensors` for each of `train.methods`; of several seeds
  `train/METHOD/seed-N/classifier.safetensors`."""
  todo = hosts.agreed(
    lambda: [
      method
      for method in experiment.config.train.methods
      if not all(experiment.classifier_file(name).exists() for name in experiment.classifiers(method))
    ]
  )
  if any(method in NEEDS_LATENTS for method in todo):
    require(experiment.latents_file('train'), 'encode')
  for method in todo:
    train_method(experiment, method)


def step_fn(config: ConfigDict, method: str) -> Callable[[TrainState, Batch], PyTree]:
  """`(state, batch) -> (state, metrics)`, over all devices; of several seeds as `training.seeds` has them."""
  step = functools.partial(
    train_step,
    perturb_fn=METHODS[method](config, axis_name=parallel.AXIS),
    ema_decay=config.train.ema_decay,
    part_size=config.train.micro_batch,
    axis_name=parallel.AXIS,
  )
  if config.train.num_seeds == 1:
    return parallel.pmap_step(step)
  return parallel.pmap_step(seeds.step_all(step, one_by_one=jax.default_backend() == 'cpu'))


def train_method(experiment: Experiment, method: str) -> None:
  """Trains with one method."""
  config = experiment.config
  mixes = method in NEEDS_LATENTS
  train = experiment.splits.train
  latents = load_latents(experiment, 'train').w if mixes else None
  orders = [data.index_batches(len(train), config.train.batch_size, seed) for seed in experiment.train_seeds]
  step = step_fn(config, method)

  def batch_of(positions: np.ndarray) -> Batch:
    positions = parallel.own_part(positions)
    batch = Batch(
      images=to_float(train.images[positions]),
      labels=train.labels[positions],
      latents=None if latents is None else latents[positions],
      index=train.index[positions].astype(np.int32),
    )
    return parallel.shard(batch)

  def batch_fn(step: int) -> Batch:
    batches = [batch_of(order[step]) for order in orders]
    if len(batches) == 1:
      return batches[0]
    return jax.tree.map(lambda *x: np.stack(x, axis=1), *batches)  # [devices, S, B / devices, ...]

  state = run_loop(
    Loop(
      name=f'train/{method}',
      folder=experiment.workdir.path / 'train' / method / 'checkpoints',
      num_steps=max(1, round(config.train.num_epochs * len(train) / config.train.batch_size)),
      batch_size=config.train.batch_size * len(orders),
      step_fn=lambda i, state, batch: step(state, batch),
      batch_fn=batch_fn,
      saved=('step', 'key', 'params', 'opt_state', 'ema_params'),
      place_fn=parallel.replicate_first,
    ),
    experiment.new_classifier(with_generator=mixes),
    experiment.workdir,
  )
  params = state.params if state.ema_params is None else state.ema_params
  hosts.by_first(lambda: save(experiment, method, params))


def save(experiment: Experiment, method: str, params: PyTree) -> None:
  """Writes the parameters that are evaluated, of each seed."""
  names = experiment.classifiers(method)
  for i, name in enumerate(names):
    save_tree(experiment.classifier_file(name), params if len(names) == 1 else seeds.of_seed(params, i))
