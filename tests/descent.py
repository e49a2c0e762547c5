"""A training of one array, for tests of the loop: noise from its key, so that every bit counts."""

import functools

import flax.struct
import jax
import jax.numpy as jnp


class State(flax.struct.PyTreeNode):
  step: jax.Array
  key: jax.Array
  x: jax.Array


@functools.partial(jax.jit, donate_argnums=0)
def descend(state, batch):
  noise = jax.random.normal(jax.random.fold_in(state.key, state.step), state.x.shape)
  x = 0.9 * state.x + noise + batch
  return state.replace(step=state.step + 1, x=x), {'loss': jnp.mean(x)}


def fresh(size: int = 3) -> State:
  return State(jnp.int32(0), jax.random.key(4), jnp.zeros(size))
