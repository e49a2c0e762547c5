"""One projected ascent (Eq. 9), and its two uses: Algorithm 2 in latent space, and PGD in pixel space.

The search never sees a network. `objective_fn(x)` gives two values per example: the loss it climbs, and the
score that decides which of the points it evaluated is kept, the starting points included; so a search is
never weaker than its start. With `highest_loss` the score is the loss. With `first_error` (the 0-1 loss) it
is infinite for a misclassified example, which the first such point keeps, and the search ends when all are.

    attack = LatentAttack(epsilon=0.03, num_restarts=5, num_steps=7, rule=ascent_rule('sign', 0.005))
    objective_fn = lambda images: objective(classifier(images), labels, 'highest_loss')
    images = latent_attack(attack, keys, decoder, params, w, objective_fn).best
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from advmix_jax import mixing, projection
from advmix_jax.ranges import pixel_distance
from advmix_jax.types import Array, Decoder, PyTree

ObjectiveFn = Callable[[PyTree], tuple[Array, Array]]  # x -> losses [B], scores [B].


class SearchResult(NamedTuple):
  """The point kept for each example and its score.

  Attributes:
    best: pytree like the start, leading axis B.
    score: `[B]` float32; infinite where the search succeeded and may end.
  """

  best: PyTree
  score: Array


def cross_entropy(logits: Array, labels: Array) -> Array:
  """Eq. 8 for each example: logits `[B, K]`, labels `[B]` int32, to losses `[B]`."""
  return optax.softmax_cross_entropy_with_integer_labels(logits, labels)


def misclassified(logits: Array, labels: Array) -> Array:
  """0-1 loss: logits `[B, K]`, labels `[B]` int32, to `[B]` bool."""
  return jnp.argmax(logits, axis=-1) != labels


def objective(logits: Array, labels: Array, select: str) -> tuple[Array, Array]:
  """What the attack climbs, and what it keeps.

  Args:
    logits: `[B, K]`.
    labels: `[B]` int32.
    select: highest_loss | first_error.

  Returns:
    Losses `[B]` and scores `[B]`.
  """
  losses = cross_entropy(logits, labels)
  if select == 'highest_loss':
    return losses, losses
  if select == 'first_error':
    return losses, jnp.where(misclassified(logits, labels), jnp.inf, losses)
  raise ValueError(f'attack select must be highest_loss or first_error, not {select!r}')


def ascent_rule(update: str, step_size: float) -> optax.GradientTransformation:
  """The step of Eq. 9: `gradient` as the paper's pseudo-code has it, `sign` as its listing."""
  if update == 'gradient':
    return optax.scale(step_size)
  if update == 'sign':
    return optax.chain(optax.scale_by_sign(), optax.scale(step_size))
  raise ValueError(f'attack update must be sign or gradient, not {update!r}')


def keep_better(kept: SearchResult, found: SearchResult) -> SearchResult:
  """For each example the one of two results with the higher score; the first one if they are equal."""
  better = found.score > kept.score

  def choose(new, old):
    return jnp.where(better.reshape(better.shape + (1,) * (new.ndim - 1)), new, old)

  return SearchResult(jax.tree.map(choose, found.best, kept.best), choose(found.score, kept.score))


def ascent_step(
  objective_fn: Callable[[PyTree], tuple[Array, PyTree]],
  project_fn: Callable[[PyTree], PyTree],
  rule: optax.GradientTransformation,
  x: PyTree,
  rule_state: PyTree,
) -> tuple[PyTree, PyTree, PyTree]:
  """One step of Eq. 9: the next point, the rule's state, and what `objective_fn(x)` gave beside losses."""

  def summed(x):
    losses, rest = objective_fn(x)
    return jnp.sum(losses), rest

  gradient, rest = jax.grad(summed, has_aux=True)(x)
  updates, rule_state = rule.update(gradient, rule_state, x)
  return project_fn(optax.apply_updates(x, updates)), rule_state, rest


def projected_ascent(
  objective_fn: ObjectiveFn,
  start: PyTree,
  project_fn: Callable[[PyTree], PyTree],
  num_steps: int,
  rule: optax.GradientTransformation,
) -> SearchResult:
  """Eq. 9: `x <- proj(x + rule(gradient))`, keeping the best iterate.

  Args:
    objective_fn: `x -> losses [B], scores [B]`; an example's values depend on its own part of `x` only.
    start: pytree with leading axis B.
    project_fn: back onto the feasible set.
    num_steps: K; 0 evaluates the start alone.
    rule: an optax transformation of the gradient of the losses, pointing uphill.

  Returns:
    The best of K + 1 points, or of fewer if all scores were infinite before. No gradient flows through it.
  """

  def unfinished(carry):
    i, _, _, kept = carry
    return (i < num_steps) & ~jnp.all(jnp.isposinf(kept.score))

  def step(carry):
    i, x, rule_state, kept = carry
    following, rule_state, scores = ascent_step(objective_fn, project_fn, rule, x, rule_state)
    return i + 1, following, rule_state, keep_better(kept, SearchResult(x, scores))

  start = jax.lax.stop_gradient(start)
  batch = jax.tree.leaves(start)[0].shape[0]
  nothing = SearchResult(start, jnp.full((batch,), -jnp.inf))
  _, last, _, kept = jax.lax.while_loop(unfinished, step, (0, start, rule.init(start), nothing))
  _, scores = objective_fn(last)
  return jax.lax.stop_gradient(keep_better(kept, SearchResult(last, scores)))


