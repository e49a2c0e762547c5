"""Adam as TensorFlow computes it, which the official StyleGAN code trains with."""

import jax
import jax.numpy as jnp
import optax

ADAMS = ('optax', 'tensorflow')


def make_adam(
  form: str,
  learning_rate: float,
  b1: float = 0.0,
  b2: float = 0.99,
  eps: float = 1e-8,
  lazy_interval: int = 0,
) -> optax.GradientTransformation:
  """The optimiser of StyleGAN.

  The two forms differ in where `eps` stands: `optax` adds it to `sqrt(v / (1 - b2^t))` (Kingma and Ba 2015,
  Algorithm 1), `tensorflow` to `sqrt(v)` (their section 2, last paragraph), where it weighs more in the
  first steps.

  With a `lazy_interval` k a regularisation takes a further step after every k: k + 1 steps then move as far,
  and forget as much, as k would (Karras et al. 2020, appendix B). 0 = no further steps.
  """
  if lazy_interval:
    ratio = lazy_interval / (lazy_interval + 1)
    learning_rate, b1, b2 = learning_rate * ratio, b1**ratio, b2**ratio
  if form == 'optax':
    return optax.adam(learning_rate, b1=b1, b2=b2, eps=eps)
  return optax.chain(_scale_by_adam_tensorflow(b1, b2, eps), optax.scale(-learning_rate))


def _scale_by_adam_tensorflow(b1: float, b2: float, eps: float) -> optax.GradientTransformation:
  def init(params):
    zeros = jax.tree.map(jnp.zeros_like, params)
    return optax.ScaleByAdamState(jnp.zeros((), jnp.int32), zeros, jax.tree.map(jnp.copy, zeros))

  def update(gradients, state, params=None):
    count = state.count + 1
    mu = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, state.mu, gradients)
    nu = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * jnp.square(g), state.nu, gradients)
    t = count.astype(jnp.float32)
    rate = jnp.sqrt(1 - b2**t) / (1 - b1**t)
    updates = jax.tree.map(lambda m, v: rate * m / (jnp.sqrt(v) + eps), mu, nu)
    return updates, optax.ScaleByAdamState(count, mu, nu)

  return optax.GradientTransformation(init, update)
