"""Several classifiers that differ in their seed alone, trained in one program.

What training changes has a leading axis of seeds, `[S, ...]`; the step number, generator and functions are
one for all. A seed's numbers do not depend on the others.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from advmix_jax.types import Array, Batch, PyTree, TrainState

OF_A_SEED = ('key', 'params', 'opt_state', 'ema_params')

StepFn = Callable[[TrainState, Batch], tuple[TrainState, dict[str, Array]]]


def stack(states: Sequence[TrainState]) -> TrainState:
  """One state of all: the fields of `OF_A_SEED` as `[S, ...]`, the others as the first has them."""
  fields = {
    name: jax.tree.map(lambda *x: jnp.stack(x), *(getattr(state, name) for state in states))
    for name in OF_A_SEED
  }
  return states[0].replace(**fields)


def of_seed(tree: PyTree, number: int) -> PyTree:
  """The part `[...]` of one seed of a tree `[S, ...]`."""
  return jax.tree.map(lambda x: x[number], tree)


def step_all(step_fn: StepFn, one_by_one: bool) -> StepFn:
  """A step of every seed, on batches `[S, B, ...]`.

  Args:
    step_fn: of a single classifier.
    one_by_one: seeds in turn instead of together (`vmap`): on CPU, where a convolution with several sets of
      weights at once is slow.

  Returns:
    `(state, batch) -> (state, metrics)`; metrics are means over the seeds.
  """

  def step(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, Array]]:
    def step_one(given: tuple[dict[str, PyTree], Batch]) -> tuple[dict[str, PyTree], dict[str, Array]]:
      own, own_batch = given
      new, metrics = step_fn(state.replace(**own), own_batch)
      return {name: getattr(new, name) for name in OF_A_SEED}, metrics

    own = {name: getattr(state, name) for name in OF_A_SEED}
    loop = jax.lax.map if one_by_one else lambda fn, given: jax.vmap(fn)(given)
    new, metrics = loop(step_one, (own, batch))
    return state.replace(step=state.step + 1, **new), jax.tree.map(jnp.mean, metrics)

  return step
