"""Each claim of the paper on made-up rows: it holds, fails, is within noise, or was not run."""

import statistics

import numpy as np
import pytest

from advmix_jax.paper import claims
from advmix_jax.paper.published import RESULTS
from advmix_jax.paper.rows import packed

SIGMAS = ('σ = 0', 'σ = 0.2', 'σ = 0.4')
FIGURE_7 = {
  'nominal': (0.30, 0.60, 0.90),
  'mixup': (0.35, 0.62, 0.90),
  'at': (0.45, 0.70, 0.93),
  'randmix': (0.97, 0.97, 0.98),
  'advmix': (0.98, 0.98, 0.98),
}
COLUMNS = ('unbiased', 'less biased', 'more biased')
TABLE_1 = {'randmix': (0.97, 0.94, 0.88), 'advmix': (0.98, 0.97, 0.96)}
REDS = ('unbiased', '99 % red', '99.9 % red')
TABLE_2 = {'randmix': (0.88, 0.83, 0.53), 'advmix': (0.85, 0.85, 0.85)}
FACES = ('Smiling', 'Wearing_Hat')
TABLE_3 = {
  'nominal': (0.90, 0.96),
  'randmix': (0.88, 0.95),
  'at 4/255': (0.85, 0.94),
  'at 8/255': (0.80, 0.90),
  'advmix': (0.92, 0.98),
}
TABLE_4 = {'nominal': (0.2, 0.4), 'at 8/255': (0.5, 0.4), 'randmix': (0.3, 0.4), 'advmix': (0.7, 0.8)}
TEXTS = {
  'above': 'RandMix and AdvMix are above nominal, mixup and AT at every σ',
  'closes': 'The gap between them and the others closes as σ grows',
  'at': 'AT is above nominal and mixup',
  'clean': "AdvMix's clean accuracy is not below nominal's",
  'randmix': 'AdvMix is not below RandMix',
  'lead': "AdvMix's lead grows with the bias of the generator",
  'loses': 'With a 99.9 % red generator RandMix loses more than 15 points',
  'keeps': 'With a 99.9 % red generator AdvMix keeps its accuracy (loses less than 1 point)',
  'best': 'AdvMix has the best clean accuracy (but for CutMix on attribute 3)',
  'at loses': 'AT loses clean accuracy (but for 4/255 on Smiling)',
  'highest': 'AdvMix has the highest accuracy under perturbation for every attribute',
}


def rows(settings, means, sd=0.003, seeds=3, **more):
  return [
    {
      'setting': setting,
      'method': method,
      'accuracy_mean': value,
      'accuracy_sd': sd,
      'seeds': [*range(seeds)],
    }
    | more
    for method, values in means.items()
    for setting, value in zip(settings, values, strict=True)
  ]


def verdict(result, claim, found):
  (judged,) = [one for one in claims.check(result, found) if one['claim'] == TEXTS[claim]]
  return judged['verdict'], judged['numbers']


CASES = [
  # Result, claim, settings, rows for which it holds; what makes it fail; what makes it noise.
  ('figure7', 'above', SIGMAS, FIGURE_7, {'at': (0.45, 0.99, 0.93)}, {'nominal': (0.30, 0.60, 0.979)}),
  ('figure7', 'closes', SIGMAS, FIGURE_7, {'at': (0.91, 0.70, 0.80)}, {'at': (0.93, 0.93, 0.94)}),
  ('figure7', 'at', SIGMAS, FIGURE_7, {'mixup': (0.50, 0.62, 0.90)}, {'mixup': (0.448, 0.62, 0.90)}),
  ('table1', 'randmix', COLUMNS, TABLE_1, {'advmix': (0.96, 0.97, 0.96)}, {'advmix': (0.971, 0.97, 0.96)}),
  ('table1', 'lead', COLUMNS, TABLE_1, {'advmix': (0.98, 0.99, 0.90)}, {'advmix': (0.98, 0.951, 0.96)}),
  ('table2', 'loses', REDS, TABLE_2, {'randmix': (0.88, 0.83, 0.80)}, {'randmix': (0.88, 0.83, 0.731)}),
  ('table2', 'keeps', REDS, TABLE_2, {'advmix': (0.85, 0.85, 0.60)}, {'advmix': (0.85, 0.85, 0.841)}),
  ('table3', 'clean', FACES, TABLE_3, {'advmix': (0.88, 0.98)}, {'advmix': (0.899, 0.98)}),
  ('table3', 'best', FACES, TABLE_3, {'randmix': (0.88, 0.99)}, {'randmix': (0.88, 0.979)}),
  ('table3', 'at loses', FACES, TABLE_3, {'at 4/255': (0.85, 0.97)}, {'at 4/255': (0.85, 0.961)}),
  ('table4', 'highest', FACES, TABLE_4, {'randmix': (0.3, 0.9)}, {'at 8/255': (0.699, 0.4)}),
]


