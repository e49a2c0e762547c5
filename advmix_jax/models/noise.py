"""Noise inputs of a generator: constant everywhere but in its training, or as the user asks."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from advmix_jax.types import Array

NOISE_MODES = ('const', 'random', 'none', 'explicit')


def draw_noise(key: Array, sizes: Sequence[int], batch: int = 1) -> tuple[Array, ...]:
  """Standard normal noise for each layer, `[batch, R_i, R_i, 1]` float32. The key is consumed.

  Args:
    key: one key.
    sizes: R_i, as `noise_sizes` of a generator.
    batch: 1 for noise that all images share.
  """
  return tuple(
    jax.random.normal(k, (batch, s, s, 1))
    for k, s in zip(jax.random.split(key, len(sizes)), sizes, strict=True)
  )


def choose_noise(
  mode: str,
  constant: Sequence[Array],
  *,
  key: Array | None = None,
  batch: int = 1,
  explicit: Sequence[Array] | None = None,
) -> tuple[Array, ...]:
  """Noise inputs by mode; put in the place of `params['noise']` of a decoder.

    params = params | {'noise': choose_noise('random', params['noise'], key=key, batch=len(w))}

  Args:
    mode: `const`: the network's own; `random`: drawn afresh for each image; `none`: zeros; `explicit`: given.
    constant: the network's own, `[1, R_i, R_i, 1]` each.
    key: for `random`; consumed.
    batch: number of images, for `random`.
    explicit: for `explicit`: `[1 or B, R_i, R_i, 1]` each.

  Raises:
    ValueError: another mode, a missing key, or arrays of other sizes.
  """
  if mode == 'const':
    return tuple(constant)
  if mode == 'none':
    return tuple(jnp.zeros_like(n) for n in constant)
  if mode == 'random':
    if key is None:
      raise ValueError('noise mode random: found no key, expected one')
    return draw_noise(key, [n.shape[1] for n in constant], batch)
  if mode == 'explicit':
    shapes = [n.shape[1:] for n in explicit or ()]
    expected = [n.shape[1:] for n in constant]
    if shapes != expected:
      raise ValueError(f'noise mode explicit: found arrays of shapes {shapes}, expected {expected} per image')
    return tuple(explicit or ())
  raise ValueError(f'noise mode {mode!r}, expected one of {", ".join(NOISE_MODES)}')
