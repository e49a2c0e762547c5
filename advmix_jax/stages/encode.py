"""Stage 2: encodes the images that are mixed: all training images, and the test images that are attacked.

Latents are written in shards as these become whole, so a rerun encodes only what is in none.
"""

import functools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import jax
import numpy as np
import optax

from advmix_jax import data, encode_refill, encoding, hosts, interruption, parallel
from advmix_jax.curvature import inverse_curvature
from advmix_jax.encode_refill import Entry, Found, Stopping
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
    schedule=e.schedule,
  )


def stopping(networks: Networks) -> Stopping:
  """When an image is finished early, as the `encode.*` keys have it."""
  e = networks.config.encode
  return Stopping(e.target_error, e.tolerance, e.patience)


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
  named = parts(experiment, experiment.splits)
  todo = hosts.agreed(lambda: [name for name in named if not experiment.latents_file(name).exists()])
  if not todo:
    return
  named = parts(experiment, hosts.first_before_others(lambda: experiment.encode_splits))
  features_fn, shared = load_shared(experiment)
  num_slots = experiment.config.encode.batch_size // hosts.count()
  encoder = Encoder(experiment, features_fn, encode_settings(experiment), num_slots)
  shared = parallel.replicate(shared)
  for name in todo:
    given = shared | {'key': parallel.replicate(experiment.key(f'encode/{name}'))}
    encode_part(experiment, name, named[name], encoder, given)


def load_shared(experiment: Experiment) -> tuple[encoding.FeaturesFn, PyTree]:
  """What all images are encoded with: feature function; parameters of decoder, features, start, steps."""
  features_fn = features_function(experiment)
  shared = {'decoder': experiment.load_generator(), 'features': load_feature_params(experiment)}
  if experiment.config.encode.init == 'encoder':
    shared['start'] = train_start(experiment, features_fn, shared)
  if experiment.config.encode.rule == 'gauss_newton':
    find = functools.partial(
      inverse_curvature, experiment.encode_decoder, features_fn, encode_settings(experiment)
    )
    key = experiment.key('encode/curvature')
    shared['inverse_curvature'] = jax.jit(find)(shared['decoder'], shared['features'], key)
  return features_fn, shared


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


def advance_fn(
  networks: Networks, features_fn: encoding.FeaturesFn, settings: EncodeSettings
) -> Callable[[PyTree, PyTree, PyTree], tuple[PyTree, PyTree]]:
  """`(shared, slots, entry) -> slots, found`, over all devices; see `encode_refill.advance`."""
  start_fn = functools.partial(start_latents, networks)
  return parallel.pmap_carry(
    functools.partial(
      encode_refill.advance, settings, stopping(networks), start_fn, features_fn, networks.encode_decoder
    )
  )


