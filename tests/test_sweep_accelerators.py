"""Which accelerators the processes of a sweep see."""

import pytest

from advmix_jax.sweep import accelerators
from advmix_jax.types import BadInputError


def test_accelerators_are_shared_out_evenly(monkeypatch):
  monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
  assert accelerators.share('cpu', 0, None) == [{}] and accelerators.share('cpu', 0, 3) == [{}] * 3
  each = [{'CUDA_VISIBLE_DEVICES': name} for name in '0123']
  assert accelerators.share('cuda', 4, None) == accelerators.share('cuda', 4, 4) == each
  monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '4,5,6,7')
  assert accelerators.share('cuda', 4, 2) == [{'CUDA_VISIBLE_DEVICES': name} for name in ('4,5', '6,7')]
  assert accelerators.share('cuda', 4, 1) == accelerators.share('tpu', 4, 1) == [{}]
  for kind, number, slots, words in (
    ('cuda', 4, 3, '--slots=3: found 4 cuda devices, expected a divisor of 4'),
    ('cuda', 4, 8, '--slots=8: found 4 cuda devices'),
    ('tpu', 4, None, 'found tpu devices, which are not shared out; expected --slots=1'),
  ):
    with pytest.raises(BadInputError, match=words):
      accelerators.share(kind, number, slots)
