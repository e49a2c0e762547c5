"""Algorithm 2 with nothing left out: the loss at every step of a restart, and whether it misleads there.

The searches of a restart with fewer steps, and of fewer restarts, are parts of those with more; so one record
of the most of both gives accuracy under perturbation for every smaller number of either. `refill` finds the
same for one setting, and much sooner, as it leaves every example at its first error.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from advmix_jax import attack, projection, refill
from advmix_jax.batched import batches
from advmix_jax.types import Array, Decoder, PyTree


class Trace(NamedTuple):
  """What happens in a restart of each pair.

  Attributes:
    losses: `[B, most + 1]` float32, at the random mix and after each step; NaN after the last step.
    wrong: `[B, most + 1]` bool, the image there, as stored, is misclassified.
  """

  losses: Array
  wrong: Array


def trace(
  classify_fn: refill.ClassifyFn,
  decoder: Decoder,
  update: str,
  typical_delta: float,
  most: int,
  shared: PyTree,
  entry: refill.Entry,
) -> Trace:
  """One restart of Algorithm 2 for each (example, restart), with the points of `refill.advance`.

  Epsilon, step size and the number of steps are arrays: every setting runs the same program.

  Args:
    classify_fn: `(params, images) -> logits`.
    decoder: cut at the mixing level.
    update: sign | gradient.
    typical_delta: delta of Eq. 15; 0 = no bound.
    most: steps that there is room for.
    shared: `{'classifier', 'decoder'}` parameters, `key`, `epsilon`, `step_size`, and `num_steps`, at most
      `most`. The key is folded with the example's index, then with the restart.
    entry: the pairs; `held` and `enters` are not read.
  """
  rule = attack.ascent_rule(update, shared['step_size'])
  settings = attack.LatentAttack(shared['epsilon'], 1, most, rule, typical_delta)
  slots = refill.entered(settings, decoder, shared, entry)

  def objective_fn(w_perp):
    images = attack.decode_clipped(decoder, shared['decoder'], slots.trunk, w_perp)
    logits = classify_fn(shared['classifier'], refill.through_uint8(images))
    losses = attack.cross_entropy(logits, slots.labels)
    return losses, (losses, attack.misclassified(logits, slots.labels))

  def project(w_perp):
    return projection.linf_ball(w_perp, slots.start, settings.epsilon)

  def step(i, carry):
    w_perp, rule_state, losses, wrong = carry
    w_perp, rule_state, found = attack.ascent_step(objective_fn, project, rule, w_perp, rule_state)
    return w_perp, rule_state, losses.at[:, i].set(found[0]), wrong.at[:, i].set(found[1])

  size = (len(entry.labels), most + 1)
  carry = slots.start, rule.init(slots.start), jnp.full(size, jnp.nan), jnp.zeros(size, bool)
  return Trace(*jax.lax.fori_loop(0, shared['num_steps'] + 1, step, carry)[2:])


def first_errors(
  trace_fn: Callable[[refill.Entry], Trace],
  w: np.ndarray,
  labels: np.ndarray,
  numbers: np.ndarray,
  num_restarts: int,
  most: int,
  enough: int,
  batch_size: int,
  progress: Callable[[int], None] = lambda done: None,
) -> tuple[np.ndarray, np.ndarray]:
  """The first misclassified point of each restart of each example, and the losses of the first restart.

  Restarts are left out where an earlier one misled within `enough` steps.

  Args:
    trace_fn: `trace` for one classifier and one setting, on the host.
    w: `[N, L, D]`.
    labels: `[N]` int32.
    numbers: `[N]` int32, by which the examples' random draws go.
    num_restarts: Nr.
    most: steps that `trace_fn` has room for.
    enough: steps; what `holds` finds for as many or more is the same as without leaving anything out.
    batch_size: pairs in a call.
    progress: called with the restarts that are settled, of all `N * num_restarts`.

  Returns:
    `[N, num_restarts]` int64, number of steps before the first misclassified point; `most + 1` where there is
    none, or where the restart was left out. `[N, most + 1]` float32.
  """
  first = np.full((len(labels), num_restarts), most + 1)
  losses = np.full((len(labels), most + 1), np.nan, np.float32)
  done = 0
  while done < num_restarts:
    sought = np.flatnonzero(first.min(axis=1) > enough)
    # Where few examples are left, as many restarts of each as a call holds.
    together = min(max(1, batch_size // max(1, len(sought))), num_restarts - done) if done else 1
    pairs = np.stack(np.meshgrid(np.arange(done, done + together), sought, indexing='ij'), -1).reshape(-1, 2)
    for at, real in batches(np.arange(len(pairs)), batch_size):
      restart, example = pairs[at].T
      flags = np.ones(batch_size, bool)
      entry = refill.Entry(
        flags, flags, w[example], labels[example], numbers[example], restart.astype(np.int32)
      )
      found = trace_fn(entry)
      wrong = np.asarray(found.wrong)
      first[example[:real], restart[:real]] = np.where(wrong.any(axis=1), wrong.argmax(axis=1), most + 1)[
        :real
      ]
      if not done:
        losses[example[:real]] = np.asarray(found.losses)[:real]
    done += together
    progress(done * len(labels))
  return first, losses


def holds(first: np.ndarray, broken: np.ndarray, num_restarts: int, num_steps: int) -> np.ndarray:
  """`[N]` bool, the examples that an attack of so many restarts and steps leaves right.

  Args:
    first: `[N, R]` of `first_errors`, with `enough` not above `num_steps`.
    broken: `[N]` bool, misclassified before any search.
    num_restarts: Nr, at most R.
    num_steps: K.
  """
  return ~broken & (first[:, :num_restarts].min(axis=1) > num_steps)
