"""What each of the seven methods makes of a batch."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from advmix_jax import attack, mixing
from advmix_jax.methods import METHODS, NEEDS_LATENTS
from advmix_jax.types import Batch, TrainState
from configs import default
from tests import tiny
from tests.compare import halves
from tests.tiny import normal, uniform

SIZE = 8
KEY = jax.random.key(5)


@functools.cache
def config():
  c = default.get_config()
  c.mixup.alpha = 1.0
  c.cutout.size = 4
  c.attack.num_restarts, c.attack.num_steps = 1, 2
  c.at.num_steps, c.at.step_size = 2, 0.08
  return c


@functools.cache
def state():
  decoder, generator = tiny.decoder(2)
  classify, params = tiny.classifier((8, 8, 3))
  return TrainState(
    step=jnp.zeros((), jnp.int32),
    key=KEY,
    params=params,
    opt_state=(),
    ema_params=None,
    generator=generator,
    apply_fn=classify,
    tx=optax.identity(),
    decoder=decoder,
    num_classes=tiny.NUM_CLASSES,
  )


@functools.cache
def batch():
  return Batch(
    images=0.9 * uniform(1, SIZE, 8, 8, 3),
    labels=jnp.arange(SIZE, dtype=jnp.int32) % tiny.NUM_CLASSES,
    latents=normal(2, SIZE, 4, 7),
    index=jnp.arange(100, 100 + 3 * SIZE, 3),
  )


@functools.cache
def perturbed(method):
  return jax.jit(METHODS[method](config()))(KEY, state(), batch())


ONE_HOT = np.eye(tiny.NUM_CLASSES, dtype=np.float32)[np.arange(SIZE) % tiny.NUM_CLASSES]


def test_the_table_holds_the_seven_methods():
  assert list(METHODS) == ['nominal', 'mixup', 'cutout', 'cutmix', 'at', 'randmix', 'advmix']
  assert set(NEEDS_LATENTS) == {'randmix', 'advmix'}


@pytest.mark.parametrize('method', METHODS)
def test_images_stay_images_and_targets_are_distributions(method):
  images, targets = perturbed(method)
  assert images.shape == batch().images.shape and images.dtype == jnp.float32
  assert np.abs(images).max() <= 1
  assert targets.shape == (SIZE, tiny.NUM_CLASSES) and (np.asarray(targets) >= 0).all()
  np.testing.assert_allclose(np.sum(targets, axis=1), 1, rtol=1e-6)
  if method not in ('mixup', 'cutmix'):
    np.testing.assert_array_equal(targets, ONE_HOT)
  if method != 'nominal':
    assert np.abs(images - batch().images).max() > 0.01


@pytest.mark.parametrize('method', METHODS)
def test_two_devices_do_what_one_does(method):
  """Draws go by the examples' indices; partners come from the minibatch of all devices."""
  perturb = METHODS[method](config(), axis_name='devices')
  found = jax.pmap(perturb, 'devices', in_axes=(None, None, 0))(KEY, state(), halves(batch()))
  for ours, alone in zip(found, perturbed(method), strict=True):
    np.testing.assert_allclose(ours.reshape(alone.shape), alone, atol=1e-4)


def test_nominal_changes_nothing():
  np.testing.assert_array_equal(perturbed('nominal')[0], batch().images)


def test_mixup_blends_images_and_targets_with_the_same_weight():
  """Eq. 10, with the partners and weights found from the images alone."""
  images, targets = (np.asarray(x) for x in perturbed('mixup'))
  originals = np.asarray(batch().images).reshape(SIZE, -1)
  blended = images.reshape(SIZE, -1)
  partners = []
  for i in range(SIZE):
    weights, *_ = np.linalg.lstsq(originals.T, blended[i], rcond=None)
    np.testing.assert_allclose(weights @ originals, blended[i], atol=1e-3)
    np.testing.assert_allclose(weights @ ONE_HOT, targets[i], atol=1e-3)
    assert np.sum(np.abs(weights) > 1e-3) <= 2 and weights.sum() == pytest.approx(1, abs=1e-3)
    weights[i] = 0
    partners.append(np.argmax(weights) if weights.max() > 1e-3 else i)
  assert sorted(partners) == list(range(SIZE))  # A permutation.


def test_cutout_greys_one_square():
  images = np.asarray(perturbed('cutout')[0])
  grey = (images == 0).all(axis=-1)
  for i in range(SIZE):
    rows, columns = (np.flatnonzero(grey[i].any(axis=a)) for a in (1, 0))
    assert grey[i].sum() == len(rows) * len(columns)  # A full rectangle,
    for side in (rows, columns):
      assert np.ptp(side) + 1 == len(side) <= 4  # of the size asked for,
      assert len(side) == 4 or 0 in side or 7 in side  # unless the border cuts it off.
    np.testing.assert_array_equal(images[i][~grey[i]], np.asarray(batch().images)[i][~grey[i]])
  assert (grey.sum(axis=(1, 2)) == 16).any()


