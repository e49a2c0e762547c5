"""Where the time of a case goes, from jax's profiler: by kind of work and by part of the networks.

The profiler names instructions of the compiled program; its text says what they are. On a CPU with several
threads it does not see what convolutions do in the threads that help: `launch.benchmark` leaves jax one, with
which what is seen is the whole run (`run_milliseconds` says so).
"""

import collections
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax.profiler import ProfileData

from advmix_jax import parallel
from advmix_jax.bench import hlo, kinds, reference_cases
from advmix_jax.types import BadInputError

RUNS = 3
LISTED = 12  # Of the slowest instructions.


class Spent(NamedTuple):
  """Milliseconds of an instruction in one run."""

  instruction: hlo.Instruction
  milliseconds: float


def profile_cases(names: Sequence[str], networks: reference_cases.Networks | None = None) -> dict[str, Any]:
  """Profiles of the named cases of the benchmark, each printed as a table.

  Raises:
    BadInputError: for a name that is not in `reference_cases.CASES`.
  """
  for name in names:
    if name not in reference_cases.CASES:
      raise BadInputError(f'--profile: found {name!r}, expected some of {", ".join(reference_cases.CASES)}')
  reference = reference_cases.Reference(networks or reference_cases.Networks())
  found = {}
  for name in names:
    before = executables()
    case = reference_cases.CASES[name](reference)
    for _ in ('compiles', 'warms up'):
      jax.block_until_ready(case.run())
    new = [program for program in executables() if not any(program is old for old in before)]
    texts = [module.to_string() for program in new for module in program.hlo_modules()]
    found[name] = profile(case.run, sorted(texts, key=len, reverse=True))
    print(in_words(name, found[name]), flush=True)
  return found


def executables() -> list[Any]:
  """The programs that were compiled and are still there; equal ones are one object."""
  return parallel.client().live_executables()


def profile(run: Callable[[], Any], programs: Iterable[str]) -> dict[str, Any]:
  """Runs a warm function under the profiler.

  Args:
    run: returns what must be waited for.
    programs: HLO of what it runs, the largest first; a name that several have is taken to be the first's.

  Returns:
    `{'by_kind': [...], 'by_part': [...], 'slowest': [...], 'milliseconds', 'run_milliseconds'}`: rows with
    `name`, `milliseconds` of one run and `share`, largest first; their sum, and how long a run took.
  """
  parsed = [hlo.parse(text) for text in programs]
  data, run_milliseconds = traced(run)
  spent = times(parsed, data)
  by_kind: collections.defaultdict[str, float] = collections.defaultdict(float)
  by_part: collections.defaultdict[str, float] = collections.defaultdict(float)
  slowest = []
  for program, found in zip(parsed, spent, strict=True):
    convolved = kinds.modules_that_convolve(program)
    for instruction, milliseconds in found:
      kind = kinds.kind_of(program, instruction, convolved)
      part = kinds.part_of(instruction.op_name)
      by_kind[kind] += milliseconds
      by_part[part] += milliseconds
      slowest.append((milliseconds, f'{part}: {kind} {instruction.shape.split("{")[0]} ({instruction.name})'))
  total = sum(by_kind.values())
  slowest = sorted(slowest, reverse=True)[:LISTED]
  return {
    'milliseconds': total,
    'run_milliseconds': run_milliseconds,
    'by_kind': rows(largest(by_kind), total),
    'by_part': rows(largest(by_part), total),
    'slowest': rows([(name, milliseconds) for milliseconds, name in slowest], total),
  }


def largest(times: dict[str, float]) -> list[tuple[str, float]]:
  return sorted(times.items(), key=lambda pair: -pair[1])


def rows(pairs: Iterable[tuple[str, float]], total: float) -> list[dict[str, Any]]:
  return [
    {'name': name, 'milliseconds': value, 'share': value / total if total else 0.0} for name, value in pairs
  ]


def traced(run: Callable[[], Any]) -> tuple[ProfileData, float]:
  """What the profiler saw of `RUNS` runs, and the milliseconds of one of them."""
  with tempfile.TemporaryDirectory() as folder:
    with jax.profiler.trace(folder):
      start = time.perf_counter()
      for _ in range(RUNS):
        jax.block_until_ready(run())
      milliseconds = 1e3 * (time.perf_counter() - start) / RUNS
    (file,) = Path(folder).rglob('*.xplane.pb')
    return ProfileData.from_file(str(file)), milliseconds


def times(programs: list[hlo.Program], data: ProfileData) -> list[list[Spent]]:
  """Milliseconds in one run of each instruction that was seen, by program, without `kinds.CONTROL`."""
  named = [{i.name: i for lines in program.values() for i in lines} for program in programs]
  totals: list[dict[str, float]] = [collections.defaultdict(float) for _ in programs]
  for plane in data.planes:
    for line in plane.lines:
      for event in line.events:
        name = str(dict(event.stats).get('hlo_op', event.name))
        at = next((at for at, known in enumerate(named) if name in known), None)
        if at is not None and named[at][name].opcode not in kinds.CONTROL:
          totals[at][name] += event.duration_ns / 1e6 / RUNS
  return [
    [Spent(known[name], value) for name, value in total.items()]
    for known, total in zip(named, totals, strict=True)
  ]


def in_words(name: str, figures: dict[str, Any]) -> str:
  """A table for the terminal."""
  lines = [f'{name}: {figures["milliseconds"]:.1f} ms seen of a run of {figures["run_milliseconds"]:.1f} ms']
  for title, key in (('kind of work', 'by_kind'), ('part', 'by_part'), ('slowest', 'slowest')):
    lines += ['', f'  {title}']
    lines += [f'  {row["share"]:6.1%} {row["milliseconds"]:9.2f} ms  {row["name"]}' for row in figures[key]]
  return '\n'.join(lines)
