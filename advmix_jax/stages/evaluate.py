"""Stage 4: measures every classifier; writes `evaluate/METHOD.json` and `.npz`, and `results.json`."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from advmix_jax import attack, batched, data, evaluation, hosts, interruption, parallel, refill
from advmix_jax.methods import latent_attack_settings
from advmix_jax.progress import track
from advmix_jax.ranges import to_uint8
from advmix_jax.stages.encode_loss import feature_layers
from advmix_jax.stages.encoded import load_latents
from advmix_jax.stages.experiment import Experiment, require
from advmix_jax.stages.networks import Networks
from advmix_jax.stages.shares import merged
from advmix_jax.stages.slot_calls import SlotCalls
from advmix_jax.stages.under_way import UnderWay
from advmix_jax.types import Decoder, PyTree
from advmix_jax.watchdog import Watchdog
from advmix_jax.workdir import config_hash, read_json, write_arrays, write_json


def run(experiment: Experiment) -> None:
  """Measures the methods not measured yet, then puts all of them into `results.json`."""
  evaluate = Evaluator(experiment)
  folder = experiment.workdir.path / 'evaluate'
  require(experiment.latents_file(experiment.config.evaluate.split), 'encode')
  names = [name for method in experiment.config.train.methods for name in experiment.classifiers(method)]
  for name in names:
    require(experiment.classifier_file(name), 'train')
  for name in names:
    interruption.check()
    file = folder / f'{name}.json'
    if not hosts.agreed(file.exists):
      found = merged(file.parent, file.stem, evaluate(name))
      if found is not None:
        write(experiment, name, found)
        evaluate.under_way(name).remove()
  hosts.by_first(lambda: write_results(experiment))


def write(experiment: Experiment, name: str, found: dict[str, np.ndarray]) -> None:
  """Writes what an `Evaluator` found of a classifier, of all examples, and logs the accuracies.

  The .npz has `correct`, bool, of the evaluated split, and `evaluation.Broken` of what of it is attacked.
  """
  file, split = experiment.workdir.path / 'evaluate' / f'{name}.json', experiment.config.evaluate.split
  measured = measurements(experiment, found['correct'], found['broken'])
  write_arrays(file.with_suffix('.npz'), **found)
  write_json(file, measured)
  kinds = {'clean_accuracy': 'clean', 'perturbed_accuracy': 'perturbed'}
  experiment.workdir.log(0, {f'{split}/{name}/accuracy/{kind}': measured[key] for key, kind in kinds.items()})


def write_results(experiment: Experiment) -> None:
  """Writes `results.json` from the files of the methods."""
  folder = experiment.workdir.path
  methods = {
    method: evaluation.over_seeds(
      [read_json(folder / 'evaluate' / f'{name}.json') for name in experiment.classifiers(method)]
    )
    for method in experiment.config.train.methods
  }
  write_json(folder / 'results.json', results(experiment, methods))


def results(experiment: Experiment, methods: dict[str, dict]) -> dict:
  """The contents of `results.json`; no times in it, so that equal runs give equal bytes."""
  config = experiment.config
  return {
    'methods': methods,
    'seed': config.seed,
    'train_seeds': list(experiment.train_seeds),
    'config_hash': config_hash(config),
    'data': config.data.name,
    'split': config.evaluate.split,
    'num_train': len(experiment.splits.train),
    'num_generator_images': len(experiment.splits.generator),
    'attack': {
      'mixing_level': config.attack.mixing_level,
      'epsilon': config.attack.epsilon,
      'step_size': config.attack.step_size,
      'num_restarts': config.evaluate.num_restarts,
      'num_steps': config.evaluate.num_steps,
      'update': config.attack['update'],
      'select': config.evaluate.select,
      'start_from': config.evaluate.start_from,
    },
    **data.facts(config, experiment.splits),
    'encoder_features': config.encode.features,
    'encoder_feature_layers': list(feature_layers(experiment)),
    'reconstruction_error': {
      part: read_json(experiment.latents_file(part))['error'] for part in ('train', config.evaluate.split)
    },
  }


def attack_settings(config: ConfigDict) -> attack.LatentAttack:
  """Algorithm 2 as evaluation has it."""
  return latent_attack_settings(config, config.evaluate.num_restarts, config.evaluate.num_steps)


def search_parts(networks: Networks) -> tuple[attack.LatentAttack, str, refill.ClassifyFn, Decoder]:
  """What the functions of `refill` need to know."""
  config = networks.config
  return attack_settings(config), config.evaluate.select, networks.classify, networks.decoder


def advance_fn(networks: Networks) -> Callable[[PyTree, PyTree, PyTree], PyTree]:
  """`(shared, slots, entry) -> (slots, found)` of `refill.advance`, over all devices."""
  return parallel.pmap_carry(functools.partial(refill.advance, *search_parts(networks)))


def scores_fn(networks: Networks) -> Callable[[PyTree, PyTree], PyTree]:
  """`(shared, (w, labels, numbers)) -> scores` of `refill.start_scores`, over all devices."""
  return parallel.pmap_map(functools.partial(refill.start_scores, *search_parts(networks)))


CHANGED = ('w_perp', 'rule_state', 'evaluated', 'kept')  # Fields of `refill.Slots` that steps change.
SEARCH = ('order', 'held', 'example', 'rank', 'taken', 'broken_by')  # Of `evaluation.Search`, beside images.


def save_search(under_way: UnderWay, slots: PyTree, entry: refill.Entry, search: evaluation.Search) -> None:
  """Saves the searches in the slots, and the variants found so far."""
  new = search.rank[entry.enters] * len(search.broken_by) + search.example[entry.enters]
  found = np.flatnonzero((search.broken_by >= 0) & (search.broken_by < search.num_restarts))
  arrays = {name: getattr(search, name) for name in SEARCH} | {
    'held': entry.held & ~entry.enters,
    'taken': min([search.taken, *new.tolist()]),
    'found': found,
    'images': search.images[found],
  }
  under_way.save({name: getattr(slots, name) for name in CHANGED}, arrays)


def load_search(arrays: dict[str, np.ndarray], originals: np.ndarray) -> evaluation.Search:
  """What `save_search` saved beside the slots."""
  images = originals.copy()
  images[arrays['found']] = arrays['images']
  saved: dict[str, Any] = {name: arrays[name] for name in SEARCH} | {'taken': int(arrays['taken'])}
  return evaluation.Search(images=images, **saved)


def measurements(experiment: Experiment, correct: np.ndarray, broken: np.ndarray) -> dict:
  """Numbers for `results.json`.

  Args:
    experiment: of the run.
    correct: `[N]` bool, of the images of the evaluated split: read correctly.
    broken: `[M]` bool, of the images that are attacked: the attack succeeded.
  """
  test = experiment.evaluated
  labels, held = test.labels[experiment.attacked_positions], ~broken
  clean = evaluation.group_accuracy(correct, test.labels, test.num_classes)
  perturbed = evaluation.group_accuracy(held, labels, test.num_classes)
  return {
    'clean_accuracy': float(correct.mean()),
    'perturbed_accuracy': float(held.mean()),
    'worst_class_accuracy': min(clean),
    'worst_class': int(np.argmin(clean)),
    'worst_class_perturbed_accuracy': min(perturbed),
    'per_class_accuracy': clean,
    'per_class_perturbed_accuracy': perturbed,
    'num_examples': len(test),
    'num_perturbed_examples': len(labels),
    'num_train': len(experiment.splits.train),
    'seed': experiment.config.seed,
  }


class Evaluator:
  """Attacks one classifier after another with the same compiled programs, for this process's part of them."""

  def __init__(self, experiment: Experiment):
    config = experiment.config
    self._experiment = experiment
    self._batch_size = config.evaluate.batch_size // hosts.count()
    self._settings = attack_settings(config)
    self._advance = SlotCalls(advance_fn(experiment))
    self._scores = scores_fn(experiment)
    self._predict = parallel.pmap_map(functools.partial(evaluation.predictions, experiment.classify))
    self._decode = parallel.pmap_map(
      lambda params, w: to_uint8(experiment.decoder.decode(params, w)),
    )

  def under_way(self, name: str) -> UnderWay:
    """Of an attack that is not finished."""
    file = self._experiment.workdir.path / 'evaluate' / name
    return UnderWay(file.parent, file.name, self._experiment.config.checkpoint.seconds)

  def predict(self, classifier: PyTree, images: np.ndarray) -> np.ndarray:
    """Predicted classes `[N]` of uint8 images."""

    def predict_batch(images):
      interruption.check()
      return parallel.unshard(self._predict(classifier, parallel.shard(images)))

    if not len(images):
      return np.zeros(0, np.int32)
    return batched.in_batches(predict_batch, images, self._batch_size)

  def _order(
    self, shared: PyTree, wrong: np.ndarray, w: np.ndarray, labels: np.ndarray, numbers: np.ndarray
  ) -> np.ndarray:
    """`[N, Nr]`, in which order the restarts run of examples that are not `wrong [N]` without any."""

    def score_batch(at):
      interruption.check()
      return parallel.unshard(self._scores(shared, parallel.shard((w[at], labels[at], numbers[at]))))

    scores = np.zeros((len(labels), self._settings.num_restarts), np.float32)
    if not wrong.all():
      scores[~wrong] = batched.in_batches(score_batch, np.flatnonzero(~wrong), self._batch_size)
    return evaluation.by_score(scores)

  @functools.cached_property
  def _attacked(self) -> tuple[np.ndarray, np.ndarray]:
    """Latents of the attacked examples, and the images that the attack starts from (uint8)."""
    experiment = self._experiment
    positions = hosts.own(experiment.attacked_positions)
    w = hosts.own(load_latents(experiment, experiment.config.evaluate.split).w)
    if experiment.config.evaluate.start_from == 'original' or not len(positions):
      return w, experiment.evaluated.images[positions]
    params = parallel.replicate(experiment.load_generator())

    def decode_batch(w):
      interruption.check()
      return parallel.unshard(self._decode(params, parallel.shard(w)))

    return w, batched.in_batches(decode_batch, w, self._batch_size)

  def __call__(self, method: str) -> dict[str, np.ndarray]:
    """`correct` of this process's part of the evaluated images, and `Broken` of its part of the attacked."""
    experiment, config = self._experiment, self._experiment.config
    classifier = parallel.replicate(experiment.load_classifier(method))
    test = experiment.evaluated
    correct = self.predict(classifier, hosts.own(test.images)) == hosts.own(test.labels)

    w, start_images = self._attacked
    labels = hosts.own(test.labels[experiment.attacked_positions])
    numbers = hosts.own(experiment.attacked_positions.astype(np.int32))
    shared = {
      'classifier': classifier,
      'decoder': parallel.replicate(experiment.load_generator()),
      'key': parallel.replicate(experiment.key('evaluate')),  # Used nowhere in training.
    }

    under_way = self.under_way(method)
    slots = refill.empty_slots(self._settings, experiment.decoder, shared, self._batch_size)
    slots = parallel.distribute(slots)
    loaded = under_way.load({name: getattr(slots, name) for name in CHANGED}, (*SEARCH, 'found', 'images'))
    if loaded is not None:
      changed, arrays = loaded
      search = load_search(arrays, start_images)
      held, example = search.held, search.example
      entry = refill.Entry(held, held, w[example], labels[example], numbers[example], search.restart)
      slots = self._advance.enter(shared, slots, entry)._replace(**changed)
    else:
      wrong = self.predict(classifier, start_images) != labels
      order = self._order(shared, wrong, w, labels, numbers)
      search = evaluation.begin(start_images, wrong, order, self._batch_size)

    def pause(slots: PyTree, entry: refill.Entry) -> None:
      dog.step_done()
      if under_way.is_due():
        save_search(under_way, slots, entry, search)
      interruption.check()

    def advance(slots: PyTree, entry: refill.Entry, waiting: bool) -> tuple[PyTree, refill.Found]:
      return self._advance(shared, slots, entry, waiting, pause)

    with (
      track(f'evaluate {method}', search.num_restarts * len(labels)) as update,
      Watchdog(f'evaluate {method}', config.watchdog) as dog,
    ):
      broken = evaluation.attack_all(
        advance,
        slots,
        search,
        w,
        labels,
        lambda done, left: update(done, f'{left} of {len(labels)} unbroken'),
        numbers,
      )
    return {'correct': correct, **broken._asdict()}
