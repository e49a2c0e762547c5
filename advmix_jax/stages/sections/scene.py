"""What the pictures of a run are drawn from: its files, each read once, and functions compiled once."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from advmix_jax import attack, batched, interruption, methods, mixing
from advmix_jax.ranges import to_float, to_uint8
from advmix_jax.report.page import MethodRow, method_rows
from advmix_jax.stages import encoded
from advmix_jax.stages.experiment import Experiment
from advmix_jax.types import Array, Batch, PyTree, TrainState
from advmix_jax.workdir import read_json, read_metrics

DECODED_AT_ONCE = 8  # Few, as the generator may be one of 1024 pixels.
NUM_DRAWS = 256  # Random augmentations from which a picture is picked.
NAME_LENGTH = 18  # Longer names of classes are cut in pictures.


class Scene:
  """A run as its pictures see it.

  What another stage has not made yet raises `BadInputError` where it is asked for.

  Attributes:
    experiment: of the run.
    folder: where pictures go.
    results_file: what the stage evaluate writes.
  """

  def __init__(self, experiment: Experiment):
    self.experiment = experiment
    self.folder = experiment.workdir.path / 'report'
    self.results_file = experiment.workdir.path / 'results.json'
    self.draws = functools.cache(self._draws)
    decoder, classify = experiment.decoder, experiment.classify
    self._decode = jax.jit(lambda params, w: to_uint8(decoder.decode(params, w)))
    self._softmax = jax.jit(lambda params, images: jax.nn.softmax(classify(params, to_float(images))))
    self._draw_w = jax.jit(
      lambda params, keys: decoder.map_z(params, mixing.draw_z(keys, decoder.latent_size))
    )

  @functools.cached_property
  def results(self) -> dict:
    """`results.json` of the run; no methods before the stage evaluate."""
    return read_json(self.results_file) if self.results_file.exists() else {'methods': {}}

  @functools.cached_property
  def metrics(self) -> dict[str, dict[int, float]]:
    """Everything that was logged: `{name: {step: value}}`."""
    return read_metrics(self.experiment.workdir.path / 'metrics.jsonl')

  @property
  def rows(self) -> tuple[MethodRow, ...]:
    """Rows of the method table."""
    return method_rows(self.results['methods'], self.experiment.splits.train.class_names)

  @functools.cached_property
  def class_names(self) -> tuple[str, ...]:
    """Names of the classes as pictures show them; numbers where they have none."""
    names = [' '.join(name.split()) for name in self.whole_names]
    short = [name if len(name) <= NAME_LENGTH else f'{name[: NAME_LENGTH - 1]}…' for name in names]
    return tuple(name.replace('$', r'\$') for name in short)  # Else matplotlib reads formulas.

  @functools.cached_property
  def whole_names(self) -> tuple[str, ...]:
    """Names of the classes as they are; numbers where they have none."""
    train = self.experiment.splits.train
    return train.class_names or tuple(map(str, range(train.num_classes)))

  @functools.cached_property
  def generator(self) -> PyTree:
    """Parameters of the decoder."""
    return self.experiment.load_generator()

  @functools.cached_property
  def train_latents(self) -> np.ndarray:
    """`[N, L, D]` of the training images."""
    return np.asarray(encoded.load_latents(self.experiment, 'train').w)

  @property
  def attacked_method(self) -> str:
    """Whose classifier is attacked: nominal, as in the paper, or the first method that was trained."""
    trained = tuple(self.experiment.config.train.methods)
    return 'nominal' if 'nominal' in trained else trained[0]

  @functools.cached_property
  def state(self) -> TrainState:
    """The classifier that is attacked."""
    first_seed, *_ = self.experiment.classifiers(self.attacked_method)
    return self.state_of(self.experiment.load_classifier(first_seed))

  @functools.cached_property
  def chosen(self) -> np.ndarray:
    """Positions of the training images that pictures show."""
    return one_per_class(self.experiment.splits.train.labels, self.experiment.config.report.num_examples)

  @functools.cached_property
  def originals(self) -> np.ndarray:
    """Those images, `[B, H, W, C]` uint8, one of each class first."""
    return self.experiment.splits.train.images[self.chosen]

  @functools.cached_property
  def examples(self) -> Batch:
    """Those images as a batch without latents."""
    return Batch(
      images=jnp.asarray(to_float(self.originals)),
      labels=jnp.asarray(self.experiment.splits.train.labels[self.chosen]),
      latents=None,
      index=jnp.arange(len(self.chosen), dtype=jnp.int32),
    )

  def decode(self, w: Array) -> np.ndarray:
    """`w [B, L, D]` to uint8 images on the host."""

    def decode_batch(w: np.ndarray) -> np.ndarray:
      interruption.check()
      return np.asarray(self._decode(self.generator, w))

    return batched.in_batches(decode_batch, np.asarray(w), DECODED_AT_ONCE)

  def draw_w(self, key: Array, count: int) -> Array:
    """Fresh `map(z) [count, L, D]`; the key is consumed."""
    return self._draw_w(self.generator, jax.random.split(key, count))

  def probabilities(self, images: np.ndarray) -> np.ndarray:
    """Softmax `[B, K]` of uint8 images, that is, of what the pictures show."""
    return np.asarray(self._softmax(self.state.params, images))

  def read(self, params: PyTree, images: np.ndarray) -> np.ndarray:
    """Softmax `[N, K]` of any number of uint8 images by a classifier."""

    def read_batch(images: np.ndarray) -> np.ndarray:
      interruption.check()
      return np.asarray(self._softmax(params, images))

    return batched.in_batches(read_batch, images, self.experiment.config.evaluate.batch_size)

  def worst_latents(self, batch: Batch, key: Array, state: TrainState | None = None) -> np.ndarray:
    """Algorithm 2 from each image of a batch, with the evaluation's settings, keeping the highest loss.

    Args:
      batch: with latents.
      key: consumed.
      state: of the classifier that is attacked; None = `state`.

    Returns:
      `[B, H, W, C]` uint8.
    """
    return np.asarray(self._worst(self.generator, state or self.state, batch, key))

  @functools.cached_property
  def _worst(self):
    """`worst_latents` as a program."""
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

    return search

  def _draws(self, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Many draws of a method from the examples `[N, B, H, W, C]`, everyone's share in each `[N, B, B]`."""
    examples = self.examples
    # As if every example were a class of its own: the targets then say who was mixed with whom.
    batch = dataclasses.replace(examples, labels=examples.index)
    state = self.state_of(None).replace(num_classes=len(examples.index))
    keys = jax.random.split(self.experiment.key('report/draws'), NUM_DRAWS)
    perturb = methods.METHODS[name](self.experiment.config)
    images, shares = jax.jit(jax.vmap(lambda key: perturb(key, state, batch)))(keys)
    return np.asarray(images), np.asarray(shares)

  def state_of(self, params: PyTree) -> TrainState:
    """A classifier that is not being trained, as the methods take it."""
    experiment = self.experiment
    config = experiment.config
    return TrainState(
      # From there on AT and AdvMix attack with all their strength.
      step=jnp.asarray(max(config.at.ramp_steps, config.attack.ramp_steps)),
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


def one_per_class(labels: np.ndarray, count: int) -> np.ndarray:
  """Positions of up to `count` examples: the first of each class in turn, then the second, ..."""
  ranks = np.zeros(len(labels), np.int64)
  for label in np.unique(labels):
    chosen = np.flatnonzero(labels == label)
    ranks[chosen] = np.arange(len(chosen))
  return np.lexsort((labels, ranks))[:count]
