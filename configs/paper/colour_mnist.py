"""What figure 7, table 1 and table 2 have in common: Colour-MNIST at the size of a variant, and the seeds."""

import ml_collections

from configs import color_mnist, smoke

VARIANTS = ('cpu', 'paper', 'paper_exact', 'smoke')


def check_variant(file: str, variant: str) -> None:
  if variant not in VARIANTS:
    raise ValueError(
      f'{file} has the variants {", ".join(VARIANTS[:-1])} and {VARIANTS[-1]}, not {variant!r}'
    )


def make_config(variant: str, methods: tuple[str, ...]) -> ml_collections.ConfigDict:
  """Without the report of pictures: `launch.report` makes it for any run of the sweep."""
  c = smoke.get_config() if variant == 'smoke' else color_mnist.get_config(variant)
  if variant == 'cpu':
    set_cpu(c)
  c.train.methods = methods
  c.stages = ('train_gan', 'encode', 'train', 'evaluate')
  return c


def set_cpu(c: ml_collections.ConfigDict) -> None:
  """Sized for nine runs in three hours on two cores: shorter than color_mnist.py:cpu.

  The generator learns from all 59,000 images that validation leaves, the classifier from 2,500 of them.
  """
  c.data.num_train = 2500
  c.generator.total_kimg = 120.0
  c.encode.init_kimg = 10.0
  c.encode.num_steps = 20  # This and the next as in what docs/results.md records.
  c.encode.mixing_share = 1.0
  c.train.num_epochs = 8.0
  c.evaluate.num_examples = 100  # Attacked ones, which none of the three shows.


def seeds(variant: str) -> list[dict[str, int]]:
  """`seed`, of the whole chain, as one generator differs from the next; smoke: `train.seed`, of classifiers.

  Sweeps add all their settings with one seed before the next: what is done early is a whole table.
  """
  return classifier_seeds(2) if variant == 'smoke' else [{'seed': seed} for seed in range(3)]


def classifier_seeds(number: int = 3) -> list[dict[str, int]]:
  """One generator and one encoding for all seeds."""
  return [{'train.seed': seed} for seed in range(number)]
