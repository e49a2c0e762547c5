"""Sections that show numbers of the run: accuracy, colours of the classes, losses."""

import numpy as np

from advmix_jax import data
from advmix_jax.report import charts, pictures
from advmix_jax.report.page import Section
from advmix_jax.stages.experiment import require
from advmix_jax.stages.sections.scene import Scene


def accuracy(scene: Scene) -> list[Section]:
  """Tables 3 and 4 as bars."""
  require(scene.results_file, 'evaluate')
  rows = [row for row in scene.rows if None not in (row.clean, row.perturbed)]
  if not rows:
    return []
  accuracies = np.array([(row.clean, row.perturbed, row.worst_class) for row in rows], np.float64)
  clean, perturbed, worst = accuracies.T.tolist()
  figure = charts.save_method_bars(
    scene.folder / 'methods.png',
    [row.name for row in rows],
    clean,
    perturbed,
    worst_class=None if np.isnan(worst).any() else worst,
    num_clean=rows[0].num_clean,
    num_perturbed=rows[0].num_perturbed,
    chance=1 / scene.experiment.splits.train.num_classes,
  )
  text = (
    'The numbers of the table as bars. A method that is good in both has learnt what carries the label; a '
    'high clean bar with a low hatched one means that it still relies on something a variant can change.'
  )
  caption = (
    'Clean accuracy and accuracy under perturbation by training method; thin lines are 95 % intervals.'
  )
  return [Section('Accuracy by method', text, figure, caption)]


def colours(scene: Scene) -> list[Section]:
  """Figure 6: the mean colour of each class."""
  means = data.mean_colours(scene.experiment.config)
  if means is None:
    return []
  figure = pictures.save_mean_colours(scene.folder / 'mean_colours.png', means, scene.class_names)
  sigma = scene.experiment.config.data.sigma
  spread = 'exactly this colour' if not sigma else f'this colour with a standard deviation of {sigma:g}'
  text = (
    f'In training every image of a class has {spread}, so colour alone gives the label away; in the test the '
    'colour has nothing to do with the label. A classifier that learnt colours fails there.'
  )
  return [
    Section('Colours of the classes', text, figure, 'Figure 6 of the paper: mean training colours by class.')
  ]


def classifier_losses(scene: Scene) -> list[Section]:
  """Losses of the classifiers."""
  found = curves(scene, {method: f'train/{method}/loss' for method in scene.experiment.config.train.methods})
  if not found:
    return []
  figure = charts.save_curves(
    scene.folder / 'training.png', found, xlabel='step', ylabel='training loss (cross-entropy)', log_y=True
  )
  text = (
    'Each method is measured on what it trains on, so lines are not comparable in height: AdvMix and AT '
    'see the hardest variants they can find, mixup and CutMix have labels that cannot be predicted with '
    'certainty.'
  )
  return [Section('Training of the classifiers', text, figure, 'Loss on the training batches by step.')]


def gan_losses(scene: Scene) -> list[Section]:
  """Losses of the two networks of the GAN."""
  scale = scene.experiment.config.generator.batch_size / 1000
  found = curves(scene, {name: f'gan/loss/{name}' for name in ('generator', 'discriminator')}, scale)
  if not found:
    return []
  figure = charts.save_curves(
    scene.folder / 'gan.png', found, xlabel='thousands of real images shown (kimg)', ylabel='loss'
  )
  text = (
    'Two networks against each other: neither loss has to fall. What counts is that neither runs away '
    'and that the sample grids in the folder gan get better.'
  )
  return [Section('Training of the generator', text, figure, 'Logistic losses of the two networks.')]


def curves(
  scene: Scene, names: dict[str, str], scale: float = 1.0
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
  """Those of the named metrics that were written: label to `[T]` steps times `scale` and `[T]` values."""
  found = {}
  for label, name in names.items():
    if name in scene.metrics:
      steps, values = np.array(sorted(scene.metrics[name].items()), np.float64).T
      found[label] = scale * steps, values
  return found
