"""Algorithm 1 on any number of images: a fixed number of slots, each at its own step of its own image.

An image is finished when its steps are used up, or earlier where it is told (`Stopping`); its slot then takes
the next image. What is found depends on neither slot nor order: an image's keys come from its index. All
shapes are static, so `advance` is compiled once; `encode_all` is the queue. The plain form, every image for
all steps, is `encoding.encode`.
"""

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from advmix_jax import encoding, mixing, slot_queue
from advmix_jax.encoding import EncodeSettings, FeaturesFn
from advmix_jax.ranges import to_float
from advmix_jax.types import Array, Decoder, PyTree

StartFn = Callable[[PyTree, Array], Array]
EitherArray = Any  # NumPy on the host, jax on the device.


class Stopping(NamedTuple):
  """When an image is finished before its steps are used up; by default never.

  L_rec has settled when it is nowhere below `1 - tolerance` times its least value of `patience` steps ago.
  An image that has settled passes to the final learning rate; where it settles again, it is finished.

  Attributes:
    target_error: mean squared pixel error in [-1, 1] units at which an image is finished; 0 = none.
    tolerance: share; 0 = images do not settle.
    patience: steps.
  """

  target_error: float = 0.0
  tolerance: float = 0.0
  patience: int = 1


class Slots(NamedTuple):
  """The images under way; every leaf has the leading axis S.

  Attributes:
    images: `[S, H, W, C]` float32 in [-1, 1].
    target_features: of the images.
    example: `[S]` int32, index of the image.
    w: `[S, L, D]`.
    opt_state: of the update rule, one for each slot.
    step: `[S]` int32, the next step; the final phase may begin early, so some are passed over.
    taken: `[S]` int32, the number of steps taken.
    least: `[S]` float32, L_rec that counts as the least so far.
    since: `[S]` int32, steps taken since.
  """

  images: Array
  target_features: PyTree
  example: Array
  w: Array
  opt_state: PyTree
  step: Array
  taken: Array
  least: Array
  since: Array


class Entry(NamedTuple):
  """What the host says about each slot.

  Attributes:
    held: `[S]` bool, the slot has an image; the others are idle.
    enters: `[S]` bool, the image is new. What follows is read for new images alone.
    images: `[S, H, W, C]` uint8.
    example: `[S]` int32, index of the image, by which its random draws go.
  """

  held: EitherArray
  enters: EitherArray
  images: EitherArray
  example: EitherArray


class Found(NamedTuple):
  """What `advance` tells the host.

  Attributes:
    finished: `[S]` bool, the slot's image is finished. What follows counts where it is.
    w: `[S, L, D]`.
    error: `[S]`, mean squared pixel error of `dec(w)` in [-1, 1] units.
    taken: `[S]` int32, the number of steps taken.
  """

  finished: EitherArray
  w: EitherArray
  error: EitherArray
  taken: EitherArray


def entered(start_fn: StartFn, features_fn: FeaturesFn, shared: PyTree, entry: Entry) -> Slots:
  """Images at their starts. See `advance`; `held` and `enters` are not used."""
  images = to_float(entry.images)
  w = start_fn(shared, images)
  zeros = jnp.zeros(len(images), jnp.int32)
  return Slots(
    images=images,
    target_features=features_fn(shared['features'], images),
    example=entry.example,
    w=w,
    opt_state=jax.vmap(encoding.update_rule(shared.get('whitening')).init)(w),
    step=zeros,
    taken=zeros,
    least=jnp.full(len(images), jnp.inf),
    since=zeros,
  )


def slot_shapes(
  start_fn: StartFn, features_fn: FeaturesFn, shared: PyTree, num_slots: int, image_shape: tuple[int, ...]
) -> PyTree:
  """Shapes and dtypes of `Slots`, for parameters `shared` or their shapes."""
  numbers, flags = (jax.ShapeDtypeStruct((num_slots,), dtype) for dtype in (jnp.int32, jnp.bool_))
  entry = Entry(flags, flags, jax.ShapeDtypeStruct((num_slots, *image_shape), jnp.uint8), numbers)
  return jax.eval_shape(functools.partial(entered, start_fn, features_fn), shared, entry)


def empty_slots(
  start_fn: StartFn, features_fn: FeaturesFn, shared: PyTree, num_slots: int, image_shape: tuple[int, ...]
) -> Slots:
  """Idle slots for `advance`, on the host; nothing is computed."""
  return slot_queue.idle(slot_shapes(start_fn, features_fn, shared, num_slots, image_shape))


