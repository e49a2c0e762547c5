"""Is the attack strong enough: accuracy against restarts, steps and radius, and the loss along the way."""

import functools
import itertools

import jax
import numpy as np

from advmix_jax import attack_trace, interruption
from advmix_jax.progress import track
from advmix_jax.refill import Entry
from advmix_jax.stages.diagnostics.subject import Examples, Subject
from advmix_jax.types import PyTree
from advmix_jax.workdir import read_arrays

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
NOISE = 2.0  # Standard errors within which two accuracies count as equal.


class Strength:
  """The attack of the stage evaluate on some of its images, with all its settings but three as arrays."""

  def __init__(self, subject: Subject):
    config, settings = subject.experiment.config, subject.settings
    self._subject = subject
    self.num_restarts, self.num_steps = max(1, config.evaluate.num_restarts), config.evaluate.num_steps
    self.restarts = sorted({*settings.restarts, self.num_restarts})
    self.steps = sorted({*settings.steps, self.num_steps})
    self.epsilons = sorted({*settings.epsilons, config.attack.epsilon})
    self._trace = jax.jit(
      functools.partial(
        attack_trace.trace,
        subject.experiment.classify,
        subject.experiment.decoder,
        config.attack['update'],
        config.attack.typical_delta,
        self.steps[-1],
      )
    )

  @functools.cached_property
  def numbers(self) -> np.ndarray:
    """Which of the attacked images."""
    labels = self._subject.attacked.labels
    return self._subject.drawn(labels, self._subject.settings.num_attacked, 'strength')

  @functools.cached_property
  def examples(self) -> Examples:
    """Those images; `images` are what the attack starts from."""
    examples = Examples(*(x[self.numbers] for x in self._subject.attacked))
    if self._subject.experiment.config.evaluate.start_from == 'original':
      return examples
    return examples._replace(images=self._subject.decoded(examples.w))

  def search(
    self, classifier: PyTree, epsilon: float, num_restarts: int, num_steps: int, enough: int, name: str
  ) -> tuple[np.ndarray, np.ndarray]:
    """`attack_trace.first_errors` with a radius; steps are to it as in the configuration."""
    subject, examples = self._subject, self.examples
    config = subject.experiment.config
    share = epsilon / config.attack.epsilon if config.attack.epsilon else 1.0
    shared = {
      'classifier': classifier,
      'decoder': subject.generator,
      'key': subject.experiment.key('evaluate'),
      'epsilon': np.float32(epsilon),
      'step_size': np.float32(config.attack.step_size * share),
      'num_steps': np.int32(num_steps),
    }

    def trace_fn(entry: Entry) -> attack_trace.Trace:
      interruption.check()
      return self._trace(shared, entry)

    with track(f'diagnose attack {name}', num_restarts * len(examples.labels)) as update:
      return attack_trace.first_errors(
        trace_fn,
        examples.w,
        examples.labels,
        subject.experiment.attacked_positions[self.numbers].astype(np.int32),  # As the stage evaluate.
        num_restarts,
        self.steps[-1],
        enough,
        subject.batch_size,
        lambda done: update(done, f'epsilon {epsilon:g}'),
      )

  def measure(self, method: str) -> dict:
    """The three curves of a classifier, the checks on them, and the loss along the first restart."""
    subject, examples = self._subject, self.examples
    classifier = subject.classifier(method)
    broken = subject.predict(classifier, examples.images) != examples.labels
    base = subject.experiment.config.attack.epsilon
    first, losses = self.search(classifier, base, self.restarts[-1], self.steps[-1], 0, method)

    def holds(num_restarts: int, num_steps: int) -> np.ndarray:
      return attack_trace.holds(first, broken, num_restarts, num_steps)

    by_restarts = [holds(n, self.num_steps) for n in self.restarts]
    by_steps = [holds(self.num_restarts, k) for k in self.steps]
    by_epsilon = []
    for epsilon in self.epsilons:
      if epsilon == base:
        by_epsilon.append(holds(self.num_restarts, self.num_steps))
        continue
      other, _ = self.search(classifier, epsilon, self.num_restarts, self.num_steps, self.num_steps, method)
      by_epsilon.append(attack_trace.holds(other, broken, self.num_restarts, self.num_steps))
    curves = {'restarts': by_restarts, 'steps': by_steps, 'epsilon': by_epsilon}
    return {
      'num_images': len(broken),
      'clean_accuracy': float((~broken).mean()),
      'accuracy': float(holds(self.num_restarts, self.num_steps).mean()),
      'by_restarts': [float(x.mean()) for x in by_restarts],
      'by_restarts_without_steps': [float(holds(n, 0).mean()) for n in self.restarts],
      'by_steps': [float(x.mean()) for x in by_steps],
      'by_epsilon': [float(x.mean()) for x in by_epsilon],
      'by_restarts_and_steps': [[float(holds(n, k).mean()) for k in self.steps] for n in self.restarts],
      'more_is_not_weaker': {name: not_weaker(curve) for name, curve in curves.items()},
      'same_as_evaluate': self.same_as_evaluate(method, ~holds(self.num_restarts, self.num_steps)),
      'loss': loss_along(losses),
    }

  def same_as_evaluate(self, method: str, broken: np.ndarray) -> float | None:
    """Share of the images of which the stage evaluate found the same; None where it has not run, or counts
    an image otherwise."""
    experiment = self._subject.experiment
    file = experiment.workdir.path / 'evaluate' / f'{experiment.classifiers(method)[0]}.npz'
    config = experiment.config.evaluate
    if not file.exists() or config.select != 'first_error' or not config.num_restarts:
      return None
    return float((read_arrays(file)['broken'][self.numbers] == broken).mean())

  @property
  def axes(self) -> dict[str, object]:
    """What the curves are measured at."""
    return {
      'restarts': self.restarts,
      'steps': self.steps,
      'epsilons': self.epsilons,
      'num_restarts': self.num_restarts,
      'num_steps': self.num_steps,
      'epsilon': self._subject.experiment.config.attack.epsilon,
    }


def not_weaker(held: list[np.ndarray]) -> dict[str, object]:
  """Whether each attack of a row breaks as much as the one before it, but for noise.

  Args:
    held: of each attack, weaker ones first, `[N]` bool, the examples that it leaves right.

  Returns:
    `holds`, and the largest rise of accuracy with its standard error, from the examples that differ.
  """
  rises = []
  for before, after in itertools.pairwise(held):
    change = after.astype(np.float64) - before
    rises.append((float(change.mean()), float(change.std() / np.sqrt(len(change)))))
  rise, error = max(rises, default=(0.0, 0.0))
  return {'holds': all(r <= NOISE * e for r, e in rises), 'largest_rise': rise, 'standard_error': error}


def loss_along(losses: np.ndarray) -> dict[str, object]:
  """Mean and quantiles over the examples of losses `[N, K + 1]`, and whether the mean ever falls."""
  mean = losses.mean(axis=0, dtype=np.float64)
  return {
    'mean': mean.tolist(),
    'quantiles': {f'{q:g}': np.quantile(losses, q, axis=0).tolist() for q in QUANTILES},
    'rises': bool(mean[-1] >= mean[0]),
  }