class Encoder:
  """Algorithm 1 in slots, over all devices of this process; compiled once."""

  def __init__(
    self, experiment: Experiment, features_fn: encoding.FeaturesFn, settings: EncodeSettings, num_slots: int
  ):
    start_fn = functools.partial(start_latents, experiment)
    self._num_slots = num_slots
    self._empty = functools.partial(encode_refill.empty_slots, start_fn, features_fn)
    self._advance = advance_fn(experiment, features_fn, settings)

  def __call__(
    self, shared: PyTree, part: Dataset, positions: Iterable[int]
  ) -> Iterator[tuple[np.ndarray, Found]]:
    """Images of a part as they are finished; see `encode_refill.encode_all`."""

    def advance(slots: PyTree, entry: Entry, waiting: bool) -> tuple[PyTree, Found]:
      interruption.check()
      slots, found = self._advance(shared | {'waiting': np.bool_(waiting)}, slots, parallel.shard(entry))
      return slots, parallel.unshard(found)

    slots = parallel.distribute(self._empty(shared, self._num_slots, part.images.shape[1:]))
    return encode_refill.encode_all(advance, slots, part.images, part.index, positions, self._num_slots)


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
  path = start_file(experiment)
  real = experiment.encode_splits.train.images

  create = functools.partial(create_start, experiment, features_fn)
  if hosts.agreed(path.exists):
    return load_tree(path, shapes(create).params)
  state = jax.jit(create)(experiment.key('encode/start'))
  state = state.replace(decoder_params=shared['decoder'], feature_params=shared['features'])
  batch_size = config.encode.init_batch_size
  order = data.index_batches(len(real), batch_size, config.seed)
  index = parallel.own_part(np.arange(batch_size, dtype=np.int32))
  step = start_step(experiment)

  state = run_loop(
    Loop(
      name='encoder',
      folder=path.parent / 'checkpoints',
      num_steps=round(config.encode.init_kimg * 1000 / batch_size),
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
  return jax.tree.map(np.asarray, state.params)


def encode_part(experiment: Experiment, name: str, part: Dataset, encoder: Encoder, shared: PyTree) -> None:
  """Encodes one part; shards already there are kept, the others are shared by the processes.

  An image enters as soon as a slot is free, whatever its shard: no slot waits for a shard to become whole.
  """
  size = experiment.config.encode.shard_size
  folder = experiment.latents_file(name).parent
  shards = {
    folder / f'shard-{i:05}.npz': np.arange(start, min(start + size, len(part)))
    for i, start in enumerate(range(0, len(part), size))
  }
  files = list(shards)
  missing = hosts.agreed(lambda: absent(files))
  todo = {i: files[i] for i in hosts.own(missing)}
  positions = [p for file in todo.values() for p in shards[file]]
  pending: dict[int, list[tuple[np.ndarray, Found]]] = {i: [] for i in todo}
  done = len(part) - sum(len(shards[files[i]]) for i in missing)
  with track(f'encode {name}', done + len(positions), done) as update:
    for places, found in encoder(shared, part, positions):
      for i in np.unique(places // size):
        here = places // size == i
        pending[i].append((places[here], jax.tree.map(lambda x, here=here: x[here], found)))
        if sum(len(at) for at, _ in pending[i]) == len(shards[todo[i]]):
          write_shard(todo[i], part, pending.pop(i))
      done += len(places)
      update(done, f'error {np.median(found.error):.4f}')
  hosts.gather()  # The shards of all processes are there.
  hosts.by_first(lambda: write_manifest(experiment, name, part, files))


def absent(files: list[Path]) -> list[int]:
  """Which of these are not there. By the folder's list: a network file system, asked for a file that is not
  there, would for some time not see it when another machine has made it."""
  there = {file.name for file in files[0].parent.glob('*')} if files else set()
  return [i for i, file in enumerate(files) if file.name not in there]


def write_shard(file: Path, part: Dataset, pieces: list[tuple[np.ndarray, Found]]) -> None:
  """Puts what was found, in any order, into the order of the images."""
  positions = np.concatenate([at for at, _ in pieces])
  order = np.argsort(positions)
  found = jax.tree.map(lambda *x: np.concatenate(x)[order], *(found for _, found in pieces))
  write_arrays(file, w=found.w, error=found.error, taken=found.taken, index=part.index[positions[order]])


def write_manifest(experiment: Experiment, name: str, part: Dataset, files: list[Path]) -> None:
  """What a whole part came to; its presence says that the part is whole."""
  shards = [read_arrays(file) for file in files]
  errors, taken = (np.concatenate([shard[key] for shard in shards]) for key in ('error', 'taken'))
  worst = np.argsort(-errors, kind='stable')[:WORST_LISTED]
  write_json(
    experiment.latents_file(name),
    {
      'shards': [file.name for file in files],
      'num_images': len(part),
      'error': {'mean': float(errors.mean()), 'median': float(np.median(errors)), 'max': float(errors.max())},
      'steps': {'mean': float(taken.mean()), 'median': float(np.median(taken)), 'max': int(taken.max())},
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


def load_latents(experiment: Experiment, name: str) -> encoding.Encoded[np.ndarray]:
  """All latents of a part, in order."""
  manifest = experiment.latents_file(name)
  require(manifest, 'encode')
  shards = [read_arrays(manifest.parent / file) for file in read_json(manifest)['shards']]
  return encoding.Encoded(*(np.concatenate([s[key] for s in shards]) for key in ('w', 'error')))
