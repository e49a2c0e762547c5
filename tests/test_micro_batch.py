"""Minibatches in parts: the same numbers as whole ones."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from advmix_jax import micro_batch, parallel
from advmix_jax.methods import METHODS
from advmix_jax.models.classifier import TruncatedVGG
from advmix_jax.models.discriminator import Discriminator, minibatch_stddev
from advmix_jax.models.discriminator2 import Discriminator2
from advmix_jax.models.stylegan import StyleGAN
from advmix_jax.models.stylegan2 import StyleGAN2
from advmix_jax.training import gan
from advmix_jax.training.classifier import create_train_state, train_step
from advmix_jax.training.gan_state import GanSettings
from advmix_jax.types import Batch
from configs import default
from tests import tiny, tiny_gan
from tests.compare import assert_close, halves
from tests.tiny import normal, uniform

SIZE = 8
SIZES = {'latent_size': 5, 'w_size': 7, 'mapping_layers': 2}
GAN_SETTINGS = GanSettings(
  r1_gamma=10.0, r1_interval=2, style_mixing_prob=0.9, cut_per_sample=True, ema_decay=0.75
)


def assert_same_change(found, expected, before):
  """To 1e-5 of the largest change."""
  change, their_change = (jax.tree.map(lambda a, b: a - b, x, before) for x in (expected, found))
  scale = max(float(np.abs(x).max()) for x in jax.tree.leaves(change))
  size = max(float(np.abs(x).max()) for x in jax.tree.leaves(before))
  assert scale > 0
  assert_close(their_change, change, rtol=0, atol=1e-5 * scale + 1e-6 * size)  # Differences lose bits.


def test_parts_are_strided_and_results_come_back_in_order():
  x, seen = jnp.arange(12.0), []

  def double(part):
    jax.debug.callback(lambda p: seen.append(p.tolist()), part)
    return {'twice': 2 * part}

  found = micro_batch.collect(double, x, 3)
  jax.effects_barrier()
  np.testing.assert_array_equal(found['twice'], 2 * x)
  assert sorted(seen) == [[0, 3, 6, 9], [1, 4, 7, 10], [2, 5, 8, 11]]


def test_the_average_is_that_of_the_whole():
  x = normal(0, 12, 5)

  def mean(x):
    return {'mean': jnp.mean(x), 'columns': jnp.mean(jnp.square(x), axis=0)}

  for parts in (1, 2, 3, 12):
    assert_close(micro_batch.average(mean, x, parts), mean(x), rtol=1e-5, atol=1e-6)


def test_the_number_of_parts():
  assert [micro_batch.num_parts(12, size) for size in (0, 12, 4, 1)] == [1, 1, 3, 12]
  with pytest.raises(ValueError, match=re.escape('a part of 5 examples does not divide a batch of 12')):
    micro_batch.num_parts(12, 5)


def test_the_groups_of_the_minibatch_stddev_are_those_of_the_whole():
  """Wherever the group size divides a part; smaller parts are groups themselves."""
  x = normal(0, 24, 2, 2, 3)
  whole = minibatch_stddev(x)
  for parts in (1, 2, 3, 6):
    np.testing.assert_allclose(micro_batch.collect(minibatch_stddev, x, parts), whole, rtol=1e-6)
  assert np.abs(micro_batch.collect(minibatch_stddev, x, 12) - whole).max() > 0.01


def classifier_state():
  decoder, generator = tiny.decoder(2)
  model = TruncatedVGG((2, 3, 4, 3), tiny.NUM_CLASSES)
  generator = jax.tree.map(jnp.copy, generator)
  return create_train_state(
    jax.random.key(0), model, (8, 8, 3), optax.sgd(0.1), decoder=decoder, generator=generator
  )


def classifier_batch():
  labels = jnp.arange(SIZE, dtype=jnp.int32) % tiny.NUM_CLASSES
  return Batch(0.9 * uniform(1, SIZE, 8, 8, 3), labels, normal(2, SIZE, 4, 7), jnp.arange(SIZE) + 100)


def classifier_step(method, part_size, axis_name=None):
  config = default.get_config()
  config.train.micro_batch = part_size
  perturb_fn = METHODS[method](config, axis_name)
  return functools.partial(train_step, perturb_fn=perturb_fn, part_size=part_size, axis_name=axis_name)


@pytest.mark.parametrize('method', ['advmix', 'at', 'mixup'])
def test_a_classifier_step_in_parts_is_that_of_the_whole(method):
  """Draws are keyed by the example's index, partners are of the whole minibatch."""
  state = classifier_state()
  (whole, metrics), (parts, their_metrics) = (
    jax.jit(classifier_step(method, size))(state, classifier_batch()) for size in (0, 2)
  )
  assert_same_change(parts.params, whole.params, state.params)
  assert_close(their_metrics, metrics, rtol=1e-5)


