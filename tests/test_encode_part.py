"""A part of the data is encoded into shards: in order, and with breaks to the same latents."""

import functools
import signal
from types import SimpleNamespace

import numpy as np
import pytest

from advmix_jax import encode_refill, interruption, parallel
from advmix_jax.stages import encode, slot_calls
from advmix_jax.stages.slot_calls import SlotCalls
from advmix_jax.types import Dataset, Interrupted
from advmix_jax.workdir import read_arrays, read_json
from configs import default
from tests.test_encode_refill import (
  NUM_IMAGES,
  SETTINGS,
  SETTLING,
  colour_features,
  encoded,
  guess,
  on_all_devices,
  pieces_of,
  problem,
)

pytestmark = pytest.mark.usefixtures('double_precision')


class Part:
  """A part of a run, encoded in shards of 12; where told, the run is stopped once a shard is there."""

  def __init__(self, folder):
    _, _, images, index = problem()
    labels = np.zeros(NUM_IMAGES, np.int32)
    self.data = Dataset(images, labels, index, colours=None, num_classes=1)
    self.folder, self.positions = folder, []
    self.experiment = SimpleNamespace(
      config=default.get_config(),
      latents_file=lambda name: folder / name / 'manifest.json',
      workdir=SimpleNamespace(log=lambda step, values: None),
    )
    self.experiment.config.encode.shard_size = 12

  def encode(self, *, stop_at_shard=False):
    def encoder(shared, data, positions, pause_fn, begun):
      self.positions = list(positions)
      for piece in pieces_of(16, stopping=SETTLING, place=on_all_devices, order=positions):
        yield piece
        if stop_at_shard and self.shards():
          raise Interrupted('stopped')

    encode.encode_part(self.experiment, 'train', self.data, encoder, {})

  def shards(self):
    return {file.name: file.read_bytes() for file in sorted((self.folder / 'train').glob('shard-*'))}

  def arrays(self):
    """Of all shards, by name."""
    shards = [read_arrays(self.folder / 'train' / name) for name in self.shards()]
    return {name: np.concatenate([shard[name] for shard in shards]) for name in shards[0]}


def test_a_part_that_was_killed_goes_on_after_its_whole_shards_and_finds_the_same(tmp_path):
  """Nothing was saved of what was under way: images enter other slots, by which the last bits may differ."""
  unbroken, stopped = Part(tmp_path / 'a'), Part(tmp_path / 'b')
  unbroken.encode()
  assert len(unbroken.shards()) == 5
  with pytest.raises(Interrupted):
    stopped.encode(stop_at_shard=True)
  there = stopped.shards()
  assert 1 <= len(there) < 5 and not (tmp_path / 'b' / 'train' / 'manifest.json').exists()
  stopped.encode()
  assert len(stopped.positions) == NUM_IMAGES - 12 * len(there)
  assert stopped.shards().keys() == unbroken.shards().keys()
  found, expected = stopped.arrays(), unbroken.arrays()
  for name in ('w', 'error'):
    np.testing.assert_allclose(found[name], expected[name], atol=1e-6)
  for name in ('index', 'taken'):
    np.testing.assert_array_equal(found[name], expected[name])


class Interrupting(SlotCalls):
  """A signal arrives in every n-th call; counts those that step."""

  def __init__(self, advance_fn, every):
    super().__init__(advance_fn)
    self.every, self.calls = every, 0

  def __call__(self, shared, slots, entry, waiting, pause_fn):
    def pause(slots, entry):
      self.calls += 1
      if self.every and self.calls % self.every == 0:
        interruption._received.append(signal.SIGTERM)
      pause_fn(slots, entry)

    return super().__call__(shared, slots, entry, waiting, pause)


@pytest.mark.parametrize('every', [7, 2])
def test_a_part_goes_on_within_its_images_and_gives_the_same_bytes(tmp_path, monkeypatch, every):
  """Broken off more often than a shard or even an image takes, it still ends, and repeats nothing."""
  monkeypatch.setattr(slot_calls, 'SECONDS', 0.0)  # A step a call.
  monkeypatch.setattr(interruption, '_received', [])
  _, shared, _, _ = problem()
  settings = (SETTINGS, SETTLING, guess, colour_features, problem()[0])
  advance_fn = parallel.pmap_carry(functools.partial(encode_refill.advance, *settings))
  calls, bytes_of = {}, {}
  for name, n in (('whole', 0), ('broken', every)):
    encoder = object.__new__(encode.Encoder)
    encoder._num_slots = 16
    encoder._empty = functools.partial(encode_refill.empty_slots, guess, colour_features)
    encoder._advance = Interrupting(advance_fn, n)
    part = Part(tmp_path / name)
    breaks = 0
    while True:
      try:
        encode.encode_part(part.experiment, 'train', part.data, encoder, parallel.replicate(shared))
        break
      except Interrupted:
        interruption._received.clear()
        breaks += 1
    assert breaks > 3 or not n
    calls[name], bytes_of[name] = encoder._advance.calls - breaks, part.shards()
  assert bytes_of['broken'] == bytes_of['whole'] and len(bytes_of['whole']) == 5
  assert calls['broken'] <= calls['whole'] + breaks
  assert not list((tmp_path / 'broken').rglob('*under_way*'))


def test_a_part_is_in_order_and_says_how_many_steps_it_took(tmp_path):
  part = Part(tmp_path)
  part.encode()
  found = part.arrays()
  expected = encoded(64, stopping=SETTLING)
  np.testing.assert_array_equal(found['index'], part.data.index)
  np.testing.assert_allclose(found['w'], expected.w, atol=1e-6)
  np.testing.assert_array_equal(found['taken'], expected.taken)
  manifest = read_json(tmp_path / 'train' / 'manifest.json')
  taken = expected.taken
  assert manifest['steps'] == {
    'mean': pytest.approx(taken.mean()),
    'median': np.median(taken),
    'max': taken.max(),
  }
  assert manifest['num_images'] == NUM_IMAGES and len(manifest['shards']) == 5
