"""Accuracy on clean images, and under perturbation by Algorithm 2.

An example counts as broken only if its final variant, stored as uint8 and read again, is misclassified.
Starting from the original, an image that is already misclassified is broken, so accuracy under perturbation
never exceeds clean accuracy.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from advmix_jax import attack, mixing
from advmix_jax.ranges import quantise, to_float, to_uint8
from advmix_jax.types import Array, Decoder, PyTree

ClassifyFn = Callable[[PyTree, Array], Array]


class Broken(NamedTuple):
  """What an attack of a whole data set found.

  Attributes:
    broken: `[N]` bool.
    images: `[N, H, W, C]` uint8, the variant that broke the example; the original where none did.
    restart: `[N]` int32, the restart that found it; -1 where none was needed or none did.
  """

  broken: np.ndarray
  images: np.ndarray
  restart: np.ndarray


def through_uint8(images: Array) -> Array:
  """The images as they will be stored, with the gradient of the images as they are."""
  return images + jax.lax.stop_gradient(quantise(images) - images)


def attack_once(
  settings: attack.LatentAttack,
  select: str,
  classify_fn: ClassifyFn,
  decoder: Decoder,
  shared: PyTree,
  batch: PyTree,
) -> tuple[Array, Array]:
  """One restart of Algorithm 2 against a batch.

  Args:
    settings: epsilon, steps, rule.
    select: first_error | highest_loss.
    classify_fn: `(params, images) -> logits`.
    decoder: cut at the mixing level.
    shared: `{'classifier', 'decoder'}` parameters, `key` and `restart`. The key is folded with each example's
      index, then with the restart, never with the place in the batch.
    batch: `{'w' [B, L, D], 'labels' [B], 'index' [B]}`.

  Returns:
    Variants `[B, H, W, C]` uint8, and whether they are misclassified `[B]` bool.
  """

  def objective_fn(images):
    return attack.objective(classify_fn(shared['classifier'], through_uint8(images)), batch['labels'], select)

  keys = mixing.example_keys(shared['key'], batch['index'])
  keys = jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, shared['restart'])
  w_par, _ = mixing.split(batch['w'], decoder.mixing_level)
  params = shared['decoder']
  trunk = decoder.coarse(params, w_par)
  found = attack.latent_search(settings, keys, decoder, params, trunk, objective_fn)
  images = to_uint8(attack.decode_clipped(decoder, params, trunk, found.best))
  logits = classify_fn(shared['classifier'], to_float(images))
  return images, attack.misclassified(logits, batch['labels'])


def batches(positions: np.ndarray, batch_size: int) -> Iterator[tuple[np.ndarray, int]]:
  """Positions in batches of one fixed size, the last one filled up by repetition, with how many are real."""
  for start in range(0, len(positions), batch_size):
    real = positions[start : start + batch_size]
    yield np.resize(real, batch_size), len(real)


def attack_all(
  attack_fn: Callable[[int, PyTree], tuple[np.ndarray, np.ndarray]],
  originals: np.ndarray,
  w: np.ndarray,
  labels: np.ndarray,
  already_broken: np.ndarray,
  num_restarts: int,
  batch_size: int,
  progress: Callable[[int, int], None] = lambda restart, left: None,
) -> Broken:
  """Algorithm 2 with the 0-1 loss on a whole data set: an example leaves the queue once it is broken.

  Args:
    attack_fn: `(restart, {'w', 'labels', 'index'}) -> variants, misclassified`, for exactly `batch_size`.
    originals: `[N, H, W, C]` uint8.
    w: `[N, L, D]`.
    labels: `[N]` int32.
    already_broken: `[N]` bool, misclassified before any search.
    num_restarts: Nr.
    batch_size: examples attacked at a time.
    progress: called with the number of restarts done and of examples left.
  """
  broken, images = already_broken.copy(), originals.copy()
  found_by = np.full(len(labels), -1, np.int32)
  for restart in range(num_restarts):
    for positions, real in batches(np.flatnonzero(~broken), batch_size):
      batch = {'w': w[positions], 'labels': labels[positions], 'index': positions.astype(np.int32)}
      variants, wrong = (x[:real] for x in attack_fn(restart, batch))
      hit = positions[:real][wrong]
      broken[hit], images[hit], found_by[hit] = True, variants[wrong], restart
    progress(restart + 1, int((~broken).sum()))
  return Broken(broken, images, found_by)


def group_accuracy(correct: np.ndarray, labels: np.ndarray, num_classes: int) -> list[float]:
  """Share of `correct [N]` bool within each class; every class must have an example."""
  return [float(correct[labels == k].mean()) for k in range(num_classes)]


def predict_all(
  predict_fn: Callable[[np.ndarray], np.ndarray], images: np.ndarray, batch_size: int
) -> np.ndarray:
  """Predicted classes `[N]` of `images [N, H, W, C]` uint8, each counted once."""
  found = [
    np.asarray(predict_fn(images[positions]))[:real]
    for positions, real in batches(np.arange(len(images)), batch_size)
  ]
  return np.concatenate(found)


def predictions(classify_fn: ClassifyFn, params: PyTree, images: Array) -> Array:
  """Predicted classes `[B]` of `images [B, H, W, C]` uint8."""
  return jnp.argmax(classify_fn(params, to_float(images)), axis=-1)