@pytest.mark.parametrize('result, claim, settings, holding, failing, noisy', CASES)
def test_a_claim_is_settled_by_its_rows(result, claim, settings, holding, failing, noisy):
  assert verdict(result, claim, rows(settings, holding))[0] == 'holds'
  assert verdict(result, claim, rows(settings, holding | failing))[0] == 'fails'
  assert verdict(result, claim, rows(settings, holding | noisy))[0] == 'within noise'


@pytest.mark.parametrize('result, claim, settings, holding, failing, noisy', CASES)
def test_a_claim_without_its_rows_was_not_run(result, claim, settings, holding, failing, noisy):
  assert verdict(result, claim, []) == ('not run', '')
  method = next(iter(failing))
  without = {name: values for name, values in holding.items() if name != method}
  if claim not in ('best', 'highest'):
    assert verdict(result, claim, rows(settings, without)) == ('not run', '')


def test_every_claim_is_tried_and_belongs_to_a_result():
  assert {(claim.result, claim.text) for claim in claims.CLAIMS} == {
    (case[0], TEXTS[case[1]]) for case in CASES
  }


@pytest.mark.parametrize('name', ['table1', 'table2', 'table3', 'table4'])
def test_each_claim_holds_for_the_papers_own_numbers(name):
  numbers = RESULTS[name].numbers.items()
  found = [row for (setting, method), value in numbers for row in rows([setting], {method: (value,)}, sd=0.0)]
  judged = {one['claim']: one['verdict'] for one in claims.check(name, found)}
  assert judged and set(judged.values()) == {'holds'}


def test_what_the_paper_excepts_is_excepted():
  above = {'at 4/255': (0.95, 0.90), 'nominal': (0.90, 0.95), 'at 8/255': (0.8, 0.8)}
  assert verdict('table3', 'at loses', rows(('Smiling', 'attribute 3'), above))[0] == 'holds'
  assert verdict('table3', 'at loses', rows(('attribute 3', 'Smiling'), above))[0] == 'fails'


def test_a_noisy_method_does_not_hide_one_that_is_clearly_above():
  found = rows(FACES, {'advmix': (0.7, 0.4), 'nominal': (0.2, 0.2), 'randmix': (0.3, 0.5)})
  found += rows(FACES, {'at 8/255': (0.5, 0.55)}, sd=0.3)
  assert verdict('table4', 'highest', found)[0] == 'fails'


def test_the_highest_of_a_table_without_the_usual_methods_is_not_run():
  assert (
    verdict('table4', 'highest', rows(FACES, {'advmix': (0.7, 0.8), 'nominal': (0.2, 0.4)}))[0] == 'not run'
  )


def test_a_gap_that_closes_in_the_end_but_widens_on_the_way_fails():
  wider = FIGURE_7 | {'at': (0.45, 0.40, 0.93), 'mixup': (0.35, 0.30, 0.90), 'nominal': (0.30, 0.30, 0.90)}
  found, numbers = verdict('figure7', 'closes', rows(SIGMAS, wider))
  assert found == 'fails' and 'gap at σ = 0 − gap at σ = 0.2' in numbers


def test_the_standard_error_is_that_of_the_mean_and_of_the_test_images():
  """0.06 above, sd 0.03 of nine seeds each: sqrt(2) of 0.01; 100 images of which half are right: 0.05."""
  pair = {'randmix': (0.5, 0.5, 0.5), 'advmix': (0.56, 0.56, 0.56)}
  found = rows(COLUMNS, pair, sd=0.03, seeds=9)
  difference = lead(found)
  assert difference.value == pytest.approx(0.06) and difference.error == pytest.approx(0.01 * 2**0.5)
  assert verdict('table1', 'randmix', found)[0] == 'holds'
  few = rows(COLUMNS, pair, sd=0.03, seeds=9, num_examples=100)
  of_images = (0.5 * 0.5 + 0.56 * 0.44) / 100
  assert lead(few).error == pytest.approx((2 * 0.01**2 + of_images) ** 0.5)
  assert verdict('table1', 'randmix', few)[0] == 'within noise'


def lead(found):
  return claims.Table(found).difference('', [('unbiased', 'advmix')], [('unbiased', 'randmix')])


