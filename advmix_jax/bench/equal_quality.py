"""The encoder of a finished run at equal quality: as good latents as the paper's Algorithm 1 gives.

Latents are as good where neither the median pixel error of reconstructions nor the median L_mix of mixes is
higher. Ours are the run's own start and slots, and as many steps as that takes. Compared is Algorithm 1 of
the paper, Adam from `w_avg`, whole batches for all steps, with the same networks, images and loss weights.
"""

import functools
import statistics
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from advmix_jax import encoding, mixing, parallel
from advmix_jax.bench import reference_cases
from advmix_jax.bench.measurement import check_torch, in_words, speed
from advmix_jax.bench.timing import Run, in_turns, quartiles
from advmix_jax.ranges import to_float
from advmix_jax.stages import encode, encode_loss, encode_start
from advmix_jax.stages.experiment import Experiment, require
from advmix_jax.types import Array, BadInputError, Dataset, Decoder, PyTree
from advmix_jax.workdir import read_metrics

NAME = 'encoder_equal_quality'
GROWTH = 1.25  # Of the number of our steps, from the run's own, until they are enough.
PRECISION = 0.04  # Of the fewest steps: each try is a program of its own to compile.
MIXES = 8  # Of an image, for its L_mix.


class Quality(NamedTuple):
  """Of latents of many images: medians over them of the mean squared pixel error, and of L_mix."""

  error: float
  mixing_loss: float

  def reaches(self, other: 'Quality') -> bool:
    return self.error <= other.error and self.mixing_loss <= other.mixing_loss

  def __str__(self) -> str:
    return f'median error {self.error:.5f}, L_mix {self.mixing_loss:.3f}'


def equal_quality(
  experiment: Experiment, encode_steps: int, num_images: int, repeats: int, against: str | None
) -> dict[str, Any]:
  """Measures the case and prints a line; the figures are those of the other cases.

  Our steps are the fewest, from the run's own number on, with which our `Quality` is that of the paper's way.

  Args:
    experiment: a run whose generator and start are trained.
    encode_steps: N, steps from `w_avg`.
    num_images: training images that are encoded, drawn by `data.split_seed`.
    repeats: timed runs of ours, and of `reference_cases.ENCODE.num_steps` steps of theirs, from which the
      time of all N follows.
    against: torch, or None for no comparison. It runs in this process: what differs is far more than that
      costs.

  Raises:
    BadInputError: if the run is not there, or differs in what cannot be compared.
  """
  if against is not None:
    check_torch()
  check_comparable(experiment, num_images)
  if experiment.config.encode.init == 'encoder':
    require(encode_start.start_file(experiment), 'encode')
  features_fn, shared = encode.load_shared(experiment)
  shared = shared | {'key': experiment.key('encode/train')}
  part = some_images(experiment, num_images)
  arguments = plain_arguments(experiment, shared, part)
  paper = reference_cases.ENCODE._replace(num_steps=encode_steps)
  plain = jax.jit(functools.partial(encoding.encode, experiment.encode_decoder, features_fn, paper))
  mixing_losses = jax.jit(functools.partial(mean_mixing_loss, experiment.encode_decoder, features_fn, paper))

  def quality(w: Array | np.ndarray, error: Array | np.ndarray) -> Quality:
    return Quality(float(np.median(error)), float(np.median(mixing_losses(*arguments[:-1], w))))

  wanted = quality(*plain(*arguments))
  encoder_of = functools.cache(functools.partial(encode_part, experiment, features_fn, shared, part))

  @functools.cache
  def quality_of(num_steps: int) -> Quality:
    found = quality(*encoder_of(num_steps)[1:3])
    print(f'{num_steps} steps: {found}; wanted: {wanted}', flush=True)
    return found

  settings = encode_loss.encode_settings(experiment)
  num_steps = fewest_steps(lambda n: quality_of(n).reaches(wanted), settings.num_steps, encode_steps)
  found = quality_of(num_steps)
  encode_all, _, _, taken = encoder_of(num_steps)
  figures = timed(experiment, encode_all, arguments, encode_steps, repeats, against)
  described = {
    'reached': found.reaches(wanted),
    'median_error': found.error,
    'median_mixing_loss': found.mixing_loss,
    'plain_median_error': wanted.error,  # By the plain loop in jax, which does what PyTorch does.
    'plain_median_mixing_loss': wanted.mixing_loss,
    'steps': num_steps,
    'mixing_share': settings.mixing_share,
    'mean_steps_taken': float(taken.mean()),
    'plain_steps': encode_steps,
    'start_seconds_per_image': start_seconds(experiment),
  }
  print(f'{NAME:20} {in_words(figures, described)}', flush=True)
  return figures | described


