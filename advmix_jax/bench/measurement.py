"""Times the cases of `bench.reference_cases`, alone or in turns with another program that does the same work.

A case runs once to compile and once to warm up. Then come `repeats` runs, or pairs of runs of which each
side begins every second one; medians and quartiles count, and the ratio is taken pair by pair.
"""

import datetime
import importlib.util
import os
import platform
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from advmix_jax.bench import reference_cases
from advmix_jax.bench.timing import Fastest, Run, in_turns, quartiles, seconds_of
from advmix_jax.types import BadInputError
from advmix_jax.workdir import environment

if TYPE_CHECKING:
  from advmix_jax.torch_reference.process import TorchProcess

PEAK_SIZE = 2048  # Side of the matrices whose product gives the peak ...
ON_ACCELERATORS = 4  # ... and so many times that on one, which such a product does not fill.


def check_torch() -> None:
  """Raises `BadInputError` where PyTorch is not installed. It is not loaded here: that starts its threads."""
  if importlib.util.find_spec('torch') is None:
    raise BadInputError(
      "--against=torch needs PyTorch, which is not installed: pip install torch, or 'advmix_jax[bench]'"
    )


def run_cases(
  names: Sequence[str],
  repeats: int,
  networks: reference_cases.Networks | None = None,
  against: str | None = None,
) -> dict[str, Any]:
  """Measures the named cases one after the other and prints a line for each.

  Args:
    names: some of `reference_cases.CASES`.
    repeats: timed runs.
    networks: sizes; None = the reference networks.
    against: torch, or None for no comparison.

  Returns:
    `{'cases': [{'name', 'images_per_sec', 'ratio_vs_torch', 'share_of_matmul_peak', ...}], 'machine', ...}`.
    The ratio is of images per second, None where nothing was compared; the share is None where the work
    depends on the data.

  Raises:
    BadInputError: for a name that is not in `CASES`, or if what is compared with is not installed or does
      not compute in this precision.
  """
  unknown = [name for name in names if name not in reference_cases.CASES]
  if unknown:
    raise BadInputError(f'--cases: found {unknown[0]!r}, expected some of {", ".join(reference_cases.CASES)}')
  networks = networks or reference_cases.Networks()
  if against is None:
    return _run_cases(names, repeats, networks, None)
  if networks.precision != 'float32':
    raise BadInputError(f'--precision is {networks.precision!r}, expected float32 with --against=torch')
  check_torch()
  from advmix_jax.torch_reference.process import TorchProcess

  with TorchProcess(networks) as torch:
    return _run_cases(names, repeats, networks, torch)


def _run_cases(
  names: Sequence[str], repeats: int, networks: reference_cases.Networks, torch: 'TorchProcess | None'
) -> dict[str, Any]:
  reference = reference_cases.Reference(networks)
  product = matmul(networks.precision)
  machine = describe_machine(repeats, torch, networks.precision)
  gflops = machine['matmul_flops'] / 1e9
  print(
    f'matrix products of {peak_size()}: {gflops:.0f} GFLOP/s; load before: {machine["load"]:.1f}', flush=True
  )
  cases = []
  for name in names:
    case = reference_cases.CASES[name](reference)
    for _ in ('compiles', 'warms up'):
      seconds_of(case.run)
    theirs = None if torch is None else torch.fastest(name)
    figures = measure(case, theirs, product, repeats, machine['matmul_flops'])
    print(f'{name:20} {in_words(figures, case.settings)}', flush=True)
    cases.append({'name': name} | figures | case.settings)
  return {
    'cases': cases,
    'machine': machine,
    'networks': networks._asdict(),
    'resolution': reference.generator.resolution,
    'repeats': repeats,
    'date': now(),
  }


def stamp(repeats: int) -> dict[str, Any]:
  """Machine and date, for figures other than those of cases."""
  return {'machine': describe_machine(repeats, None), 'repeats': repeats, 'date': now()}


def now() -> str:
  """The date and time, to a second."""
  return datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds')


