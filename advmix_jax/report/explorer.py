"""What the page's explorer holds: test images one by one, their variants, and what classifiers read in each.

    page.Section('Test images, one by one', text, explorer=Explorer(...))

`as_json` gives it as plain values for `explorer.js`, the pictures as sheets: one PNG of all of a kind.
"""

import base64
import dataclasses
import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import PIL.Image

from advmix_jax.report import grids, style

TOP = 4  # Classes whose probability is kept: the likeliest, the true one always among them.
UNIT = 10_000  # Probabilities are whole numbers of this.
MAX_BYTES = (
  9_000_000  # Of pictures and probabilities, in base64 and JSON; with all else a page stays below 15 MB.
)
_BYTES_PER_READING = 40  # Of one image by one classifier, at most, in JSON.


@dataclasses.dataclass(frozen=True)
class Variants:
  """Variants of the examples, each found against one classifier.

  Attributes:
    method: how that classifier was trained.
    kind: 'evaluated', those of the stage evaluate, or 'strongest', of the highest loss.
    images: `[N, H, W, 3]` uint8.
    present: `[N]` bool, whether there is one; elsewhere `images` is not shown.
    restart: `[N]` int, the restart that found it, from 0; -1 where that is not known.
  """

  method: str
  kind: str
  images: np.ndarray
  present: np.ndarray
  restart: np.ndarray


@dataclasses.dataclass(frozen=True)
class Classifier:
  """One classifier and what it reads.

  Attributes:
    method: how it was trained.
    fooled: `[N]` bool, whether its own attack in the stage evaluate succeeded, before any search included.
    original, reconstruction: `[N, K]` probabilities.
    variants: `[N, K]` probabilities for each of the `Seed`'s variants; of no meaning where none is present.
  """

  method: str
  fooled: np.ndarray
  original: np.ndarray
  reconstruction: np.ndarray
  variants: Sequence[np.ndarray]


@dataclasses.dataclass(frozen=True)
class Seed:
  """The classifiers of one seed, and the variants found against them.

  Attributes:
    seed: of the classifiers.
    classifiers: one for each method.
    variants: that can be chosen; the first is shown at first.
  """

  seed: int
  classifiers: Sequence[Classifier]
  variants: Sequence[Variants]


@dataclasses.dataclass(frozen=True)
class Explorer:
  """Everything the explorer shows.

  Attributes:
    class_names: `[K]`, whole; they may hold anything.
    index: `[N]` int, place of each example in the evaluated split.
    labels: `[N]` int, true classes.
    originals, reconstructions: `[N, H, W, 3]` uint8.
    seeds: at least one, with the same methods.
    split: what the evaluated images are called.
    num_attacked: how many images of it were attacked; N of them are here.
    num_restarts: of the attacks.
    num_steps: of each restart.
  """

  class_names: Sequence[str]
  index: np.ndarray
  labels: np.ndarray
  originals: np.ndarray
  reconstructions: np.ndarray
  seeds: Sequence[Seed]
  split: str
  num_attacked: int
  num_restarts: int
  num_steps: int


def how_many_fit(image_bytes: int, num_pictures: np.ndarray, num_readings: int) -> int:
  """How many examples, from the first, a page has room for even if no picture can be compressed.

  Args:
    image_bytes: of one picture, uint8.
    num_pictures: `[N]`, pictures of each example.
    num_readings: of each example: classifiers times pictures, at most.
  """
  sizes = num_pictures * (image_bytes * 4 / 3) + num_readings * _BYTES_PER_READING
  return int((np.cumsum(sizes) <= MAX_BYTES).sum())


def as_json(explorer: Explorer) -> dict[str, Any]:
  """Plain values for the page; `explorer.js` is their reader."""
  return {
    'classes': [str(name) for name in explorer.class_names],
    'size': list(explorer.originals.shape[1:3]),
    'unit': UNIT,
    'split': explorer.split,
    'restarts': explorer.num_restarts,
    'index': explorer.index.tolist(),
    'labels': explorer.labels.tolist(),
    'original': sheet(explorer.originals),
    'reconstruction': sheet(explorer.reconstructions),
    'seeds': [_seed(seed, explorer.labels) for seed in explorer.seeds],
  }


def _seed(seed: Seed, labels: np.ndarray) -> dict[str, Any]:
  return {
    'seed': seed.seed,
    'variants': [
      {
        'method': found.method,
        'title': style.method_title(found.method),
        'kind': found.kind,
        # Places in the sheet, which holds only those that are there.
        'cells': np.where(found.present, np.cumsum(found.present) - 1, -1).tolist(),
        'restart': found.restart.tolist(),
        **sheet(found.images[found.present]),
      }
      for found in seed.variants
    ],
    'classifiers': [
      {
        'method': one.method,
        'title': style.method_title(one.method),
        'fooled': one.fooled.astype(int).tolist(),
        'original': readings(one.original, labels),
        'reconstruction': readings(one.reconstruction, labels),
        'variants': [
          [
            reading if there else None
            for reading, there in zip(readings(p, labels), found.present, strict=True)
          ]
          for p, found in zip(one.variants, seed.variants, strict=True)
        ],
      }
      for one in seed.classifiers
    ],
  }


def readings(probabilities: np.ndarray, labels: np.ndarray) -> list[list[int]]:
  """The likeliest classes, as many as `TOP`, the true one among them, most likely first.

  Args:
    probabilities: `[N, K]`.
    labels: `[N]` int.

  Returns:
    For each example class, probability, class, probability, ..., the latter in units of 1 / `UNIT`.
  """
  found = []
  for p, label in zip(probabilities, labels.tolist(), strict=True):
    order = np.argsort(-p, kind='stable').tolist()  # The first of equals, as argmax.
    top = order[:TOP] if label in order[:TOP] else [*order[: TOP - 1], label]
    found.append([value for k in top for value in (k, round(UNIT * float(p[k])))])
  return found


def sheet(images: np.ndarray) -> dict[str, Any]:
  """Images `[N, H, W, 3]` uint8 side by side in one PNG, as `url` and the number of `columns`.

  None of them gives an empty url.
  """
  if not len(images):
    return {'url': '', 'columns': 1}
  images = grids.check_images('images', images, 4)
  number, height, width, _ = images.shape
  columns = math.ceil(math.sqrt(number))
  rows = math.ceil(number / columns)
  cells = np.zeros((rows * columns, height, width, 3), np.uint8)
  cells[:number] = images
  picture = (
    cells.reshape(rows, columns, height, width, 3).swapaxes(1, 2).reshape(rows * height, columns * width, 3)
  )
  buffer = io.BytesIO()
  PIL.Image.fromarray(picture).save(buffer, format='PNG', optimize=True)
  return {
    'url': 'data:image/png;base64,' + base64.b64encode(buffer.getvalue()).decode('ascii'),
    'columns': columns,
  }
