"""A minibatch in equal parts, one after another: the memory of a part, and the numbers of the whole.

Of P parts, example n is in part n mod P. So the groups of the minibatch standard deviation, which are strided
as well, are those of the whole minibatch wherever the group size divides a part.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from advmix_jax.types import Array, PyTree


def num_parts(batch_size: int, part_size: int) -> int:
  """How many parts of so many examples there are; one, with a part size of 0.

  Raises:
    ValueError: the part size does not divide the batch.
  """
  if not part_size:
    return 1
  if batch_size % part_size:
    raise ValueError(f'a part of {part_size} examples does not divide a batch of {batch_size}')
  return batch_size // part_size


def _split(x: Array, parts: int) -> Array:
  """`[B, ...]` to `[P, B / P, ...]`."""
  return jnp.swapaxes(x.reshape(-1, parts, *x.shape[1:]), 0, 1)


def _join(x: Array) -> Array:
  """`[P, B / P, ...]` to `[B, ...]`."""
  return jnp.swapaxes(x, 0, 1).reshape(-1, *x.shape[2:])


def average(fn: Callable[[PyTree], PyTree], batch: PyTree, parts: int) -> PyTree:
  """The mean over the parts of `fn(part)`, whose leaves are float32 means over examples: losses, gradients.

  Args:
    fn: of a part of the batch.
    batch: tree of `[B, ...]`, B a multiple of the number of parts.
    parts: P; 1 = `fn(batch)`.
  """
  if parts == 1:
    return fn(batch)
  split = jax.tree.map(lambda x: _split(x, parts), batch)
  zeros = jax.tree.map(
    lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(fn, jax.tree.map(lambda x: x[0], split))
  )

  def add(total, part):
    return jax.tree.map(jnp.add, total, fn(part)), None

  total, _ = jax.lax.scan(add, zeros, split)
  return jax.tree.map(lambda x: x / parts, total)


def collect(fn: Callable[[PyTree], PyTree], batch: PyTree, parts: int) -> PyTree:
  """`fn(batch)` for an `fn` that takes each example by itself: a tree of `[B, ...]`, in order."""
  if parts == 1:
    return fn(batch)
  found = jax.lax.map(fn, jax.tree.map(lambda x: _split(x, parts), batch))
  return jax.tree.map(_join, found)
