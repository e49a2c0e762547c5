"""The section that shows in one picture what a run has done: test images, latents, and who is misled."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from advmix_jax import batched, interruption, mixing
from advmix_jax.ranges import to_float, to_uint8
from advmix_jax.report import style
from advmix_jax.report.layout import Row, lay_out
from advmix_jax.report.page import Section
from advmix_jax.stages import encoded
from advmix_jax.stages.experiment import require
from advmix_jax.stages.sections.scene import Scene, one_per_class
from advmix_jax.types import BadInputError, PyTree
from advmix_jax.workdir import read_arrays

ROBUST = 'advmix'  # Whose answers stand beside those of the attacked classifier.


def overview(scene: Scene) -> list[Section]:
  """Figure 8, with what lies between: images, their latents decoded, and the variants that mislead."""
  experiment = scene.experiment
  split = experiment.config.evaluate.split
  methods = tuple(dict.fromkeys((scene.attacked_method, ROBUST)))
  if ROBUST not in experiment.config.train.methods or len(methods) == 1:
    return []
  require(scene.results_file, 'evaluate')
  test, at = experiment.evaluated, experiment.attacked_positions
  originals, labels = test.images[at], test.labels[at]
  first_seed, *_ = experiment.classifiers(scene.attacked_method)
  variants = read_arrays(experiment.workdir.path / 'evaluate' / f'{first_seed}.npz')
  before = read(scene, methods, originals)
  usable = np.flatnonzero(np.all([seen == labels for seen in before.values()], axis=0) & variants['broken'])
  if not len(usable):
    raise BadInputError('no attacked image is first read by both classifiers and then broken')
  after = read(scene, methods, variants['images'][usable])
  held = int((after[ROBUST] == labels[usable]).sum())

  shown = one_per_class(labels[usable], experiment.config.report.num_examples)
  chosen, truth = usable[shown], labels[usable[shown]]
  w = encoded.load_latents(experiment, split).w[chosen]
  mix = jax.jit(lambda params, keys, w: to_uint8(mixing.random_mix(keys, experiment.decoder, params, w)))
  keys = jax.random.split(experiment.key('report/overview'), len(chosen))
  rows = [
    Row(f'{split.capitalize()} image', list(originals[chosen]), answers(before, chosen, truth, scene)),
    Row('Encoded,\ndecoded', list(scene.decode(jnp.asarray(w)))),
    Row('Fine latents\nat random', list(np.asarray(mix(scene.generator, keys, w)))),
    Row(
      'Fine latents\nthat mislead',
      list(variants['images'][chosen]),
      answers(after, shown, truth, scene),
      separate=True,
    ),
  ]
  figure = style.save(scene.folder / 'overview.png', lay_out(rows))
  attacked, robust = (style.method_title(method) for method in methods)
  text = (
    'Every image is encoded into latents. The coarse ones carry the class and are kept. The fine ones should '
    'not affect it: drawn at random they change colours and texture. Here they were also searched until the '
    f'{attacked} classifier reads another class.\n\nOf the {len(usable)} {split} images that both read and '
    f'whose variant misleads {attacked}, {robust} reads {held} of the variants too. They were made against '
    f'{attacked}; how {robust} holds when it is attacked itself is in the table above.'
  )
  caption = (
    f'Figure 8 of the paper: of each class the first {split} image that both classifiers read and whose '
    'variant, as the stage evaluate found it, misleads the first. Below the images: what the two read.'
  )
  return [Section('What misleads one classifier and not the other', text, figure, caption)]


def read(scene: Scene, methods: tuple[str, ...], images: np.ndarray) -> dict[str, np.ndarray]:
  """Classes `[N]` that each method's classifier, the first of several seeds, sees in uint8 images."""
  experiment = scene.experiment
  classify = jax.jit(lambda params, part: experiment.classify(params, to_float(part)).argmax(axis=1))

  def read_part(params: PyTree, part: np.ndarray) -> np.ndarray:
    interruption.check()
    return np.asarray(classify(params, part))

  found = {}
  for method in methods:
    params = experiment.load_classifier(experiment.classifiers(method)[0])
    size = experiment.config.evaluate.batch_size
    found[method] = batched.in_batches(functools.partial(read_part, params), images, size)
  return found


def answers(
  seen: dict[str, np.ndarray], positions: np.ndarray, labels: np.ndarray, scene: Scene
) -> list[str]:
  """A line for each classifier under each of the images at `positions`, with a mark if it is right."""
  return [
    '\n'.join(
      f'{"✓" if classes[p] == label else "✗"} {style.method_title(method)}: {scene.class_names[classes[p]]}'
      for method, classes in seen.items()
    )
    for p, label in zip(positions, labels, strict=True)
  ]
