"""The steps of a small run on this machine: counted work beside measured time.

Steps, shapes and trips of loops are those of `work`; arguments are made up, as times do not depend on them.
"""

import statistics
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from advmix_jax.bench import measurement, timing, work
from advmix_jax.bench.hardware import Accelerator, Efficiency, seconds
from advmix_jax.stages import step_memory
from advmix_jax.stages.networks import Networks

COPIED = 2**26  # Numbers in the array whose copying gives the rate of the memory.


def this_machine(repeats: int) -> Accelerator:
  """Its measured rates of float32 matrix products and of its memory; it has no links."""
  rate = measurement.matmul_rate(measurement.matmul('float32'), repeats)
  y = jnp.ones(COPIED)
  copy = jax.jit(lambda y: y + 1)
  for _ in ('compiles', 'warms up'):
    timing.seconds_of(lambda: copy(y))
  copying = statistics.median(timing.in_turns([lambda: copy(y)], repeats)[0])
  return Accelerator(
    name=measurement.processor(),
    source='measured',
    flops={'float32': rate},
    memory_bytes=0.0,
    memory_rate=2 * y.nbytes / copying,
    host_rate=float('inf'),
    link_rate=float('inf'),
    network_rate=float('inf'),
    devices_of_a_machine=1,
  )


def check_steps(
  networks: Networks, machine: Accelerator, assumed: Efficiency, repeats: int
) -> Iterator[dict[str, Any]]:
  """A row for each stage.

  Args:
    networks: of a small configuration.
    machine: this one.
    assumed: shares of its rates that are compared as well.
    repeats: timed steps.

  Returns:
    `{'step', 'images', 'flops', 'bytes', 'counted_seconds', 'seconds', 'ratio', 'off', 'share_of_products'}`
    of one step. Counted seconds are those of `hardware.seconds` at the full rates of the machine, the ratio
    is how many times as long the step took; `off` is how much longer than with the assumed shares.
  """
  config = networks.config
  with_r1, with_path_length = next(iter(work.regularisations(config)))
  counted = (
    (next(work.gan_work(networks)), step_memory.gan_step(networks, with_r1, with_path_length, 0)),
    (work.encode_work(networks), step_memory.encode_batch(networks)),
    (work.train_work(networks, 'nominal'), step_memory.train_step(networks, 'nominal')),
    (work.train_work(networks, 'advmix'), step_memory.train_step(networks, 'advmix')),
    (work.evaluate_work(networks), step_memory.evaluate_batch(networks)),
  )
  for of_an_image, (fn, shapes) in counted:
    taken = step_seconds(fn, shapes, repeats)
    flops = of_an_image.images * sum(o.flops * o.times for o in of_an_image.found)
    expected, likely = (
      of_an_image.images * seconds(of_an_image.found, machine, share).total
      for share in (Efficiency(1.0, 1.0, 1.0), assumed)
    )
    yield {
      'step': of_an_image.name,
      'images': of_an_image.images,
      'flops': flops,
      'bytes': of_an_image.images * sum(o.bytes * o.times for o in of_an_image.found),
      'counted_seconds': expected,
      'seconds': taken,
      'ratio': taken / expected,
      'off': taken / likely - 1,
      'share_of_products': flops / machine.flops['float32'] / taken,
    }


def step_seconds(fn: Any, shapes: tuple, repeats: int) -> float:
  """Median of so many runs of a step, each on the state that the one before left."""
  arguments = [made_up(tree) for tree in shapes]
  if isinstance(arguments[0], dict):
    arguments[0]['waiting'] = np.bool_(False)  # All slots work to their ends.
  donated = len(arguments) - 2  # The state, or the slots.

  def run():
    arguments[donated], rest = fn(*arguments)
    return arguments[donated], rest

  for _ in ('compiles', 'warms up'):
    timing.seconds_of(run)
  return statistics.median(timing.in_turns([run], repeats)[0])


def made_up(shapes: Any) -> Any:
  """Arrays of these shapes: small positive numbers, zeros, True, keys."""
  rng = np.random.default_rng(0)

  def leaf(shape):
    if jax.dtypes.issubdtype(shape.dtype, jax.dtypes.prng_key):
      number = int(np.prod(shape.shape))
      return jax.random.split(jax.random.key(0), number).reshape(shape.shape)
    if shape.dtype == jnp.bool_:
      return np.ones(shape.shape, bool)
    if jnp.issubdtype(shape.dtype, jnp.floating):
      return jnp.asarray(rng.uniform(0.01, 0.1, shape.shape), shape.dtype)
    return np.zeros(shape.shape, shape.dtype)

  return jax.tree.map(leaf, shapes)
