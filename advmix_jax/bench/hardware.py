"""An accelerator on paper: its peak rates, the shares assumed to be reached, and seconds of operations."""

from collections.abc import Iterable
from typing import NamedTuple

from advmix_jax.bench.operations import Operation


class Accelerator(NamedTuple):
  """Peak rates of one device, and the machines it stands in.

  Attributes:
    name: for the page.
    source: where the rates are published.
    flops: operations per second of products, by dtype.
    memory_bytes: of its memory.
    memory_rate: bytes per second of its memory.
    host_rate: bytes per second from its host, one direction.
    link_rate: bytes per second to the other devices of its machine, one direction.
    network_rate: bytes per second and device to other machines, one direction.
    devices_of_a_machine: number.
  """

  name: str
  source: str
  flops: dict[str, float]
  memory_bytes: float
  memory_rate: float
  host_rate: float
  link_rate: float
  network_rate: float
  devices_of_a_machine: int


H200 = Accelerator(
  name='NVIDIA H200 SXM',
  source=(
    'NVIDIA H200 Tensor Core GPU datasheet: 1,979 TFLOP/s bfloat16 and 989 TFLOP/s TF32, each with sparsity, '
    'so half of it for dense products; 67 TFLOP/s float32; 141 GB at 4.8 TB/s; NVLink 900 GB/s and PCIe 5 '
    '128 GB/s, both directions together. The network, 400 Gbit/s for each device, is that of a DGX H200.'
  ),
  flops={'bfloat16': 989e12, 'float32': 494e12},  # float32 as jax multiplies it there by default: in TF32.
  memory_bytes=141e9,
  memory_rate=4.8e12,
  host_rate=64e9,
  link_rate=450e9,
  network_rate=50e9,
  devices_of_a_machine=8,
)


class Efficiency(NamedTuple):
  """Assumed shares of the peaks; they are not measured.

  Attributes:
    products: of the rate of matrix products.
    memory: of the rate of the memory.
    links: of the rates between devices, and from the host.
  """

  products: float = 0.4
  memory: float = 0.7
  links: float = 0.6


class Seconds(NamedTuple):
  """Of the operations of a step on one device.

  Attributes:
    total: each operation takes as long as the slower of computing and of reading and writing.
    products: if memory were no limit.
    memory: if computing were none.
    memory_bound: of the total, in operations that wait for memory.
  """

  total: float
  products: float
  memory: float
  memory_bound: float


def seconds(found: Iterable[Operation], device: Accelerator, share: Efficiency) -> Seconds:
  """The roofline of every operation by itself. Collectives are left out; see `reduce_seconds`."""
  total = products = memory = memory_bound = 0.0
  for operation in found:
    if operation.kind == 'collective':
      continue
    computing = operation.times * operation.flops / (peak(device, operation) * share.products)
    moving = operation.times * operation.bytes / (device.memory_rate * share.memory)
    products, memory = products + computing, memory + moving
    total += max(computing, moving)
    memory_bound += moving if moving > computing else 0.0
  return Seconds(total, products, memory, memory_bound)


def peak(device: Accelerator, operation: Operation) -> float:
  """Operations per second for products of that dtype; those of other dtypes count as float32."""
  return device.flops.get(operation.dtype, device.flops['float32'])


def reduce_seconds(size: float, num_devices: int, device: Accelerator, share: Efficiency) -> float:
  """An all-reduce of so many bytes in a ring, at the rate of its slowest link; nothing overlaps with it."""
  if num_devices == 1:
    return 0.0
  within = num_devices <= device.devices_of_a_machine
  rate = device.link_rate if within else device.network_rate
  return 2 * (num_devices - 1) / num_devices * size / (rate * share.links)


def host_seconds(size: float, device: Accelerator, share: Efficiency) -> float:
  """So many bytes from or to the host."""
  return size / (device.host_rate * share.links)
