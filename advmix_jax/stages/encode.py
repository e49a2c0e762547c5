"""Stage 2: encodes the images that are mixed: all training images, and the test images that are attacked.

Latents are written in shards as they are made, so a rerun goes on after the last whole shard.
"""

import functools
from collections.abc import Callable

import jax
import numpy as np
import optax

from advmix_jax import data, encoding, interruption, mixing, parallel
from advmix_jax.encoding import EncodeSettings
from advmix_jax.interop.vgg16_weights import read_vgg16
from advmix_jax.interop.weights import load_tree, save_tree
from advmix_jax.models import vgg16
from advmix_jax.models.discriminator import block_names
from advmix_jax.models.image_encoder import ImageEncoder
from advmix_jax.progress import track
from advmix_jax.ranges import to_float
from advmix_jax.stages.experiment import Experiment, require
from advmix_jax.stages.networks import CHANNELS, Networks, compute_dtype, shapes
from advmix_jax.training.amortised import AmortisedState, amortised_step, create_amortised_state
from advmix_jax.training.loop import Loop, run_loop
from advmix_jax.types import Array, Dataset, PyTree, Splits
from advmix_jax.workdir import read_arrays, read_json, write_arrays, write_json

WORST_LISTED = 20


def encode_settings(networks: Networks) -> EncodeSettings:
  """Algorithm 1 as the `encode.*` keys have it."""
  e = networks.config.encode
  return EncodeSettings(
    num_steps=e.num_steps,
    learning_rate=e.learning_rate,
    final_learning_rate=e.final_learning_rate,
    pixel_weight=e.pixel_weight,
    feature_weight=e.feature_weight,
    mixing_weight=e.mixing_weight,
    layer_weights=tuple(zip(feature_layers(networks), e.layer_weights, strict=False)),
  )


def feature_layers(networks: Networks) -> tuple[str, ...]:
  """Layers whose activations are compared; none with `encode.features=pixel`."""
  config = networks.config.encode
  if config.features == 'pixel':
    return ()
  default = vgg16.PAPER_LAYERS if config.features == 'vgg16' else block_names(networks.encode_resolution)
  return tuple(config.feature_layers) or default


def features_function(networks: Networks) -> encoding.FeaturesFn:
  """`(parameters, images) -> {layer: activations}` of the features that `encode.features` names."""
  config, layers = networks.config.encode, feature_layers(networks)
  if config.features == 'pixel':
    return lambda params, images: {}
  if config.features == 'vgg16':
    dtype = compute_dtype(networks.config)
    return functools.partial(vgg16.vgg16_features, layers=layers, size=config.vgg16_resize, dtype=dtype)
  model = networks.discriminator_model

  def features_fn(params, images):
    activations: PyTree = model.apply({'params': params}, images, method='features')
    return {name: activations[name] for name in layers}

  return features_fn


def load_feature_params(experiment: Experiment) -> PyTree:
  """The parameters of `features_function`."""
  config = experiment.config.encode
  if config.features == 'pixel':
    return {}
  if config.features == 'vgg16':
    return read_vgg16(config.vgg16_weights, feature_layers(experiment), config.vgg16_convention)
  return experiment.load_discriminator()


def parts(experiment: Experiment, splits: Splits) -> dict[str, Dataset]:
  """What is encoded, by name, from `splits` of any resolution."""
  everything = {'train': splits.train}
  attacked: Dataset = getattr(splits, experiment.config.evaluate.split)
  positions = experiment.attacked_positions
  everything[experiment.config.evaluate.split] = Dataset(
    images=attacked.images[positions],
    labels=attacked.labels[positions],
    index=positions,
    colours=None,
    num_classes=attacked.num_classes,
    class_names=attacked.class_names,
    files=tuple(attacked.files[i] for i in positions) if attacked.files else (),
  )
  return everything


def run(experiment: Experiment) -> None:
  """Writes `encode/PART/shard-NNNNN.npz` and, when a part is whole, `encode/PART/manifest.json`."""
  todo = {
    name: part
    for name, part in parts(experiment, experiment.encode_splits).items()
    if not experiment.latents_file(name).exists()
  }
  if not todo:
    return
  features_fn, shared = load_shared(experiment)
  encode_fn = encoder(experiment, features_fn)
  shared = parallel.replicate(shared)
  for name, part in todo.items():
    given = shared | {'key': parallel.replicate(experiment.key(f'encode/{name}'))}
    encode_part(experiment, name, part, functools.partial(encode_fn, given))


def load_shared(experiment: Experiment) -> tuple[encoding.FeaturesFn, PyTree]:
  """What all images are encoded with: feature function, and parameters of decoder, features and start."""
  features_fn = features_function(experiment)
  shared = {'decoder': experiment.load_generator(), 'features': load_feature_params(experiment)}
  if experiment.config.encode.init == 'encoder':
    shared['start'] = train_start(experiment, features_fn, shared)
  return features_fn, shared


def start_model(networks: Networks) -> ImageEncoder:
  """The network whose guess Algorithm 1 starts from."""
  decoder, config = networks.decoder, networks.config
  return ImageEncoder(
    tuple(config.encode.init_fmaps), decoder.num_layers, decoder.w_size, dtype=compute_dtype(config)
  )


def start_latents(networks: Networks, shared: PyTree, images: Array) -> Array:
  """`[B, L, D]` from which Algorithm 1 starts for `images [B, H, W, C]` in [-1, 1]."""
  decoder = networks.decoder
  if 'start' not in shared:
    return encoding.mean_start(decoder, shared['decoder'], images.shape[0])
  w_avg = decoder.w_avg(shared['decoder'])
  start: PyTree = start_model(networks).apply({'params': shared['start']}, images, w_avg)
  return start


