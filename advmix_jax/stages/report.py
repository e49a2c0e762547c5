"""Stage 5: pictures of what the run has learnt, and one HTML page that shows and explains them.

Everything is computed here from what the other stages left; a section whose inputs are not there yet says
which stage makes them, so an unfinished run has a page too.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from advmix_jax import attack, data, encoding, interruption, methods, mixing
from advmix_jax.ranges import to_float, to_uint8
from advmix_jax.report import figures, grids
from advmix_jax.report.page import MethodRow, Report, Section, method_rows, write_page
from advmix_jax.stages import encode
from advmix_jax.stages.experiment import Experiment, require
from advmix_jax.types import Array, BadInputError, Batch, PyTree, TrainState
from advmix_jax.workdir import flatten, read_json, read_metrics

NUM_DRAWS = 256  # Random augmentations from which a picture is picked.
NUM_PAIRS = 3  # Rows of Figure 2.
NUM_ENCODED = 3  # Rows of Figure 5 from each split.
MANY_STEPS = 50  # From here on Figure 5 shows a tenth of the steps too.
NUM_VARIANTS = 4  # Mixed variants in Figure 5.
NAME_LENGTH = 18  # Longer names of classes are cut in pictures.


class Scene:
  """What the pictures are drawn from, each thing read once.

  Attributes:
    experiment: of the run.
    folder: where pictures go.
  """

  def __init__(self, experiment: Experiment):
    self.experiment = experiment
    self.folder = experiment.workdir.path / 'report'

  @functools.cached_property
  def results(self) -> dict:
    """`results.json` of the run."""
    path = self.experiment.workdir.path / 'results.json'
    require(path, 'evaluate')
    return read_json(path)

  @functools.cached_property
  def rows(self) -> tuple[MethodRow, ...]:
    """Rows of the method table; none before the stage evaluate."""
    try:
      return method_rows(self.results['methods'], self.experiment.splits.train.class_names)
    except BadInputError:
      return ()

  @functools.cached_property
  def class_names(self) -> tuple[str, ...]:
    """Names of the classes as pictures show them; numbers where they have none."""
    train = self.experiment.splits.train
    names = [' '.join(name.split()) for name in train.class_names] or list(map(str, range(train.num_classes)))
    short = [name if len(name) <= NAME_LENGTH else f'{name[: NAME_LENGTH - 1]}…' for name in names]
    return tuple(name.replace('$', r'\$') for name in short)  # Else matplotlib reads formulas.

  @functools.cached_property
  def generator(self) -> PyTree:
    """Parameters of the decoder."""
    return self.experiment.load_generator()

  @functools.cached_property
  def train_latents(self) -> np.ndarray:
    """`[N, L, D]` of the training images."""
    return np.asarray(encode.load_latents(self.experiment, 'train').w)

  @property
  def attacked_method(self) -> str:
    """Whose classifier is attacked: nominal, as in the paper, or the first method that was trained."""
    trained = tuple(self.experiment.config.train.methods)
    return 'nominal' if 'nominal' in trained else trained[0]

  @functools.cached_property
  def state(self) -> TrainState:
    """The classifier that is attacked."""
    return self.state_of(self.experiment.load_classifier(self.attacked_method))

  def state_of(self, params: PyTree) -> TrainState:
    """A classifier that is not being trained, as the methods take it."""
    experiment = self.experiment
    return TrainState(
      step=jnp.zeros((), jnp.int32),
      key=experiment.key('report'),
      params=params,
      opt_state=None,
      ema_params=None,
      generator=None,
      apply_fn=experiment.classify,
      tx=experiment.classifier_tx,
      decoder=None,
      num_classes=experiment.splits.train.num_classes,
    )

  @functools.cached_property
  def chosen(self) -> np.ndarray:
    """Positions of the training images that pictures show."""
    return one_per_class(self.experiment.splits.train.labels, self.experiment.config.report.num_examples)

  @functools.cached_property
  def examples(self) -> Batch:
    """The training images that pictures show, one of each class first, without latents."""
    train, chosen = self.experiment.splits.train, self.chosen
    return Batch(
      images=jnp.asarray(to_float(train.images[chosen])),
      labels=jnp.asarray(train.labels[chosen]),
      latents=None,
      index=jnp.arange(len(chosen), dtype=jnp.int32),
    )

  @functools.cached_property
  def draws(self) -> Callable[[str], tuple[np.ndarray, np.ndarray]]:
    """By method: many draws from the examples `[N, B, H, W, C]` and everyone's share in each `[N, B, B]`."""
    examples, config = self.examples, self.experiment.config
    # As if every example were a class of its own: the targets then say who was mixed with whom.
    batch = dataclasses.replace(examples, labels=examples.index)
    state = self.state_of(None).replace(num_classes=len(examples.index))
    keys = jax.random.split(self.experiment.key('report/draws'), NUM_DRAWS)

    @functools.cache
    def draw(name):
      perturb = methods.METHODS[name](config)
      images, shares = jax.jit(jax.vmap(lambda key: perturb(key, state, batch)))(keys)
      return np.asarray(images), np.asarray(shares)

    return draw

  @functools.cached_property
  def decode(self) -> Callable[[Array], np.ndarray]:
    """`w [B, L, D]` to uint8 images on the host."""
    decode = jax.jit(lambda params, w: to_uint8(self.experiment.decoder.decode(params, w)))
    return lambda w: np.asarray(decode(self.generator, w))

  @functools.cached_property
  def draw_w(self) -> Callable[[Array, int], Array]:
    """`(key, count)` to fresh `map(z) [count, L, D]`."""
    decoder = self.experiment.decoder

    @functools.partial(jax.jit, static_argnums=2)
    def draw(params, key, count):
      return decoder.map_z(params, mixing.draw_z(jax.random.split(key, count), decoder.latent_size))

    return lambda key, count: draw(self.generator, key, count)

  @functools.cached_property
  def probabilities(self) -> Callable[[np.ndarray], np.ndarray]:
    """Softmax `[B, K]` of uint8 images, that is, of what the pictures show."""
    softmax = jax.jit(
      lambda params, images: jax.nn.softmax(self.experiment.classify(params, to_float(images)))
    )
    return lambda images: np.asarray(softmax(self.state.params, images))

  @functools.cached_property
  def worst_latents(self) -> Callable[[Batch, Array], np.ndarray]:
    """Algorithm 2 from each image of a batch, with the evaluation's settings, keeping the highest loss."""
    config, decoder = self.experiment.config, self.experiment.decoder
    evaluate = config.evaluate
    settings = methods.latent_attack_settings(config, evaluate.num_restarts, evaluate.num_steps)

    @jax.jit
    def search(params, state, batch, key):
      keys = mixing.example_keys(key, batch.index)
      objective_fn = methods.classifier_objective(state, batch.labels, 'highest_loss')
      images = batch.images
      return to_uint8(
        attack.latent_attack(settings, keys, decoder, params, batch.latents, objective_fn, images).best
      )

    return lambda batch, key: np.asarray(search(self.generator, self.state, batch, key))


