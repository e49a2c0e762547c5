"""Sections that show what the latents hold: style mixing, and the way of the encoder."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from advmix_jax import encoding, mixing
from advmix_jax.ranges import to_float, to_uint8
from advmix_jax.report import grids, pictures
from advmix_jax.report.page import Section
from advmix_jax.stages import encode, encode_loss, encode_start, encoded
from advmix_jax.stages.sections.scene import Scene, one_per_class
from advmix_jax.types import Array

MAX_CLASSES = 20  # Rows of style mixing.
NUM_ENCODED = 3  # Rows of Figure 5 from each split.
MANY_STEPS = 50  # From here on Figure 5 shows a tenth of the steps too.
NUM_VARIANTS = 4  # Mixed variants in Figure 5.


def style_mixing(scene: Scene) -> list[Section]:
  """Eq. 11 on encoded images: one row per class, one column per generated image."""
  experiment = scene.experiment
  decoder, train = experiment.decoder, experiment.splits.train
  shown = min(train.num_classes, MAX_CLASSES)
  coarse = jnp.asarray(scene.train_latents[one_per_class(train.labels, shown)])
  fine = scene.draw_w(experiment.key('report/style_mixing'), experiment.config.report.num_examples)
  rows, columns = len(coarse), len(fine)
  mixed = mixing.mix(jnp.repeat(coarse, columns, axis=0), jnp.tile(fine, (rows, 1, 1)), decoder.mixing_level)
  images = scene.decode(jnp.concatenate([coarse, fine, mixed]))
  figure = grids.save_style_mixing(
    scene.folder / 'style_mixing.png',
    images[:rows],
    images[rows : rows + columns],
    images[rows + columns :].reshape(rows, columns, *images.shape[1:]),
  )
  text = (
    'Is the label really carried by the first layers alone? Each row takes the latents of the '
    'label-carrying layers from the image on its left, each column those of the other layers from the '
    'image above. Where the split is right, every row shows one class; what the images of a column share '
    '(their colours, their light) is what a classifier trained on mixes learns to ignore.'
  )
  chosen = 'one of each class' if shown == train.num_classes else f'one of each of the first {shown} classes'
  caption = (
    f'Left: reconstructions of training images, {chosen}. Top: generated images. Mixing level '
    f'{decoder.mixing_level} of {decoder.num_layers} layers.'
  )
  return [Section('Style mixing', text, figure, caption, pixelated=True)]


def encoder(scene: Scene) -> list[Section]:
  """Figure 5: Algorithm 1 on training images and on images it was not made for, then random mixes."""
  experiment, config, decoder = scene.experiment, scene.experiment.config, scene.experiment.decoder
  originals, targets, labels, final, keys = [], [], [], [], []
  compared = encode.parts(experiment, experiment.encode_splits)
  for name, part in encode.parts(experiment, experiment.splits).items():
    chosen = one_per_class(part.labels, NUM_ENCODED)
    originals.append(part.images[chosen])
    targets.append(compared[name].images[chosen])
    part_name = 'training' if name == 'train' else name
    labels += [f'{part_name},\nclass {scene.class_names[label]}' for label in part.labels[chosen]]
    final.append(encoded.load_latents(experiment, name).w[chosen])
    index = jnp.asarray(part.index[chosen].astype(np.int32))
    keys.append(mixing.example_keys(experiment.key(f'encode/{name}'), index))
  images = np.concatenate(originals)
  latents = early_latents(scene, np.concatenate(targets), jnp.concatenate(keys)) | {
    config.encode.num_steps: np.concatenate(final)
  }
  mix = jax.jit(lambda params, keys, w: to_uint8(mixing.random_mix(keys, decoder, params, w)))
  mix_keys = jax.random.split(experiment.key('report/encoder'), (NUM_VARIANTS, len(images)))
  variants = [np.asarray(mix(scene.generator, k, latents[config.encode.num_steps])) for k in mix_keys]
  steps = sorted(latents)
  figure = pictures.save_encoder_progress(
    scene.folder / 'encoder.png',
    images,
    np.stack([scene.decode(jnp.asarray(latents[step])) for step in steps], axis=1),
    steps,
    np.stack(variants, axis=1),
    labels=labels,
  )
  text = (
    'The encoder searches for latents from which the generator makes a given image. Reconstructions should '
    'come closer to the original from left to right. The variants keep the label-carrying latents that '
    'were found and draw the others at random (Equation 17): they should show the same class, in other '
    'colours for instance.'
  )
  first = 'a guess of a small network' if config.encode.init == 'encoder' else 'the mean latent'
  layers = ', '.join(encode_loss.feature_layers(experiment))
  losses = f'pixels and {config.encode.features} features ({layers})' if layers else 'pixels alone'
  caption = (
    f'Figure 5 of the paper: Algorithm 1, {config.encode.num_steps} steps from {first}, comparing '
    f'{losses}, then {NUM_VARIANTS} random variants.'
  )
  return [Section('From image to latents', text, figure, caption)]


def early_latents(scene: Scene, images: np.ndarray, keys: Array) -> dict[int, np.ndarray]:
  """Latents on the way of Algorithm 1 as the stage encode went it, none of them finished early, by step.

  Args:
    scene: of the run.
    images: `[B, H, W, C]` uint8, as Algorithm 1 compares them.
    keys: `[B]`, those the stage used; consumed.

  Returns:
    `[B, L, D]`: the start, and the latents halfway; after a tenth too where there are many steps.
  """
  experiment = scene.experiment
  features_fn, shared = encode.load_shared(experiment)
  targets = jnp.asarray(to_float(images))
  start = jax.jit(functools.partial(encode_start.start_latents, experiment))(shared, targets)
  settings = encode_loss.encode_settings(experiment)
  latents = {0: np.asarray(start)}
  total = settings.num_steps
  halts = {total // 2, total // 10} if total >= MANY_STEPS else {total // 2}
  run = jax.jit(functools.partial(encoding.encode, experiment.encode_decoder, features_fn, settings))
  given = (shared['decoder'], shared['features'], keys, targets, start, shared.get('whitening'))
  for num_steps in sorted(halts - {0}):
    latents[num_steps] = np.asarray(run(*given, jnp.int32(num_steps)).w)
  return latents
