"""Sections that show changed images: what augmentations make of them, and what misleads a classifier."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from advmix_jax import methods
from advmix_jax.ranges import to_float, to_uint8
from advmix_jax.report import pictures
from advmix_jax.report.page import Section
from advmix_jax.report.style import method_title
from advmix_jax.stages.sections.scene import NUM_DRAWS, Scene
from advmix_jax.types import Batch

NUM_PAIRS = 3  # Rows of Figure 2.


def attacked_images(scene: Scene) -> list[Section]:
  """Figure 9: mixup, AT and AdvMix variants of the same images, each chosen against the nominal net."""
  experiment, config = scene.experiment, scene.experiment.config
  batch = dataclasses.replace(scene.examples, latents=jnp.asarray(scene.train_latents[scene.chosen]))
  key = experiment.key('report/attacked_images')
  at = jax.jit(methods.METHODS['at'](config))
  found = {
    'mixup': worst_mixup(scene),
    f'AT\n(pixels ± {config.at.epsilon:.2g})': to_uint8(np.asarray(at(key, scene.state, batch)[0])),
    'AdvMix': scene.worst_latents(batch, key),
  }
  figure = pictures.save_attack_panel(
    scene.folder / 'attacks.png',
    scene.originals,
    np.asarray(batch.labels),
    [pictures.Variants(name, x, scene.probabilities(x).argmax(axis=1)) for name, x in found.items()],
    predicted=scene.probabilities(scene.originals).argmax(axis=1),
    class_names=scene.class_names,
  )
  name = method_title(scene.attacked_method)
  text = (
    f'What three ways of changing an image look like when each is turned against the {name} classifier. '
    'mixup blends two images; adversarial training (AT) moves every pixel a little; AdvMix keeps the class '
    'and changes everything else that the generator knows how to change. A cross marks a variant that the '
    'classifier misreads.\n\nUnder each variant is its difference from the original: grey is no change, '
    'and the largest change is drawn at full strength; its size in grey levels is written below.'
  )
  caption = (
    f'Figure 9 of the paper, on training images. mixup: of those of {NUM_DRAWS} draws in which the original '
    f'outweighs its partner, the one with the highest loss. AT: {config.at.num_steps} steps. AdvMix: '
    f'Algorithm 2 with {config.evaluate.num_restarts} restarts of {config.evaluate.num_steps} steps, '
    f'epsilon {config.attack.epsilon}.'
  )
  return [Section('Variants that mislead', text, figure, caption)]


def worst_mixup(scene: Scene) -> np.ndarray:
  """For each example, of the draws of Eq. 10 in which it has more than half the weight, the highest loss.

  Returns:
    `[B, H, W, C]` uint8; the original where no draw qualifies.
  """
  drawn, shares = scene.draws('mixup')
  images = to_uint8(drawn)
  flat = scene.probabilities(images.reshape(-1, *images.shape[2:])).reshape(*images.shape[:2], -1)
  of_label = np.take_along_axis(flat, np.asarray(scene.examples.labels)[None, :, None], axis=2)[:, :, 0]
  own = np.diagonal(shares, axis1=1, axis2=2)
  of_label = np.where(own > 0.5, of_label, np.inf)
  worst = of_label.argmin(axis=0)
  found = images[worst, np.arange(images.shape[1])]
  usable = np.isfinite(of_label.min(axis=0))[:, None, None, None]
  return np.where(usable, found, scene.originals)


def generated_images(scene: Scene) -> list[Section]:
  """Figure 11: the same search from generated images, which have no label but the classifier's own."""
  draw_key, attack_key = jax.random.split(scene.experiment.key('report/generated_images'))
  w = scene.draw_w(draw_key, scene.experiment.config.report.num_examples)
  generated = scene.decode(w)
  before = scene.probabilities(generated)
  labels = before.argmax(axis=1).astype(np.int32)
  batch = Batch(
    images=jnp.asarray(to_float(generated)),
    labels=jnp.asarray(labels),
    latents=w,
    index=jnp.arange(len(labels), dtype=jnp.int32),
  )
  variants = scene.worst_latents(batch, attack_key)
  figure = pictures.save_generated_panel(
    scene.folder / 'generated.png',
    generated,
    variants,
    labels,
    before,
    scene.probabilities(variants),
    class_names=scene.class_names,
  )
  name = method_title(scene.attacked_method)
  text = (
    'The same search on images that come from the generator, so that no encoder is involved. They have no '
    f'true label: the class the {name} classifier gives the generated image is taken as its class, and the '
    'search looks for a variant to which it gives another. Below each image stand the probability of that '
    'class and what the classifier sees.'
  )
  caption = 'Figure 11 of the paper. Bottom: difference between the two, at the scale written below.'
  return [Section('Generated images', text, figure, caption)]


def pairs(scene: Scene) -> list[Section]:
  """Figure 2: mixup, Cutout and CutMix of pairs of training images."""
  originals = scene.originals
  count = min(NUM_PAIRS, len(originals) // 2)
  columns = {
    name: np.stack([telling_draw(scene, name, i, i + count) for i in range(count)])
    for name in ('mixup', 'cutout', 'cutmix')
  }
  figure = pictures.save_mixed_pairs(
    scene.folder / 'augmentations.png', originals[:count], originals[count : 2 * count], **columns
  )
  text = (
    'Three common augmentations that know nothing of latents. mixup blends two images and their labels, '
    'Cutout blanks a square, CutMix pastes a rectangle of one image into the other. None of them looks '
    'like the data.'
  )
  caption = (
    f'Figure 2 of the paper. Of {NUM_DRAWS} draws the one that shares most evenly (mixup, CutMix) or '
    'changes most pixels (Cutout) is shown; in training most draws change less.'
  )
  return [Section('mixup, Cutout and CutMix', text, figure, caption)]


def telling_draw(scene: Scene, name: str, first: int, second: int) -> np.ndarray:
  """Of the draws of a method, what became of example `first` where `second` has the most even share.

  Returns:
    `[H, W, C]` uint8. Where images are not mixed, the draw that changes most pixels.
  """
  drawn, shares = scene.draws(name)
  evenness = -np.abs(shares[:, first, second] - 0.5)
  changed = (drawn[:, first] != np.asarray(scene.examples.images)[None, first]).mean(axis=(1, 2, 3))
  return to_uint8(drawn[np.lexsort((changed, evenness))[-1], first])
