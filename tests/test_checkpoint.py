"""Checkpoints: whole or absent, and a broken one costs one interval, not the run."""

import functools
import logging
import resource
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advmix_jax.training.checkpoint import Checkpointer
from advmix_jax.types import RunError


def state(value: float, size: int = 3):
  return {
    'step': jnp.int32(value),
    'key': jax.random.fold_in(jax.random.key(0), int(value)),
    'params': {'w': jnp.full(size, value, jnp.float32), 'b': (jnp.zeros((2, 2)),)},
  }


@pytest.fixture
def checkpointer(tmp_path):
  made = Checkpointer(tmp_path / 'checkpoints', keep=2)
  yield made
  made.close()


def reopened(checkpointer, tmp_path):
  checkpointer.close()
  return Checkpointer(tmp_path / 'checkpoints', keep=2)


def test_without_a_checkpoint_there_is_none(checkpointer):
  assert checkpointer.restore(state(0)) is None


def test_the_newest_comes_back_bit_for_bit_with_its_typed_key(checkpointer, tmp_path):
  for step in (1, 2, 3):
    checkpointer.save(step, state(step / 3))
  found = reopened(checkpointer, tmp_path).restore(state(0))
  expected = state(3 / 3)
  assert jax.dtypes.issubdtype(found['key'].dtype, jax.dtypes.prng_key)
  np.testing.assert_array_equal(
    jax.random.normal(found['key'], (4,)), jax.random.normal(expected['key'], (4,))
  )
  assert jax.tree.structure(found) == jax.tree.structure(expected)
  np.testing.assert_array_equal(found['params']['w'], expected['params']['w'])
  assert found['params']['w'].dtype == jnp.float32 and found['step'].dtype == jnp.int32


def test_only_the_last_ones_are_kept(checkpointer, tmp_path):
  for step in (1, 2, 3):
    checkpointer.save(step, state(step))
  checkpointer.wait()
  assert sorted(p.name for p in (tmp_path / 'checkpoints').iterdir() if p.name.isdigit()) == ['2', '3']


def test_a_step_is_saved_once(checkpointer):
  checkpointer.save(1, state(1))
  checkpointer.save(1, state(2))
  assert checkpointer.restore(state(0))['params']['w'][0] == 1


def truncate(files):
  for path in files:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def garble(files):
  for path in files:
    path.write_bytes(bytes(b ^ 0x5A for b in path.read_bytes()))


def empty(files):
  for path in files:
    path.write_bytes(b'')


def remove(files):
  for path in files:
    path.unlink()


@pytest.mark.parametrize('damage', [truncate, garble, empty, remove])
def test_a_broken_newest_checkpoint_falls_back_to_the_one_before(checkpointer, tmp_path, damage, caplog):
  checkpointer.save(1, state(1))
  checkpointer.save(2, state(2))
  checkpointer.close()
  damage([p for p in (tmp_path / 'checkpoints' / '2').rglob('*') if p.is_file()])
  again = Checkpointer(tmp_path / 'checkpoints', keep=2)
  with caplog.at_level(logging.WARNING):
    found = again.restore(state(0))
  assert found['params']['w'][0] == 1
  assert 'checkpoint 2 of' in caplog.text and 'going back to the one before' in caplog.text
  again.save(2, state(7))  # The broken one is out of the way.
  assert again.restore(state(0))['params']['w'][0] == 7
  again.close()
  names = {path.name for path in (tmp_path / 'checkpoints').iterdir()}
  assert names == {'1', '2', '2.broken'}
  assert reopened(again, tmp_path).restore(state(0))['params']['w'][0] == 7


def test_with_every_checkpoint_broken_they_are_left_alone(checkpointer, tmp_path):
  checkpointer.save(1, state(1))
  checkpointer.close()
  files = [p for p in (tmp_path / 'checkpoints' / '1').rglob('*') if p.is_file()]
  empty(files)
  again = Checkpointer(tmp_path / 'checkpoints', keep=2)
  with pytest.raises(RunError, match=r'checkpoint 1 of .* cannot be read .*, nor any other there; try again'):
    again.restore(state(0))
  again.close()
  assert all(path.exists() for path in files)


