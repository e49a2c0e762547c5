"""Our numbers: a row for each setting and method of a sweep, beside the paper's.

A row is a dictionary, as it stands in the record:

    method, setting     as `published` names them
    accuracy_mean       over the seeds that are done, in [0, 1]
    accuracy_sd         of the sample; None of one seed
    seeds               list of them
    accuracies          of each seed
    outcomes            of each seed, for each test image whether it is read right, as `packed`
    one_class           of each seed, whether its classifier gives all test images the same class
    planned             seeds there will be
    num_examples        test images behind each accuracy; the same ones for every seed
    paper               the paper's accuracy, in [0, 1]; None if it has none
"""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from advmix_jax.config_keys import classifier_seeds
from advmix_jax.methods import METHODS
from advmix_jax.paper.published import COUNTED, Result
from advmix_jax.sweep.collect import mean_and_sd
from advmix_jax.sweep.plan import Plan
from advmix_jax.sweep.state import DONE, Seen
from advmix_jax.workdir import classifier_names, read_arrays, read_json

Row = dict[str, Any]
TOY_PANELS = ('data', 'advmix', 'mixup')
READ_RIGHT = {'clean_accuracy': ('correct', True), 'perturbed_accuracy': ('broken', False)}
# By measure: the array that evaluate keeps of a classifier, and its value for an image that is read right.
KEYS: dict[str, Any] = {'setting': str, 'method': str, 'seeds': list, 'planned': list, 'num_examples': int}
KEYS |= {'accuracies': list}
KEYS |= {'accuracy_mean': float, 'accuracy_sd': float | None, 'paper': float | None}


class Measured(NamedTuple):
  """One classifier.

  Attributes:
    seed: of the run, or of the classifier alone.
    accuracy: in [0, 1].
    outcomes: `packed`; '' = not known.
    one_class: as `gives_one_class`.
  """

  seed: int
  accuracy: float
  outcomes: str
  one_class: bool


def make_rows(out: Path, plan: Plan, seen: Mapping[str, Seen], result: Result) -> list[Row]:
  """Rows in the order of the plan's settings, then of the methods; those without a finished run are left out.

  Args:
    out: folder of the sweep.
    plan: its tasks.
    seen: how these are.
    result: which measure, and the paper's numbers.
  """
  values: dict[tuple[str, str], list[Measured]] = {}
  planned: dict[tuple[str, str], list[int]] = {}
  counts: dict[tuple[str, str], int] = {}
  for task in plan.members:
    config = plan.configs[task.name]
    setting, seeds = result.setting_of(config), tuple(classifier_seeds(config))
    for method in methods_of(config):
      place = setting, result.method_of(config, method)
      planned.setdefault(place, []).extend(seeds)
      if seen[task.name].state == DONE:
        found = results_of(out / task.folder, method)
        values.setdefault(place, []).extend(
          Measured(
            seed,
            float(one[result.measure]),
            outcomes(out / task.folder, name, result.measure),
            gives_one_class(one),
          )
          for seed, one, name in zip(
            seeds, found.get('per_seed', [found]), classifier_names(method, seeds), strict=True
          )
        )
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


def results_of(folder: Path, method: str) -> Mapping[str, Any]:
  """What a run's `results.json` has of a method."""
  results = read_json(folder / 'results.json')
  return results['toy'][method] if 'toy' in results else results['methods'][method]


def outcomes(folder: Path, name: str, measure: str) -> str:
  """`packed` for a run's classifier; '' where it was not kept: of Figure 4, or by a version of before."""
  file = folder / 'evaluate' / f'{name}.npz'
  kept = read_arrays(file) if file.exists() else {}
  key, right = READ_RIGHT.get(measure, ('', True))
  return packed(kept[key] == right) if key in kept else ''


def gives_one_class(found: Mapping[str, Any]) -> bool:
  """Whether a classifier reads all of one class right and nothing else; Figure 4 does not say."""
  by_class = found.get('per_class_accuracy', [])
  return len(by_class) > 1 and sorted(by_class) == [0.0] * (len(by_class) - 1) + [1.0]


def packed(read_right: np.ndarray) -> str:
  """Bools `[N]`, eight of them as two hexadecimal digits."""
  return np.packbits(read_right).tobytes().hex()


def unpacked(text: str, count: int) -> np.ndarray:
  """`[count]` uint8, 0 or 1, of which `packed` made the text."""
  return np.unpackbits(np.frombuffer(bytes.fromhex(text), np.uint8), count=count)


def misfit(found: Mapping[str, Any], kinds: Mapping[str, Any]) -> str:
  """The first key whose value is missing or of another type; '' if there is none."""
  return next(
    (f'{key} is {found.get(key)!r}' for key in kinds if not isinstance(found.get(key), kinds[key])), ''
  )


def fault_of(row: Any) -> str:
  """What keeps something from being a row; '' if nothing does. The last two once were not kept."""
  if not isinstance(row, dict):
    return f'found {type(row).__name__}'
  if fault := misfit(row, KEYS):
    return fault
  seeds, count = len(row['seeds']), row['num_examples']
  for key in ('accuracies', 'outcomes', 'one_class'):
    kept = row.get(key, row['seeds'])
    if not isinstance(kept, list) or len(kept) != seeds:
      return f'{key} is {kept!r} for {seeds} seeds'
  digits = 2 * math.ceil(count / 8)
  for text in map(str, row.get('outcomes', [])):
    if not re.fullmatch(f'([0-9a-f]{{{digits}}})?', text):
      return f'outcomes has {text[:20]!r}, not {digits} hexadecimal digits for {count} images'
  return ''


def make_row(
  setting: str,
  method: str,
  values: Sequence[Measured],
  planned: list[int],
  num_examples: int,
  paper: float | None,
) -> Row:
  """The row of these classifiers."""
  accuracies = [one.accuracy for one in values]
  mean, sd = mean_and_sd(tuple(accuracies))
  return {
    'setting': setting,
    'method': method,
    'accuracy_mean': mean,
    'accuracy_sd': sd if len(values) > 1 else None,
    'seeds': [one.seed for one in values],
    'accuracies': accuracies,
    'outcomes': [one.outcomes for one in values],
    'one_class': [one.one_class for one in values],
    'planned': planned,
    'num_examples': num_examples,
    'paper': paper,
  }