def advance(
  settings: EncodeSettings,
  stopping: Stopping,
  start_fn: StartFn,
  features_fn: FeaturesFn,
  decoder: Decoder,
  shared: PyTree,
  slots: Slots,
  entry: Entry,
  axis_name: str | None = None,
) -> tuple[Slots, Found]:
  """Takes in new images, then steps all slots until enough of them are free to be worth refilling.

  Args:
    settings: of Algorithm 1.
    stopping: when an image is finished early.
    start_fn: `(shared, images [B, H, W, C]) -> w [B, L, D]`, each example by itself.
    features_fn: as for `encoding.encode`.
    decoder: cut at the mixing level.
    shared: `{'decoder', 'features'}` parameters, what `start_fn` needs, perhaps `whitening`, see
      `encoding.update_rule`, `key`, `waiting`, a bool: there are more images; if not, all run to their ends;
      and perhaps `turns`, see `slot_queue.step_until_free`.
      The key is folded with an image's index, then with the step.
    slots: those of the last call, or `empty_slots`.
    entry: what the slots hold.
    axis_name: of the devices, for `slot_queue.step_until_free`.

  Returns:
    The slots, and what they found.
  """
  entered_fn = functools.partial(entered, start_fn, features_fn, shared)
  slots = slot_queue.put_in(entered_fn, slots, entry, entry.enters)
  params = shared['decoder']
  keys = mixing.example_keys(shared['key'], slots.example)
  tx = encoding.update_rule(shared.get('whitening'))

  def working(slots: Slots) -> Array:
    return entry.held & (slots.step < settings.num_steps)

  def loss_fn(w, step):
    return encoding.objective(
      decoder,
      features_fn,
      settings,
      params,
      shared['features'],
      jax.vmap(jax.random.fold_in)(keys, step),
      slots.images,
      slots.target_features,
      w,
      encoding.descends_mixing(settings, step),
    )

  def step(now: Slots) -> Slots:
    gradient, (rec, error) = jax.grad(loss_fn, has_aux=True)(now.w, now.step)
    direction, opt_state = jax.vmap(tx.update)(gradient, now.opt_state)
    rate = encoding.learning_rate(settings, now.step)
    live = working(now)
    arrived = live & (error <= stopping.target_error) if stopping.target_error else jnp.zeros_like(live)
    moved = live & ~arrived
    now = now._replace(
      w=jnp.where(moved[:, None, None], now.w - rate[:, None, None] * direction, now.w),
      opt_state=opt_state,
      step=jnp.where(arrived, settings.num_steps, now.step + moved),
      taken=now.taken + moved,
    )
    return settle(settings, stopping, now, rec) if stopping.tolerance else now

  slots = slot_queue.step_until_free(step, working, slots, shared, axis_name)
  error = encoding.squared_error(decoder.decode(params, slots.w), slots.images)
  return slots, Found(entry.held & ~working(slots), slots.w, error, slots.taken)


def settle(settings: EncodeSettings, stopping: Stopping, slots: Slots, rec: Array) -> Slots:
  """Moves images on whose L_rec `rec [S]`, that before the step just taken, has settled."""
  lower = rec < (1 - stopping.tolerance) * slots.least
  since = jnp.where(lower, 0, slots.since + 1)
  settled = since >= stopping.patience
  fall = encoding.final_phase(settings)
  return slots._replace(
    step=jnp.where(settled, jnp.where(slots.step < fall, fall, settings.num_steps), slots.step),
    least=jnp.where(settled | lower, rec, slots.least),
    since=jnp.where(settled, 0, since),
  )


def encode_all(
  advance_fn: Callable[[PyTree, Entry, bool], tuple[PyTree, Found]],
  slots: PyTree,
  images: np.ndarray,
  index: np.ndarray,
  positions: Iterable[int],
  num_slots: int,
  begun: tuple[np.ndarray, np.ndarray] | None = None,
) -> Iterator[tuple[np.ndarray, Found]]:
  """Encodes images of a data set; yields those that are finished as they finish, every image once.

  Args:
    advance_fn: `(slots, entry, waiting) -> slots, found`, as `advance`; found on the host.
    slots: idle slots; consumed.
    images: `[N, H, W, C]` uint8.
    index: `[N]` int32.
    positions: which of them, in the order in which they enter.
    num_slots: S.
    begun: `[S]` bool and int64, the slots that have an image at the start, and its position; None = all idle.

  Yields:
    Positions `[F]`, and what was found, `[F, ...]`.
  """
  queue = iter(positions)
  held, position = begun or (np.zeros(num_slots, bool), np.zeros(num_slots, np.int64))
  while True:
    new, items, waiting = slot_queue.fill(held, queue)
    position[new] = items
    if not held.any():
      return
    enters = np.isin(np.arange(num_slots), new)
    entry = Entry(held.copy(), enters, images[position], index[position].astype(np.int32))
    slots, found = advance_fn(slots, entry, waiting)
    places = np.flatnonzero(found.finished)
    held[places] = False
    yield position[places], jax.tree.map(lambda x, places=places: x[places], found)
