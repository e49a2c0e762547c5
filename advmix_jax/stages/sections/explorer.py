"""The section in which test images are looked at one by one; figures 1, 8, 10 and 11 of any of them."""

import dataclasses

import jax.numpy as jnp
import numpy as np

from advmix_jax import batched, evaluation, interruption
from advmix_jax.ranges import to_float
from advmix_jax.report.explorer import Classifier, Explorer, Seed, Variants, how_many_fit
from advmix_jax.report.page import Section
from advmix_jax.report.style import method_title
from advmix_jax.stages import encode, encoded
from advmix_jax.stages.experiment import require
from advmix_jax.stages.sections.scene import Scene, one_per_class
from advmix_jax.types import Batch
from advmix_jax.workdir import read_arrays

TITLE = 'Images, one by one'


@dataclasses.dataclass(frozen=True)
class Examples:
  """The images shown, on the host.

  Attributes:
    images: `[N, H, W, C]` uint8.
    labels: `[N]` int32.
    w: `[N, L, D]`.
    index: `[N]` int32, places in the evaluated split.
  """

  images: np.ndarray
  labels: np.ndarray
  w: np.ndarray
  index: np.ndarray


def explorer(scene: Scene) -> list[Section]:
  """Original, reconstruction, variants and what every classifier reads in them."""
  experiment, config = scene.experiment, scene.experiment.config
  split = config.evaluate.split
  require(scene.results_file, 'evaluate')
  attacks = {
    seed: {method: read_attack(scene, name) for method, name in names.items()}
    for seed, names in classifiers_by_seed(scene).items()
  }
  attacked = encode.parts(experiment, experiment.splits)[split]
  chosen = choose(scene, attacked.labels, attacks)
  if not len(chosen):
    return [Section(TITLE, 'Left out: not even one image with its variants fits into a page.')]
  images, labels, index = attacked.images[chosen], attacked.labels[chosen], attacked.index[chosen]
  w = encoded.load_latents(experiment, split).w[chosen]
  reconstructions = scene.decode(w)
  seeds = [
    explore_seed(
      scene,
      seed,
      Examples(images, labels, w, index.astype(np.int32)),
      reconstructions,
      {
        method: evaluation.Broken(*(part[chosen] for part in attack))
        for method, attack in attacks[seed].items()
      },
    )
    for seed in attacks
  ]
  found = Explorer(
    class_names=scene.whole_names,
    index=index,
    labels=labels,
    originals=images,
    reconstructions=reconstructions,
    seeds=seeds,
    split=split,
    num_attacked=len(attacked),
    num_restarts=config.evaluate.num_restarts,
    num_steps=config.evaluate.num_steps,
  )
  return [Section(TITLE, text(scene, found), explorer=found)]


def text(scene: Scene, found: Explorer) -> str:
  """What there is to see."""
  title = method_title(scene.attacked_method)
  shown = f'All {found.num_attacked} attacked {found.split} images.'
  if len(found.labels) < found.num_attacked:
    shown = f'{len(found.labels)} of the {found.num_attacked} attacked {found.split} images, evenly by class.'
  return (
    f'{shown} Each stands beside what the generator makes of its latents, a variant of it and the '
    'difference; below are the probabilities that two classifiers give.\n\n'
    f'A classifier is fooled where its own attack succeeds: {found.num_restarts} restarts of '
    f'{found.num_steps} steps in search of a variant that it misreads. An image that it misreads as it is '
    'counts as fooled; nothing is searched for then. The variants shown at first are others: for each image '
    f'the one with the highest loss of the {title} classifier, as in Figures 8 to 10 of the paper.'
  )


def classifiers_by_seed(scene: Scene) -> dict[int, dict[str, str]]:
  """Names of the classifiers: `{seed: {method: name}}`."""
  experiment = scene.experiment
  methods = experiment.config.train.methods
  return {
    seed: {method: experiment.classifiers(method)[i] for method in methods}
    for i, seed in enumerate(experiment.train_seeds)
  }


def read_attack(scene: Scene, name: str) -> evaluation.Broken:
  """What the stage evaluate found against a classifier."""
  file = scene.experiment.workdir.path / 'evaluate' / f'{name}.npz'
  require(file, 'evaluate')
  arrays = read_arrays(file)
  return evaluation.Broken(*(arrays[key] for key in evaluation.Broken._fields))


def choose(scene: Scene, labels: np.ndarray, attacks: dict[int, dict[str, evaluation.Broken]]) -> np.ndarray:
  """Positions among the attacked examples of those to show, ascending: evenly by class, whatever became of
  them."""
  order = one_per_class(labels, scene.experiment.config.report.explorer_examples)
  found = [
    attack.broken & (attack.restart >= 0) for methods in attacks.values() for attack in methods.values()
  ]
  strongest = len(attacks)
  num_pictures = 2 + strongest + np.sum(found, axis=0)[order]
  num_readings = sum(len(methods) * (3 + len(methods)) for methods in attacks.values())
  image_bytes = int(np.prod(scene.experiment.image_shape))
  return np.sort(order[: how_many_fit(image_bytes, num_pictures, num_readings)])


def explore_seed(
  scene: Scene,
  seed: int,
  examples: Examples,
  reconstructions: np.ndarray,
  attacks: dict[str, evaluation.Broken],
) -> Seed:
  """Variants found against the classifiers of one seed, and what these read.

  Args:
    scene: of the run.
    seed: of the classifiers.
    examples: the images shown.
    reconstructions: `[N, H, W, C]` uint8.
    attacks: by method, of these examples.
  """
  names = classifiers_by_seed(scene)[seed]
  variants = [strongest(scene, names[scene.attacked_method], examples)]
  for method, attack in attacks.items():
    present = attack.broken & (attack.restart >= 0)
    variants.append(Variants(method, 'evaluated', attack.images, present, attack.restart))
  classifiers = []
  pictures = [examples.images, reconstructions, *(found.images for found in variants)]
  for method, name in names.items():
    params = scene.experiment.load_classifier(name)
    of_original, of_reconstruction, *of_variants = (scene.read(params, images) for images in pictures)
    fooled = attacks[method].broken
    classifiers.append(Classifier(method, fooled, of_original, of_reconstruction, of_variants))
  return Seed(seed, classifiers, variants)


def strongest(scene: Scene, name: str, examples: Examples) -> Variants:
  """The variants of the highest loss of a classifier, of every example.

  The search keeps the original where none is above it, so that a variant is never weaker.
  """
  state = scene.state_of(scene.experiment.load_classifier(name))
  key = scene.experiment.key('report/explorer')
  found = []
  # As many at a time as other pictures have, for which the program is compiled already.
  for at, real in batched.batches(np.arange(len(examples.labels)), len(scene.chosen)):
    interruption.check()
    batch = Batch(
      images=jnp.asarray(to_float(examples.images[at])),
      labels=jnp.asarray(examples.labels[at]),
      latents=jnp.asarray(examples.w[at]),
      index=jnp.asarray(examples.index[at]),
    )
    found.append(scene.worst_latents(batch, key, state)[:real])
  number = len(examples.labels)
  return Variants(
    scene.attacked_method, 'strongest', np.concatenate(found), np.ones(number, bool), np.full(number, -1)
  )
