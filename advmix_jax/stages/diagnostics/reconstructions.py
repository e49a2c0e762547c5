"""What does the encoder lose: pixel errors, and accuracy on reconstructions beside that on the originals."""

import numpy as np

from advmix_jax.report import diagnostic_charts
from advmix_jax.stages.diagnostics.reference import Reference
from advmix_jax.stages.diagnostics.subject import Examples, Subject

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
NUM_GROUPS = 4  # Images by their error: the best quarter first.


def measure(subject: Subject, reference: Reference) -> dict:
  """Quantiles of the pixel error of all encoded images, and accuracies on those looked at; draws
  `encoder.png`."""
  test = subject.attacked_part
  parts = {
    'train': (subject.train, subject.train_positions),
    test: (subject.test, subject.test_positions),
  }
  found: dict = {}
  for name, (examples, positions) in parts.items():
    errors = np.asarray(subject.latents(name).error, np.float64)
    own = errors[positions]
    quarters = np.array_split(own.argsort(kind='stable'), NUM_GROUPS)
    found[name] = {
      'num_encoded': len(errors),
      'num_images': len(own),
      'mean_error': float(errors.mean()),
      'quantiles': {f'{q:g}': float(np.quantile(errors, q)) for q in QUANTILES},
      'variance_of_images': float(np.var(examples.images / 127.5)),
      'error_of_group': [float(np.median(own[quarter])) for quarter in quarters],
      'accuracy': accuracies(subject, reference, examples, quarters),
    }
  diagnostic_charts.save_reconstructions(subject.folder / 'encoder.png', found)
  return found


def accuracies(
  subject: Subject, reference: Reference, examples: Examples, groups: list[np.ndarray]
) -> dict[str, dict]:
  """Of each classifier: on originals, on reconstructions, and both for each group of positions."""
  reconstructed = subject.decoded(examples.w)
  found = {}
  for name in (*subject.methods, 'reference'):
    kinds = {'originals': examples.images, 'reconstructions': reconstructed}
    correct = {}
    for kind, images in kinds.items():
      params = None if name == 'reference' else subject.classifier(name)
      seen = reference.predict(images) if params is None else subject.predict(params, images)
      correct[kind] = seen == examples.labels
    found[name] = {kind: float(right.mean()) for kind, right in correct.items()} | {
      f'{kind}_by_group': [float(right[group].mean()) for group in groups] for kind, right in correct.items()
    }
  return found
