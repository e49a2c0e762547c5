"""The paper's claims, checked on rows: each holds, fails, is within noise, or was not run.

A claim is a number of comparisons, each "this difference is above 0". One that is off 0 by more than two
standard errors settles itself; the claim fails if one of them fails, and holds if all of them hold.

The standard error of a difference has two parts, added in squares. One is that of the mean over seeds: of the
difference within each seed where the rows have the same seeds, as methods then share data and generator. The
other is that of the mean over test images, which the seeds share, so that more seeds alone do not shrink it:
of the difference on each image where the rows know their outcomes; else, where they say of how many images
they are, rows are taken as independent, and the error comes out too large. What differs by seed and image
alike is in both parts, which makes the error a little too large.
"""

import itertools
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from advmix_jax.paper.published import LESS_BIASED, MORE_BIASED, RED_999, SMILING, UNBIASED
from advmix_jax.paper.rows import unpacked

HOLDS, FAILS, NOISE, NOT_RUN = 'holds', 'fails', 'within noise', 'not run'
STANDARD_ERRORS = 2.0
LOSES = 0.15  # "More than 15 points" of table 2.
KEEPS = 0.01  # AdvMix keeps its accuracy if it loses less; ours, the paper's loses 0.0007.
MIXES = ('randmix', 'advmix')
ONE_SEED = ' (one seed: its spread is not known and left out)'
OTHERS = ('nominal', 'mixup', 'at')

Row = Mapping[str, Any]
Place = tuple[str, str]  # Setting and method.


class Missing(Exception):
  """A row that a claim is about is not there."""


class Difference(NamedTuple):
  """Something that a claim says is above 0.

  Attributes:
    name: in words.
    value: a difference of accuracies in [0, 1].
    error: its standard error.
  """

  name: str
  value: float
  error: float

  @property
  def verdict(self) -> str:
    if abs(self.value) <= STANDARD_ERRORS * self.error or self.value == 0:
      return NOISE
    return HOLDS if self.value > 0 else FAILS

  def __str__(self) -> str:
    return f'{self.name} = {100 * self.value:+.1f} ± {100 * self.error:.1f}'


class Table:
  """Rows of one result by setting and method.

  Args:
    rows: as the record has them; `num_examples`, `accuracies` and `outcomes` may be missing.
  """

  def __init__(self, rows: Sequence[Row]):
    self._rows = {(row['setting'], row['method']): row for row in rows}

  @property
  def settings(self) -> list[str]:
    """In their order. Raises `Missing` if there are none."""
    found = list(dict.fromkeys(setting for setting, _ in self._rows))
    if not found:
      raise Missing
    return found

  @property
  def methods(self) -> list[str]:
    return list(dict.fromkeys(method for _, method in self._rows))

  @property
  def has_one_seed(self) -> bool:
    """Whether the spread of some row is not known."""
    return any(len(row['seeds']) < 2 for row in self._rows.values())

  def mean(self, setting: str, method: str) -> float:
    """Raises `Missing`."""
    return self._row((setting, method))['accuracy_mean']

  def difference(
    self, name: str, above: Sequence[Place], below: Sequence[Place], shift: float = 0.0
  ) -> Difference:
    """The sum of the accuracies `above`, less those `below`, plus `shift`. Raises `Missing`."""
    rows = [(1, self._row(place)) for place in above] + [(-1, self._row(place)) for place in below]
    value = sum(sign * row['accuracy_mean'] for sign, row in rows) + shift
    return Difference(name, value, math.sqrt(variance_of_seeds(rows) + variance_of_images(rows)))

  def _row(self, place: Place) -> Row:
    if place not in self._rows:
      raise Missing
    return self._rows[place]

  def best(self, setting: str, methods: Sequence[str], worst: bool = False) -> str:
    """The method with the highest accuracy, or the lowest."""
    return (min if worst else max)(methods, key=lambda method: self.mean(setting, method))