def run(experiment: Experiment) -> None:
  """Writes `report/*.png` and `report/index.html`."""
  scene = Scene(experiment)
  sections = []
  for draw in (accuracy, style_mixing, attacked_images, generated_images, encoder, pairs, colours, curves):
    interruption.check()
    sections += section_or_reason(draw, scene)
  write_page(scene.folder / 'index.html', describe(scene, sections))


def section_or_reason(draw: Callable[[Scene], list[Section]], scene: Scene) -> list[Section]:
  """What `draw` makes, or, where another stage has not run, a section that says so."""
  try:
    return draw(scene)
  except BadInputError as error:
    return [Section(draw.__name__.replace('_', ' ').capitalize(), f'Not drawn: {error}.')]


def one_per_class(labels: np.ndarray, count: int) -> np.ndarray:
  """Positions of up to `count` examples: the first of each class in turn, then the second, ..."""
  ranks = np.zeros(len(labels), np.int64)
  for label in np.unique(labels):
    chosen = np.flatnonzero(labels == label)
    ranks[chosen] = np.arange(len(chosen))
  return np.lexsort((labels, ranks))[:count]


# --- the sections -----------------------------------------------------------------------------------------


def accuracy(scene: Scene) -> list[Section]:
  """Tables 3 and 4 as bars."""
  require(scene.experiment.workdir.path / 'results.json', 'evaluate')
  rows = [row for row in scene.rows if row.clean is not None and row.perturbed is not None]
  if not rows:
    return []
  worst = [row.worst_class for row in rows if row.worst_class is not None]
  figure = figures.save_method_bars(
    scene.folder / 'methods.png',
    [row.name for row in rows],
    [row.clean for row in rows if row.clean is not None],
    [row.perturbed for row in rows if row.perturbed is not None],
    worst_class=worst if len(worst) == len(rows) else None,
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


def style_mixing(scene: Scene) -> list[Section]:
  """Eq. 11 on encoded images: one row per class, one column per generated image."""
  experiment = scene.experiment
  decoder, train = experiment.decoder, experiment.splits.train
  coarse = jnp.asarray(scene.train_latents[one_per_class(train.labels, train.num_classes)])
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
    'image above. Where the split is right, every row shows one class and every column one colour.'
  )
  caption = (
    f'Left: reconstructions of training images, one of each class. Top: generated images. Mixing level '
    f'{decoder.mixing_level} of {decoder.num_layers} layers.'
  )
  return [Section('Style mixing', text, figure, caption, pixelated=True)]


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
  originals = to_uint8(np.asarray(batch.images))
  figure = figures.save_attack_panel(
    scene.folder / 'attacks.png',
    originals,
    np.asarray(batch.labels),
    [figures.Variants(name, x, scene.probabilities(x).argmax(axis=1)) for name, x in found.items()],
    predicted=scene.probabilities(originals).argmax(axis=1),
    class_names=scene.class_names,
  )
  name = figures.method_title(scene.attacked_method)
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
  return np.where(usable, found, to_uint8(np.asarray(scene.examples.images)))


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
  figure = figures.save_generated_panel(
    scene.folder / 'generated.png',
    generated,
    variants,
    labels,
    before,
    scene.probabilities(variants),
    class_names=scene.class_names,
  )
  name = figures.method_title(scene.attacked_method)
  text = (
    'The same search on images that come from the generator, so that no encoder is involved. They have no '
    f'true label: the class the {name} classifier gives the generated image is taken as its class, and the '
    'search looks for a variant to which it gives another. Below each image stand the probability of that '
    'class and what the classifier sees.'
  )
  caption = 'Figure 11 of the paper. Bottom: difference between the two, at the scale written below.'
  return [Section('Generated images', text, figure, caption)]