def test_a_method_takes_a_batch_that_its_parts_do_not_divide():
  """As a report does, which attacks a few images."""
  config, state, given = default.get_config(), classifier_state(), classifier_batch()
  whole, _ = jax.jit(METHODS['randmix'](config))(jax.random.key(0), state, given)
  for size in (3, 16):
    config.train.micro_batch = size
    found, _ = jax.jit(METHODS['randmix'](config))(jax.random.key(0), state, given)
    np.testing.assert_allclose(found, whole, atol=1e-5)


def test_a_classifier_step_in_parts_on_two_devices_is_that_of_the_whole():
  state = classifier_state()
  whole, metrics = jax.jit(classifier_step('randmix', 0))(state, classifier_batch())
  step = jax.pmap(classifier_step('randmix', 2, 'i'), 'i', in_axes=(None, 0), out_axes=0)
  parts, their_metrics = jax.tree.map(lambda x: x[0], step(state, halves(classifier_batch())))
  assert_same_change(parts.params, whole.params, state.params)
  assert_close(their_metrics, metrics, rtol=1e-5)


@functools.cache
def gan_state(architecture):
  if architecture == 'stylegan1':
    return tiny_gan.gan_state(StyleGAN((4, 3), **SIZES), Discriminator((4, 3)))
  model, critic = StyleGAN2((4, 3), **SIZES), Discriminator2((4, 3))
  return tiny_gan.gan_state(model, critic, path_length_mean=jnp.float32(0.3))


def gan_step(architecture, part_size, axis_name=None):
  is_two = architecture == 'stylegan2'
  return functools.partial(
    gan.gan_step,
    settings=GAN_SETTINGS._replace(part_size=part_size, lazy_r1=is_two),
    with_r1=True,
    with_path_length=is_two,
    axis_name=axis_name,
  )


@functools.cache
def whole_step(architecture):
  return jax.jit(gan_step(architecture, 0))(gan_state(architecture), tiny_gan.batch(conditional=False))


@pytest.mark.parametrize(
  'architecture, num_devices',
  [
    pytest.param('stylegan1', 1, marks=pytest.mark.slow),
    ('stylegan1', 2),
    pytest.param('stylegan2', 1, marks=pytest.mark.slow),
    ('stylegan2', 2),
  ],
)
def test_a_gan_step_in_parts_is_that_of_the_whole(architecture, num_devices):
  """With R1, and path lengths, whose penalty depends on the mean of all.

  Two devices of two parts of two: parts of four over both, which is a group.
  """
  state, given = gan_state(architecture), tiny_gan.batch(conditional=False)
  whole, metrics = whole_step(architecture)
  if num_devices == 1:
    parts, their_metrics = jax.jit(gan_step(architecture, 4))(state, given)
  else:
    step = jax.pmap(gan_step(architecture, 2, 'i'), 'i', in_axes=(None, 0), out_axes=0)
    parts, their_metrics = jax.tree.map(lambda x: x[0], step(state, halves(given)))
  for name in ('generator', 'discriminator', 'w_avg'):
    assert_same_change(getattr(parts, name), getattr(whole, name), getattr(state, name))
  assert_close(their_metrics, metrics, rtol=1e-4, atol=1e-5)


def donated(step, state, batch):
  """Which leaves of the state a step takes the memory of."""
  state = parallel.replicate(jax.tree.map(jnp.copy, state))
  parallel.pmap_step(step)(state, parallel.shard(batch))
  return {jax.tree_util.keystr(p): x.is_deleted() for p, x in jax.tree_util.tree_leaves_with_path(state)}


@pytest.mark.parametrize('part_size', [0, 2])
def test_the_state_of_a_classifier_step_is_donated(part_size):
  found = donated(
    classifier_step('nominal', part_size, parallel.AXIS), classifier_state(), classifier_batch()
  )
  assert all(found.values()), [name for name, deleted in found.items() if not deleted]


def test_the_state_of_a_gan_step_is_donated():
  step = functools.partial(
    gan.gan_step, settings=GAN_SETTINGS._replace(part_size=2), with_r1=False, axis_name=parallel.AXIS
  )
  found = donated(step, gan_state('stylegan1'), tiny_gan.batch(conditional=False))
  assert all(found.values()), [name for name, deleted in found.items() if not deleted]
