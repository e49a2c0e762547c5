"""Prints the mean and standard deviation over runs that differ in their seed, as a Markdown table.

python -m launch.summarise runs/digits-0 runs/digits-1 runs/digits-2
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from advmix_jax.config_keys import fixed_keys
from advmix_jax.methods import METHODS
from advmix_jax.types import BadInputError, RunError
from advmix_jax.workdir import read_config, read_json
from launch import common

COLUMNS = {
  'clean': 'clean_accuracy',
  'worst class': 'worst_class_accuracy',
  'under perturbation': 'perturbed_accuracy',
}


def read_run(path: Path) -> tuple[dict, dict]:
  """Configuration without the seed, and results, of one workdir."""
  for name in ('config.json', 'results.json'):
    if not (path / name).exists():
      raise BadInputError(f'{path / name} is missing, expected the workdir of a finished run')
  config = fixed_keys(read_config(path))
  for key in ('seed', 'train.seed'):
    config.pop(key, None)
  try:
    results = read_json(path / 'results.json')
  except RunError as error:
    raise BadInputError(str(error)) from error
  if not isinstance(results, dict) or not results.get('methods'):
    raise BadInputError(f'{path / "results.json"} has no methods, expected what the stage evaluate writes')
  return config, results


def summary(paths: list[Path]) -> str:
  """The table. Raises `BadInputError` if the runs differ in more than their seed."""
  configs, results = zip(*[read_run(path) for path in paths], strict=True)
  for path, config in zip(paths, configs, strict=True):
    differing = sorted(
      key for key in config.keys() | configs[0].keys() if config.get(key) != configs[0].get(key)
    )
    if differing:
      raise BadInputError(
        f'{path} differs from {paths[0]} in {", ".join(differing)}, expected the seed alone'
      )
  seeds = ', '.join(str(seed) for r in results for seed in r.get('train_seeds', [r['seed']]))
  methods = sorted(results[0]['methods'], key=list(METHODS).index)
  first = results[0]['methods'][methods[0]]
  lines = [
    f'Seeds {seeds}; {first["num_train"]} training images, {first["num_examples"]} test images, '
    f'{first["num_perturbed_examples"]} of them attacked. Accuracy in %, mean ± standard deviation.',
    '',
    '| method | ' + ' | '.join(COLUMNS) + ' |',
    '|---|' + '---:|' * len(COLUMNS),
  ]
  for method in methods:
    cells = []
    for key in COLUMNS.values():
      found = [r['methods'][method] for r in results]
      values = 100 * np.array([seed[key] for one in found for seed in one.get('per_seed', [one])])
      spread = f' ± {values.std(ddof=1):.1f}' if len(values) > 1 else ''
      cells.append(f'{values.mean():.1f}{spread}')
    lines.append(f'| {method} | ' + ' | '.join(cells) + ' |')
  return '\n'.join(lines)


@common.exit_status
def main(arguments: list[str] | None = None) -> None:
  parser = argparse.ArgumentParser(prog='python -m launch.summarise', description=__doc__)
  parser.add_argument('workdirs', nargs='+', type=Path)
  print(summary(parser.parse_args(arguments).workdirs))


if __name__ == '__main__':
  common.end_when_asked()
  sys.exit(main())