def encoder(scene: Scene) -> list[Section]:
  """Figure 5: Algorithm 1 on training images and on images it was not made for, then random mixes."""
  experiment, config, decoder = scene.experiment, scene.experiment.config, scene.experiment.decoder
  originals, labels, final, keys = [], [], [], []
  for name, part in encode.parts(experiment).items():
    chosen = one_per_class(part.labels, NUM_ENCODED)
    originals.append(part.images[chosen])
    part_name = 'training' if name == 'train' else name
    labels += [f'{part_name},\nclass {scene.class_names[label]}' for label in part.labels[chosen]]
    final.append(encode.load_latents(experiment, name).w[chosen])
    index = jnp.asarray(part.index[chosen].astype(np.int32))
    keys.append(mixing.example_keys(experiment.key(f'encode/{name}'), index))
  images = np.concatenate(originals)
  latents = early_latents(scene, images, jnp.concatenate(keys)) | {
    config.encode.num_steps: np.concatenate(final)
  }
  mix = jax.jit(lambda params, keys, w: to_uint8(mixing.random_mix(keys, decoder, params, w)))
  mix_keys = jax.random.split(experiment.key('report/encoder'), (NUM_VARIANTS, len(images)))
  variants = [np.asarray(mix(scene.generator, k, latents[config.encode.num_steps])) for k in mix_keys]
  steps = sorted(latents)
  figure = figures.save_encoder_progress(
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
    'were found and draw the others at random (Equation 17): they should show the same class in other '
    'colours.'
  )
  first = 'a guess of a small network' if config.encode.init == 'encoder' else 'the mean latent'
  layers = ', '.join(encode.feature_layers(config))
  compared = f'pixels and {config.encode.features} features ({layers})' if layers else 'pixels alone'
  caption = (
    f'Figure 5 of the paper: Algorithm 1, {config.encode.num_steps} steps from {first}, comparing '
    f'{compared}, then {NUM_VARIANTS} random variants.'
  )
  return [Section('From image to latents', text, figure, caption)]


