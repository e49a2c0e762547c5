"""Training of StyleGAN 2: regularisation in steps of its own, and devices do not change the mathematics."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from advmix_jax.models.discriminator2 import Discriminator2
from advmix_jax.models.stylegan2 import StyleGAN2
from advmix_jax.training import gan, gan_losses
from advmix_jax.training.gan_state import GanBatch, GanSettings, GanState, create_gan_state
from advmix_jax.training.path_length import PathLengthSettings
from tests import tiny
from tests.tiny import normal, uniform

pytestmark = pytest.mark.usefixtures('quick_compile')
SIZE, CLASSES, LEARNING_RATE = 8, 3, 0.01
SETTINGS = GanSettings(
  r1_gamma=10.0,
  r1_interval=16,
  style_mixing_prob=0.9,
  cut_per_sample=False,
  ema_decay=0.75,
  lazy_r1=True,
  path_length=PathLengthSettings(),
)


@functools.cache
def gan_state():
  """Plain descent, so that a step is its gradient. Built without compiling the initialisation."""
  model = StyleGAN2((4, 3), latent_size=5, w_size=7, mapping_layers=2, label_size=CLASSES)
  critic, tx = Discriminator2((4, 3), label_size=CLASSES, mapping_layers=2), optax.sgd(LEARNING_RATE)
  shapes = jax.eval_shape(
    lambda: create_gan_state(jax.random.key(0), model, critic, tx, with_path_length=True)
  )
  generator, discriminator = (
    tiny.random_params(tree, seed) for seed, tree in enumerate([shapes.generator, shapes.discriminator])
  )
  return GanState(
    step=jnp.int32(0),
    key=jax.random.key(1),
    generator=generator,
    discriminator=discriminator,
    generator_opt=tx.init(generator),
    discriminator_opt=tx.init(discriminator),
    ema=generator,
    w_avg=normal(3, 7),
    noise=tuple(normal(4 + i, *n.shape) for i, n in enumerate(shapes.noise)),
    lod=None,
    generator_model=model,
    discriminator_model=critic,
    generator_tx=tx,
    discriminator_tx=tx,
    path_length_mean=jnp.float32(2.0),
  )


def batch():
  labels = jnp.arange(SIZE, dtype=jnp.int32) % CLASSES
  return GanBatch(0.9 * uniform(1, SIZE, 8, 8, 3), labels, labels[::-1])


@functools.cache
def done(with_r1, with_path_length):
  """The state after one step, and its metrics."""
  step = functools.partial(
    gan.gan_step, settings=SETTINGS, with_r1=with_r1, with_path_length=with_path_length
  )
  return jax.jit(step)(gan_state(), batch())


def assert_close(a, b, **tolerance):
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **tolerance), a, b)


def differ(a, b) -> bool:
  return any(not np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def test_r1_is_a_step_after_the_discriminators_own():
  without, _ = done(False, False)
  found, _ = done(True, True)
  critic, images = gan_state().discriminator_model, batch().images
  labels = jax.nn.one_hot(batch().labels, CLASSES)

  def loss(params):
    score = functools.partial(critic.apply, {'params': params})
    return 16 * 5 * jnp.mean(gan_losses.squared_gradient(lambda x: score(x, labels), images))

  gradient = jax.jit(jax.grad(loss))(without.discriminator)
  expected = jax.tree.map(lambda p, g: p - LEARNING_RATE * g, without.discriminator, gradient)
  largest = max(float(jnp.abs(g).max()) for g in jax.tree.leaves(gradient))
  assert largest > 1e-3
  assert_close(found.discriminator, expected, rtol=1e-4, atol=1e-4 * LEARNING_RATE * largest)


def test_path_lengths_move_the_generator_and_their_mean_and_nothing_else():
  without, metrics = done(False, False)
  found, found_metrics = done(False, True)
  assert float(without.path_length_mean) == float(metrics['path_length']) == 2.0
  assert float(found.path_length_mean) == float(found_metrics['path_length']) != 2.0
  assert differ(found.generator['mapping'], without.generator['mapping'])
  assert differ(found.generator['layers_1'], without.generator['layers_1'])


def test_two_devices_train_the_networks_as_one():
  state = gan_state()
  one, metrics = done(True, True)
  step = functools.partial(
    gan.gan_step, settings=SETTINGS, with_r1=True, with_path_length=True, axis_name='i'
  )
  halves = jax.tree.map(lambda x: x.reshape(2, SIZE // 2, *x.shape[1:]), batch())
  two, their_metrics = jax.pmap(step, 'i', in_axes=(None, 0), out_axes=0)(state, halves)
  for name in ('generator', 'discriminator', 'ema', 'w_avg', 'path_length_mean'):
    replicas = getattr(two, name)
    jax.tree.map(lambda x: np.testing.assert_array_equal(x[0], x[1]), replicas)
    moved = jax.tree.map(lambda a, b: a - b, getattr(one, name), getattr(state, name))
    theirs = jax.tree.map(lambda a, b: a[0] - b, replicas, getattr(state, name))
    scale = max(float(np.abs(x).max()) for x in jax.tree.leaves(moved))
    assert_close(theirs, moved, rtol=1e-3, atol=1e-5 * max(scale, 1.0))
  assert_close(jax.tree.map(lambda x: x[0], their_metrics), metrics, rtol=1e-3, atol=1e-4)


def test_a_state_without_a_mean_of_path_lengths_is_refused():
  state = gan_state().replace(path_length_mean=None)
  with pytest.raises(ValueError, match='the state has no running mean of path lengths'):
    gan.gan_step(state, batch(), SETTINGS, with_r1=False, with_path_length=True)