def encoder(networks: Networks, features_fn: encoding.FeaturesFn) -> Callable[[PyTree, PyTree], PyTree]:
  """`(shared, batch {images, index}) -> Encoded`, over all devices."""
  decoder, settings = networks.encode_decoder, encode_settings(networks)

  def encode_batch(shared, batch):
    images = to_float(batch['images'])
    start = start_latents(networks, shared, images)
    keys = mixing.example_keys(shared['key'], batch['index'])
    return encoding.encode(
      decoder, features_fn, settings, shared['decoder'], shared['features'], keys, images, start
    )

  return parallel.pmap_map(encode_batch)


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


def train_start(experiment: Experiment, features_fn: encoding.FeaturesFn, shared: PyTree) -> PyTree:
  """Trains the amortised start, or reads it; its parameters."""
  config = experiment.config
  path = experiment.workdir.path / 'encode' / 'start' / 'encoder.safetensors'
  real = experiment.encode_splits.train.images

  create = functools.partial(create_start, experiment, features_fn)
  if path.exists():
    return load_tree(path, shapes(create).params)
  state = jax.jit(create)(experiment.key('encode/start'))
  state = state.replace(decoder_params=shared['decoder'], feature_params=shared['features'])
  batch_size = config.encode.init_batch_size
  order = data.index_batches(len(real), batch_size, config.seed)
  index = np.arange(batch_size, dtype=np.int32)
  step = start_step(experiment)

  state = run_loop(
    Loop(
      name='encoder',
      folder=path.parent / 'checkpoints',
      num_steps=round(config.encode.init_kimg * 1000 / batch_size),
      batch_size=2 * batch_size,
      step_fn=lambda i, state, batch: step(state, batch),
      batch_fn=lambda i: parallel.shard({'index': index, 'images': to_float(real[order[i]])}),
      saved=('step', 'key', 'params', 'opt_state'),
      place_fn=parallel.replicate,
    ),
    state,
    experiment.workdir,
  )
  save_tree(path, state.params)
  return jax.tree.map(np.asarray, state.params)


def encode_part(
  experiment: Experiment, name: str, part: Dataset, encode_batch: Callable[[PyTree], PyTree]
) -> None:
  """Encodes one part shard by shard; shards already there are kept."""
  config = experiment.config.encode
  folder = experiment.latents_file(name).parent
  starts = range(0, len(part), config.shard_size)
  files = [folder / f'shard-{i:05}.npz' for i in range(len(starts))]
  with track(f'encode {name}', len(part)) as update:
    for file, start in zip(files, starts, strict=True):
      interruption.check()
      stop = min(start + config.shard_size, len(part))
      if not file.exists():
        results = []
        for first in range(start, stop, config.batch_size):
          positions = np.arange(first, min(first + config.batch_size, stop))
          results.append(encode_padded(part, positions, config.batch_size, encode_batch))
          update(int(positions[-1]) + 1, f'error {np.median(results[-1].error):.4f}')
        w, error = (np.concatenate(x) for x in zip(*results, strict=True))
        write_arrays(file, w=w, error=error, index=part.index[start:stop])
      update(stop, '')
  errors = np.concatenate([read_arrays(file)['error'] for file in files])
  worst = np.argsort(-errors, kind='stable')[:WORST_LISTED]
  write_json(
    experiment.latents_file(name),
    {
      'shards': [file.name for file in files],
      'num_images': len(part),
      'error': {'mean': float(errors.mean()), 'median': float(np.median(errors)), 'max': float(errors.max())},
      'variance_of_images': variance(part.images),
      'worst': [
        {'index': int(part.index[i]), 'label': int(part.labels[i]), 'error': float(errors[i])}
        | ({'file': part.files[i]} if part.files else {})
        for i in worst
      ],
    },
  )
  experiment.workdir.log(0, {f'encode/{name}/error/mean': float(errors.mean())})


def variance(images: np.ndarray) -> float:
  """Of uint8 images on the scale of [-1, 1]; exact, in parts: a large data set does not fit as floats."""
  total = squares = 0
  for start in range(0, len(images), 1024):
    chunk = images[start : start + 1024].astype(np.int64)
    total, squares = total + int(chunk.sum()), squares + int((chunk * chunk).sum())
  return (squares / images.size - (total / images.size) ** 2) / 127.5**2


def encode_padded(
  part: Dataset, positions: np.ndarray, batch_size: int, encode_batch: Callable[[PyTree], PyTree]
) -> encoding.Encoded[np.ndarray]:
  """Encodes up to `batch_size` images with a program for exactly that many."""
  padded = np.resize(positions, batch_size)
  batch = {'images': part.images[padded], 'index': part.index[padded].astype(np.int32)}
  result = parallel.unshard(encode_batch(parallel.shard(batch)))
  return jax.tree.map(lambda x: x[: len(positions)], result)


def load_latents(experiment: Experiment, name: str) -> encoding.Encoded[np.ndarray]:
  """All latents of a part, in order."""
  manifest = experiment.latents_file(name)
  require(manifest, 'encode')
  shards = [read_arrays(manifest.parent / file) for file in read_json(manifest)['shards']]
  return encoding.Encoded(*(np.concatenate([s[key] for s in shards]) for key in ('w', 'error')))
