"""The mathematics does not depend on the number of devices: one, two and four simulated ones do the same."""

import functools
from collections.abc import Callable
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advmix_jax import hosts, parallel
from advmix_jax.stages import shares
from advmix_jax.types import BadInputError
from tests import on_devices, test_encode_refill
from tests.processes import Process, environment

TWO = pytest.param(2, marks=pytest.mark.slow)  # All other tests run on two.
SEVERAL = pytest.mark.parametrize('number', [TWO, 4])
STEPS = ('gan', 'start', *on_devices.METHODS)


@pytest.fixture(scope='module')
def found(tmp_path_factory) -> Callable[[int], dict[str, np.ndarray]]:
  """`found(number)` is what so many devices did, by name."""
  out = tmp_path_factory.mktemp('devices') / 'found'

  @functools.cache
  def run(*what: str) -> None:
    process = Process(
      ['-m', 'tests.on_devices', str(out), *what], out.parent, what[0], environment(on_devices.MOST)
    )
    assert process.status(600) == 0, process.err

  @functools.cache
  def of(number: int) -> dict[str, np.ndarray]:
    run(*('some', '2') if number == 2 else ('all', '1', '4'))
    return dict(np.load(f'{out}-{number}.npz'))

  return of


@pytest.mark.parametrize(
  'name, number',
  [(name, 4) for name in STEPS]
  + [pytest.param(name, 2, marks=pytest.mark.slow) for name in ('gan', 'nominal')],
)
def test_a_step_of_training_is_that_of_one_device(found, name, number):
  """Parameters, averages and metrics; four devices were found to hold the same replicas."""
  one, several = found(1), found(number)
  names = [key for key in one if key.startswith(f'{name}/')]
  assert names and names == [key for key in several if key.startswith(f'{name}/')]
  for key in names:
    np.testing.assert_allclose(several[key], one[key], rtol=1e-5, atol=1e-5, err_msg=key)


def test_images_are_encoded_as_by_one_device_each_once(found):
  order = np.arange(test_encode_refill.NUM_IMAGES)
  one, several = found(1), found(4)
  np.testing.assert_array_equal(np.sort(several['encode/positions']), order)
  for name in ('encode/error', 'encode/w'):
    np.testing.assert_allclose(several[name], one[name], atol=1e-6)


@SEVERAL
def test_attacks_of_training_reach_the_losses_of_one_device(found, number):
  """Rounding can flip a sign step, so not for quite all examples."""
  one, several = found(1)['attack/loss'], found(number)['attack/loss']
  assert len(one) == len(several) == 200
  assert np.mean(np.abs(several - one) <= 1e-3) >= 0.99


@SEVERAL
def test_attacks_of_evaluation_break_what_they_break_on_one_device(found, number):
  one, several = found(1), found(number)
  assert 0.2 < one['evaluate/broken'].mean() < 0.8
  assert np.mean(several['evaluate/broken'] == one['evaluate/broken']) >= 0.995
  assert np.mean(several['evaluate/restart'] == one['evaluate/restart']) >= 0.99


@pytest.fixture
def restored():
  yield
  parallel.use(0)


@pytest.mark.usefixtures('restored')
def test_a_run_may_take_some_of_the_devices():
  x = np.arange(6, dtype=np.float32).reshape(6, 1)
  for number in (0, 1, 2):
    parallel.use(number)
    assert parallel.num_devices() == (number or 2)
    found = parallel.pmap_map(lambda shared, x: shared * x)(np.float32(2), parallel.shard(x))
    assert len(found.devices()) == parallel.num_devices()
    np.testing.assert_array_equal(parallel.unshard(found), 2 * x)
    total = parallel.pmap_step(lambda state, x: (state + jax.lax.psum(jnp.sum(x), parallel.AXIS), {}))
    assert float(total(parallel.replicate(jnp.float32(1)), parallel.shard(x))[0]) == 16


@pytest.mark.usefixtures('restored')
def test_more_devices_than_there_are_are_refused():
  with pytest.raises(
    BadInputError, match='config.devices is 3, expected at most the 2 cpu devices there are'
  ):
    parallel.use(3, 'config.devices')
  assert parallel.num_devices() == 2


@pytest.mark.parametrize('number', [1, 2, 3, 7])
def test_the_processes_share_all_examples_and_put_them_in_order_again(monkeypatch, number):
  x = np.arange(10).reshape(5, 2)
  parts = []
  for index in range(number):
    monkeypatch.setattr(hosts, '_run', SimpleNamespace(index=index, count=number))
    parts.append(hosts.own(x))
  assert sum(map(len, parts)) == 5
  np.testing.assert_array_equal(shares.interleaved(parts), x)


@pytest.mark.parametrize('number', [1, 2, 4])
def test_the_parts_of_a_batch_are_the_batch(monkeypatch, number):
  parts = []
  for index in range(number):
    monkeypatch.setattr(hosts, '_run', SimpleNamespace(index=index, count=number))
    parts.append(parallel.own_part(np.arange(8)))
  np.testing.assert_array_equal(np.concatenate(parts), np.arange(8))
