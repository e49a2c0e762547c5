"""The paper's claims, checked on rows: each holds, fails, is within noise, or was not run.

A claim is a number of comparisons, each "this difference is above 0". One that is off 0 by more than two
standard errors settles itself; the claim fails if one of them fails, and holds if all of them hold.

The standard error of an accuracy has two parts, added in squares: that of the mean over seeds, and that of a
share of so many test images, where the rows say how many: the seeds share these, so more seeds do not shrink
it. Methods are taken as independent; as they share the images too, differences are rather surer than that.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from advmix_jax.paper.published import LESS_BIASED, MORE_BIASED, RED_999, UNBIASED

HOLDS, FAILS, NOISE, NOT_RUN = 'holds', 'fails', 'within noise', 'not run'
STANDARD_ERRORS = 2.0
LOSES = 0.15  # "More than 15 points" of table 2.
KEEPS = 0.01  # AdvMix keeps its accuracy if it loses less; ours, the paper's loses 0.0007.
MIXES = ('randmix', 'advmix')
ONE_SEED = ' (one seed: its spread is not known and left out)'
OTHERS = ('nominal', 'mixup', 'at')


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
    rows: as the record has them; `num_examples` may be missing.
  """

  def __init__(self, rows: Sequence[Mapping[str, Any]]):
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
    if (setting, method) not in self._rows:
      raise Missing
    return self._rows[setting, method]['accuracy_mean']

  def error(self, setting: str, method: str) -> float:
    """Standard error of the mean; see above."""
    row = self._rows[setting, method]
    mean, sd, examples = row['accuracy_mean'], row.get('accuracy_sd'), row.get('num_examples')
    of_seeds = 0.0 if sd is None else sd**2 / len(row['seeds'])
    of_images = mean * (1 - mean) / examples if examples else 0.0
    return math.sqrt(of_seeds + of_images)

  def difference(self, name: str, above: tuple[str, str], below: tuple[str, str]) -> Difference:
    """Between two rows, each (setting, method)."""
    value = self.mean(*above) - self.mean(*below)
    return Difference(name, value, math.hypot(self.error(*above), self.error(*below)))

  def best(self, setting: str, methods: Sequence[str], worst: bool = False) -> str:
    """The method with the highest accuracy, or the lowest."""
    return (min if worst else max)(methods, key=lambda method: self.mean(setting, method))


def mixes_beat_others(table: Table) -> list[Difference]:
  return [
    table.difference(f'{setting}: {mix} − {other}', (setting, mix), (setting, other))
    for setting in table.settings
    for mix in MIXES
    for other in OTHERS
  ]


def gap_closes(table: Table) -> list[Difference]:
  """From the smallest σ to the largest, and no step between neighbours may widen it beyond noise.

  The gap is between the worse of RandMix and AdvMix and the best of the others.
  """
  gaps = []
  for setting in sorted(table.settings, key=lambda name: float(name.split('=')[1])):
    best, worst = table.best(setting, OTHERS), table.best(setting, MIXES, worst=True)
    gaps.append((setting, table.difference('', (setting, worst), (setting, best))))
  if len(gaps) < 2:
    raise Missing

  def narrows(before: tuple[str, Difference], after: tuple[str, Difference]) -> Difference:
    (low, a), (high, b) = before, after
    return Difference(f'gap at {low} − gap at {high}', a.value - b.value, math.hypot(a.error, b.error))

  steps = [narrows(*pair) for pair in itertools.pairwise(gaps)]
  return [narrows(gaps[0], gaps[-1]), *(step for step in steps if step.verdict == FAILS and len(steps) > 1)]


def at_beats_nominal_and_mixup(table: Table) -> list[Difference]:
  return [
    table.difference(f'{setting}: at − {other}', (setting, 'at'), (setting, other))
    for setting in table.settings
    for other in ('nominal', 'mixup')
  ]


def advmix_not_below_randmix(table: Table) -> list[Difference]:
  return [
    table.difference(f'{setting}: advmix − randmix', (setting, 'advmix'), (setting, 'randmix'))
    for setting in (UNBIASED, LESS_BIASED, MORE_BIASED)
  ]


def gap_grows_with_bias(table: Table) -> list[Difference]:
  gaps = advmix_not_below_randmix(table)
  return [
    Difference(f'gap {more} − gap {less}', b.value - a.value, math.hypot(a.error, b.error))
    for (less, a), (more, b) in (
      ((UNBIASED, gaps[0]), (LESS_BIASED, gaps[1])),
      ((LESS_BIASED, gaps[1]), (MORE_BIASED, gaps[2])),
    )
  ]


def randmix_loses(table: Table) -> list[Difference]:
  loss = table.difference('', (UNBIASED, 'randmix'), (RED_999, 'randmix'))
  return [Difference('loss of randmix − 15', loss.value - LOSES, loss.error)]


def advmix_keeps(table: Table) -> list[Difference]:
  loss = table.difference('', (UNBIASED, 'advmix'), (RED_999, 'advmix'))
  return [Difference('1 − loss of advmix', KEEPS - loss.value, loss.error)]


def advmix_best_perturbed(table: Table) -> list[Difference]:
  others = [method for method in table.methods if method != 'advmix']
  if 'nominal' not in others or 'randmix' not in others:
    raise Missing
  return [
    table.difference(f'{setting}: advmix − {other}', (setting, 'advmix'), (setting, other))
    for setting in table.settings
    for other in [table.best(setting, others)]
  ]


def advmix_clean(table: Table) -> list[Difference]:
  return [
    table.difference(f'{setting}: advmix − nominal', (setting, 'advmix'), (setting, 'nominal'))
    for setting in table.settings
  ]


def at_loses_on_celeba(table: Table) -> list[Difference]:
  return [
    table.difference(f'{setting}: nominal − {at}', (setting, 'nominal'), (setting, at))
    for setting in table.settings
    for at in ('at 4/255', 'at 8/255')
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
  Claim("AdvMix's clean accuracy is not below nominal's", 'figure7', advmix_clean),
  Claim('AdvMix is not below RandMix', 'table1', advmix_not_below_randmix),
  Claim("AdvMix's lead grows with the bias of the generator", 'table1', gap_grows_with_bias),
  Claim('With a 99.9 % red generator RandMix loses more than 15 points', 'table2', randmix_loses),
  Claim(
    'With a 99.9 % red generator AdvMix keeps its accuracy (loses less than 1 point)', 'table2', advmix_keeps
  ),
  Claim("AdvMix's clean accuracy is not below nominal's", 'table3', advmix_clean),
  Claim('AT loses clean accuracy', 'table3', at_loses_on_celeba),
  Claim(
    'AdvMix has the highest accuracy under perturbation for every attribute', 'table4', advmix_best_perturbed
  ),
)


def check(result: str, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
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
