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
from advmix_jax.models.discriminator import Discriminator
from advmix_jax.training import gan
from advmix_jax.training.classifier import create_train_state, train_step
from advmix_jax.types import Batch
from configs import default
from tests import tiny
from tests.tiny import normal, uniform

pytestmark = pytest.mark.usefixtures('quick_compile')
SIZE = 8
LEARNING_RATE = 0.01  # Of the GAN; plain descent, so that no rounding is blown up.


def assert_close(a, b, **tolerance):
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **tolerance), a, b)


def differ(a, b) -> bool:
  return any(not np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def halves(tree):
  return jax.tree.map(lambda x: x.reshape(2, SIZE // 2, *x.shape[1:]), tree)


def batch():
  labels = jnp.arange(SIZE, dtype=jnp.int32) % tiny.NUM_CLASSES
  return Batch(0.9 * uniform(1, SIZE, 8, 8, 3), labels, normal(2, SIZE, 4, 7), jnp.arange(SIZE))


def classifier_state(tx=None, ema=False):
  decoder, generator = tiny.decoder(2)
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


def test_two_devices_train_as_one():
  """The same global batch gives the same parameters; each device holds the same replica."""
  one, metrics = jax.jit(classifier_step())(classifier_state(), batch())
  step = jax.pmap(classifier_step(axis_name='i'), 'i', in_axes=(None, 0), out_axes=0)
  two, their_metrics = step(classifier_state(), halves(batch()))
  for replicas in jax.tree.leaves(two.params):
    np.testing.assert_array_equal(replicas[0], replicas[1])
  assert_close(jax.tree.map(lambda x: x[0], two.params), one.params, atol=1e-5)
  assert_close(jax.tree.map(lambda x: x[0], their_metrics), metrics, rtol=1e-5)


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


GAN_SETTINGS = gan.GanSettings(
  r1_gamma=10.0, r1_interval=2, style_mixing_prob=0.9, cut_per_sample=True, ema_decay=0.75
)


@functools.cache
def gan_state():
  """Built without compiling the networks' initialisations."""
  model, critic, tx = tiny.generator((4, 3)), Discriminator(fmaps=(4, 3)), optax.sgd(LEARNING_RATE)
  shapes = jax.eval_shape(lambda: gan.create_gan_state(jax.random.key(0), model, critic, tx))
  generator = tiny.generator_params(model)
  discriminator = tiny.random_params(shapes.discriminator, 1)
  return gan.GanState(
    step=jnp.int32(0),
    key=jax.random.key(1),
    generator=generator['params'],
    discriminator=discriminator,
    generator_opt=tx.init(generator['params']),
    discriminator_opt=tx.init(discriminator),
    ema=generator['params'],
    w_avg=generator['w_avg'],
    noise=generator['noise'],
    generator_model=model,
    discriminator_model=critic,
    tx=tx,
  )


@functools.cache
def gan_step_fn(with_r1):
  """Compiled once for all tests; they differ in the state they give it."""
  step = jax.jit(functools.partial(gan.gan_step, settings=GAN_SETTINGS, with_r1=with_r1))
  return lambda state: step(state, batch().images)


def test_two_devices_train_the_networks_as_one():
  """With R1, which is all of the step; the groups of the minibatch standard deviation are of all devices."""
  one, metrics = gan_step_fn(True)(gan_state())
  step = functools.partial(gan.gan_step, settings=GAN_SETTINGS, with_r1=True, axis_name='i')
  two, their_metrics = jax.pmap(step, 'i', in_axes=(None, 0), out_axes=0)(gan_state(), halves(batch().images))
  for name in ('generator', 'discriminator', 'ema', 'w_avg'):
    replicas = getattr(two, name)
    jax.tree.map(lambda x: np.testing.assert_array_equal(x[0], x[1]), replicas)
    first = jax.tree.map(lambda x: x[0], replicas)
    moved = jax.tree.map(lambda a, b: a - b, getattr(one, name), getattr(gan_state(), name))
    theirs = jax.tree.map(lambda a, b: a - b, first, getattr(gan_state(), name))
    scale = max(float(np.abs(x).max()) for x in jax.tree.leaves(moved))
    assert_close(theirs, moved, rtol=1e-3, atol=1e-5 * max(scale, 1.0))
  assert_close(jax.tree.map(lambda x: x[0], their_metrics), metrics, rtol=1e-3, atol=1e-4)


def test_a_gan_step_moves_both_networks_and_the_average_of_the_generator():
  """The average takes the generator as it was before this step's update, as StyleGAN 1 does."""
  state = gan_state()
  after, _ = gan_step_fn(False)(state)
  assert differ(after.generator, state.generator) and differ(after.discriminator, state.discriminator)
  assert not differ(after.noise, state.noise)
  assert_close(after.ema, state.generator, rtol=1e-5, atol=1e-5)
  moved = state.replace(ema=jax.tree.map(lambda x: x + 1, state.ema))
  after, _ = gan_step_fn(False)(moved)
  assert_close(after.ema, jax.tree.map(lambda x: x + 0.75, state.generator), rtol=1e-5, atol=1e-4)


def test_w_avg_follows_the_mean_of_mapped_latents_in_both_halves_of_the_step():
  state = gan_state()
  after, _ = gan_step_fn(False)(state.replace(w_avg=state.w_avg + 1000.0))
  expected = state.w_avg * (1 - 0.995**2) + (state.w_avg + 1000) * 0.995**2
  np.testing.assert_allclose(after.w_avg, expected, atol=0.2)  # Means of 8 draws are not the mean.


def test_the_gradient_penalty_is_lazy():
  """`gamma / 2 mean |d score / d image|^2` on real images, `r1_interval` times as strong as in every step."""
  state = gan_state()

  @jax.jit
  def penalty_gradient(params, images):
    def penalty(params):
      def score(x):
        return jnp.sum(state.discriminator_model.apply({'params': params}, x))

      return 0.5 * 10.0 * jnp.mean(jnp.sum(jnp.square(jax.grad(score)(images)), axis=(1, 2, 3)))

    return jax.grad(penalty)(params)

  (without, _), (with_r1, _) = gan_step_fn(False)(state), gan_step_fn(True)(state)
  expected = jax.tree.map(
    lambda g: -LEARNING_RATE * 2 * g, penalty_gradient(state.discriminator, batch().images)
  )
  found = jax.tree.map(lambda a, b: a - b, with_r1.discriminator, without.discriminator)
  scale = max(float(np.abs(x).max()) for x in jax.tree.leaves(expected))
  assert scale > 1e-5
  assert_close(found, expected, rtol=1e-2, atol=1e-2 * scale)


def test_the_networks_losses_by_hand():
  """Non-saturating logistic loss, from the scores in the metrics when all scores are the same."""
  state = gan_state()
  constant = jax.tree.map(jnp.zeros_like, state.discriminator)
  constant['out']['bias'] = jnp.array([0.7])
  _, metrics = gan_step_fn(False)(state.replace(discriminator=constant))

  def softplus(x):
    return np.log1p(np.exp(x))

  assert float(metrics['scores/real']) == pytest.approx(0.7) == float(metrics['scores/fake'])
  assert float(metrics['loss/discriminator']) == pytest.approx(softplus(0.7) + softplus(-0.7), rel=1e-5)


@pytest.mark.parametrize('cut_per_sample', [True, False])
def test_style_mixing_takes_the_rows_from_a_cut_on(cut_per_sample):
  """Cuts in 1..L-1 with the given probability, else none; one for each sample, or one for all."""
  number, layers = 400, 4
  w, other = jnp.zeros((number, layers, 1)), jnp.ones((number, layers, 1))
  settings = GAN_SETTINGS._replace(style_mixing_prob=0.6, cut_per_sample=cut_per_sample)
  mix = jax.jit(lambda key, keys: gan.style_mix(key, keys, w, other, settings))
  runs = 1 if cut_per_sample else 60
  mixed = [np.asarray(mix(jax.random.key(r), tiny.keys(100 + r, number)))[..., 0] for r in range(runs)]
  for rows in mixed:
    assert (np.diff(rows, axis=1) >= 0).all() and (rows[:, 0] == 0).all()
    if not cut_per_sample:
      assert (rows == rows[:1]).all()
  cuts = layers - np.concatenate([rows if cut_per_sample else rows[:1] for rows in mixed]).sum(axis=1)
  assert set(cuts) == {1, 2, 3, 4}
  assert np.mean(cuts < layers) == pytest.approx(0.6, abs=0.1 if cut_per_sample else 0.25)


def test_without_style_mixing_nothing_is_taken():
  w, other = normal(0, 5, 4, 3), normal(1, 5, 4, 3)
  settings = GAN_SETTINGS._replace(style_mixing_prob=0.0)
  mixed = gan.style_mix(jax.random.key(0), tiny.keys(1, 5), w, other, settings)
  np.testing.assert_array_equal(mixed, w)


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
