"""Our numbers: a row for each setting and method of a sweep, beside the paper's.

A row is a dictionary, as it stands in the record:

    method, setting     as `published` names them
    accuracy_mean       over the seeds that are done, in [0, 1]
    accuracy_sd         of the sample; None of one seed
    seeds               list of them
    accuracies          of each seed
    planned             seeds there will be
    num_examples        test images behind each accuracy; the same ones for every seed
    paper               the paper's accuracy, in [0, 1]; None if it has none
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from advmix_jax.methods import METHODS
from advmix_jax.paper.published import COUNTED, Result
from advmix_jax.sweep.collect import mean_and_sd, seeds_of
from advmix_jax.sweep.plan import Plan
from advmix_jax.sweep.state import DONE, Seen
from advmix_jax.workdir import read_json

Row = dict[str, Any]
TOY_PANELS = ('data', 'advmix', 'mixup')


def make_rows(out: Path, plan: Plan, seen: Mapping[str, Seen], result: Result) -> list[Row]:
  """Rows in the order of the plan's settings, then of the methods; those without a finished run are left out.

  Args:
    out: folder of the sweep.
    plan: its tasks.
    seen: how these are.
    result: which measure, and the paper's numbers.
  """
  values: dict[tuple[str, str], list[tuple[int, float]]] = {}
  planned: dict[tuple[str, str], list[int]] = {}
  counts: dict[tuple[str, str], int] = {}
  for task in plan.members:
    config = plan.configs[task.name]
    setting, seeds = result.setting_of(config), seeds_of(config)
    for method in methods_of(config):
      place = setting, result.method_of(config, method)
      planned.setdefault(place, []).extend(seeds)
      if seen[task.name].state == DONE:
        found = measured(read_json(out / task.folder / 'results.json'), method)
        each = found.get('per_seed', [found])
        pairs = zip(seeds, (float(one[result.measure]) for one in each), strict=True)
        values.setdefault(place, []).extend(pairs)
        counts[place] = found[COUNTED[result.measure]]
  settings = list(dict.fromkeys(setting for setting, _ in planned))
  order = [*TOY_PANELS[:1], *METHODS]
  places = sorted(values, key=lambda at: (settings.index(at[0]), order.index(at[1].split()[0]), at[1]))
  return [
    make_row(*place, values[place], planned[place], counts[place], result.numbers.get(place))
    for place in places
  ]


def methods_of(config: Mapping[str, Any]) -> tuple[str, ...]:
  if 'toy' in config['stages']:
    return TOY_PANELS
  return tuple(config['train']['methods'])


def measured(results: Mapping[str, Any], method: str) -> Mapping[str, Any]:
  """What `results.json` has of a method."""
  return results['toy'][method] if 'toy' in results else results['methods'][method]


def make_row(
  setting: str,
  method: str,
  values: list[tuple[int, float]],
  planned: list[int],
  num_examples: int,
  paper: float | None,
) -> Row:
  """The row of these accuracies, each with its seed."""
  accuracies = [value for _, value in values]
  mean, sd = mean_and_sd(tuple(accuracies))
  return {
    'setting': setting,
    'method': method,
    'accuracy_mean': mean,
    'accuracy_sd': sd if len(values) > 1 else None,
    'seeds': [seed for seed, _ in values],
    'accuracies': accuracies,
    'planned': planned,
    'num_examples': num_examples,
    'paper': paper,
  }
