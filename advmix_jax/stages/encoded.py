"""Encoded images on disk: shards of latents, and a manifest whose presence says that a part is whole."""

from pathlib import Path

import jax
import numpy as np

from advmix_jax.encode_refill import Found
from advmix_jax.encoding import Encoded
from advmix_jax.stages.experiment import Experiment, require
from advmix_jax.types import Dataset
from advmix_jax.workdir import read_arrays, read_json, write_arrays, write_json

WORST_LISTED = 20
Pieces = list[tuple[np.ndarray, Found]]  # Positions of images, and what was found.


def write_shard(file: Path, part: Dataset, pieces: Pieces) -> None:
  """Puts what was found, in any order, into the order of the images."""
  positions = np.concatenate([at for at, _ in pieces])
  order = np.argsort(positions)
  found = jax.tree.map(lambda *x: np.concatenate(x)[order], *(found for _, found in pieces))
  write_arrays(file, w=found.w, error=found.error, taken=found.taken, index=part.index[positions[order]])


def write_manifest(experiment: Experiment, name: str, part: Dataset, files: list[Path]) -> None:
  """What a whole part came to; its presence says that the part is whole."""
  shards = [read_arrays(file) for file in files]
  errors, taken = (np.concatenate([shard[key] for shard in shards]) for key in ('error', 'taken'))
  worst = np.argsort(-errors, kind='stable')[:WORST_LISTED]
  write_json(
    experiment.latents_file(name),
    {
      'shards': [file.name for file in files],
      'num_images': len(part),
      'error': {'mean': float(errors.mean()), 'median': float(np.median(errors)), 'max': float(errors.max())},
      'steps': {'mean': float(taken.mean()), 'median': float(np.median(taken)), 'max': int(taken.max())},
      'variance_of_images': variance(part.images),
      'worst': [
        {'index': int(part.index[i]), 'label': int(part.labels[i]), 'error': float(errors[i])}
        | ({'file': part.files[i]} if part.files else {})
        for i in worst
      ],
    },
  )
  experiment.workdir.log(0, {f'encode/{name}/error/mean': float(errors.mean())})


def variance(images: np.ndarray) -> float:
  """Of uint8 images on the scale of [-1, 1]; exact, in parts: a large data set does not fit as floats."""
  total = squares = 0
  for start in range(0, len(images), 1024):
    chunk = images[start : start + 1024].astype(np.int64)
    total, squares = total + int(chunk.sum()), squares + int((chunk * chunk).sum())
  return (squares / images.size - (total / images.size) ** 2) / 127.5**2


def load_latents(experiment: Experiment, name: str) -> Encoded[np.ndarray]:
  """All latents of a part, in order."""
  manifest = experiment.latents_file(name)
  require(manifest, 'encode')
  shards = [read_arrays(manifest.parent / file) for file in read_json(manifest)['shards']]
  return Encoded(*(np.concatenate([s[key] for s in shards]) for key in ('w', 'error')))
