"""Does the generator draw every class as often as its data has it?"""

import numpy as np

from advmix_jax.report import diagnostic_charts
from advmix_jax.stages.diagnostics.reference import Reference
from advmix_jax.stages.diagnostics.subject import Subject
from advmix_jax.stages.sections.scene import Scene

RARE = 0.1  # A class is missing where it is drawn less often than this share of how often the data has it.


def measure(subject: Subject, reference: Reference) -> dict:
  """Shares of the classes in generated images, as the reference sees them, and in their data; draws both."""
  data = subject.experiment.splits.generator
  count = subject.settings.num_images * subject.settings.num_draws
  seen = reference.predict(subject.decoded(subject.fresh('classes', count)))
  drawn, wanted = (np.bincount(k, minlength=data.num_classes) / len(k) for k in (seen, data.labels))
  found = {
    'names': list(Scene(subject.experiment).class_names),
    'num_images': count,
    'drawn': drawn.tolist(),
    'data': wanted.tolist(),
    'overlap': overlap(drawn, wanted),
    'missing': missing(drawn, wanted),
  }
  diagnostic_charts.save_classes(subject.folder / 'classes.png', found)
  return found


def overlap(drawn: np.ndarray, wanted: np.ndarray) -> float:
  """What two distributions `[K]` have in common, in [0, 1]: 1 - their total variation distance."""
  return float(np.minimum(drawn, wanted).sum())


def missing(drawn: np.ndarray, wanted: np.ndarray) -> list[int]:
  """Classes of the data that are hardly drawn, see `RARE`; both are shares `[K]`."""
  return np.flatnonzero((wanted > 0) & (drawn < RARE * wanted)).tolist()
