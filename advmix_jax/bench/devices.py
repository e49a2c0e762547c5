"""The attack of training on all devices of a process."""

from typing import Any

from advmix_jax import parallel
from advmix_jax.bench import measurement, reference_cases, timing


def attack_on_devices(networks: reference_cases.Networks, repeats: int) -> dict[str, Any]:
  """Figures of the attack 5x7 on one batch, shared evenly by the devices of this process."""
  case = reference_cases.Reference(networks).attack_train('cnn')
  for _ in ('compiles', 'warms up'):
    timing.seconds_of(case.run)
  (seconds,) = timing.in_turns([case.run], repeats)
  return {'devices': parallel.num_devices(), **measurement.speed(seconds, case.images)}
