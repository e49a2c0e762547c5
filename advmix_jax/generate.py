"""Draws images with a generator in a folder: from latents of a file or of a seed, one by one or mixed.

generator = load_generator('ffhq')
w = map_latents(generator, read_latents('in.npz', generator))
images = draw(generator, truncated(generator, w, psi=0.7, cutoff=8), noise_mode='const')
"""

import math
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from advmix_jax import interruption
from advmix_jax.interop.generator_folder import Generator
from advmix_jax.latents import Latents
from advmix_jax.models.mapping import truncate
from advmix_jax.progress import track
from advmix_jax.ranges import to_uint8
from advmix_jax.report.grids import save_grid, save_style_mixing
from advmix_jax.types import Array, BadInputError, PyTree, RunError
from advmix_jax.workdir import write_arrays

NOISE_MODES = ('const', 'random', 'none')


def map_latents(generator: Generator, latents: Latents, batch_size: int = 256) -> np.ndarray:
  """`w [B, L, D]` float32, not truncated."""
  if latents.w is not None:
    return latents.w
  given = [part for part in (latents.z, latents.labels) if part is not None]
  variables = {'params': generator.params['params']}

  def map_z(variables: PyTree, index: Array, *parts: Array) -> Array:
    return generator.module.apply(variables, *parts, method='map_z')

  return _in_batches('map', jax.jit(map_z), variables, given, batch_size)


def truncated(generator: Generator, w: np.ndarray, psi: float = 1.0, cutoff: int | None = None) -> np.ndarray:
  """Moves rows of `w [B, L, D]` towards the generator's mean: `w_avg + psi (w - w_avg)`.

  Args:
    generator: whose mean.
    w: float32.
    psi: 1 = nothing moves.
    cutoff: how many rows, from the first; 0 = none, None = as where the generator comes from: all but in
      official StyleGAN 1 files, 8 there.
  """
  if cutoff is None:
    cutoff = generator.truncation.cutoff
  return np.asarray(truncate(jnp.asarray(w), jnp.asarray(generator.params['w_avg']), psi, cutoff))


def mixed(w: np.ndarray, level: int) -> np.ndarray:
  """Every mix of the first half of `w [B, L, D]` (rows below `level`) with the second half (the others).

  Returns:
    `[B // 2, B - B // 2, L, D]`; entry r, c is coarse as r and fine as `B // 2 + c`.
  """
  coarse, fine = w[: len(w) // 2, None, :level], w[None, len(w) // 2 :, level:]
  shape = (coarse.shape[0], fine.shape[1])
  parts = [np.broadcast_to(part, (*shape, *part.shape[2:])) for part in (coarse, fine)]
  return np.concatenate(parts, axis=2)


def draw(
  generator: Generator,
  w: np.ndarray,
  noise_mode: str = 'const',
  seed: int = 0,
  batch_size: int | None = None,
) -> np.ndarray:
  """Images of latents.

  Args:
    generator: which.
    w: `[B, L, D]` float32.
    noise_mode: 'const', the noise that belongs to the generator; 'random', fresh for each image; 'none'.
    seed: of random noise, which depends on it and on the image's position alone.
    batch_size: images at once; None = by their size.

  Returns:
    `[B, H, W, C]` float32, about [-1, 1], not clipped.

  Raises:
    RunError: the device has not enough memory.
    Interrupted: a signal asked to stop.
  """
  params = generator.params
  key = jax.random.fold_in(jax.random.key(seed), 1)

  def synthesis(params: PyTree, index: Array, w: Array) -> Array:
    if noise_mode == 'random':
      noise = jax.vmap(lambda i: _random_noise(jax.random.fold_in(key, i), params['noise']))(index)
    elif noise_mode == 'none':
      noise = jax.tree.map(jnp.zeros_like, params['noise'])
    else:
      noise = params['noise']
    return generator.module.apply({'params': params['params']}, w, noise, method='synthesis')

  size = batch_size or max(1, min(32, (1 << 21) // generator.module.resolution**2))
  return _in_batches('images', jax.jit(synthesis), params, [w], size)


def write(path: Path, w: np.ndarray, images: np.ndarray) -> None:
  """Writes `w` and `images` as .npz, or the images as a .png grid in reading order."""
  if path.suffix == '.npz':
    write_arrays(path, w=w, images=images)
    return
  columns = math.ceil(math.sqrt(len(images)))
  rows = math.ceil(len(images) / columns)
  cells = np.full((rows * columns, *images.shape[1:3], 3), 255, np.uint8)
  cells[: len(images)] = _coloured(images)
  save_grid(path, cells.reshape(rows, columns, *cells.shape[1:]))


def write_mixing(path: Path, w: np.ndarray, level: int, draw_fn: Callable[[np.ndarray], np.ndarray]) -> None:
  """Writes the mixes of `w [B, L, D]` as .npz in reading order, or as .png with the images that are mixed.

  `draw_fn` makes images `[N, H, W, C]` of `[N, L, D]`.
  """
  table = mixed(w, level)
  flat = table.reshape(-1, *w.shape[1:])
  if path.suffix == '.npz':
    write_arrays(path, w=flat, images=draw_fn(flat))
    return
  images = _coloured(draw_fn(np.concatenate([w, flat])))
  coarse, fine, cells = np.split(images, [len(w) // 2, len(w)])
  save_style_mixing(path, coarse, fine, cells.reshape(*table.shape[:2], *cells.shape[1:]))


def check_out(path: Path) -> None:
  """Raises `BadInputError` if images cannot be written there."""
  if path.suffix not in ('.npz', '.png'):
    raise BadInputError(f'--out={path}: expected a name that ends in .npz or .png')
  if path.is_dir():
    raise BadInputError(f'--out={path}: found a folder, expected a file')


def _random_noise(key: Array, noise: PyTree) -> PyTree:
  """Like `noise`, tuple of `[1, R_i, R_i, 1]`, without the first axis."""
  keys = jax.random.split(key, len(noise))
  return tuple(jax.random.normal(k, n.shape[1:]) for k, n in zip(keys, noise, strict=True))


def _in_batches(
  name: str, function: Callable[..., Array], params: PyTree, parts: list[np.ndarray], size: int
) -> np.ndarray:
  """`function(params, index, *parts)` over the first axis, compiled once: the last batch is filled up."""
  count = len(parts[0])
  size = min(size, count)
  params = jax.device_put(params)
  results: list[np.ndarray] = []
  try:
    with track(name, count) as update:
      for start in range(0, count, size):
        interruption.check('nothing was written')
        index = np.minimum(np.arange(start, start + size), count - 1)
        result = np.asarray(function(params, index, *(part[index] for part in parts)))
        results.append(result[: count - start])
        update(min(start + size, count), '')
    return np.concatenate(results)
  except (jax.errors.JaxRuntimeError, MemoryError) as error:
    if isinstance(error, MemoryError) or 'RESOURCE_EXHAUSTED' in str(error):
      raise RunError(f'not enough memory for batches of {size}; try a smaller --batch_size') from None
    raise


def _coloured(images: np.ndarray) -> np.ndarray:
  """uint8 with three channels; grey is repeated."""
  pixels = to_uint8(images)
  return np.repeat(pixels, 3, axis=-1) if pixels.shape[-1] == 1 else pixels[..., :3]
