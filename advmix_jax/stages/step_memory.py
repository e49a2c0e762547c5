"""What the compiled steps of a run need of a device's memory, without data, weights or arrays.

    for figures in step_memory.measure(networks):
      print(figures['step'], figures['total'])

The steps are those that the stages compile, for shapes alone.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from advmix_jax import encode_refill, parallel, refill
from advmix_jax.config_keys import has_path_length
from advmix_jax.methods import NEEDS_LATENTS
from advmix_jax.models import vgg16
from advmix_jax.models.growing import Lod
from advmix_jax.stages import encode, encode_loss, encode_start, evaluate, train, train_gan
from advmix_jax.stages.networks import CHANNELS, Networks, shapes
from advmix_jax.training import seeds
from advmix_jax.training.gan_state import GanBatch
from advmix_jax.types import Batch, PyTree

Step = tuple[Callable[..., Any], tuple]  # A compiled function, and the shapes of its arguments.


def measure(networks: Networks, stages: tuple[str, ...]) -> Iterator[dict[str, Any]]:
  """Compiles the steps of the named stages one after another, for each device's share of the work.

  Returns:
    For each `{'step', 'batch_size', 'part_size', 'arguments', 'temporaries', 'outputs', 'shared', 'total'}`:
    its name, images in it on each device, of those how many at a time, and bytes on each device. `shared` are
    outputs in the memory of donated arguments; the total counts them once.
  """
  for name, batch_size, part_size, (fn, arguments) in steps(networks, stages):
    found = fn.lower(*arguments).compile().memory_analysis()  # type: ignore[attr-defined]
    figures = {
      'arguments': found.argument_size_in_bytes,
      'temporaries': found.temp_size_in_bytes,
      'outputs': found.output_size_in_bytes,
      'shared': found.alias_size_in_bytes,
    }
    total = figures['arguments'] + figures['temporaries'] + figures['outputs'] - figures['shared']
    own = batch_size // parallel.num_devices()
    yield {'step': name, 'batch_size': own, 'part_size': part_size or own, **figures, 'total': total}


def steps(networks: Networks, stages: tuple[str, ...]) -> Iterator[tuple[str, int, int, Step]]:
  """Name, minibatch and part size of each step, and the step."""
  config = networks.config
  is_trained = not config.generator.path and networks.generator_model.resolution == config.data.resolution
  if 'train_gan' in stages and is_trained:
    for floor in gan_floors(config):
      size = train_gan.by_resolution(config.generator, 'batch_size', floor)
      part_size = train_gan.gan_settings(config, floor).part_size
      where = f', {networks.generator_model.resolution >> floor} px' if is_growing(config) else ''
      for name, with_r1, with_path_length in gan_programs(config):
        yield name + where, size, part_size, gan_step(networks, with_r1, with_path_length, floor)
  if 'encode' in stages:
    if config.encode.init == 'encoder':
      yield 'encode/start', config.encode.init_batch_size, 0, start_step(networks)
    yield 'encode', config.encode.batch_size, 0, encode_batch(networks)
  if 'train' in stages:
    for method in config.train.methods:
      step = train_step(networks, method)
      yield f'train/{method}', config.train.batch_size, config.train.micro_batch, step
  if 'evaluate' in stages:
    yield 'evaluate', config.evaluate.batch_size, 0, evaluate_batch(networks)


def gan_programs(config: Any) -> list[tuple[str, bool, bool]]:
  """Names of the programs of GAN training at a resolution, with R1 or not, with path lengths or not."""
  has_r1 = train_gan.has_r1(config.generator)
  with_path_length = has_path_length(config.generator)
  plain = not (has_r1 and config.generator.r1_interval == 1)
  return [
    *([('gan', False, False)] if plain else []),
    *([('gan with R1', True, False)] if has_r1 else []),
    *([('gan with R1 and path lengths', has_r1, True)] if with_path_length else []),
  ]


def is_growing(config: Any) -> bool:
  """Whether the networks begin at a lower resolution."""
  return config.generator.structure != 'fixed'


def gan_floors(config: Any) -> list[int]:
  """How many of the upper resolutions are left out, from the first steps of training to the last."""
  floors = {int(lod) for lod in np.unique(train_gan.make_schedule(config).lod)}
  return sorted(floors, reverse=True)


@functools.lru_cache(maxsize=1)  # Networks that grow have the same for each of their steps.
def gan_state(networks: Networks) -> PyTree:
  """State of GAN training."""
  return shapes(lambda key: train_gan.create(networks, key))


def gan_step(networks: Networks, with_r1: bool, with_path_length: bool, floor: int) -> Step:
  """One step of GAN training; images have full resolution whatever is drawn."""
  config = networks.config
  state = gan_state(networks)
  if state.lod is not None:
    share: PyTree = jax.ShapeDtypeStruct((), jnp.float32)
    state = state.replace(lod=Lod(floor, share))
  size = train_gan.by_resolution(config.generator, 'batch_size', floor)
  labels = numbers(size) if config.generator.conditional else None
  batch = GanBatch(images(size, networks.generator_model.resolution), labels, labels)
  return train_gan.program(config, with_r1, with_path_length, floor), (state, shard(batch))


def encode_parameters(networks: Networks) -> PyTree:
  """Of decoder and features."""
  params: PyTree = {}
  if networks.config.encode.features == 'discriminator':
    params = networks.discriminator_shapes
  if networks.config.encode.features == 'vgg16':
    params = vgg16.parameter_shapes(encode_loss.feature_layers(networks))
  return {'decoder': networks.generator_shapes, 'features': params}


def start_step(networks: Networks) -> Step:
  """One step of training the encoder's start."""
  features_fn = encode_loss.features_function(networks)
  state = shapes(lambda key: encode_start.create_start(networks, features_fn, key))
  given = encode_parameters(networks)
  state = state.replace(decoder_params=given['decoder'], feature_params=given['features'])
  size = networks.config.encode.init_batch_size
  batch = {'index': numbers(size), 'images': images(size, networks.encode_resolution)}
  return encode_start.start_step(networks), (state, shard(batch))


