"""The stages of a run in order. Each reads what those before it left in the workdir."""

from collections.abc import Callable

from rich.console import Console
from rich.table import Table

from advmix_jax import interruption
from advmix_jax.stages import encode, evaluate, report, train, train_gan
from advmix_jax.stages.experiment import Experiment
from advmix_jax.workdir import read_json

STAGES: dict[str, Callable[[Experiment], None]] = {
  'train_gan': train_gan.run,
  'encode': encode.run,
  'train': train.run,
  'evaluate': evaluate.run,
  'report': report.run,
}


def run(experiment: Experiment, stages: tuple[str, ...]) -> None:
  """Runs the named stages; what is complete is skipped, what is not goes on."""
  for name in stages:
    interruption.check()
    print(f'== {name}', flush=True)
    STAGES[name](experiment)


def print_results(experiment: Experiment) -> None:
  """The table of methods and the path of the report, if they are there."""
  path = experiment.workdir.path
  if (path / 'results.json').exists():
    results = read_json(path / 'results.json')
    Console(width=100).print(results_table(results))
  if (path / 'report' / 'index.html').exists():
    print(f'report: {path / "report" / "index.html"}')


def results_table(results: dict) -> Table:
  """The methods of `results.json` with their accuracies."""
  table = Table(title=f'accuracy on the {results["split"]} images, seed {results["seed"]}')
  for name in ('method', 'clean', 'worst class', 'under perturbation', 'images (clean, perturbed)'):
    table.add_column(name, justify='left' if name == 'method' else 'right')
  for method, r in results['methods'].items():
    table.add_row(
      method,
      f'{r["clean_accuracy"]:.1%}',
      f'{r["worst_class_accuracy"]:.1%}',
      f'{r["perturbed_accuracy"]:.1%}',
      f'{r["num_examples"]}, {r["num_perturbed_examples"]}',
    )
  return table
