"""The only module that knows devices: steps are pmapped, states carry no device axis.

A run has the devices of one or more processes (`hosts`). Steps run over all of them: each process feeds its
own devices their part of the batch. What treats each example by itself runs over the devices of one process,
and the processes share the examples among them.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from advmix_jax import hosts, interruption
from advmix_jax.types import BadInputError, PyTree

AXIS = 'devices'

_wanted = 0


def use(number: int, key: str = 'devices') -> None:
  """Sets how many devices the run has, over all its processes; 0 = all there are.

  Raises:
    BadInputError: there are fewer, or the processes cannot have equally many; names `key`.
  """
  global _wanted
  found, processes = jax.device_count(), hosts.count()
  least = jax.local_device_count() * processes
  if number > min(found, least):
    each = f', {jax.local_device_count()} of them in process {hosts.index()}' if processes > 1 else ''
    raise BadInputError(
      f'{key} is {number}, expected at most the {found} {jax.default_backend()} devices there are{each}, '
      'or 0 for all'
    )
  if number % processes:
    raise BadInputError(f'{key} is {number}, expected a multiple of the {processes} processes')
  if not number and found != least:
    raise BadInputError(
      f'{key} is 0, for all: found {jax.local_device_count()} devices in process {hosts.index()} and {found} '
      f'in all {processes}, expected equally many in each'
    )
  _wanted = number


def use_for(batch_size: int) -> None:
  """Uses as many devices of this process as can share such a batch evenly."""
  use(math.gcd(batch_size, jax.local_device_count()))


def num_devices() -> int:
  """Devices of the run, over all its processes."""
  return _wanted or jax.device_count()


def num_own_devices() -> int:
  """Devices of this process."""
  return num_devices() // hosts.count()


def client() -> Any:
  """What runs programs on the devices of this process, for those who look at these programs."""
  return jax.local_devices()[0].client


def check_divisible(batch_size: int, key: str) -> None:
  """Raises `BadInputError` if the batch named `key` cannot be shared evenly by the devices."""
  if batch_size % num_devices():
    raise BadInputError(f'{key} is {batch_size}, expected a multiple of the {num_devices()} devices')


def _own() -> list[jax.Device]:
  return jax.local_devices()[: num_own_devices()]


def _all() -> list[jax.Device] | None:
  """The devices of the run, those of process 0 first; None where jax uses the same by itself."""
  if not _wanted:
    return None
  by_process = [[d for d in jax.devices() if d.process_index == i] for i in range(hosts.count())]
  return [device for devices in by_process for device in devices[: num_own_devices()]]


def replicate(tree: PyTree) -> PyTree:
  """Places a state on every device of this process; otherwise pmap traces twice, and donation fails."""
  return _place(tree, PartitionSpec())


def replicate_first(tree: PyTree) -> PyTree:
  """`replicate` of what process 0 has: all begin with the same bits, whatever each has read or computed."""
  if hosts.count() > 1:
    tree = jax.tree.map(
      lambda x, plain: jax.random.wrap_key_data(plain) if _is_key(x) else plain,
      tree,
      multihost_utils.broadcast_one_to_all(jax.tree.map(lambda x: np.asarray(_plain(x)), tree)),
    )
  return replicate(tree)


def _is_key(x: Any) -> bool:
  return isinstance(x, jax.Array) and jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)


def _plain(x: Any) -> Any:
  return jax.random.key_data(x) if _is_key(x) else x


def distribute(tree: PyTree) -> PyTree:
  """`shard`, placed on the devices: for a carry, which pmap otherwise traces twice."""
  return _place(shard(tree), PartitionSpec(AXIS))


def _place(tree: PyTree, spec: PartitionSpec) -> PyTree:
  return jax.device_put(tree, NamedSharding(Mesh(np.array(_own()), (AXIS,)), spec))


def own_part(batch: np.ndarray) -> np.ndarray:
  """This process's part `[B / processes, ...]` of a batch `[B, ...]` of the run: that of its devices."""
  size = len(batch) // hosts.count()
  return batch[hosts.index() * size :][:size]


def shard(tree: PyTree) -> PyTree:
  """`[B, ...]` on the host, the part of this process, to `[devices, B / devices, ...]`."""
  return jax.tree.map(lambda x: x.reshape(num_own_devices(), -1, *x.shape[1:]), tree)


def unshard(tree: PyTree) -> PyTree:
  """`[devices, B, ...]` to `[devices * B, ...]` on the host."""
  return jax.tree.map(lambda x: np.asarray(x).reshape(-1, *x.shape[2:]), tree)


def pmap_step(step_fn: Callable[[PyTree, PyTree], tuple[PyTree, PyTree]]) -> Callable:
  """`step_fn(state, batch) -> (state, metrics)` over all devices of the run.

  The function must average over `AXIS` what it puts into the state. The state is donated; the batch carries a
  leading axis for the devices of this process (`shard`). With several processes the metrics have
  `interruption.STOP`.
  """
  if hosts.count() == 1:
    return jax.pmap(step_fn, AXIS, in_axes=(None, 0), out_axes=None, donate_argnums=(0,), devices=_all())

  def with_stop(state: PyTree, given: tuple[PyTree, jax.Array]) -> tuple[PyTree, PyTree]:
    batch, stop = given
    state, metrics = step_fn(state, batch)
    return state, metrics | {interruption.STOP: jax.lax.pmax(stop, AXIS)}

  run = jax.pmap(with_stop, AXIS, in_axes=(None, 0), out_axes=None, donate_argnums=(0,), devices=_all())
  return lambda state, batch: run(state, (batch, np.full(num_own_devices(), interruption.code(), np.int32)))


def pmap_map(fn: Callable[[PyTree, PyTree], PyTree]) -> Callable:
  """`fn(shared, batch) -> results` over this process's devices, a leading axis of batch and results."""
  return jax.pmap(fn, AXIS, in_axes=(None, 0), out_axes=0, devices=_given_own())


def pmap_carry(fn: Callable[..., tuple[PyTree, PyTree]]) -> Callable:
  """`fn(shared, carry, batch, axis_name=AXIS) -> (carry, results)` over this process's devices.

  Every device has a carry of its own (`distribute`), which is donated; batch and results as with `pmap_map`.
  """
  named = functools.partial(fn, axis_name=AXIS)
  return jax.pmap(named, AXIS, in_axes=(None, 0, 0), out_axes=0, donate_argnums=(1,), devices=_given_own())


def _given_own() -> list[jax.Device] | None:
  return _own() if _wanted or hosts.count() > 1 else None