def test_a_restart_that_cannot_read_for_a_passing_reason_loses_nothing(checkpointer, tmp_path, monkeypatch):
  checkpointer.save(1, state(1))
  checkpointer.save(2, state(2))
  again = reopened(checkpointer, tmp_path)

  def no_memory(*args, **kwargs):
    raise MemoryError

  with monkeypatch.context() as patch:
    patch.setattr(again._manager, 'restore', no_memory)
    with pytest.raises(RunError, match=r'checkpoint 2 of .* cannot be read \(MemoryError\)'):
      again.restore(state(0))
  assert reopened(again, tmp_path).restore(state(0))['params']['w'][0] == 2


def test_a_state_that_is_not_finite_is_not_saved(checkpointer):
  """Its metrics may be, as they are of the parameters before the last update."""
  checkpointer.save(1, state(1))
  bad = state(2)
  bad['params']['w'] = bad['params']['w'].at[1].set(jnp.nan)
  with pytest.raises(RunError, match='params/w is not finite after step 2, which is not saved'):
    checkpointer.save(2, bad)
  assert checkpointer.restore(state(0))['params']['w'][0] == 1


@pytest.mark.parametrize(
  'changes, array',
  [
    ({'params': {'w': jnp.zeros(4), 'b': (jnp.zeros((2, 2)),)}}, 'params/w'),
    ({'params': {'w': jnp.zeros(3, jnp.bfloat16), 'b': (jnp.zeros((2, 2)),)}}, 'params/w'),
    ({'params': {'w': jnp.zeros(3)}}, 'params/b/0'),
    ({'more': jnp.zeros(2)}, 'more'),
  ],
  ids=['shape', 'dtype', 'array missing', 'array new'],
)
def test_a_whole_checkpoint_of_other_arrays_is_named_and_left_alone(checkpointer, tmp_path, changes, array):
  """The file is not broken: the program changed, and another version of it can still read the file."""
  checkpointer.save(1, state(1))
  again = reopened(checkpointer, tmp_path)
  with pytest.raises(
    RunError, match=f'checkpoint 1 of .*checkpoints holds {array} as .*, expected '
  ) as error:
    again.restore(state(0) | changes)
  assert len(str(error.value).splitlines()) == 1
  assert again.restore(state(0))['params']['w'][0] == 1
  again.close()


def test_a_failing_write_is_one_sentence_and_older_checkpoints_remain(checkpointer, tmp_path):
  """The operating system refuses files beyond a limit, as it does on a full disk."""
  rng = np.random.default_rng(0)
  large = {'w': jnp.asarray(rng.standard_normal(500_000), jnp.float32)}
  checkpointer.save(1, large)
  checkpointer.wait()
  limits = resource.getrlimit(resource.RLIMIT_FSIZE)
  try:
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, limits[1]))
    checkpointer.save(2, large)
    with pytest.raises(RunError, match='checkpoint 2 could not be written to .*checkpoints: ') as error:
      checkpointer.wait()
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
  assert len(str(error.value).splitlines()) == 1
  again = reopened(checkpointer, tmp_path)
  np.testing.assert_array_equal(again.restore(large)['w'], large['w'])
  again.close()


@functools.partial(jax.jit, donate_argnums=0)
def overwritten(tree):
  return jax.tree.map(lambda x: x + 1, tree)


def test_a_state_that_is_donated_at_once_is_saved_as_it_was(checkpointer):
  """Donated arrays are overwritten by the next step while the checkpoint is still being written."""
  now = {'w': jnp.zeros(2_000_000), 'b': jnp.zeros((3, 5))}
  now = overwritten(now)  # In memory of the device's own.
  for step in range(1, 4):
    checkpointer.save(step, now)
    for _ in range(5):
      now = overwritten(now)
    found = checkpointer.restore(now)
    for leaf in jax.tree.leaves(found):
      np.testing.assert_array_equal(leaf, 1 + 5 * (step - 1))


def test_a_save_that_failed_in_the_background_is_told_at_the_next(checkpointer, tmp_path, monkeypatch):
  checkpointer.save(1, state(1))
  checkpointer.wait()
  large = {'w': jnp.asarray(np.random.default_rng(0).standard_normal(500_000), jnp.float32)}
  limits = resource.getrlimit(resource.RLIMIT_FSIZE)
  try:
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, limits[1]))
    checkpointer.save(2, large)
    while checkpointer.busy:
      time.sleep(0.01)
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
  with pytest.raises(RunError, match='checkpoint 2 could not be written to .*checkpoints: '):
    checkpointer.save(3, state(3))
  assert reopened(checkpointer, tmp_path).restore(state(0))['params']['w'][0] == 1
