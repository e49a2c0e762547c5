"""Does random mixing reach the colours of the test, and does colour then still tell the class?"""

import numpy as np

from advmix_jax.data import coloured, colouring
from advmix_jax.report import diagnostic_charts
from advmix_jax.stages.diagnostics.subject import Subject

BRIGHT = 0.9  # Pixels of at least this share of the brightest make a digit's colour.
DISTANCES = np.linspace(0, 0.5, 51)  # In RGB of [0, 1].
NEIGHBOURS = 10  # At most.


def ink_colours(images: np.ndarray) -> np.ndarray:
  """Colours of digits on black, `[N, 3]` in [0, 1]: means of the brightest pixels of uint8 images."""
  pixels = images.reshape(len(images), -1, 3) / 255.0
  brightness = pixels.sum(axis=2)
  bright = brightness >= BRIGHT * brightness.max(axis=1, keepdims=True)
  colours: np.ndarray = (pixels * bright[..., None]).sum(axis=1) / bright.sum(axis=1)[:, None]
  return colours


def mean_colours(images: np.ndarray) -> np.ndarray:
  """Mean colours `[N, 3]` in [0, 1] of `[N, H, W, 3]` uint8."""
  colours: np.ndarray = images.reshape(len(images), -1, 3).mean(axis=1) / 255.0
  return colours


def nearest(wanted: np.ndarray, reached: np.ndarray) -> np.ndarray:
  """`[N]` distances from colours `wanted [N, 3]` to the nearest of `reached [M, 3]`."""
  return np.array([np.sqrt(((reached - colour) ** 2).sum(axis=1).min()) for colour in wanted])


def class_from_colour(colours: np.ndarray, labels: np.ndarray, sources: np.ndarray) -> float:
  """Accuracy of telling the class from the colour alone, by the nearest colours of other images.

  Args:
    colours: `[N, 3]`.
    labels: `[N]` int32.
    sources: `[N]`, the image that each was made of; no image is asked about itself.
  """
  # Of no more than half of the images of a class: with few images the others would outvote them.
  neighbours = max(1, min(NEIGHBOURS, len(np.unique(sources)) // (2 * len(np.unique(labels)))))
  right = 0
  for colour, label, source in zip(colours, labels, sources, strict=True):
    distance = np.where(sources == source, np.inf, ((colours - colour) ** 2).sum(axis=1))
    nearest_labels = labels[np.argsort(distance, kind='stable')[:neighbours]]
    right += int(np.bincount(nearest_labels).argmax() == label)
  return right / len(labels)


def measure(subject: Subject) -> dict:
  """Colours of training images, of random mixes of them, and of the evaluated images; draws `colours.png`."""
  experiment = subject.experiment
  is_digits = experiment.config.data.name in coloured.SOURCES
  colour_fn = ink_colours if is_digits else mean_colours
  train, level = subject.train, experiment.decoder.mixing_level
  mixes = subject.random_mixes(train, 'nuisance', level)
  draws, count = mixes.shape[:2]
  evaluated = experiment.evaluated
  at = subject.drawn(evaluated.labels, subject.settings.num_images, 'attacked')
  test = f'{subject.attacked_part} images'
  numbers = np.arange(count)
  sets = {
    'training images': (colour_fn(train.images), train.labels, numbers),
    'random mixes': (
      colour_fn(mixes.reshape(-1, *mixes.shape[2:])),
      np.tile(train.labels, draws),
      np.tile(numbers, draws),
    ),
    test: (colour_fn(evaluated.images[at]), evaluated.labels[at], at),
  }
  wanted = sets[test][0]
  reached = {name: nearest(wanted, colours) for name, (colours, _, _) in sets.items() if name != test}
  if is_digits:
    is_rgb = coloured.SOURCES[experiment.config.data.name].is_rgb
    # The best there could be: as many colours as there are mixes, drawn as the test draws them.
    ideal = colouring.independent_colours(draws * count, is_rgb, experiment.config.seed, 2**31 - 1)
    reached['as many drawn like the test'] = nearest(wanted, ideal)
  limit = subject.settings.colour_distance
  found = {
    'colour': 'of the ink: mean of the brightest pixels' if is_digits else 'mean of all pixels',
    'distance': limit,
    'num_colours': {name: len(colours) for name, (colours, _, _) in sets.items()},
    'covered': {name: float((distance <= limit).mean()) for name, distance in reached.items()},
    'covered_by_distance': {
      name: [float((distance <= d).mean()) for d in DISTANCES] for name, distance in reached.items()
    },
    'distances': DISTANCES.tolist(),
    'class_from_colour': {name: class_from_colour(*given) for name, given in sets.items()},
    'chance': float(np.bincount(train.labels).max() / count),
    'quantiles': {name: quantiles(colours) for name, (colours, _, _) in sets.items()},
  }
  if evaluated.colours is not None:
    estimated = np.sqrt(((wanted - evaluated.colours[at]) ** 2).sum(axis=1))
    found['error_of_estimated_colours'] = float(np.median(estimated))
  points = {name: colours for name, (colours, _, _) in sets.items()}
  diagnostic_charts.save_colours(subject.folder / 'colours.png', points, found)
  return found


def quantiles(colours: np.ndarray) -> dict[str, list[float]]:
  """5 %, 50 % and 95 % quantiles of `[N, 3]` RGB, its value (largest channel) and its saturation."""
  value = colours.max(axis=1)
  saturation = 1 - colours.min(axis=1) / np.maximum(value, 1e-6)
  kinds = dict(zip(('red', 'green', 'blue'), colours.T, strict=True)) | {
    'value': value,
    'saturation': saturation,
  }
  return {kind: [float(q) for q in np.quantile(x, (0.05, 0.5, 0.95))] for kind, x in kinds.items()}