def encode_batch(networks: Networks) -> Step:
  """Steps of Algorithm 1, for as many slots as a batch has images."""
  config = networks.config
  features_fn, settings = encode_loss.features_function(networks), encode_loss.encode_settings(networks)
  shared = encode_parameters(networks) | {'key': key(), 'waiting': jax.ShapeDtypeStruct((), jnp.bool_)}
  if config.encode.init == 'encoder':
    shared['start'] = shapes(lambda key: encode_start.create_start(networks, features_fn, key)).params
  if config.encode.rule == 'whitened_adam':
    size = networks.encode_decoder.num_layers * networks.encode_decoder.w_size
    shared['whitening'] = jax.ShapeDtypeStruct((size, size), jnp.float32)
  size, side = config.encode.batch_size, networks.encode_resolution
  start_fn = functools.partial(encode_start.start_latents, networks)
  slots = encode_refill.slot_shapes(start_fn, features_fn, shared, size, (side, side, CHANNELS))
  flags = jax.ShapeDtypeStruct((size,), jnp.bool_)
  entry = encode_refill.Entry(flags, flags, images(size, side, jnp.uint8), numbers(size))
  return encode.advance_fn(networks, features_fn, settings), (shared, shard(slots), shard(entry))


def train_step(networks: Networks, method: str) -> Step:
  """One step of training the classifier, its attack included."""
  config, mixes = networks.config, method in NEEDS_LATENTS
  state = networks.classifier_shapes
  size = config.train.batch_size
  latents: PyTree = None
  if mixes:
    shape = (size, networks.decoder.num_layers, networks.decoder.w_size)
    latents = jax.ShapeDtypeStruct(shape, jnp.float32)
    generator = networks.generator_shapes
    state = state.replace(decoder=networks.decoder, generator=generator)
  batch = Batch(
    images=images(size, config.data.resolution),
    labels=numbers(size),
    latents=latents,
    index=numbers(size),
  )
  given = shard(batch)
  if config.train.num_seeds > 1:
    own = {name: getattr(state, name) for name in seeds.OF_A_SEED}
    state = state.replace(**with_axis(own, 0, config.train.num_seeds))
    given = with_axis(given, 1, config.train.num_seeds)
  return train.step_fn(config, method), (state, given)


def with_axis(tree: PyTree, at: int, size: int) -> PyTree:
  """Shapes with one more axis."""
  return jax.tree.map(lambda x: jax.ShapeDtypeStruct((*x.shape[:at], size, *x.shape[at:]), x.dtype), tree)


def evaluate_batch(networks: Networks) -> Step:
  """Steps of the attack in evaluation, for as many slots as a batch has images."""
  config = networks.config
  shared = {
    'classifier': networks.classifier_shapes.params,
    'decoder': networks.generator_shapes,
    'key': key(),
    'waiting': jax.ShapeDtypeStruct((), jnp.bool_),
  }
  size = config.evaluate.batch_size
  slots = refill.slot_shapes(evaluate.attack_settings(config), networks.decoder, shared, size)
  flags = jax.ShapeDtypeStruct((size,), jnp.bool_)
  w = jax.ShapeDtypeStruct((size, networks.decoder.num_layers, networks.decoder.w_size), jnp.float32)
  entry = refill.Entry(flags, flags, w, *[numbers(size)] * 3)
  return evaluate.advance_fn(networks), (shared, shard(slots), shard(entry))


def key() -> PyTree:
  """The shape of a key."""
  return jax.eval_shape(lambda: jax.random.key(0))


def numbers(size: int) -> PyTree:
  """The shape of a number for each image."""
  return jax.ShapeDtypeStruct((size,), jnp.int32)


def images(size: int, resolution: int, dtype: Any = jnp.float32) -> PyTree:
  """The shape of a batch of images."""
  return jax.ShapeDtypeStruct((size, resolution, resolution, CHANNELS), dtype)


def shard(tree: PyTree) -> PyTree:
  """Shapes of `parallel.shard(tree)`."""
  devices = parallel.num_devices()
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct((devices, x.shape[0] // devices, *x.shape[1:]), x.dtype), tree
  )
