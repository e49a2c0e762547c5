"""Colours that follow the label in training and not in the test (section 5.1 of the paper).

Every draw is made for the whole source in its order and then taken by index, so an example's colour does
not depend on how many others are loaded. Training and validation colours come from `config.seed`, test
colours from `config.data.split_seed`.
"""

import colorsys

import numpy as np

NUM_CLASSES = 10
RGB = np.eye(3, dtype=np.float32)

# Streams of random numbers, so that no two draws of one seed are the same.
_TRAIN, _TEST, _GENERATOR, _INDEPENDENT = 11, 12, 13, 14


def default_mean_colours() -> np.ndarray:
  """Ten evenly spaced hues, saturation 0.7, value 0.9 (Figure 6; the paper's values are open).

  Returns:
    `[10, 3]` float32 in [0, 1]. Each has some red, green and blue, as the text asks.
  """
  hues = [colorsys.hsv_to_rgb(i / NUM_CLASSES, 0.7, 0.9) for i in range(NUM_CLASSES)]
  return np.asarray(hues, np.float32)


def train_colours(labels: np.ndarray, means: np.ndarray, sigma: float, seed: int) -> np.ndarray:
  """Draws `N(mu_y, sigma^2)` per example and channel, clipped to [0, 1].

  Args:
    labels: `[N]` int32, of the whole source.
    means: `[10, 3]` float32 in [0, 1].
    sigma: standard deviation; 0 gives each class one colour.
    seed: `config.seed`. The same normal draws are used for every sigma.

  Returns:
    `[N, 3]` float32 in [0, 1].
  """
  noise = np.random.default_rng((_TRAIN, seed)).standard_normal((len(labels), 3))
  return np.clip(means[labels] + sigma * noise, 0, 1).astype(np.float32)


def test_colours(num_examples: int, split_seed: int) -> np.ndarray:
  """Draws colours uniformly from [0, 1]^3, whatever the label: `[num_examples, 3]` float32."""
  return np.random.default_rng((_TEST, split_seed)).random((num_examples, 3)).astype(np.float32)


def rgb_train_colours(labels: np.ndarray) -> np.ndarray:
  """Pure red, green or blue by `y mod 3` (Table 2; which function of the label is open): `[N, 3]` float32."""
  return RGB[labels % 3]


def rgb_test_colours(num_examples: int, split_seed: int) -> np.ndarray:
  """Pure red, green or blue with equal probability, whatever the label: `[num_examples, 3]` float32."""
  return RGB[np.random.default_rng((_TEST, split_seed)).integers(0, 3, num_examples)]


def rgb_generator_colours(num_examples: int, shares: tuple[float, ...], seed: int) -> np.ndarray:
  """Pure red, green or blue, drawn independently of the label (Table 2).

  Args:
    num_examples: size of the whole source.
    shares: probabilities of red, green and blue, summing to 1; () = 1/3 each.
    seed: `config.seed`.

  Returns:
    `[num_examples, 3]` float32.
  """
  upper = np.cumsum(shares if len(shares) else (1 / 3, 1 / 3, 1 / 3))
  draws = np.random.default_rng((_GENERATOR, seed)).random(num_examples)
  return RGB[np.minimum(np.searchsorted(upper, draws, side='right'), 2)]


def independent_colours(num_examples: int, is_rgb: bool, seed: int, draw: int) -> np.ndarray:
  """Colours drawn as for the test, but with other random numbers: `[num_examples, 3]` float32.

  Args:
    num_examples: how many.
    is_rgb: pure red, green or blue; else uniform in [0, 1]^3.
    seed: `config.seed`.
    draw: which draw of the seed.
  """
  rng = np.random.default_rng((_INDEPENDENT, seed, draw))
  return RGB[rng.integers(0, 3, num_examples)] if is_rgb else rng.random((num_examples, 3)).astype(np.float32)


def colour_digits(grey: np.ndarray, colours: np.ndarray) -> np.ndarray:
  """Multiplies the intensity of each digit by its colour and rounds.

  Args:
    grey: `[N, H, W]` uint8.
    colours: `[N, 3]` float32 in [0, 1].

  Returns:
    `[N, H, W, 3]` uint8.
  """
  out = np.empty((*grey.shape, 3), np.uint8)
  for start in range(0, len(grey), 1024):  # In parts: the products of all of MNIST would take 700 MB.
    part = slice(start, start + 1024)
    out[part] = np.rint(grey[part, :, :, None].astype(np.float32) * colours[part, None, None, :])
  return out
