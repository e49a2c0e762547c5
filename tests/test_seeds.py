"""Several classifiers in one program: each is the one that its seed alone gives."""

import functools
import json
import pathlib
from typing import Any

import jax
import numpy as np
import optax
import pytest

from advmix_jax import config_check, evaluation
from advmix_jax.methods import METHODS
from advmix_jax.models.classifier import TruncatedVGG
from advmix_jax.stages import pipeline
from advmix_jax.stages.experiment import Experiment
from advmix_jax.training import seeds
from advmix_jax.training.classifier import create_train_state, train_step
from advmix_jax.types import BadInputError, Batch
from advmix_jax.workdir import open_workdir
from configs import smoke
from tests import tiny, watched_run


def run(folder: pathlib.Path, **changes: Any) -> tuple[dict, Experiment]:
  """Trains and measures on the generator and the latents that the folder has; its results."""
  config = watched_run.small_config()
  config.train.num_epochs = 1.0
  config.update_from_flattened_dict({key.replace('__', '.'): value for key, value in changes.items()})
  workdir = open_workdir(folder, config)
  experiment = Experiment(workdir)
  pipeline.run(experiment, ('train_gan', 'encode', 'train', 'evaluate'))
  workdir.close()
  return json.loads((folder / 'results.json').read_text()), experiment


@pytest.mark.slow
def test_each_seed_of_a_run_is_the_run_of_that_seed(tmp_path):
  together, experiment = run(tmp_path / 'together', train__seed=3, train__num_seeds=2)
  for stage in ('gan', 'encode'):
    (tmp_path / 'alone').mkdir(exist_ok=True)
    (tmp_path / 'alone' / stage).symlink_to(tmp_path / 'together' / stage)
  alone, single = run(tmp_path / 'alone', train__seed=4)
  assert together['train_seeds'] == [3, 4] and alone['train_seeds'] == [4]
  for method, measured in together['methods'].items():
    assert experiment.classifiers(method) == (f'{method}/seed-3', f'{method}/seed-4')
    found = experiment.load_classifier(f'{method}/seed-4')
    jax.tree.map(np.testing.assert_array_equal, found, single.load_classifier(method))
    assert measured['per_seed'][1] == alone['methods'][method]
    for key in ('clean_accuracy', 'perturbed_accuracy', 'worst_class_accuracy'):
      values = [seed[key] for seed in measured['per_seed']]
      assert measured[key] == np.mean(values) and measured[f'{key}_sd'] == np.std(values, ddof=1)
    assert measured['num_examples'] == alone['methods'][method]['num_examples']


@pytest.mark.parametrize('one_by_one', [True, False])
def test_seeds_do_not_see_each_other(one_by_one):
  model, tx, shape = TruncatedVGG((2, 3, 4, 3), 3), optax.adam(1e-3), (8, 8, 3)
  states = [create_train_state(jax.random.key(seed), model, shape, tx, ema=True) for seed in range(3)]
  batches = [
    Batch(tiny.uniform(seed, 4, *shape), np.arange(4) % 3, None, np.arange(4, dtype=np.int32))
    for seed in range(3)
  ]
  step = functools.partial(train_step, perturb_fn=METHODS['mixup'](smoke.get_config()), ema_decay=0.5)
  together, metrics = jax.jit(seeds.step_all(step, one_by_one))(
    seeds.stack(states), jax.tree.map(lambda *x: np.stack(x), *batches)
  )
  assert int(together.step) == 1
  alone = [jax.jit(step)(state, batch) for state, batch in zip(states, batches, strict=True)]
  for i, (state, _) in enumerate(alone):
    for name in ('params', 'opt_state', 'ema_params'):
      found, wanted = seeds.of_seed(getattr(together, name), i), getattr(state, name)
      jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-5), found, wanted)
  losses = [float(metrics['loss']) for _, metrics in alone]
  np.testing.assert_allclose(metrics['loss'], np.mean(losses), rtol=1e-5)


def test_numbers_of_one_seed_are_its_own_and_of_several_their_means():
  one = {'clean_accuracy': 0.5, 'per_class_accuracy': [0.25, 0.75], 'worst_class': 0, 'num_examples': 8}
  other = {'clean_accuracy': 0.75, 'per_class_accuracy': [1.0, 0.5], 'worst_class': 1, 'num_examples': 8}
  assert evaluation.over_seeds([one]) is one
  assert evaluation.over_seeds([one, other]) == {
    'clean_accuracy': 0.625,
    'clean_accuracy_sd': pytest.approx(0.125 * 2**0.5),
    'per_class_accuracy': [0.625, 0.625],
    'worst_class': 0,
    'num_examples': 8,
    'per_seed': [one, other],
  }


@pytest.mark.parametrize('key, value', [('num_seeds', 0), ('seed', -2), ('seed', 1.5)])
def test_seeds_that_there_are_not_are_refused(key, value):
  config = watched_run.small_config()
  with config.unlocked(), config.ignore_type():
    config.train[key] = value
  with pytest.raises(BadInputError, match=f'config.train.{key} is {value}, expected a whole number'):
    config_check.check_values(config)