def test_cutmix_gives_each_image_its_share_of_the_area():
  images, targets = (np.asarray(x) for x in perturbed('cutmix'))
  originals = np.asarray(batch().images)
  changed = 0
  for i in range(SIZE):
    of = np.array([(images[i] == other).all(axis=-1) for other in originals])  # Whose pixel it is, [N, H, W].
    assert of.any(axis=0).all()
    share = np.array([mask.mean() for mask in of])
    np.testing.assert_allclose(share @ ONE_HOT, targets[i], atol=1e-6)
    box = ~of[i]
    rows, columns = (np.flatnonzero(box.any(axis=a)) for a in (1, 0))
    assert box.sum() == len(rows) * len(columns)
    changed += 0 < box.sum() < 64
  assert changed > SIZE // 4


def test_adversarial_training_stays_in_its_ball_and_raises_the_loss():
  images = perturbed('at')[0]
  assert 0.1 < np.abs(images - batch().images).max() <= 2 * config().at.epsilon + 1e-6

  def loss(x):
    return attack.cross_entropy(state().apply_fn(state().params, x), batch().labels)

  assert (loss(images) > loss(batch().images)).all()


def test_the_ball_of_adversarial_training_grows_over_the_ramp():
  c = config().copy_and_resolve_references()
  c.at.ramp_steps = 10
  at = jax.jit(METHODS['at'](c))
  for step, share in [(0, 0.0), (5, 0.5), (10, 1.0), (20, 1.0)]:
    found = at(KEY, state().replace(step=jnp.asarray(step)), batch())[0]
    largest = np.abs(found - batch().images).max()
    np.testing.assert_allclose(largest, 2 * share * c.at.epsilon, atol=1e-6)


def test_randmix_is_the_random_mix_of_the_examples_own_keys():
  """Eq. 17."""
  decoder, generator = tiny.decoder(2)
  keys = mixing.example_keys(KEY, batch().index)
  expected = jax.jit(lambda k: mixing.random_mix(k, decoder, generator, batch().latents))(keys)
  np.testing.assert_allclose(perturbed('randmix')[0], np.clip(expected, -1, 1), atol=1e-5)
  assert np.abs(expected).max() > 1  # It is clipped.


def test_advmix_is_harder_than_the_reconstruction_and_than_the_mix_it_starts_from():
  """Eq. 16, for the network as it is."""
  decoder, generator = tiny.decoder(2)
  keys = jax.vmap(jax.random.fold_in, (0, None))(mixing.example_keys(KEY, batch().index), 0)

  @jax.jit
  def losses(images):
    mixed = mixing.random_mix(keys, decoder, generator, batch().latents)
    reconstructed = decoder.decode(generator, batch().latents)

    def loss(x):
      return attack.cross_entropy(state().apply_fn(state().params, jnp.clip(x, -1, 1)), batch().labels)

    return loss(images), loss(mixed), loss(reconstructed)

  found, mixed, reconstructed = losses(perturbed('advmix')[0])
  assert (found >= mixed - 1e-5).all() and (found >= reconstructed - 1e-5).all()
  assert (found > np.maximum(mixed, reconstructed) + 1e-4).any()


def test_advmix_can_start_from_the_original():
  """Then nothing it finds is easier than the original."""
  c = default.get_config()
  c.attack.num_restarts, c.attack.num_steps, c.attack.start_from = 0, 1, 'original'
  images, _ = jax.jit(METHODS['advmix'](c))(KEY, state(), batch())
  np.testing.assert_array_equal(images, batch().images)


@functools.cache
def advmix(restarts, share, ramp_steps=0):
  """The compiled method, with so many restarts and that share of the radius and the step size."""
  c = default.get_config()
  c.attack.num_restarts, c.attack.num_steps, c.attack.ramp_steps = restarts, 2, ramp_steps
  c.attack.epsilon *= share
  c.attack.step_size *= share
  return jax.jit(METHODS['advmix'](c))


def test_at_the_foot_of_the_ramp_advmix_is_a_random_mix():
  """Not the worse of it and the reconstruction: that is an attack already."""
  decoder, generator = tiny.decoder(2)
  keys = jax.vmap(jax.random.fold_in, (0, None))(mixing.example_keys(KEY, batch().index), 0)
  expected = jax.jit(lambda k: mixing.random_mix(k, decoder, generator, batch().latents))(keys)
  found = advmix(3, 1.0, ramp_steps=10)(KEY, state(), batch())[0]
  np.testing.assert_allclose(found, np.clip(expected, -1, 1), atol=1e-5)


@pytest.mark.parametrize('step, share, restarts', [(5, 0.5, 1), (9, 0.9, 2), (10, 1.0, 3), (20, 1.0, 3)])
def test_the_attack_of_advmix_grows_over_the_ramp(step, share, restarts):
  """Radius and step size from 0; then the reconstruction competes, then one restart after the other."""
  growing = advmix(3, 1.0, ramp_steps=10)(KEY, state().replace(step=jnp.asarray(step)), batch())[0]
  constant = advmix(restarts, share)(KEY, state(), batch())[0]
  np.testing.assert_allclose(growing, constant, atol=1e-5)


@pytest.mark.parametrize('method', ['mixup', 'cutout', 'cutmix', 'randmix'])
def test_other_steps_draw_otherwise(method):
  """Run with another key, the same program gives another perturbation."""
  images, _ = jax.jit(METHODS[method](config()))(jax.random.key(6), state(), batch())
  assert np.abs(images - perturbed(method)[0]).max() > 0.01