def measure(
  case: reference_cases.Case, theirs: Fastest | None, product: Run, repeats: int, peak: float
) -> dict[str, Any]:
  """The figures of a case.

  Args:
    case: ours, warm.
    theirs: None = nothing to compare with.
    product: the matrix product, in turns with both: the machine may be faster now than at first.
    repeats: timed runs.
    peak: operations per second of the matrix product at first.
  """
  runs = [case.run, product] if theirs is None else [case.run, theirs.run, product]
  *seconds, of_products = in_turns(runs, repeats)
  peak = max(peak, matmul_flops(of_products))
  rate = None if case.flops is None else case.flops / statistics.median(seconds[0])
  figures = {
    **speed(seconds[0], case.images),
    'flops_per_sec': rate,
    'matmul_flops': peak,
    'share_of_matmul_peak': None if rate is None else rate / peak,
    'ratio_vs_torch': None,
  }
  if theirs is None:
    return figures
  ratios = [b / a for a, b in zip(*seconds, strict=True)]
  return figures | {
    'ratio_vs_torch': statistics.median(ratios),
    'ratio_quartiles': quartiles(ratios),
    'torch': {'variant': theirs.variant, 'tried': theirs.tried, **speed(seconds[1], case.images)},
  }


def speed(seconds: Sequence[float], images: int) -> dict[str, Any]:
  """Of runs that process so many images."""
  middle = statistics.median(seconds)
  return {'images_per_sec': images / middle, 'seconds': middle, 'seconds_quartiles': quartiles(seconds)}


def in_words(figures: dict[str, Any], settings: dict[str, Any]) -> str:
  """The figures of a case as the rest of its line."""
  text = f'{figures["images_per_sec"]:9.1f} images/s'
  if figures['share_of_matmul_peak'] is not None:
    text += f'  {figures["share_of_matmul_peak"]:.0%} of the matrix product rate'
  if figures['ratio_vs_torch'] is not None:
    lower, upper = figures['ratio_quartiles']
    theirs = figures['torch']
    text += f'  {figures["ratio_vs_torch"]:.2f} times ({lower:.2f} to {upper:.2f}) the '
    text += f'{theirs["images_per_sec"]:.1f} of PyTorch ({theirs["variant"]})'
  return text + f'  ({", ".join(f"{key} {value}" for key, value in settings.items())})'


def describe_machine(
  repeats: int, torch: 'TorchProcess | None', precision: str = 'float32'
) -> dict[str, Any]:
  """Versions, processor, load of the last minute, rate of matrix products: of jax, or the better of both."""
  machine = environment() | {'processor': processor(), 'load': os.getloadavg()[0]}
  rates = {'jax': matmul_rate(matmul(precision), repeats)}
  if torch is not None:
    rates['torch'] = matmul_rate(torch.matmul(peak_size()), repeats)
    machine['torch'] = torch.environment()
  return machine | {'matmul_flops': max(rates.values()), 'matmul_flops_of': rates}


def peak_size() -> int:
  return PEAK_SIZE if jax.default_backend() == 'cpu' else PEAK_SIZE * ON_ACCELERATORS


def matmul(precision: str) -> Run:
  """A product of two matrices of side `peak_size()`."""
  x = jnp.ones((peak_size(), peak_size()), precision)
  product = jax.jit(jnp.matmul)
  return lambda: product(x, x)


def matmul_rate(run: Run, repeats: int) -> float:
  """Operations per second of such a product."""
  for _ in ('compiles', 'warms up'):
    seconds_of(run)
  return matmul_flops(in_turns([run], repeats)[0])


def matmul_flops(seconds: Sequence[float]) -> float:
  """Operations per second of products that took so long each."""
  return 2 * peak_size() ** 3 / statistics.median(seconds)


def processor() -> str:
  """Its name, where the system tells it."""
  file = Path('/proc/cpuinfo')
  lines = file.read_text().splitlines() if file.exists() else []
  names = [line.split(':', 1)[1].strip() for line in lines if line.startswith('model name')]
  return names[0] if names else platform.processor() or platform.machine()
