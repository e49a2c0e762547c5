"""The only module that knows devices: steps are pmapped, states carry no device axis."""

from collections.abc import Callable

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from advmix_jax.types import BadInputError, PyTree

AXIS = 'devices'


def num_devices() -> int:
  """Devices of this process."""
  return jax.local_device_count()


def check_divisible(batch_size: int, key: str) -> None:
  """Raises `BadInputError` if the batch named `key` cannot be shared evenly by the devices."""
  if batch_size % num_devices():
    raise BadInputError(f'{key} is {batch_size}, expected a multiple of the {num_devices()} devices')


def replicate(tree: PyTree) -> PyTree:
  """Places a state on every device once; otherwise pmap traces twice, and donation fails."""
  return _place(tree, PartitionSpec())


def distribute(tree: PyTree) -> PyTree:
  """`shard`, placed on the devices: for a carry, which pmap otherwise traces twice."""
  return _place(shard(tree), PartitionSpec(AXIS))


def _place(tree: PyTree, spec: PartitionSpec) -> PyTree:
  return jax.device_put(tree, NamedSharding(Mesh(np.array(jax.local_devices()), (AXIS,)), spec))


def shard(tree: PyTree) -> PyTree:
  """`[B, ...]` on the host to `[devices, B / devices, ...]`."""
  return jax.tree.map(lambda x: x.reshape(num_devices(), -1, *x.shape[1:]), tree)


def unshard(tree: PyTree) -> PyTree:
  """`[devices, B, ...]` to `[devices * B, ...]` on the host."""
  return jax.tree.map(lambda x: np.asarray(x).reshape(-1, *x.shape[2:]), tree)


def pmap_step(step_fn: Callable[[PyTree, PyTree], tuple[PyTree, PyTree]]) -> Callable:
  """`step_fn(state, batch) -> (state, metrics)` over all devices.

  The function must average over `AXIS` what it puts into the state. The state is donated; the batch carries a
  leading device axis (`shard`).
  """
  return jax.pmap(step_fn, AXIS, in_axes=(None, 0), out_axes=None, donate_argnums=(0,))


def pmap_map(fn: Callable[[PyTree, PyTree], PyTree]) -> Callable:
  """`fn(shared, batch) -> results` over all devices; batch and results carry a leading device axis."""
  return jax.pmap(fn, AXIS, in_axes=(None, 0), out_axes=0)


def pmap_carry(fn: Callable[[PyTree, PyTree, PyTree], tuple[PyTree, PyTree]]) -> Callable:
  """`fn(shared, carry, batch) -> (carry, results)` over all devices.

  Every device has a carry of its own (`distribute`), which is donated; batch and results as with `pmap_map`.
  """
  return jax.pmap(fn, AXIS, in_axes=(None, 0, 0), out_axes=0, donate_argnums=(1,))