def early_latents(scene: Scene, images: np.ndarray, keys: Array) -> dict[int, np.ndarray]:
  """Latents on the way of Algorithm 1 as the stage encode went it: `[B, L, D]` by number of steps.

  Args:
    scene: of the run.
    images: `[B, H, W, C]` uint8.
    keys: `[B]`, those the stage used; consumed.

  Returns:
    The start, and the latents halfway; after a tenth too where there are many steps.
  """
  experiment, params = scene.experiment, scene.generator
  features_fn, feature_params = encode.features(experiment)
  targets = jnp.asarray(to_float(images))
  if experiment.config.encode.init == 'encoder':
    shared = {'decoder': params, 'features': feature_params}
    start_params = encode.train_start(experiment, features_fn, shared)
    model, w_avg = encode.start_model(experiment), experiment.decoder.w_avg(params)
    start = jax.jit(lambda p: model.apply({'params': p}, targets, w_avg))(start_params)
  else:
    start = encoding.mean_start(experiment.decoder, params, len(images))
  settings = encode.encode_settings(experiment.config)
  latents = {0: np.asarray(start)}
  total = settings.num_steps
  halts = {total // 2, total // 10} if total >= MANY_STEPS else {total // 2}  # Each is a program to compile.
  for num_steps in sorted(halts - {0}):
    # The rate falls at three quarters: until there, a shorter run at one rate is the start of the long one.
    shorter = settings._replace(num_steps=num_steps, final_learning_rate=settings.learning_rate)
    function = functools.partial(encoding.encode, experiment.decoder, features_fn, shorter)
    found = jax.jit(function)(params, feature_params, keys, targets, start)
    latents[num_steps] = np.asarray(found.w)
  return latents


def pairs(scene: Scene) -> list[Section]:
  """Figure 2: mixup, Cutout and CutMix of pairs of training images."""
  originals = to_uint8(np.asarray(scene.examples.images))
  count = min(NUM_PAIRS, len(originals) // 2)
  columns = {
    name: np.stack([telling_draw(scene, name, i, i + count) for i in range(count)])
    for name in ('mixup', 'cutout', 'cutmix')
  }
  figure = figures.save_mixed_pairs(
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


def colours(scene: Scene) -> list[Section]:
  """Figure 6: the mean colour of each class."""
  means = data.mean_colours(scene.experiment.config)
  if means is None:
    return []
  figure = figures.save_mean_colours(scene.folder / 'mean_colours.png', means, scene.class_names)
  sigma = scene.experiment.config.data.sigma
  spread = 'exactly this colour' if not sigma else f'this colour with a standard deviation of {sigma:g}'
  text = (
    f'In training every image of a class has {spread}, so colour alone gives the label away; in the test the '
    'colour has nothing to do with the label. A classifier that learnt colours fails there.'
  )
  return [
    Section('Colours of the classes', text, figure, 'Figure 6 of the paper: mean training colours by class.')
  ]


def curves(scene: Scene) -> list[Section]:
  """Losses of the classifiers and of the two networks of the GAN."""
  series = read_metrics(scene.experiment.workdir.path / 'metrics.jsonl')
  config = scene.experiment.config

  def curve(name: str, scale: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    steps = sorted(series[name])
    return scale * np.array(steps, np.float64), np.array([series[name][step] for step in steps])

  sections = []
  of_methods = {m: f'train/{m}/loss' for m in config.train.methods}
  found = {m: curve(name) for m, name in of_methods.items() if name in series}
  if found:
    figure = figures.save_curves(
      scene.folder / 'training.png', found, xlabel='step', ylabel='training loss (cross-entropy)', log_y=True
    )
    text = (
      'Each method is measured on what it trains on, so lines are not comparable in height: AdvMix and AT '
      'see the hardest variants they can find, mixup and CutMix have labels that cannot be predicted with '
      'certainty.'
    )
    sections.append(
      Section('Training of the classifiers', text, figure, 'Loss on the training batches by step.')
    )
  names = {'generator': 'gan/loss/generator', 'discriminator': 'gan/loss/discriminator'}
  scale = config.generator.batch_size / 1000
  found = {label: curve(name, scale) for label, name in names.items() if name in series}
  if found:
    figure = figures.save_curves(
      scene.folder / 'gan.png', found, xlabel='thousands of real images shown (kimg)', ylabel='loss'
    )
    text = (
      'Two networks against each other: neither loss has to fall. What counts is that neither runs away '
      'and that the sample grids in the folder gan get better.'
    )
    sections.append(
      Section('Training of the generator', text, figure, 'Logistic losses of the two networks.')
    )
  return sections


# --- the page ---------------------------------------------------------------------------------------------


def describe(scene: Scene, sections: list[Section]) -> Report:
  """Everything the page says."""
  config, rows = scene.experiment.config, scene.rows
  settings = flatten(config.to_dict())
  versions = scene.experiment.workdir.path / 'versions.json'
  return Report(
    title=f'AdvMix on {config.data.name}',
    summary=summary(rows, config.evaluate.split),
    rows=rows,
    sections=sections,
    seed=config.seed,
    split=config.evaluate.split,
    attack=scene.results['attack'] if rows else {},
    settings=settings,
    versions=flatten(read_json(versions)) if versions.exists() else {},
  )


def summary(rows: tuple[MethodRow, ...], split: str) -> list[str]:
  """The result in sentences, as far as it is known."""
  by_name = {row.name: row for row in rows}
  if not rows:
    return ['This run is not finished: no classifier has been evaluated yet.']
  sentences = []
  advmix, nominal = by_name.get('advmix'), by_name.get('nominal')
  if advmix and nominal and advmix.clean is not None and nominal.clean is not None:
    sentences.append(
      f'AdvMix reads {100 * advmix.clean:.1f} % of the {split} images correctly, training without it '
      f'{100 * nominal.clean:.1f} %.'
    )
  measured = [row for row in rows if row.perturbed is not None]
  if measured:
    best = max(measured, key=lambda row: row.perturbed or 0.0)
    sentences.append(
      f'When variants are searched for that mislead it, {best.title} is the most robust: it still reads '
      f'{100 * (best.perturbed or 0):.1f} %.'
    )
  return sentences
