"""The stages of a run in order. Each reads what those before it left in the workdir."""

import functools
import importlib

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from advmix_jax import data, hosts, interruption
from advmix_jax.methods import METHODS
from advmix_jax.stages import clock
from advmix_jax.stages.experiment import Experiment
from advmix_jax.types import BadInputError, PyTree
from advmix_jax.workdir import environment, read_json

# Modules beside this one, each with `run(experiment)`.
STAGES = ('train_gan', 'encode', 'train', 'evaluate', 'diagnose', 'report', 'toy')
BY_FIRST = ('diagnose', 'report', 'toy')  # Process 0 does them while the others wait.


def run(experiment: Experiment, stages: tuple[str, ...]) -> None:
  """Runs the named stages; what is complete is skipped, what is not goes on."""
  for name in stages:
    interruption.check()
    print(f'== {name}', flush=True)
    # Only now, for matplotlib and orbax, which not all stages need, take a second.
    stage = importlib.import_module(f'advmix_jax.stages.{name}').run
    with clock.counted(experiment.workdir.path, name):
      if name in BY_FIRST:
        hosts.by_first(functools.partial(stage, experiment))
      else:
        stage(experiment)


def check_stages(names: tuple[str, ...]) -> None:
  """Raises `BadInputError` for a stage that does not exist, or none at all."""
  unknown = [name for name in names if name not in STAGES]
  if unknown or not names:
    found = ', '.join(unknown) or 'none'
    raise BadInputError(f'config.stages: found {found}, expected some of {", ".join(STAGES)}')


def describe(experiment: Experiment) -> None:
  """Prints what would be run: data, networks, devices; stores what was drawn for the data."""
  splits, decoder = experiment.splits, experiment.decoder
  record = experiment.workdir.path / 'data.npz'
  if hosts.is_first() and not record.exists():
    data.save_record(experiment.workdir.path, splits, experiment.config)
  sizes = {'generator': experiment.generator_shapes['params']}
  if experiment.discriminator_model is not None:
    sizes['discriminator'] = experiment.discriminator_shapes
  sizes['classifier'] = experiment.classifier_shapes.params
  versions = environment()
  print(
    f'{experiment.config.data.name}: {len(splits.train)} training, {len(splits.validation)} validation, '
    f'{len(splits.test)} test images ({len(experiment.attacked_positions)} '
    f'{experiment.config.evaluate.split} images attacked), {len(splits.generator)} for the generator, '
    f'{experiment.image_shape}'
  )
  print(', '.join(f'{name} {count_parameters(params):,} parameters' for name, params in sizes.items()))
  print(
    f'mixing level {decoder.mixing_level} of {decoder.num_layers} layers; methods '
    f'{", ".join(experiment.config.train.methods)}; seed {experiment.config.seed}'
  )
  print(
    f'jax {versions["packages"]["jax"]}, {versions["devices"]} {versions["backend"]} device(s) of '
    f'{versions["processes"]} process(es), '
    f'{versions["threads"]} threads; workdir {experiment.workdir.path}',
    flush=True,
  )


def count_parameters(params: PyTree) -> int:
  """Numbers in a tree of arrays or shapes."""
  return sum(int(np.prod(x.shape)) for x in jax.tree.leaves(params))


def print_results(experiment: Experiment) -> None:
  """The table of methods and the path of the report, if they are there."""
  path = experiment.workdir.path
  if (path / 'results.json').exists():
    results = read_json(path / 'results.json')
    if results['methods']:
      Console(width=100).print(results_table(results))
  if (path / 'report' / 'index.html').exists():
    print(f'report: {path / "report" / "index.html"}')


def results_table(results: dict) -> Table:
  """The methods of `results.json` with their accuracies."""
  table = Table(title=f'accuracy on the {results["split"]} images, seed {results["seed"]}')
  for name in ('method', 'clean', 'worst class', 'under perturbation', 'images (clean, perturbed)'):
    table.add_column(name, justify='left' if name == 'method' else 'right')
  for method in sorted(results['methods'], key=list(METHODS).index):
    r = results['methods'][method]
    table.add_row(
      method,
      f'{r["clean_accuracy"]:.1%}',
      f'{r["worst_class_accuracy"]:.1%}',
      f'{r["perturbed_accuracy"]:.1%}',
      f'{r["num_examples"]}, {r["num_perturbed_examples"]}',
    )
  return table
