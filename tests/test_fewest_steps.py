"""The search for the fewest steps that are enough: what it finds, and what it tries."""

import pytest

from advmix_jax.bench.equal_quality import PRECISION, fewest_steps


@pytest.mark.parametrize('needed', [211, 262, 263, 300, 431, 999])
def test_the_fewest_steps_are_found_to_a_few_per_cent(needed):
  found = fewest_steps(lambda n: n >= needed, 210, 1000)
  assert needed <= found < needed / (1 - PRECISION)


def test_steps_that_are_enough_at_first_are_not_searched():
  tried = []
  assert fewest_steps(lambda n: tried.append(n) or True, 210, 1000) == 210
  assert tried == [210]


def test_the_most_steps_are_the_answer_where_none_are_enough():
  tried = []
  assert fewest_steps(lambda n: bool(tried.append(n)), 800, 1000) == 1000
  assert tried == [800, 1000]


@pytest.mark.parametrize('needed', range(3, 9))
def test_of_few_steps_the_fewest_are_found(needed):
  """A few per cent of them are less than one step."""
  assert fewest_steps(lambda n: n >= needed, 2, 8) == needed
