"""A state of GAN training with tiny networks, its batch, and two devices compared with one."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from advmix_jax.training.gan_state import GanBatch, GanState, create_gan_state
from tests import tiny
from tests.compare import assert_close
from tests.tiny import normal, uniform

SIZE, CLASSES = 8, 3
LEARNING_RATE = 0.01  # Plain descent, so that a step is its gradient and no rounding is blown up.


def batch(conditional: bool = True) -> GanBatch:
  images = 0.9 * uniform(1, SIZE, 8, 8, 3)
  labels = jnp.arange(SIZE, dtype=jnp.int32) % CLASSES
  return GanBatch(images, labels, labels[::-1]) if conditional else GanBatch(images)


def gan_state(model, critic, **parts) -> GanState:
  """Built without compiling the networks' initialisations; `parts` replace those of a new state."""
  tx = optax.sgd(LEARNING_RATE)
  shapes = jax.eval_shape(lambda: create_gan_state(jax.random.key(0), model, critic, tx))
  generator, discriminator = (
    tiny.random_params(tree, seed) for seed, tree in enumerate([shapes.generator, shapes.discriminator])
  )
  state = GanState(
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
  )
  return state.replace(**parts)


def assert_trained_as_one(two, one, state: GanState, names: tuple[str, ...]) -> None:
  """That two devices hold the same replicas, and moved the named parts and measured what one device did.

  Args:
    two: `(state, metrics)` of a step on two devices, with a leading axis for them.
    one: the same of one device.
    state: before the step.
    names: of parts of the state.
  """
  (two, their_metrics), (one, metrics) = two, one
  for name in names:
    replicas = getattr(two, name)
    jax.tree.map(lambda x: np.testing.assert_array_equal(x[0], x[1]), replicas)
    moved = jax.tree.map(lambda a, b: a - b, getattr(one, name), getattr(state, name))
    theirs = jax.tree.map(lambda a, b: a[0] - b, replicas, getattr(state, name))
    scale = max(float(np.abs(x).max()) for x in jax.tree.leaves(moved))
    assert_close(theirs, moved, rtol=1e-3, atol=1e-5 * max(scale, 1.0))
  assert_close(jax.tree.map(lambda x: x[0], their_metrics), metrics, rtol=1e-3, atol=1e-4)
