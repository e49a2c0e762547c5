"""Explorers of random pictures with outcomes that a test can count."""

import numpy as np

from advmix_jax.report.explorer import Classifier, Explorer, Seed, Variants

HOSTILE = '</script><img src=x onerror="console.error(1)"> & "quoted" '


def make(
  count: int = 24,
  num_classes: int = 3,
  names: tuple[str, ...] = (),
  methods: tuple[str, ...] = ('nominal', 'at', 'advmix'),
  seeds: tuple[int, ...] = (0,),
  side: int = 8,
) -> Explorer:
  """Example n is of class n mod K. Everything else is drawn, by one generator, for each seed anew."""
  rng = np.random.default_rng(0)
  labels = np.arange(count) % num_classes

  def pictures(number: int = count) -> np.ndarray:
    return rng.integers(0, 256, (number, side, side, 3), dtype=np.uint8)

  def probabilities() -> np.ndarray:
    return rng.dirichlet(np.full(num_classes, 0.3), count)

  found = []
  for seed in seeds:
    originals = {method: probabilities() for method in methods}
    fooled = {m: (p.argmax(1) != labels) | (rng.random(count) < 0.4) for m, p in originals.items()}
    variants = [Variants(methods[0], 'strongest', pictures(), np.ones(count, bool), np.full(count, -1))]
    for method in methods:
      restart = np.where(originals[method].argmax(1) == labels, rng.integers(0, 10, count), -1)
      present = fooled[method] & (restart >= 0)
      variants.append(
        Variants(method, 'evaluated', pictures(), present, np.where(fooled[method], restart, -1))
      )
    classifiers = [
      Classifier(
        method, fooled[method], originals[method], probabilities(), [probabilities() for _ in variants]
      )
      for method in methods
    ]
    found.append(Seed(seed, classifiers, variants))
  return Explorer(
    class_names=names or tuple(map(str, range(num_classes))),
    index=100 + np.arange(count),
    labels=labels,
    originals=pictures(),
    reconstructions=pictures(),
    seeds=found,
    split='test',
    num_attacked=2 * count,
    num_restarts=10,
    num_steps=20,
  )


def long_names(number: int) -> tuple[str, ...]:
  """Names of classes with markup in them, and with nowhere to break a line."""
  return tuple(f'{HOSTILE * (k % 2)}{"AVeryLongName" * (1 + k % 8)}{k}' for k in range(number))
