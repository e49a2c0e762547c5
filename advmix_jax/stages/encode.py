"""Stage 2: encodes the images that are mixed: all training images, and the test images that are attacked.

Latents are written in shards as these become whole, so a rerun encodes only what is in none.
"""

import functools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from advmix_jax import encode_refill, encoding, hosts, interruption, parallel
from advmix_jax.curvature import mean_curvature, whitening
from advmix_jax.encode_refill import Entry, Found
from advmix_jax.encoding import EncodeSettings
from advmix_jax.interop.weights import load_tree
from advmix_jax.progress import track
from advmix_jax.stages.encode_loss import (
  encode_settings,
  features_function,
  load_feature_params,
  stopping,
)
from advmix_jax.stages.encode_start import create_start, start_file, start_latents, train_start
from advmix_jax.stages.encoded import Pieces, write_manifest, write_shard
from advmix_jax.stages.experiment import Experiment, require
from advmix_jax.stages.networks import Networks, shapes
from advmix_jax.stages.slot_calls import SlotCalls
from advmix_jax.stages.under_way import UnderWay
from advmix_jax.types import Dataset, PyTree, Splits
from advmix_jax.watchdog import Watchdog

CHANGED = ('w', 'opt_state', 'step', 'taken', 'least', 'since')  # Fields of `Slots` that steps change.


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
  if experiment.config.encode.init == 'encoder' and not hosts.agreed(start_file(experiment).exists):
    train_start(experiment)
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
    require(start_file(experiment), 'encode')
    create = functools.partial(create_start, experiment, features_fn)
    shared['start'] = load_tree(start_file(experiment), shapes(create).params)
  if experiment.config.encode.rule == 'whitened_adam':
    find = functools.partial(
      mean_curvature, experiment.encode_decoder, features_fn, encode_settings(experiment)
    )
    curvature = jax.jit(find)(shared['decoder'], shared['features'], experiment.key('encode/curvature'))
    shared['whitening'] = jax.jit(whitening)(curvature)
  return features_fn, shared


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


class Begun(NamedTuple):
  """Images that an earlier process had at work.

  Attributes:
    held: `[S]` bool, the slots that have one.
    position: `[S]` int64, which.
    changed: the fields `CHANGED` of the slots, on the devices.
  """

  held: np.ndarray
  position: np.ndarray
  changed: dict[str, PyTree]


class Encoder:
  """Algorithm 1 in slots, over all devices of this process; compiled once."""

  def __init__(
    self, experiment: Experiment, features_fn: encoding.FeaturesFn, settings: EncodeSettings, num_slots: int
  ):
    start_fn = functools.partial(start_latents, experiment)
    self._num_slots = num_slots
    self._empty = functools.partial(encode_refill.empty_slots, start_fn, features_fn)
    self._advance = SlotCalls(advance_fn(experiment, features_fn, settings))

  def __call__(
    self,
    shared: PyTree,
    part: Dataset,
    positions: Iterable[int],
    pause_fn: Callable[[PyTree, Entry], None] = lambda slots, entry: interruption.check(),
    begun: Begun | None = None,
  ) -> Iterator[tuple[np.ndarray, Found]]:
    """Images of a part as they are finished, those that were begun first; see `encode_all`, `SlotCalls`."""

    def advance(slots: PyTree, entry: Entry, waiting: bool) -> tuple[PyTree, Found]:
      return self._advance(shared, slots, entry, waiting, pause_fn)

    slots = self.empty(shared, part)
    if begun is not None:
      at = begun.position
      entry = Entry(begun.held, begun.held, part.images[at], part.index[at].astype(np.int32))
      slots = self._advance.enter(shared, slots, entry)._replace(**begun.changed)
    held = None if begun is None else (begun.held.copy(), begun.position.copy())
    return encode_refill.encode_all(advance, slots, part.images, part.index, positions, self._num_slots, held)

  def empty(self, shared: PyTree, part: Dataset) -> PyTree:
    """Idle slots, on the devices."""
    return parallel.distribute(self._empty(shared, self._num_slots, part.images.shape[1:]))


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
  pending: dict[int, Pieces] = {i: [] for i in todo}

  def take(places: np.ndarray, found: Found) -> None:
    for i in np.unique(places // size):
      here = places // size == i
      pending[i].append((places[here], jax.tree.map(lambda x, here=here: x[here], found)))
      if sum(len(at) for at, _ in pending[i]) == len(shards[todo[i]]):
        write_shard(todo[i], part, pending.pop(i))

  under_way = UnderWay(folder, 'images', experiment.config.checkpoint.seconds)
  wanted = np.array([p for file in todo.values() for p in shards[file]], np.int64)
  begun, there = load_begun(under_way, encoder, shared, part, wanted)
  for places, found in there:
    take(places, found)
  positions = np.setdiff1d(wanted, [p for pieces in pending.values() for at, _ in pieces for p in at])
  total = len(part) - sum(len(shards[files[i]]) for i in missing) + len(wanted)
  done = total - len(positions)
  if begun is not None:
    positions = np.setdiff1d(positions, begun.position[begun.held])

  def pause(slots: PyTree, entry: Entry) -> None:
    dog.step_done()
    if under_way.is_due():
      save_begun(under_way, slots, entry, [piece for pieces in pending.values() for piece in pieces])
    interruption.check()

  with (
    track(f'encode {name}', total, done) as update,
    Watchdog(f'encode {name}', experiment.config.watchdog) as dog,
  ):
    for places, found in encoder(shared, part, positions, pause, begun):
      take(places, found)
      done += len(places)
      update(done, f'error {np.median(found.error):.4f}')
  hosts.gather()  # The shards of all processes are there.
  hosts.by_first(lambda: write_manifest(experiment, name, part, files))
  under_way.remove()


def absent(files: list[Path]) -> list[int]:
  """Which of these are not there. By the folder's list: a network file system, asked for a file that is not
  there, would for some time not see it when another machine has made it."""
  there = {file.name for file in files[0].parent.glob('*')} if files else set()
  return [i for i, file in enumerate(files) if file.name not in there]


def save_begun(under_way: UnderWay, slots: PyTree, entry: Entry, pieces: Pieces) -> None:
  """Saves the images at work, and what was found of shards that are not whole."""
  arrays = {'held': entry.held & ~entry.enters, 'example': entry.example}
  if pieces:
    arrays['position'] = np.concatenate([at for at, _ in pieces])
    arrays |= jax.tree.map(lambda *x: np.concatenate(x), *(found for _, found in pieces))._asdict()
  under_way.save({name: getattr(slots, name) for name in CHANGED}, arrays)


def load_begun(
  under_way: UnderWay, encoder: Encoder, shared: PyTree, part: Dataset, wanted: np.ndarray
) -> tuple[Begun | None, Pieces]:
  """What `save_begun` saved of the images at the positions `wanted`."""
  if not under_way.exists():
    return None, []
  slots = encoder.empty(shared, part)
  loaded = under_way.load({name: getattr(slots, name) for name in CHANGED})
  if loaded is None:
    return None, []
  changed, arrays = loaded
  of_index = {int(index): position for position, index in enumerate(part.index)}
  position = np.array([of_index.get(int(index), 0) for index in arrays['example']], np.int64)
  begun = Begun(arrays['held'] & np.isin(position, wanted), position, changed)
  if 'position' not in arrays:
    return begun, []
  use = np.isin(arrays['position'], wanted)
  found = Found(*(arrays[field][use] for field in Found._fields))
  return begun, [(arrays['position'][use], found)]