def some_images(experiment: Experiment, count: int) -> Dataset:
  """Training images of the run, drawn by `data.split_seed`."""
  train = experiment.encode_splits.train
  rng = np.random.default_rng((experiment.config.data.split_seed, len(train)))
  positions = np.sort(rng.choice(len(train), count, replace=False))
  return Dataset(train.images[positions], train.labels[positions], train.index[positions], None, 1)


def encode_part(
  experiment: Experiment, features_fn: encoding.FeaturesFn, shared: PyTree, part: Dataset, num_steps: int
) -> tuple[Callable[[], list], np.ndarray, np.ndarray, np.ndarray]:
  """Our encoder of so many steps at work on all images, and what it gives.

  Returns:
    What encodes them again, `w [B, L, D]`, the errors `[B]` and the steps taken `[B]`.
  """
  settings = encode_loss.encode_settings(experiment)._replace(num_steps=num_steps)
  num_slots = min(experiment.config.encode.batch_size, len(part))
  encoder, shared = encode.Encoder(experiment, features_fn, settings, num_slots), parallel.replicate(shared)

  def encode_all() -> list:
    return list(encoder(shared, part, range(len(part))))

  places, pieces = zip(*encode_all(), strict=True)
  order = np.argsort(np.concatenate(places))
  w, error, taken = (
    np.concatenate([getattr(found, k) for found in pieces])[order] for k in ('w', 'error', 'taken')
  )
  return encode_all, w, error, taken


def timed(
  experiment: Experiment,
  encode_all: Callable[[], list],
  arguments: tuple[Array, ...],
  encode_steps: int,
  repeats: int,
  against: str | None,
) -> dict[str, Any]:
  """The figures that all cases have: of ours, and beside PyTorch's if that is asked for."""
  params, features, keys, images, start = arguments
  runs: list[Run] = [encode_all]
  theirs = None
  if against is not None:
    from advmix_jax.torch_reference import cases as torch_cases

    sizes = reference_cases.Networks(
      w_size=experiment.decoder.latent_size, mixing_level=experiment.config.attack.mixing_level
    )
    given = params, {'params': features}, keys, images, start
    case = reference_cases.Case(lambda: None, len(images), None, {}, given)
    theirs = torch_cases.fastest('encoder_step', case, sizes)
    runs.append(theirs.run)
  seconds = in_turns(runs, repeats)
  figures: dict[str, Any] = {
    'name': NAME,
    **speed(seconds[0], len(images)),
    'flops_per_sec': None,
    'share_of_matmul_peak': None,
    'ratio_vs_torch': None,
  }
  if theirs is not None:
    figures |= compared(seconds[0], seconds[1], encode_steps, len(images), theirs)
  return figures


def compared(
  ours: list[float], theirs: list[float], encode_steps: int, num_images: int, case: Any
) -> dict[str, Any]:
  """What is said of PyTorch's case, whose time for all steps is that of the measured ones, scaled.

  Args:
    ours, theirs: seconds of pairs of runs.
  """
  measured_steps = reference_cases.ENCODE.num_steps
  whole = [seconds * encode_steps / measured_steps for seconds in theirs]
  ratios = [b / a for a, b in zip(ours, whole, strict=True)]
  return {
    'ratio_vs_torch': statistics.median(ratios),
    'ratio_quartiles': quartiles(ratios),
    'torch': {
      'variant': case.variant,
      'tried': case.tried,
      'measured_steps': measured_steps,
      **speed(whole, num_images),
    },
  }


