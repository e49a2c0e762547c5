"""Several processes of one run on this machine, each with one simulated device."""

import os
import pathlib
import subprocess
import sys
from collections.abc import Sequence

ROOT = pathlib.Path(__file__).parents[1]


def environment(num_devices: int = 1, **variables: str) -> dict[str, str]:
  """Variables for a process with so many simulated devices."""
  flags = f'{os.environ.get("XLA_FLAGS", "")} --xla_force_host_platform_device_count={num_devices}'
  found = os.environ | {'JAX_PLATFORMS': 'cpu', 'XLA_FLAGS': flags, 'PYTHONPATH': str(ROOT)} | variables
  return {name: value for name, value in found.items() if not name.startswith('SLURM')}


def address_flags(port: int, process: int, number: int = 2) -> list[str]:
  return [
    '--distributed',
    f'--coordinator=127.0.0.1:{port}',
    f'--num_processes={number}',
    f'--process_id={process}',
  ]


class Process:
  """A Python program that runs beside the tests; what it writes goes to files.

  Args:
    arguments: of Python.
    folder: takes `NAME.out` and `NAME.err`.
    name: of these.
    variables: of its environment.
  """

  def __init__(self, arguments: Sequence[str], folder: pathlib.Path, name: str, variables: dict[str, str]):
    self._out, self._err = folder / f'{name}.out', folder / f'{name}.err'
    with self._out.open('w') as out, self._err.open('w') as err:
      self.popen = subprocess.Popen(
        [sys.executable, *arguments], stdout=out, stderr=err, env=variables, cwd=ROOT
      )

  @property
  def out(self) -> str:
    return self._out.read_text()

  @property
  def err(self) -> str:
    return self._err.read_text()

  @property
  def said(self) -> str:
    """The last line of its errors."""
    return (self.err.splitlines() or [''])[-1]

  def status(self, seconds: float) -> int:
    """With which it ends; it must within so many seconds."""
    try:
      return self.popen.wait(seconds)
    except subprocess.TimeoutExpired:
      raise AssertionError(f'still at work after {seconds} s: {self.out}\n{self.err}') from None


def end(processes: Sequence[Process]) -> None:
  """Kills whatever is still at work, also what is stopped."""
  for process in processes:
    process.popen.kill()
    process.popen.wait()
