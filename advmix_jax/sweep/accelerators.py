"""Which accelerators this machine has, asked in another process, and how they are given to processes."""

import json
import os
import subprocess
import sys

from advmix_jax.types import BadInputError, RunError

PROBE = """
import json, jax
devices = jax.local_devices()
print(json.dumps([jax.default_backend(), devices[0].client.platform_version, len(devices)]))
"""
PROBE_SECONDS = 300
VARIABLE_OF = {'cuda': 'CUDA_VISIBLE_DEVICES', 'rocm': 'ROCR_VISIBLE_DEVICES'}


def find() -> tuple[str, int]:
  """Kind (`cpu`, `cuda`, `rocm`, or jax's name for another) and number of devices; a CPU counts as none.

  Another process asks: one that has looked at an accelerator holds its memory.
  """
  if os.environ.get('JAX_PLATFORMS') == 'cpu':
    return 'cpu', 0
  try:
    done = subprocess.run(
      [sys.executable, '-c', PROBE], capture_output=True, text=True, timeout=PROBE_SECONDS, check=True
    )
    backend, version, number = json.loads(done.stdout.splitlines()[-1])
  except subprocess.TimeoutExpired as error:
    raise RunError(f'jax did not start within {PROBE_SECONDS} s; JAX_PLATFORMS=cpu does without') from error
  except (subprocess.CalledProcessError, ValueError, IndexError) as error:
    text = getattr(error, 'stderr', '') or str(error)
    raise RunError(f'jax cannot start: {text.strip().splitlines()[-1]}') from error
  if backend == 'cpu':
    return 'cpu', 0
  kind = next((name for name in VARIABLE_OF if name in version.lower()), backend)
  return kind, number


def share(kind: str, number: int, num_slots: int | None) -> list[dict[str, str]]:
  """Variables for the process in each of the slots; without accelerators they need none.

  Args:
    kind: of `find`.
    number: of accelerators; 0 = CPU.
    num_slots: processes at a time; None = one for each accelerator, one on a CPU.

  Raises:
    BadInputError: if the accelerators cannot be shared out evenly.
  """
  wanted = num_slots or max(1, number)
  if number == 0:
    return [{} for _ in range(wanted)]
  if wanted > number or number % wanted:
    raise BadInputError(f'--slots={wanted}: found {number} {kind} devices, expected a divisor of {number}')
  if wanted == 1:
    return [{}]
  if kind not in VARIABLE_OF:
    raise BadInputError(
      f'--slots={wanted}: found {kind} devices, which are not shared out; expected --slots=1'
    )
  variable = VARIABLE_OF[kind]
  given = os.environ.get(variable, '')
  names = given.split(',') if given else [str(i) for i in range(number)]
  each = number // wanted
  return [{variable: ','.join(names[i * each : (i + 1) * each])} for i in range(wanted)]
