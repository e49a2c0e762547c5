"""Algorithm 2 for evaluation: a fixed number of slots, each at its own step of its own search.

A search is of one (example, restart) pair. It ends when its steps are used up or, but for `highest_loss`,
when its example is misclassified; its slot then takes the next pair. All shapes are static, so `advance` is
compiled once. The trunk is computed when a pair enters its slot, and a step runs the layers above the
mixing level alone. Memory holds one trunk for each slot, whatever the size of the data set.
`evaluation.attack_all` is the queue; `start_scores` is for the order in which restarts stand in it.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from advmix_jax import attack, mixing, projection, slot_queue
from advmix_jax.ranges import quantise, to_uint8
from advmix_jax.types import Array, Decoder, PyTree

ClassifyFn = Callable[[PyTree, Array], Array]
EitherArray = Any  # NumPy on the host, jax on the device.


class Slots(NamedTuple):
  """The searches under way; every leaf has the leading axis S.

  Attributes:
    trunk: `coarse(w_par)`.
    labels: `[S]` int32.
    start: `[S, L - m, D]`, centre of the box.
    w_perp: `[S, L - m, D]`, the point to be evaluated next.
    rule_state: of the ascent rule, one for each slot.
    evaluated: `[S]` int32, number of points evaluated.
    kept: the best of them: its image `[S, H, W, C]` uint8, and whether that is misclassified `[S]` bool.
  """

  trunk: PyTree
  labels: Array
  start: Array
  w_perp: Array
  rule_state: PyTree
  evaluated: Array
  kept: attack.SearchResult


class Entry(NamedTuple):
  """What the host says about each slot.

  Attributes:
    held: `[S]` bool, the slot has a pair; the others are idle.
    enters: `[S]` bool, the pair is new. What follows is read for new pairs alone.
    w: `[S, L, D]`.
    labels: `[S]` int32.
    example: `[S]` int32, its index.
    restart: `[S]` int32.
  """

  held: EitherArray
  enters: EitherArray
  w: EitherArray
  labels: EitherArray
  example: EitherArray
  restart: EitherArray


class Found(NamedTuple):
  """What `advance` tells the host.

  Attributes:
    finished: `[S]` bool, the slot's search has ended.
    wrong: `[S]` bool, the point it kept is misclassified.
    images: `[S, H, W, C]` uint8, that point.
  """

  finished: EitherArray
  wrong: EitherArray
  images: EitherArray


@jax.custom_vjp
def through_uint8(images: Array) -> Array:
  """The images exactly as they will be stored, with the gradient of the images as they are."""
  return quantise(images)


through_uint8.defvjp(lambda images: (quantise(images), None), lambda _, gradient: (gradient,))


def entered(settings: attack.LatentAttack, decoder: Decoder, shared: PyTree, entry: Entry) -> Slots:
  """Searches at their starts. See `advance`; `held` and `enters` are not used."""
  params = shared['decoder']
  keys = search_keys(shared['key'], entry.example, entry.restart)
  trunk = decoder.coarse(params, mixing.split(entry.w, decoder.mixing_level)[0])
  start = mixing.draw_w_perp(keys, decoder, params, settings.typical_delta)
  nothing = jnp.zeros(jax.eval_shape(decoder.fine, params, trunk, start).shape, jnp.uint8)
  size = len(entry.labels)
  kept = attack.SearchResult((nothing, jnp.zeros(size, bool)), jnp.full(size, -jnp.inf))
  rule_state = jax.vmap(settings.rule.init)(start)
  return Slots(trunk, entry.labels, start, start, rule_state, jnp.zeros(size, jnp.int32), kept)


def start_scores(
  settings: attack.LatentAttack,
  select: str,
  classify_fn: ClassifyFn,
  decoder: Decoder,
  shared: PyTree,
  batch: tuple[Array, Array, Array],
) -> Array:
  """Scores `[B, Nr]` of the points that the searches of B examples start from, one for each restart.

  Args:
    settings: the number of restarts.
    select: first_error | highest_loss.
    classify_fn: `(params, images) -> logits`.
    decoder: cut at the mixing level.
    shared: `{'classifier', 'decoder'}` parameters and `key`, as in `advance`.
    batch: latents `[B, L, D]`, labels `[B]` int32, and the examples' indices `[B]` int32.
  """
  w, labels, example = batch
  params = shared['decoder']
  trunk = decoder.coarse(params, mixing.split(w, decoder.mixing_level)[0])

  def scores(restart):
    w_perp = mixing.draw_w_perp(
      search_keys(shared['key'], example, restart), decoder, params, settings.typical_delta
    )
    images = attack.decode_clipped(decoder, params, trunk, w_perp)
    return attack.objective(classify_fn(shared['classifier'], quantise(images)), labels, select)[1]

  return jax.lax.map(scores, jnp.arange(settings.num_restarts)).T


def search_keys(key: Array, example: Array, restart: Array) -> Array:
  """Keys `[B]` of the searches of examples `[B]` with restarts `[B]`, or one restart of all."""
  restart = jnp.broadcast_to(restart, example.shape)
  return jax.vmap(jax.random.fold_in)(mixing.example_keys(key, example), restart)


def slot_shapes(settings: attack.LatentAttack, decoder: Decoder, shared: PyTree, num_slots: int) -> PyTree:
  """Shapes and dtypes of `Slots`, for parameters `shared` or their shapes."""
  numbers, flags = (jax.ShapeDtypeStruct((num_slots,), dtype) for dtype in (jnp.int32, jnp.bool_))
  w = jax.ShapeDtypeStruct((num_slots, decoder.num_layers, decoder.w_size), jnp.float32)
  entry = Entry(flags, flags, w, numbers, numbers, numbers)
  return jax.eval_shape(functools.partial(entered, settings, decoder), shared, entry)


def empty_slots(settings: attack.LatentAttack, decoder: Decoder, shared: PyTree, num_slots: int) -> Slots:
  """Idle slots for `advance`, on the host; nothing is computed."""
  return slot_queue.idle(slot_shapes(settings, decoder, shared, num_slots))


def advance(
  settings: attack.LatentAttack,
  select: str,
  classify_fn: ClassifyFn,
  decoder: Decoder,
  shared: PyTree,
  slots: Slots,
  entry: Entry,
  axis_name: str | None = None,
) -> tuple[Slots, Found]:
  """Takes in new pairs, then steps all slots until enough of them are free to be worth refilling.

  The points of a search are those of `attack.latent_search`, and the one it keeps is kept as uint8.

  Args:
    settings: epsilon, steps, rule.
    select: first_error | highest_loss.
    classify_fn: `(params, images) -> logits`.
    decoder: cut at the mixing level.
    shared: `{'classifier', 'decoder'}` parameters, `key`, `waiting`, a bool: there are more pairs; if not,
      all searches run to their ends; and perhaps `turns`, see `slot_queue.step_until_free`. The key is folded
      with the example's index, then with the restart, so a search does not depend on its slot.
    slots: those of the last call, or `empty_slots`.
    entry: what the slots hold.
    axis_name: of the devices, for `slot_queue.step_until_free`.

  Returns:
    The slots, and what they found.
  """
  entered_fn = functools.partial(entered, settings, decoder, shared)
  slots = slot_queue.put_in(entered_fn, slots, entry, entry.enters)

  def objective_fn(w_perp):
    images = attack.decode_clipped(decoder, shared['decoder'], slots.trunk, w_perp)
    logits = classify_fn(shared['classifier'], through_uint8(images))
    losses, scores = attack.objective(logits, slots.labels, select)
    return losses, (scores, (to_uint8(images), attack.misclassified(logits, slots.labels)))

  def project(w_perp):
    return projection.linf_ball(w_perp, slots.start, settings.epsilon)

  rule = settings.rule._replace(update=jax.vmap(settings.rule.update))  # Every slot has a state of its own.

  def searching(carry):
    _, _, evaluated, kept = carry
    return entry.held & ~(jnp.isposinf(kept.score) | (evaluated > settings.num_steps))

  def step(carry):
    w_perp, rule_state, evaluated, kept = carry
    live = searching(carry)
    w_perp, rule_state, (scores, point) = attack.ascent_step(objective_fn, project, rule, w_perp, rule_state)
    kept = attack.keep_better(kept, attack.SearchResult(point, jnp.where(live, scores, -jnp.inf)))
    return w_perp, rule_state, evaluated + live, kept

  carry = (slots.w_perp, slots.rule_state, slots.evaluated, slots.kept)
  carry = slot_queue.step_until_free(step, searching, carry, shared, axis_name)
  w_perp, rule_state, evaluated, kept = carry
  slots = slots._replace(w_perp=w_perp, rule_state=rule_state, evaluated=evaluated, kept=kept)
  images, wrong = kept.best
  return slots, Found(entry.held & ~searching(carry), wrong, images)
