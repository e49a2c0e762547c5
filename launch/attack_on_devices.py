"""Figures of the attack on all devices of a process, as a line of JSON; for launch.benchmark --curves.

A process of its own, as the number of simulated devices is fixed when jax starts:

    XLA_FLAGS=--xla_force_host_platform_device_count=4 python -m launch.attack_on_devices '{...}'
"""

import json
import sys
from typing import Any

from advmix_jax.bench import devices, reference_cases


def main(given: str) -> None:
  asked = json.loads(given)
  sizes: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in asked['networks'].items()}
  print(json.dumps(devices.attack_on_devices(reference_cases.Networks(**sizes), asked['repeats'])))


if __name__ == '__main__':
  main(sys.argv[1])
