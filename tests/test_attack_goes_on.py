"""An attack of a data set that is broken off goes on within its searches."""

import functools

import numpy as np
import pytest

from advmix_jax import evaluation, parallel, refill
from advmix_jax.stages import evaluate, slot_calls
from advmix_jax.stages.slot_calls import SlotCalls
from advmix_jax.stages.under_way import UnderWay
from advmix_jax.types import Interrupted
from tests.test_refill import NUM_EXAMPLES, best_start_first, problem, settings_of


@pytest.mark.parametrize('every', [5, 2])
def test_an_attack_goes_on_within_its_searches_and_finds_the_same(tmp_path, monkeypatch, every):
  """Broken off at every few steps, it still ends, and repeats no more than the step it was in."""
  monkeypatch.setattr(slot_calls, 'SECONDS', 0.0)  # A step a call.
  decoder, classify, shared, originals, w, labels = problem()
  settings = settings_of('momentum')
  advance_fn = parallel.pmap_carry(
    functools.partial(refill.advance, settings, 'first_error', classify, decoder)
  )
  given, calls = parallel.replicate(shared), {}

  def attack(under_way, every):
    """As the stage does it: from its file, if there is one."""
    steps = SlotCalls(advance_fn)
    slots = parallel.distribute(refill.empty_slots(settings, decoder, shared, 24))
    loaded = under_way.load({name: getattr(slots, name) for name in evaluate.CHANGED}, evaluate.SEARCH)
    if loaded is None:
      search = evaluation.begin(originals, np.zeros(NUM_EXAMPLES, bool), best_start_first(), 24)
    else:
      search = evaluate.load_search(loaded[1], originals)
      held, at = search.held, search.example
      entry = refill.Entry(held, held, w[at], labels[at], at, search.restart)
      slots = steps.enter(given, slots, entry)._replace(**loaded[0])

    def pause(slots, entry):
      calls[every] = calls.get(every, 0) + 1
      if every and calls[every] % every == 0:
        evaluate.save_search(under_way, slots, entry, search)
        raise Interrupted('stopped')

    def advance(slots, entry, waiting):
      return steps(given, slots, entry, waiting, pause)

    return evaluation.attack_all(advance, slots, search, w, labels)

  whole = attack(UnderWay(tmp_path, 'whole', 1e9), 0)
  breaks = 0
  while True:
    try:
      broken = attack(UnderWay(tmp_path, 'broken', 1e9), every)
      break
    except Interrupted:
      breaks += 1
  assert breaks > 3 and calls[every] <= calls[0] + 2 * breaks
  assert [x.tobytes() for x in broken] == [x.tobytes() for x in whole]
  assert whole.broken.any() and not whole.broken.all()
