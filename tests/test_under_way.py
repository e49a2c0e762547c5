"""What is saved of slots, and what of it is of no use later."""

import numpy as np

from advmix_jax import parallel
from advmix_jax.stages.under_way import UnderWay


def saved(folder, arrays):
  under_way = UnderWay(folder, 'part', 1e9)
  template = {'step': parallel.distribute(np.arange(4))}
  under_way.save(template, arrays)
  return under_way, template


def test_what_is_saved_is_loaded(tmp_path):
  under_way, template = saved(tmp_path, {'held': np.ones(4, bool)})
  fields, arrays = under_way.load(template, ['held'])
  np.testing.assert_array_equal(parallel.unshard(fields['step']), np.arange(4))
  assert arrays.keys() == {'held'} and arrays['held'].all()


def test_a_file_without_what_is_needed_is_not_used(tmp_path, caplog):
  under_way, template = saved(tmp_path, {'held': np.ones(4, bool)})
  assert under_way.load(template, ['held', 'order']) is None
  assert 'part.under_way.npz holds slots of another size or version' in caplog.text


def test_a_file_with_other_slots_is_not_used(tmp_path, caplog):
  under_way, _ = saved(tmp_path, {})
  assert under_way.load({'step': parallel.distribute(np.arange(6))}) is None
  assert 'of another size' in caplog.text


def test_a_damaged_file_is_not_used(tmp_path, caplog):
  under_way, template = saved(tmp_path, {})
  (tmp_path / 'part.under_way.npz').write_bytes(b'PK\x03\x04')
  assert under_way.load(template) is None
  assert 'cannot be used' in caplog.text
