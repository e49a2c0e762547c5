"""scikit-learn's handwritten digits: 1797 real 8x8 images that come with the library, no download."""

import numpy as np
import sklearn.datasets

from advmix_jax.data import images as image_ops

NUM_IMAGES = 1797
NUM_TEST = 360
NUM_CLASSES = 10


def read(resolution: int) -> tuple[np.ndarray, np.ndarray]:
  """Reads all digits and enlarges them from 8x8.

  Args:
    resolution: side in pixels, a power of two from 8.

  Returns:
    `[1797, resolution, resolution]` uint8 grey images and `[1797]` int32 labels, in the library's order.
  """
  images, labels = sklearn.datasets.load_digits(return_X_y=True)
  grey = images.reshape(-1, 8, 8).astype(np.float32) * np.float32(255 / 16)
  return image_ops.resize(grey, resolution), labels.astype(np.int32)
