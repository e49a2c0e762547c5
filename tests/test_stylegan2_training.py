"""Training of StyleGAN 2: regularisation in steps of its own, and devices do not change the mathematics."""

import functools

import jax
import jax.numpy as jnp
import pytest

from advmix_jax.models.discriminator2 import Discriminator2
from advmix_jax.models.stylegan2 import StyleGAN2
from advmix_jax.training import gan, gan_losses
from advmix_jax.training.gan_state import GanSettings
from advmix_jax.training.path_length import PathLengthSettings
from tests import tiny_gan
from tests.compare import assert_close, differ
from tests.tiny_gan import CLASSES, LEARNING_RATE, batch

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
  model = StyleGAN2((4, 3), latent_size=5, w_size=7, mapping_layers=2, label_size=CLASSES)
  critic = Discriminator2((4, 3), label_size=CLASSES, mapping_layers=2)
  return tiny_gan.gan_state(model, critic, path_length_mean=jnp.float32(2.0))


@functools.cache
def done(with_r1, with_path_length):
  """The state after one step, and its metrics."""
  step = functools.partial(
    gan.gan_step, settings=SETTINGS, with_r1=with_r1, with_path_length=with_path_length
  )
  return jax.jit(step)(gan_state(), batch())


def test_r1_is_a_step_after_the_discriminators_own():
  without, _ = done(False, False)
  found, _ = done(True, True)
  critic, images = gan_state().discriminator_model, batch().images
  labels = jax.nn.one_hot(batch().labels, CLASSES)

  def loss(params):
    score = functools.partial(critic.apply, {'params': params})
    return 16 * 5 * jnp.mean(gan_losses.scores_and_squared_gradients(lambda x: score(x, labels), images)[1])

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


def test_a_state_without_a_mean_of_path_lengths_is_refused():
  state = gan_state().replace(path_length_mean=None)
  with pytest.raises(ValueError, match='the state has no running mean of path lengths'):
    gan.gan_step(state, batch(), SETTINGS, with_r1=False, with_path_length=True)
