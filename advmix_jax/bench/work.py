"""What each stage of a run has to do for an image, from the programs that the stages compile.

Nothing is allocated, compiled or run: steps and shapes are those of `stages.step_memory`.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from advmix_jax import parallel
from advmix_jax.bench.operations import Operation, operations
from advmix_jax.config_keys import has_path_length
from advmix_jax.slot_queue import REFILL_SHARE
from advmix_jax.stages import step_memory, train_gan
from advmix_jax.stages.networks import Networks


class Work(NamedTuple):
  """A step, for one image.

  Attributes:
    stage: train_gan | encode | train | evaluate.
    name: of the step.
    images: in a step on each device.
    share: of the stage's images that pass through this step.
    found: operations for one image.
    reduced: bytes that a step reduces over the devices.
    host: bytes that come from the host for one image.
    held: bytes that a device keeps between steps: parameters, states of optimisers, slots.
  """

  stage: str
  name: str
  images: int
  share: float
  found: list[Operation]
  reduced: float
  host: float
  held: float


def of_run(networks: Networks, gan: Networks, method: str) -> Iterator[Work]:
  """All steps of a run.

  Args:
    networks: that are encoded with, trained and evaluated.
    gan: of the run that trains the generator; may be the same.
    method: of training the classifier.
  """
  yield from gan_work(gan)
  yield encode_work(networks)
  yield train_work(networks, method)
  yield evaluate_work(networks)


def gan_work(networks: Networks) -> Iterator[Work]:
  """Training of the generator, by resolution and regularisation, for an image that is shown."""
  config = networks.config
  schedule = train_gan.make_schedule(config)
  floors = schedule.lod.astype(int)
  for floor in step_memory.gan_floors(config):
    shown = float(schedule.batch_size[floors == floor].sum() / schedule.batch_size.sum())
    for (with_r1, with_path_length), part in regularisations(config).items():
      name = f'{networks.generator_model.resolution >> floor} px{", R1" if with_r1 else ""}'
      name += ', path lengths' if with_path_length else ''
      step = step_memory.gan_step(networks, with_r1, with_path_length, floor)
      size = train_gan.by_resolution(config.generator, 'batch_size', floor)
      yield work('train_gan', name, size, step, (), share=shown * part)


def regularisations(config: Any) -> dict[tuple[bool, bool], float]:
  """Which steps have R1 and path lengths, and their share of all steps."""
  generator = config.generator
  has_r1, with_path_length = train_gan.has_r1(generator), has_path_length(generator)
  period = math.lcm(generator.r1_interval, generator.path_length_interval)
  steps = [
    (has_r1 and n % generator.r1_interval == 0, with_path_length and n % generator.path_length_interval == 0)
    for n in range(period)
  ]
  return {kind: steps.count(kind) / period for kind in dict.fromkeys(steps)}


def encode_work(networks: Networks) -> Work:
  """Algorithm 1 for an image, all its steps."""
  e = networks.config.encode
  step = step_memory.encode_batch(networks)
  return work('encode', 'encode', e.batch_size, step, (refills(e.batch_size), e.num_steps))


def train_work(networks: Networks, method: str) -> Work:
  """A training step, for an image."""
  config = networks.config
  trips = {'advmix': (config.attack.num_steps,), 'at': (config.at.num_steps,)}.get(method, ())
  step = step_memory.train_step(networks, method)
  return work('train', f'train/{method}', config.train.batch_size, step, trips)


def evaluate_work(networks: Networks) -> Work:
  """A search from one start with all its steps, as for an image that holds."""
  e = networks.config.evaluate
  step = step_memory.evaluate_batch(networks)
  return work('evaluate', 'evaluate', e.batch_size, step, (refills(e.batch_size), e.num_steps + 1))


def refills(batch_size: int) -> int:
  """Turns of the loop that fills all slots of a device."""
  own = batch_size // parallel.num_devices()
  return math.ceil(own / max(1, own // REFILL_SHARE))


def work(
  stage: str, name: str, batch_size: int, step: step_memory.Step, trips: tuple[int, ...], share: float = 1.0
) -> Work:
  """Counts a step and divides it by its images.

  Args:
    stage, name, share: see `Work`.
    batch_size: images of the step, over all devices.
    step: function and shapes.
    trips: turns of its `while` loops.
  """
  fn, arguments = step
  own = batch_size // parallel.num_devices()
  found = operations(jax.make_jaxpr(fn)(*arguments).jaxpr, trips)
  reduced = sum(o.bytes * o.times for o in found if o.kind == 'collective')
  *kept, batch = arguments
  held = size(kept[0]) + sum(size(slots) for slots in kept[1:]) / parallel.num_devices()
  per_image = merged([o._replace(times=o.times / own) for o in found])
  return Work(stage, name, own, share, per_image, reduced, size(batch) / batch_size, held)


def merged(found: list[Operation]) -> list[Operation]:
  """Equal operations as one."""
  times: dict[Operation, float] = {}
  for operation in found:
    key = operation._replace(times=0.0)
    times[key] = times.get(key, 0.0) + operation.times
  return [operation._replace(times=number) for operation, number in times.items()]


def size(tree: Any) -> float:
  """Bytes of shapes with dtypes; keys are left out."""
  leaves = [x for x in jax.tree.leaves(tree) if not jax.dtypes.issubdtype(x.dtype, jax.dtypes.extended)]
  return sum(float(np.prod(x.shape)) * np.dtype(x.dtype).itemsize for x in leaves)
