"""The network whose guess Algorithm 1 starts from: what it is, and its training."""

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import optax

from advmix_jax import data, encoding, hosts, parallel
from advmix_jax.interop.weights import save_tree
from advmix_jax.models.image_encoder import ImageEncoder
from advmix_jax.ranges import to_float
from advmix_jax.stages.encode_loss import encode_settings, features_function, load_feature_params
from advmix_jax.stages.experiment import Experiment
from advmix_jax.stages.networks import CHANNELS, Networks, compute_dtype, jit_init
from advmix_jax.training.amortised import AmortisedState, amortised_step, create_amortised_state
from advmix_jax.training.loop import Loop, run_loop
from advmix_jax.types import Array, PyTree


def start_model(networks: Networks) -> ImageEncoder:
  """The network whose guess Algorithm 1 starts from."""
  decoder, config = networks.decoder, networks.config
  return ImageEncoder(
    tuple(config.encode.init_fmaps), decoder.num_layers, decoder.w_size, dtype=compute_dtype(config)
  )


def start_file(experiment: Experiment) -> Path:
  """Parameters of that network."""
  return experiment.workdir.path / 'encode' / 'start' / 'encoder.safetensors'


def start_latents(networks: Networks, shared: PyTree, images: Array) -> Array:
  """`[B, L, D]` from which Algorithm 1 starts for `images [B, H, W, C]` in [-1, 1]."""
  decoder = networks.decoder
  if 'start' not in shared:
    return encoding.mean_start(decoder, shared['decoder'], images.shape[0])
  w_avg = decoder.w_avg(shared['decoder'])
  start: PyTree = start_model(networks).apply({'params': shared['start']}, images, w_avg)
  return start


def create_start(networks: Networks, features_fn: encoding.FeaturesFn, key: Array) -> AmortisedState:
  """A fresh start encoder in training, without the parameters of decoder and features."""
  size = networks.encode_resolution
  return create_amortised_state(
    key,
    start_model(networks),
    (size, size, CHANNELS),
    optax.adam(networks.config.encode.init_learning_rate, b2=0.99),
    networks.encode_decoder,
    features_fn,
  )


def start_step(networks: Networks) -> Callable[[AmortisedState, PyTree], PyTree]:
  """`(state, batch {index, images}) -> (state, metrics)`, over all devices."""
  settings = encode_settings(networks)
  return parallel.pmap_step(functools.partial(amortised_step, settings=settings, axis_name=parallel.AXIS))


def train_start(experiment: Experiment) -> None:
  """Trains the amortised start and writes its parameters."""
  config, features_fn = experiment.config, features_function(experiment)
  path = start_file(experiment)
  real = experiment.encode_splits.train.images

  create = functools.partial(create_start, experiment, features_fn)
  state = jit_init(create)(experiment.key('encode/start'))
  state = state.replace(
    decoder_params=experiment.load_generator(), feature_params=load_feature_params(experiment)
  )
  batch_size = config.encode.init_batch_size
  order = data.index_batches(len(real), batch_size, config.seed)
  index = parallel.own_part(np.arange(batch_size, dtype=np.int32))
  step = start_step(experiment)

  state = run_loop(
    Loop(
      name='encoder',
      folder=path.parent / 'checkpoints',
      num_steps=max(1, round(config.encode.init_kimg * 1000 / batch_size)),
      batch_size=2 * batch_size,
      step_fn=lambda i, state, batch: step(state, batch),
      batch_fn=lambda i: parallel.shard(
        {'index': index, 'images': to_float(real[parallel.own_part(order[i])])}
      ),
      saved=('step', 'key', 'params', 'opt_state'),
      place_fn=parallel.replicate_first,
    ),
    state,
    experiment.workdir,
  )
  hosts.by_first(lambda: save_tree(path, state.params))