def fewest_steps(enough: Callable[[int], bool], first: int, most: int) -> int:
  """The fewest steps from `first` to `most` that are `enough`, to `PRECISION`; `most` where none are."""
  too_few, steps = None, first
  while not enough(steps):
    if steps >= most:
      return most
    too_few, steps = steps, min(int(steps * GROWTH) + 1, most)
  while too_few is not None and steps - too_few > max(1, PRECISION * steps):
    middle = (too_few + steps) // 2
    if enough(middle):
      steps = middle
    else:
      too_few = middle
  return steps


def check_comparable(experiment: Experiment, num_images: int) -> None:
  """Raises `BadInputError` where the paper's listing in PyTorch would do something else than the run."""
  e, g = experiment.config.encode, experiment.config.generator
  paper = reference_cases.ENCODE
  expected: list[tuple[str, Any, Any]] = [
    ('encode.features', e.features, 'discriminator'),
    ('encode.feature_layers', tuple(e.feature_layers), ()),
    ('encode.layer_weights', tuple(e.layer_weights), ()),
    ('generator.architecture', g.architecture, 'stylegan1'),
    ('generator.structure', g.structure, 'fixed'),
    ('generator.conditional', g.conditional, False),
    ('generator.path', g.path, ''),
  ] + [(f'encode.{k}', e[k], getattr(paper, k)) for k in ('pixel_weight', 'feature_weight', 'mixing_weight')]
  for key, found, wanted in expected:
    if found != wanted:
      raise BadInputError(f'--run: config.{key} of the run is {found!r}, expected {wanted!r} for {NAME}')
  available = len(experiment.encode_splits.train)
  if not 1 <= num_images <= available:
    raise BadInputError(f'--encode_images is {num_images}, expected 1 to the {available} training images')
  parallel.check_divisible(min(num_images, e.batch_size), '--encode_images, or config.encode.batch_size,')


def plain_arguments(experiment: Experiment, shared: PyTree, part: Dataset) -> tuple[Array, ...]:
  """What `encoding.encode` is given from `params` on: all images, from `w_avg`."""
  keys = mixing.example_keys(shared['key'], jnp.asarray(part.index.astype(np.int32)))
  start = encoding.mean_start(experiment.encode_decoder, shared['decoder'], len(part))
  return shared['decoder'], shared['features'], keys, jnp.asarray(to_float(part.images)), start


def mean_mixing_loss(
  decoder: Decoder,
  features_fn: encoding.FeaturesFn,
  settings: encoding.EncodeSettings,
  params: PyTree,
  feature_params: PyTree,
  keys: Array,
  images: Array,
  w: Array,
) -> Array:
  """L_mix `[B]` of latents `w [B, L, D]`, the mean of some draws: of the same ones for all latents.

  Args: as for `encoding.encode`; the keys are consumed.
  """
  target_features = features_fn(feature_params, images)
  trunk = decoder.coarse(params, mixing.split(w, decoder.mixing_level)[0])
  parts = decoder, features_fn, settings, params, feature_params

  def one_draw(n):
    draws = jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, n)
    return encoding.mixing_loss(*parts, draws, target_features, trunk)

  return jnp.mean(jax.lax.map(one_draw, jnp.arange(MIXES)), axis=0)


def start_seconds(experiment: Experiment) -> float | None:
  """Time that the training of the start took for each image of the run; None where it says nothing of it."""
  config = experiment.config.encode
  rates = read_metrics(experiment.workdir.path / 'metrics.jsonl').get('timing/encoder/images_per_sec')
  if config.init != 'encoder' or not rates:
    return None
  return 2000 * config.init_kimg / statistics.median(rates.values()) / len(experiment.splits.train)
