"""Steps of training: what they change and leave alone, and that devices do not change the mathematics."""

import functools

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from advmix_jax import parallel
from advmix_jax.methods import METHODS
from advmix_jax.models.classifier import Linear
from advmix_jax.training.classifier import create_train_state, train_step
from advmix_jax.types import Batch
from configs import default
from tests import tiny
from tests.compare import assert_close, differ
from tests.tiny import normal, uniform

SIZE = 8


def batch():
  labels = jnp.arange(SIZE, dtype=jnp.int32) % tiny.NUM_CLASSES
  return Batch(0.9 * uniform(1, SIZE, 8, 8, 3), labels, normal(2, SIZE, 4, 7), jnp.arange(SIZE))


def classifier_state(tx=None, ema=False):
  decoder, generator = tiny.decoder(2)
  generator = jax.tree.map(jnp.copy, generator)  # A step that donates its state must not take the shared one.
  model, shape = Linear(tiny.NUM_CLASSES), (8, 8, 3)
  tx = optax.sgd(0.1) if tx is None else tx
  return create_train_state(
    jax.random.key(0), model, shape, tx, decoder=decoder, generator=generator, ema=ema
  )


def classifier_step(method='nominal', axis_name=None, **kwargs):
  return functools.partial(
    train_step, perturb_fn=METHODS[method](default.get_config(), axis_name), axis_name=axis_name, **kwargs
  )


def test_a_step_changes_the_classifier_and_not_the_generator():
  state = classifier_state()
  after, metrics = jax.jit(classifier_step('randmix'))(state, batch())
  assert differ(after.params, state.params)
  assert not differ(after.generator, state.generator)
  assert not differ(jax.random.key_data(after.key), jax.random.key_data(state.key))
  assert int(after.step) == 1
  assert np.isfinite(metrics['loss']) and 0 <= metrics['accuracy'] <= 1


def test_the_step_is_gradient_descent_on_the_mean_loss():
  """By hand for a linear model: the gradient of the cross-entropy is (probabilities - targets) x."""
  state = classifier_state()
  after, metrics = jax.jit(classifier_step())(state, batch())
  x = (np.asarray(batch().images).reshape(SIZE, -1) + 1) / 2
  kernel, bias = (np.asarray(state.params['dense'][name]) for name in ('kernel', 'bias'))
  probabilities = np.asarray(jax.nn.softmax(x @ kernel + bias[None]))
  error = probabilities - np.eye(tiny.NUM_CLASSES)[batch().labels]
  np.testing.assert_allclose(after.params['dense']['kernel'], kernel - 0.1 * x.T @ error / SIZE, atol=1e-5)
  np.testing.assert_allclose(after.params['dense']['bias'], bias - 0.1 * error.mean(axis=0), atol=1e-5)
  loss = -np.log(probabilities[np.arange(SIZE), batch().labels]).mean()
  assert float(metrics['loss']) == pytest.approx(loss, rel=1e-4)
  assert float(metrics['accuracy']) == np.mean(probabilities.argmax(axis=1) == batch().labels)


def test_steps_differ_in_what_they_draw_and_the_same_step_repeats():
  step = jax.jit(classifier_step('randmix'))
  state = classifier_state(optax.sgd(0.0))
  losses = [float(step(state.replace(step=jnp.int32(n)), batch())[1]['loss']) for n in (0, 1, 0)]
  assert losses[0] == losses[2] != losses[1]


def test_the_averaged_parameters_follow():
  state = classifier_state(ema=True)
  after, _ = jax.jit(classifier_step(ema_decay=0.75))(state, batch())
  expected = jax.tree.map(lambda old, new: 0.75 * old + 0.25 * new, state.params, after.params)
  assert_close(after.ema_params, expected, rtol=1e-5, atol=1e-7)


def test_three_steps_are_traced_once():
  """The state is placed before the first call, so what comes back looks the same to the compiler."""
  traced = []

  def step(state, batch):
    traced.append(1)
    return classifier_step(axis_name=parallel.AXIS)(state, batch)

  run = parallel.pmap_step(step)
  state = parallel.replicate(classifier_state(optax.adam(1e-3)))
  for _ in range(3):
    state, _ = run(state, parallel.shard(batch()))
  assert int(state.step) == 3
  assert len(traced) == 1


@flax.struct.dataclass
class Sum:
  total: jax.Array


def test_pmap_map_and_the_shards_keep_the_order():
  x = np.arange(12.0, dtype=np.float32).reshape(6, 2)
  shards = parallel.shard(x)
  assert shards.shape == (2, 3, 2)
  found = parallel.pmap_map(lambda shared, x: Sum(jnp.sum(x, axis=1) + shared))(np.float32(1), shards)
  np.testing.assert_array_equal(parallel.unshard(found).total, x.sum(axis=1) + 1)


def test_a_batch_that_the_devices_cannot_share_is_refused():
  parallel.check_divisible(6, 'train.batch_size')
  with pytest.raises(ValueError, match='train.batch_size is 7, expected a multiple of the 2 devices'):
    parallel.check_divisible(7, 'train.batch_size')