def test_a_difference_is_taken_within_each_seed():
  """0.02 in each of three seeds, however far these are apart."""
  randmix, advmix = {'accuracies': [0.5, 0.7, 0.9]}, {'accuracies': [0.52, 0.72, 0.92]}
  found = [
    *rows(COLUMNS, {'randmix': (0.7,) * 3}, sd=0.2, **randmix),
    *rows(COLUMNS, {'advmix': (0.72,) * 3}, sd=0.2, **advmix),
  ]
  assert lead(found).value == pytest.approx(0.02) and lead(found).error == pytest.approx(0.0, abs=1e-9)
  found[0] |= {'accuracies': [0.5, 0.69, 0.91]}  # 0.02, 0.03 and 0.01.
  assert lead(found).error == pytest.approx(0.01 / 3**0.5)


def test_rows_of_other_seeds_are_taken_as_independent():
  found = [
    *rows(COLUMNS, {'randmix': (0.7,) * 3}, sd=0.03, seeds=3, accuracies=[0.67, 0.7, 0.73]),
    *rows(COLUMNS, {'advmix': (0.7,) * 3}, sd=0.04, seeds=2, accuracies=[0.66, 0.74]),
  ]
  assert lead(found).error == pytest.approx((0.03**2 / 3 + 0.04**2 / 2) ** 0.5)


def test_a_difference_is_taken_on_each_image():
  """Of eight, AdvMix is better on one for both seeds, and on two for one of them."""
  seeds = {'randmix': ['11110000', '11100001'], 'advmix': ['11111100', '11111001']}
  found = [
    *rows(COLUMNS, {'randmix': (0.5,) * 3}, **of_images(seeds['randmix'])),
    *rows(COLUMNS, {'advmix': (0.75,) * 3}, **of_images(seeds['advmix'])),
  ]
  difference = [0, 0, 0, 0.5, 1, 0.5, 0, 0]
  assert lead(found).error == pytest.approx((statistics.variance(difference) / 8) ** 0.5)
  found[0] |= {'outcomes': [found[0]['outcomes'][0], '']}  # One is not known: taken as independent.
  assert lead(found).error == pytest.approx(((0.5 * 0.5 + 0.75 * 0.25) / 8) ** 0.5)


def of_images(seeds):
  outcomes = [packed(np.array([one == '1' for one in seed])) for seed in seeds]
  accuracies = [seed.count('1') / 8 for seed in seeds]
  return {'seeds': len(seeds), 'sd': 0.0, 'num_examples': 8, 'accuracies': accuracies, 'outcomes': outcomes}


def test_the_gap_of_gaps_is_taken_within_each_seed():
  """In every seed AdvMix leads by 0.1 more where the generator is more biased."""
  seeds = {'less biased': [0.9, 0.7], 'more biased': [0.5, 0.8], 'unbiased': [0.9, 0.8]}
  leads = {'unbiased': 0.0, 'less biased': 0.1, 'more biased': 0.2}
  found = [
    row
    for setting, values in seeds.items()
    for method, more in (('randmix', 0.0), ('advmix', leads[setting]))
    for accuracies in [[value + more for value in values]]
    for row in rows([setting], {method: (sum(accuracies) / 2,)}, sd=0.1, seeds=2, accuracies=accuracies)
  ]
  assert verdict('table1', 'lead', found) == (
    'holds',
    'gap less biased − gap unbiased = +10.0 ± 0.0; gap more biased − gap less biased = +10.0 ± 0.0',
  )


def test_two_standard_errors_are_the_border():
  assert claims.Difference('', 0.0201, 0.01).verdict == 'holds'
  assert claims.Difference('', 0.02, 0.01).verdict == 'within noise'
  assert claims.Difference('', -0.02, 0.01).verdict == 'within noise'
  assert claims.Difference('', -0.0201, 0.01).verdict == 'fails'
  assert claims.Difference('', 0.0, 0.0).verdict == 'within noise'


def test_numbers_are_those_that_decide():
  _, numbers = verdict('table2', 'loses', rows(REDS, TABLE_2))
  assert numbers == 'loss of randmix − 15 = +20.0 ± 0.2'
  _, numbers = verdict('figure7', 'above', rows(SIGMAS, FIGURE_7))
  assert numbers.startswith('σ = 0.4: randmix − at = +5.0')  # The smallest.


def test_one_seed_has_no_spread_and_that_is_said():
  single = rows(REDS, TABLE_2, sd=None, seeds=1, num_examples=10_000)
  found, numbers = verdict('table2', 'loses', single)
  assert found == 'holds' and numbers.endswith('(one seed: its spread is not known and left out)')
