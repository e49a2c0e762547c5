"""What images per second depend on: batch, restarts, steps, resolution, devices."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax

from advmix_jax import parallel
from advmix_jax.bench import measurement, reference_cases, timing
from advmix_jax.bench.reference_cases import Networks, Reference
from advmix_jax.types import BadInputError, RunError

BATCHES = (8, 16, 32, 64, 128)
RESTARTS = (1, 2, 5, 10)
STEPS = (1, 3, 7, 20)
NUM_DEVICES = (1, 2, 4)  # Simulated on a CPU, where they share the cores.
MAPS_OF_MORE_PIXELS = 8  # At twice as many.
Point = tuple[str, int, reference_cases.Case]  # Which line, where on it, what is run there.


def batch_points(networks: Networks) -> Iterator[Point]:
  for size in BATCHES:
    reference = Reference(networks._replace(batch_size=size))
    yield 'attack', size, reference.attack_train('cnn')
    yield 'GAN step', size, reference.gan(with_r1=False)


def restart_points(networks: Networks) -> Iterator[Point]:
  reference = Reference(networks)
  for number in RESTARTS:
    yield 'attack', number, reference.attack_train('cnn', num_restarts=number)


def step_points(networks: Networks) -> Iterator[Point]:
  reference = Reference(networks)
  for number in STEPS:
    yield 'attack', number, reference.attack_train('cnn', num_steps=number)


def networks_by_resolution(networks: Networks) -> list[Networks]:
  """Of half as many, as many and twice as many pixels; in each the last resolution is mixed."""
  maps = (networks.fmaps[:-1], networks.fmaps, (*networks.fmaps, MAPS_OF_MORE_PIXELS))
  return [networks._replace(fmaps=fmaps, mixing_level=2 * len(fmaps) - 2) for fmaps in maps]


def resolution_points(networks: Networks) -> Iterator[Point]:
  for sizes in networks_by_resolution(networks):
    reference = Reference(sizes)
    yield 'attack', reference.generator.resolution, reference.attack_train('cnn')
    yield 'GAN step', reference.generator.resolution, reference.gan(with_r1=False)


POINTS: dict[str, Callable[[Networks], Iterator[Point]]] = {
  'batch': batch_points,
  'restarts': restart_points,
  'steps': step_points,
  'resolution': resolution_points,
}
CURVES = (*POINTS, 'devices')


def check_names(names: Sequence[str]) -> None:
  """Raises `BadInputError` for a curve that does not exist."""
  for name in names:
    if name not in CURVES:
      raise BadInputError(f'--curves: found {name!r}, expected some of {", ".join(CURVES)}')


def curves(names: Sequence[str], repeats: int, networks: Networks | None = None) -> list[dict[str, Any]]:
  """Measures the named curves.

  Args:
    names: of `CURVES`.
    repeats: timed runs of each point.
    networks: sizes; None = the reference networks.

  Returns:
    Rows with `curve`, `case`, `value`, `images_per_sec`, `seconds` and `seconds_quartiles`; of devices also
    `simulated`.
  """
  check_names(names)
  networks = networks or Networks()
  rows = []
  for name in names:
    points = device_rows(networks, repeats) if name == 'devices' else measured(name, networks, repeats)
    for row in points:
      print(f'{name:10} {row["value"]:5} {row["case"]:9} {row["images_per_sec"]:9.1f} images/s', flush=True)
      rows.append(row)
  return rows


def measured(name: str, networks: Networks, repeats: int) -> Iterator[dict[str, Any]]:
  for line, value, case in POINTS[name](networks):
    for _ in ('compiles', 'warms up'):
      timing.seconds_of(case.run)
    (seconds,) = timing.in_turns([case.run], repeats)
    yield {'curve': name, 'case': line, 'value': value, **measurement.speed(seconds, case.images)}


def device_rows(networks: Networks, repeats: int) -> Iterator[dict[str, Any]]:
  """The attack on one batch shared by several devices; those of a CPU are simulated, each in a process."""
  if jax.default_backend() != 'cpu':
    numbers: Sequence[int] = (parallel.num_devices(),)
  else:
    numbers = [n for n in NUM_DEVICES if networks.batch_size % n == 0]
  for number in numbers:
    environment = dict(os.environ)
    if jax.default_backend() == 'cpu':
      flags = f'{environment.get("XLA_FLAGS", "")} --xla_force_host_platform_device_count={number}'
      environment |= {'XLA_FLAGS': flags.strip(), 'JAX_PLATFORMS': 'cpu'}
    given = json.dumps({'networks': networks._asdict(), 'repeats': repeats})
    command = [sys.executable, '-m', 'launch.attack_on_devices', given]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
      reason = done.stderr.strip().splitlines() or ['no reason given']
      raise RunError(f'the attack on {number} devices failed: {reason[-1]}')
    figures = json.loads(done.stdout.splitlines()[-1])
    if figures.pop('devices') != number:
      raise RunError(f'{number} devices were asked for; expected XLA_FLAGS not to set another number')
    simulated = jax.default_backend() == 'cpu'
    yield {'curve': 'devices', 'case': 'attack', 'value': number, 'simulated': simulated, **figures}