def variance_of_seeds(rows: Sequence[tuple[int, Row]]) -> float:
  """Of the mean over seeds of the sum of rows, each with its sign."""
  seeds = rows[0][1]['seeds']
  if len(seeds) > 1 and all(row['seeds'] == seeds and 'accuracies' in row for _, row in rows):
    signed = [[sign * accuracy for accuracy in row['accuracies']] for sign, row in rows]
    return statistics.variance(map(sum, zip(*signed, strict=True))) / len(seeds)
  return sum((row.get('accuracy_sd') or 0.0) ** 2 / len(row['seeds']) for _, row in rows)


def variance_of_images(rows: Sequence[tuple[int, Row]]) -> float:
  """Of the mean over test images of the sum of rows, each with its sign."""
  count = rows[0][1].get('num_examples') or 0
  if all(row.get('num_examples') == count and all(row.get('outcomes', [''])) for _, row in rows):
    of_rows = [sign * np.mean([unpacked(o, count) for o in row['outcomes']], axis=0) for sign, row in rows]
    return float(np.sum(of_rows, axis=0).var()) / max(count - 1, 1)
  shares = [(row['accuracy_mean'], row.get('num_examples')) for _, row in rows]
  return sum(mean * (1 - mean) / examples for mean, examples in shares if examples)


def mixes_beat_others(table: Table) -> list[Difference]:
  return [
    table.difference(f'{setting}: {mix} − {other}', [(setting, mix)], [(setting, other)])
    for setting in table.settings
    for mix in MIXES
    for other in OTHERS
  ]


def gap_closes(table: Table) -> list[Difference]:
  """From the smallest σ to the largest, and no step between neighbours may widen it beyond noise.

  The gap is between the worse of RandMix and AdvMix and the best of the others.
  """
  settings = sorted(table.settings, key=lambda name: float(name.split('=')[1]))
  if len(settings) < 2:
    raise Missing

  def narrows(low: str, high: str) -> Difference:
    (low_mix, low_other), (high_mix, high_other) = (
      ((setting, table.best(setting, MIXES, worst=True)), (setting, table.best(setting, OTHERS)))
      for setting in (low, high)
    )
    return table.difference(f'gap at {low} − gap at {high}', [low_mix, high_other], [low_other, high_mix])

  steps = [narrows(*pair) for pair in itertools.pairwise(settings)]
  whole = narrows(settings[0], settings[-1])
  return [whole, *(step for step in steps if step.verdict == FAILS and len(steps) > 1)]


def at_beats_nominal_and_mixup(table: Table) -> list[Difference]:
  return [
    table.difference(f'{setting}: at − {other}', [(setting, 'at')], [(setting, other)])
    for setting in table.settings
    for other in ('nominal', 'mixup')
  ]


def advmix_not_below_randmix(table: Table) -> list[Difference]:
  return [
    table.difference(f'{setting}: advmix − randmix', [(setting, 'advmix')], [(setting, 'randmix')])
    for setting in (UNBIASED, LESS_BIASED, MORE_BIASED)
  ]


def gap_grows_with_bias(table: Table) -> list[Difference]:
  return [
    table.difference(
      f'gap {more} − gap {less}',
      [(more, 'advmix'), (less, 'randmix')],
      [(more, 'randmix'), (less, 'advmix')],
    )
    for less, more in itertools.pairwise((UNBIASED, LESS_BIASED, MORE_BIASED))
  ]


def randmix_loses(table: Table) -> list[Difference]:
  """More than `LOSES`."""
  above, below = [(UNBIASED, 'randmix')], [(RED_999, 'randmix')]
  return [table.difference('loss of randmix − 15', above, below, -LOSES)]


def advmix_keeps(table: Table) -> list[Difference]:
  """All but `KEEPS`."""
  above, below = [(RED_999, 'advmix')], [(UNBIASED, 'advmix')]
  return [table.difference('1 − loss of advmix', above, below, KEEPS)]


