"""When a growing network grows: by the published schedule, and in a short training that is stopped."""

import functools
import math

import jax
import numpy as np
import pytest

from advmix_jax import interruption
from advmix_jax.stages import train_gan
from advmix_jax.stages.experiment import Experiment
from advmix_jax.training.growth import constant_schedule, growing_schedule, kimg_to_grow, lod_at
from advmix_jax.types import Interrupted
from advmix_jax.workdir import open_workdir, read_metrics
from configs import smoke

FIRST_GRID = 10  # The step with the 300th image.
PUBLISHED = functools.partial(
  lod_at, num_doublings=7, stable_kimg=600.0, fading_kimg=600.0
)  # 8 to 1024 pixels.


@pytest.mark.parametrize(
  'kimg, lod',
  [
    (0, 7),
    (599, 7),
    (600, 7),
    (601, 7 - 1 / 600),
    (900, 6.5),
    (1199, 6 + 1 / 600),
    (1200, 6),
    (1800, 6),
    (2100, 5.5),
    (8399, 1 / 600),
    (8400, 0),
    (9000, 0),
    (25000, 0),
  ],
)
def test_level_of_detail_by_the_published_schedule(kimg, lod):
  assert PUBLISHED(kimg) == pytest.approx(lod, abs=1e-9)
  assert kimg_to_grow(7, 600.0, 600.0) == 8400


def test_minibatches_follow_the_resolution_and_no_image_is_left_out():
  sizes = {2: 64, 1: 32, 0: 16}
  schedule = growing_schedule(2, 1.0, 2.0, 8.0, sizes.__getitem__)
  assert schedule.lod[0] == 2 and schedule.lod[-1] == 0 and (np.diff(schedule.lod) <= 0).all()
  for step in range(schedule.num_steps):
    assert schedule.batch_size[step] == sizes[math.floor(schedule.lod[step])]
    looked = schedule.first_image[step - step % 4] / 1000  # The schedule is looked at every four steps.
    assert schedule.lod[step] == lod_at(looked, 2, 1.0, 2.0)
  assert (np.diff(schedule.first_image) == schedule.batch_size).all()
  assert 8000 <= schedule.first_image[-1] < 8000 + 4 * 16


def test_optimisers_restart_when_layers_come_or_go():
  """Twice for a resolution: when it begins to fade in, and when the one below is gone."""
  schedule = growing_schedule(2, 1.0, 2.0, 8.0, lambda floor: 16)
  restarts = [step for step in range(schedule.num_steps) if schedule.is_restart(step)]
  kimg = schedule.first_image[restarts] / 1000
  np.testing.assert_allclose(kimg, [1.0, 3.0, 4.0, 6.0], atol=0.07)
  constant = constant_schedule(5, 8)
  assert not any(constant.is_restart(step) for step in range(5))
  assert constant.first_image.tolist() == [0, 8, 16, 24, 32, 40]


def growing_config():
  """Digits from 4 to 16 pixels within 1,000 images: tiny networks with labels."""
  c = smoke.get_config()
  c.generator.structure = 'linear'
  c.generator.initial_resolution = 4
  c.generator.stable_kimg = 0.2
  c.generator.fading_kimg = 0.2
  c.generator.total_kimg = 1.0
  c.generator.batch_sizes = (32, 16, 8)
  c.generator.learning_rates = (2e-3, 2e-3, 1e-3)
  c.generator.sample_kimg = 0.3
  c.generator.r1_interval = 1
  c.generator.conditional = True
  c.generator.mirror = True
  c.generator.adam = 'tensorflow'
  c.checkpoint.seconds = 1e9
  return c


def train(path) -> Experiment:
  workdir = open_workdir(path, growing_config())
  try:
    experiment = Experiment(workdir)
    train_gan.run(experiment)
  finally:
    workdir.close()
  return experiment


@pytest.fixture(scope='module')
def whole(tmp_path_factory, compiled_once) -> Experiment:
  """A training that nothing stopped."""
  return train(tmp_path_factory.mktemp('runs') / 'whole')


def test_a_growing_training_goes_on_with_the_same_bits_after_every_stop(whole, tmp_path, monkeypatch):
  """Stopped where the optimisers restart, in the first grid, and while 16 pixels fade in."""
  schedule = train_gan.make_schedule(whole.config)
  assert schedule.is_restart(8) and schedule.lod[7] == 2 and 1 < schedule.lod[8] < 2
  assert 0 < schedule.lod[44] < 1 and sum(schedule.is_restart(step) for step in range(9, 44)) == 2
  received = []
  monkeypatch.setattr(interruption, '_received', received)
  for steps in (8, FIRST_GRID - 8, 44 - FIRST_GRID):
    left = iter(range(steps - 1))

    def requested(left=left):
      if next(left, None) is None:
        received.append(15)
      return bool(received)

    monkeypatch.setattr(interruption, 'requested', requested)
    with pytest.raises(Interrupted):
      train(tmp_path / 'stopped')
    received.clear()
    if steps == FIRST_GRID - 8:
      for grid in (tmp_path / 'stopped' / 'gan').glob('*.png'):
        grid.unlink()  # As if the signal had come while it was drawn.
  monkeypatch.setattr(interruption, 'requested', lambda: False)
  stopped = train(tmp_path / 'stopped')

  for name in ('generator_file', 'discriminator_file'):
    assert getattr(whole, name).read_bytes() == getattr(stopped, name).read_bytes()
  grids = {path.name for path in whole.generator_file.parent.glob('*.png')}
  assert grids == {f'{kind}-{kimg:06d}kimg.png' for kind in ('samples', 'mixing') for kimg in (0, 1)}
  for grid in grids:
    assert (whole.workdir.path / 'gan' / grid).read_bytes() == (tmp_path / 'stopped/gan' / grid).read_bytes()
  logged = read_metrics(whole.workdir.path / 'metrics.jsonl')['gan/lod']
  assert logged and all(lod == pytest.approx(schedule.lod[step - 1]) for step, lod in logged.items())


def test_the_trained_networks_are_whole(whole):
  """Every resolution's output layer learned, and the decoder draws at full resolution."""
  params = whole.load_generator()
  fresh = jax.jit(functools.partial(train_gan.create, whole))(whole.key('gan'))
  for name in ('to_rgb', 'to_rgb_lod_1', 'to_rgb_lod_2'):
    assert np.abs(params['params'][name]['weight'] - fresh.ema[name]['weight']).max() > 1e-4
  assert whole.load_discriminator()['out']['bias'].shape == (10,)
  decoder = whole.decoder
  assert decoder.latent_size == 8 + 10
  z = jax.random.normal(jax.random.key(0), (2, decoder.latent_size))
  images = jax.jit(lambda params, z: decoder.decode(params, decoder.map_z(params, z)))(params, z)
  assert images.shape == (2, 16, 16, 3) and np.isfinite(images).all()
