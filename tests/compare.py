"""Comparisons of trees of arrays, of two devices with one, and of our images with those of official code."""

import jax
import numpy as np

from advmix_jax.types import Array, PyTree


def assert_close(a: PyTree, b: PyTree, **tolerance: float) -> None:
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **tolerance), a, b)


def assert_same_bits(found: PyTree, expected: PyTree) -> None:
  """Of float32 arrays."""
  assert jax.tree.structure(found) == jax.tree.structure(expected)
  for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
    assert a.dtype == b.dtype == np.float32 and a.shape == b.shape
    assert a.tobytes() == np.asarray(b).tobytes()


def differ(a: PyTree, b: PyTree) -> bool:
  return any(not np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def halves(batch: PyTree) -> PyTree:
  """`[B, ...]` to `[2, B / 2, ...]`, a half for each of two devices."""
  return jax.tree.map(lambda x: x.reshape(2, x.shape[0] // 2, *x.shape[1:]), batch)


def nhwc(images: Array) -> Array:
  """From the order of axes of official code to ours."""
  return images.transpose(0, 2, 3, 1)