def restarted(
  search_fn: Callable[[Array], SearchResult], first: SearchResult, num_restarts: int | Array
) -> SearchResult:
  """The best of `first` and of `search_fn(restart)` for restart 0, 1, ... num_restarts - 1."""

  return jax.lax.fori_loop(
    0, num_restarts, lambda restart, kept: keep_better(kept, search_fn(restart)), first
  )


class LatentAttack(NamedTuple):
  """Settings of Algorithm 2.

  Attributes:
    epsilon: radius of the l-infinity box around `map(z)_perp`, per coordinate of w.
    num_restarts: Nr; a traced int32 too, as `epsilon` may be traced.
    num_steps: K; 0 takes the worst of Nr random mixes.
    rule: step of the ascent.
    typical_delta: delta of Eq. 15; 0 = no bound.
    must_beat_start: the image that the search starts from is kept where no variant is worse; else the worst
      variant is taken. May be traced.
  """

  epsilon: float | Array
  num_restarts: int | Array
  num_steps: int
  rule: optax.GradientTransformation
  typical_delta: float = 0.0
  must_beat_start: bool | Array = True


def latent_search(
  attack: LatentAttack,
  keys: Array,
  decoder: Decoder,
  params: PyTree,
  trunk: PyTree,
  objective_fn: ObjectiveFn,
) -> SearchResult:
  """One restart of Algorithm 2: from a fresh `map(z)_perp`, ascend within the box around it.

  Args:
    attack: settings; `num_restarts` is not used.
    keys: `[B]` keys; consumed.
    decoder: cut at the mixing level.
    params: the decoder's parameters.
    trunk: `coarse(w_par)` of B examples.
    objective_fn: of images `[B, H, W, C]` in [-1, 1].

  Returns:
    Best `w_perp [B, L - m, D]` and its score.
  """
  start = mixing.draw_w_perp(keys, decoder, params, attack.typical_delta)
  return projected_ascent(
    lambda w_perp: objective_fn(decode_clipped(decoder, params, trunk, w_perp)),
    start,
    lambda w_perp: projection.linf_ball(w_perp, start, attack.epsilon),
    attack.num_steps,
    attack.rule,
  )


def decode_clipped(decoder: Decoder, params: PyTree, trunk: PyTree, w_perp: Array) -> Array:
  """Images as a classifier sees them: `fine(trunk, w_perp)` clipped to [-1, 1] (open in the paper, ours)."""
  return jnp.clip(decoder.fine(params, trunk, w_perp), -1.0, 1.0)


def latent_attack(
  attack: LatentAttack,
  keys: Array,
  decoder: Decoder,
  params: PyTree,
  w: Array,
  objective_fn: ObjectiveFn,
  original: Array | None = None,
) -> SearchResult:
  """Algorithm 2: the most harmful image that shares `w_par`, over all restarts and steps.

  The trunk is computed once; every restart and step runs the layers above the mixing level alone.

  Args:
    attack: settings.
    keys: `[B]` keys; consumed. Restart r uses `fold_in(key, r)`.
    decoder: cut at the mixing level.
    params: the decoder's parameters.
    w: `[B, L, D]` encoded images.
    objective_fn: of images `[B, H, W, C]` in [-1, 1].
    original: `[B, H, W, C]`, the image that the search must beat; None = the reconstruction `dec(w)`.

  Returns:
    Images `[B, H, W, C]` in [-1, 1] and their scores `[B]`.
  """
  w_par, w_perp = mixing.split(w, decoder.mixing_level)
  trunk = decoder.coarse(params, w_par)

  def search(restart):
    restart_keys = jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, restart)
    found = latent_search(attack, restart_keys, decoder, params, trunk, objective_fn)
    return SearchResult(decode_clipped(decoder, params, trunk, found.best), found.score)

  nominal = decode_clipped(decoder, params, trunk, w_perp) if original is None else original
  to_beat = jnp.where(attack.must_beat_start, objective_fn(nominal)[1], -jnp.inf)
  result = restarted(search, SearchResult(nominal, to_beat), attack.num_restarts)
  return jax.lax.stop_gradient(result)


def pixel_attack(
  keys: Array,
  images: Array,
  objective_fn: ObjectiveFn,
  epsilon: float,
  num_steps: int,
  step_size: float,
) -> SearchResult:
  """Projected gradient ascent on the pixels (Madry et al. 2018), from a random start in the ball.

  Args:
    keys: `[B]` keys; consumed.
    images: `[B, H, W, C]` float32 in [-1, 1].
    objective_fn: of images.
    epsilon: radius of the l-infinity ball, on the [0, 1] pixel scale.
    num_steps: K.
    step_size: on the [0, 1] pixel scale.

  Returns:
    Images `[B, H, W, C]` in [-1, 1] and their scores `[B]`.
  """
  radius = pixel_distance(epsilon)

  def project(x):
    return projection.box(projection.linf_ball(x, images, radius), -1.0, 1.0)

  noise = jax.vmap(lambda k: jax.random.uniform(k, images.shape[1:], minval=-radius, maxval=radius))(keys)
  rule = ascent_rule('sign', pixel_distance(step_size))
  return projected_ascent(objective_fn, project(images + noise), project, num_steps, rule)
