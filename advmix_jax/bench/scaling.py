"""What a run needs of one accelerator and of many: hours by stage, and what each stage waits for.

rows = [row(work, H200, Efficiency()) for work in (encode_work(networks), ...)]
table = hours(works, {'encode': 202_599}, (1, 8, 64), H200, Efficiency())
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from advmix_jax.bench.hardware import (
  Accelerator,
  Efficiency,
  host_seconds,
  reduce_seconds,
  seconds,
)
from advmix_jax.bench.work import Work

LIMITS = ('matrix products', 'memory', 'host', 'all-reduce')


def row(work: Work, device: Accelerator, share: Efficiency) -> dict[str, Any]:
  """A step on one device, for an image."""
  products = [o for o in work.found if o.kind == 'product']
  flops = {
    dtype: sum(o.flops * o.times for o in products if o.dtype == dtype)
    for dtype in sorted({o.dtype for o in products})
  }
  moved = sum(o.bytes * o.times for o in work.found if o.kind != 'collective')
  found = seconds(work.found, device, share)
  return {
    'stage': work.stage,
    'step': work.name,
    'images': work.images,
    'share': work.share,
    'flops': flops,
    'bytes': moved,
    'flops_per_byte': sum(flops.values()) / moved,
    'host_bytes': work.host,
    'host_rate': work.host / found.total,
    'reduced_bytes': work.reduced,
    'held_bytes': work.held,
    'seconds': found.total,
    'seconds_of_products': found.products,
    'seconds_of_memory': found.memory,
    'memory_bound': found.memory_bound / found.total,
  }


def images_of_a_step(work: Work, num_devices: int) -> float:
  """Over all devices: the classifier's minibatch is shared out, everything else grows with the devices."""
  return max(work.images, num_devices) if work.stage == 'train' else work.images * num_devices


def seconds_of_images(
  works: Sequence[Work], images: float, num_devices: int, device: Accelerator, share: Efficiency
) -> dict[str, float]:
  """Seconds in which so many images pass through a stage, by what they go into.

  Args:
    works: the steps of the stage.
    images: over all devices.
    num_devices: that share them evenly.
    device: what they are.
    share: of its peaks.

  Returns:
    Seconds by `LIMITS`, and `total`. Bytes from the host come while the device computes.
  """
  spent = dict.fromkeys((*LIMITS, 'total'), 0.0)
  for work in works:
    passing = images * work.share
    found = seconds(work.found, device, share)
    own = passing / num_devices
    computing, waiting = (found.total - found.memory_bound) * own, found.memory_bound * own
    from_host = max(0.0, own * host_seconds(work.host, device, share) - computing - waiting)
    steps = passing / images_of_a_step(work, num_devices)
    reducing = steps * reduce_seconds(work.reduced, num_devices, device, share)
    for limit, value in zip(LIMITS, (computing, waiting, from_host, reducing), strict=True):
      spent[limit] += value
  spent['total'] = sum(spent[limit] for limit in LIMITS)
  return spent


def hours(
  works: Iterable[Work],
  images: Mapping[str, float],
  numbers: Sequence[int],
  device: Accelerator,
  share: Efficiency,
) -> list[dict[str, Any]]:
  """Of each stage, on each number of devices.

  Args:
    works: the steps of all stages.
    images: that pass through each stage; steps of other stages do not count.
    numbers: of devices.
    device, share: as for `seconds_of_images`.

  Returns:
    `{'stage', 'images', 'on': [{'devices', 'hours', 'waits_for', 'shares'}]}` for each stage.
  """
  works = list(works)
  table = []
  for stage, number in images.items():
    own = [work for work in works if work.stage == stage]
    found = []
    for num_devices in numbers:
      spent = seconds_of_images(own, number, num_devices, device, share)
      shares = {limit: spent[limit] / spent['total'] for limit in LIMITS}
      most = max(LIMITS, key=lambda limit: shares[limit])
      entry = {'devices': num_devices, 'hours': spent['total'] / 3600, 'waits_for': most, 'shares': shares}
      found.append(entry)
    table.append({'stage': stage, 'images': number, 'on': found})
  return table