def advmix_best(table: Table, *but_for: Place) -> list[Difference]:
  others = [method for method in table.methods if method != 'advmix']
  if 'nominal' not in others or 'randmix' not in others:
    raise Missing
  return [
    table.difference(f'{setting}: advmix − {other}', [(setting, 'advmix')], [(setting, other)])
    for setting in table.settings
    for other in others
    if (setting, other) not in but_for
  ]


def advmix_best_clean(table: Table) -> list[Difference]:
  return advmix_best(table, ('attribute 3', 'cutmix'))


def advmix_clean(table: Table) -> list[Difference]:
  return [
    table.difference(f'{setting}: advmix − nominal', [(setting, 'advmix')], [(setting, 'nominal')])
    for setting in table.settings
  ]


def at_loses_on_celeba(table: Table) -> list[Difference]:
  return [
    table.difference(f'{setting}: nominal − {at}', [(setting, 'nominal')], [(setting, at)])
    for setting in table.settings
    for at in ('at 4/255', 'at 8/255')
    if (setting, at) != (SMILING, 'at 4/255')
  ]


class Claim(NamedTuple):
  """A sentence of the paper.

  Attributes:
    text: what it says, in our words.
    result: the figure or table that it is shown beside.
    compare: the differences that it says are above 0; raises `Missing`.
  """

  text: str
  result: str
  compare: Callable[[Table], list[Difference]]


CLAIMS = (
  Claim('RandMix and AdvMix are above nominal, mixup and AT at every σ', 'figure7', mixes_beat_others),
  Claim('The gap between them and the others closes as σ grows', 'figure7', gap_closes),
  Claim('AT is above nominal and mixup', 'figure7', at_beats_nominal_and_mixup),
  Claim('AdvMix is not below RandMix', 'table1', advmix_not_below_randmix),
  Claim("AdvMix's lead grows with the bias of the generator", 'table1', gap_grows_with_bias),
  Claim('With a 99.9 % red generator RandMix loses more than 15 points', 'table2', randmix_loses),
  Claim(
    'With a 99.9 % red generator AdvMix keeps its accuracy (loses less than 1 point)', 'table2', advmix_keeps
  ),
  Claim("AdvMix's clean accuracy is not below nominal's", 'table3', advmix_clean),
  Claim('AdvMix has the best clean accuracy (but for CutMix on attribute 3)', 'table3', advmix_best_clean),
  Claim('AT loses clean accuracy (but for 4/255 on Smiling)', 'table3', at_loses_on_celeba),
  Claim('AdvMix has the highest accuracy under perturbation for every attribute', 'table4', advmix_best),
)


def check(result: str, rows: Sequence[Row]) -> list[dict[str, str]]:
  """The claims about a result: `claim`, `verdict`, and `numbers` in points with their standard errors."""
  table = Table(rows)
  return [judge(claim, table) for claim in CLAIMS if claim.result == result]


def judge(claim: Claim, table: Table) -> dict[str, str]:
  try:
    found = claim.compare(table)
  except Missing:
    return {'claim': claim.text, 'verdict': NOT_RUN, 'numbers': ''}
  verdicts = [difference.verdict for difference in found]
  verdict = FAILS if FAILS in verdicts else NOISE if NOISE in verdicts else HOLDS
  numbers = '; '.join(map(str, shown(found, verdict)))
  return {'claim': claim.text, 'verdict': verdict, 'numbers': numbers + ONE_SEED * table.has_one_seed}


def shown(found: list[Difference], verdict: str) -> list[Difference]:
  """The differences that decide: those with the verdict of the claim; of a claim that holds the smallest."""
  if verdict == HOLDS:
    return [min(found, key=lambda difference: difference.value)] if len(found) > 3 else found
  return [difference for difference in found if difference.verdict == verdict]
