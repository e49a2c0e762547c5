"""Latents to draw images from: read from a file and checked against the generator, or drawn by a seed."""

import dataclasses
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from advmix_jax.interop.array_files import read_arrays
from advmix_jax.interop.floats import as_float32
from advmix_jax.interop.generator_folder import Generator
from advmix_jax.types import BadInputError

MAX_COUNT = 100_000


@dataclasses.dataclass(frozen=True)
class Latents:
  """Where images start: `z` and labels, or `w`.

  Attributes:
    z: `[B, Z]` float32, or None.
    labels: `[B, K]` float32 for a conditional generator with `z`, else None.
    w: `[B, L, D]` float32, or None.
  """

  z: np.ndarray | None = None
  labels: np.ndarray | None = None
  w: np.ndarray | None = None

  def __len__(self) -> int:
    first = self.w if self.z is None else self.z
    return 0 if first is None else len(first)


def read_latents(path: str | os.PathLike[str], generator: Generator, label: int | None = None) -> Latents:
  """Reads an .npz that holds `w [B, L, D]`, as `projected_w.npz` does, or `z [B, Z]`.

  Where both are there, `w` is taken: it comes from the z, or has been changed since. With `z`, a conditional
  generator needs `labels`, `[B]` whole numbers below K or `[B, K]`, or `label`.

  Args:
    path: of the file.
    generator: for which the latents are.
    label: class of all images; None = those of the file.

  Raises:
    BadInputError: the file cannot be read, or its arrays are of other shapes or kinds.
  """
  arrays = read_arrays(path, lambda name: name in ('w', 'z', 'labels'))
  module = generator.module
  if 'w' in arrays:
    if label is not None:
      raise BadInputError(f'--label={label}: expected none beside w in {path}, which has its class already')
    w = _checked(path, 'w', arrays['w'], (module.num_layers, module.w_size))
    return Latents(w=w)
  if 'z' not in arrays:
    found = ', '.join(sorted(arrays)) or 'nothing'
    raise BadInputError(f'{path}: found {found}, expected an array z [B, {module.latent_size}] or w')
  z = _checked(path, 'z', arrays['z'], (module.latent_size,))
  labels = arrays.get('labels')
  if labels is not None and labels.size and not module.label_size:
    raise BadInputError(f'{path}: found labels, expected none for a generator without classes')
  if labels is None or not labels.size or label is not None:
    return Latents(z, _same_label(generator, len(z), label))
  return Latents(z, _one_hot(path, labels, len(z), module.label_size))


def draw_latents(generator: Generator, count: int, seed: int, label: int | None = None) -> Latents:
  """`count` standard normal z of a seed; a larger count begins with those of a smaller one."""
  key = jax.random.fold_in(jax.random.key(seed), 0)
  size = generator.module.latent_size
  z = jax.vmap(lambda i: jax.random.normal(jax.random.fold_in(key, i), (size,)))(jnp.arange(count))
  return Latents(np.asarray(z), _same_label(generator, count, label))


def _checked(path: Any, name: str, array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
  wanted = f'floating-point numbers [B, {", ".join(map(str, shape))}]'
  if array.dtype.kind != 'f' or array.ndim != 1 + len(shape) or array.shape[1:] != shape or not len(array):
    raise BadInputError(f'{path}: found {name} of {array.dtype} {list(array.shape)}, expected {wanted}')
  try:
    return as_float32(name, array)
  except BadInputError as error:
    raise BadInputError(f'{path}: {error}') from None


def _one_hot(path: Any, labels: np.ndarray, count: int, num_classes: int) -> np.ndarray:
  if labels.shape == (count, num_classes) and labels.dtype.kind in 'fiub' and np.isfinite(labels).all():
    return labels.astype(np.float32)
  if labels.shape != (count,) or labels.dtype.kind not in 'iu':
    raise BadInputError(
      f'{path}: found labels of {labels.dtype} {list(labels.shape)}, '
      f'expected whole numbers [{count}] or numbers [{count}, {num_classes}]'
    )
  if labels.min() < 0 or labels.max() >= num_classes:
    raise BadInputError(
      f'{path}: found labels from {labels.min()} to {labels.max()}, expected 0 to {num_classes - 1}'
    )
  return np.eye(num_classes, dtype=np.float32)[labels]


def _same_label(generator: Generator, count: int, label: int | None) -> np.ndarray | None:
  num_classes = generator.module.label_size
  if not num_classes:
    if label is not None:
      raise BadInputError(f'--label={label}: expected none for a generator without classes')
    return None
  if label is None or not 0 <= label < num_classes:
    raise BadInputError(
      f'found {"no label" if label is None else f"--label={label}"}, expected --label from 0 to '
      f'{num_classes - 1} or labels beside z, for a generator of {num_classes} classes'
    )
  return np.repeat(np.eye(num_classes, dtype=np.float32)[[label]], count, axis=0)
