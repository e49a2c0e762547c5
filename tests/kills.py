"""Kills a run again and again, at random moments and while files are being written, until it is done.

  python -m tests.kills --kills=50 --out=DIR
  python -m tests.kills --kills=50 --out=DIR --processes=2
  python -m tests.kills --kills=50 --out=DIR --config=configs/smoke.py:variant --config.seed=1

runs the configuration once without a break in DIR/whole and once with in DIR/broken, and compares the two.
With several processes all of them are killed, or one. What is not a flag of this program goes to
`launch.pipeline`.
"""

import argparse
import collections
import contextlib
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from advmix_jax.workdir import read_metrics
from tests import ports, processes

ROOT = pathlib.Path(__file__).parents[1]
MOMENTS = ('starting', 'random', 'random', 'writing', 'writing')
UNFINISHED = re.compile(r'\..+\.\d+\.tmp(\.\w+)?|.*\.orbax-checkpoint-tmp.*')


class Kill(NamedTuple):
  """One of them.

  Attributes:
    number: the signal.
    moment: 'starting' | 'random' | 'writing', while a file that is not whole was there.
    victims: numbers of the processes that it was sent to.
    seconds: after the start, or for the last two after the first words.
    until_end: seconds from there until all processes had ended.
    statuses: with which they ended.
    said: last line of output of each.
  """

  number: signal.Signals
  moment: str
  victims: tuple[int, ...]
  seconds: float
  until_end: float
  statuses: tuple[int, ...]
  said: tuple[str, ...]


def unfinished(folder: pathlib.Path) -> list[pathlib.Path]:
  """Files and checkpoints that are being written, or that a kill has left."""
  with contextlib.suppress(FileNotFoundError):  # It goes on under our eyes.
    return [path for path in folder.rglob('*') if UNFINISHED.fullmatch(path.name)]
  return []


def kill_until_done(
  commands_fn: Callable[[], Sequence[Sequence[str]]],
  workdir: pathlib.Path,
  count: int,
  seed: int,
  longest: float,
  environment: dict[str, str] | None = None,
  patience: float = 600.0,
  said_fn: Callable[[Kill], None] = lambda kill: None,
) -> list[Kill]:
  """Starts the processes of a run and kills it, up to `count` times, then lets it end.

  Args:
    commands_fn: what to start, a command for each process; it goes on where it was stopped.
    workdir: its folder.
    count: of kills.
    seed: of signals, moments and victims.
    longest: seconds until a kill, from the start or the first words.
    environment: of the commands.
    patience: seconds for processes that are not killed.
    said_fn: called after each kill.

  Returns:
    The kills.

  Raises:
    AssertionError: a process ended as it should not, with what it said.
  """
  chance = random.Random(seed)
  kills: list[Kill] = []
  while True:
    number = chance.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGUSR2))
    moment, seconds = chance.choice(MOMENTS), chance.uniform(0.0, longest)
    group = chance.random() < 0.5  # As Slurm and a terminal do it.
    started = begin(commands_fn(), workdir, environment)
    try:
      victims = [*range(len(started))] if group else [chance.randrange(len(started))]
      if moment != 'starting':
        wait_for_words(started, workdir, patience)
      start = time.monotonic()
      writing = workdir if moment == 'writing' else None
      if len(kills) == count or have_ended(started, start, seconds, writing, longest):
        statuses = [process.wait(patience) for process in started]
        assert not any(statuses), said(workdir, len(started))
        return kills
      for victim in victims:
        signal_one(started[victim], number, group)
      at = time.monotonic() - start
      statuses = [process.wait(patience) for process in started]
    finally:
      for process in started:
        process.kill()
    ends = tuple((text.splitlines() or [''])[-1] for text in said(workdir, len(started)))
    until_end = time.monotonic() - start - at
    kills.append(Kill(number, moment, tuple(victims), at, until_end, tuple(statuses), ends))
    said_fn(kills[-1])
    for i, status in enumerate(statuses):
      assert status in expected_of(number, i in victims, bool(ends[i])), (
        kills[-1],
        said(workdir, len(started)),
      )


def expected_of(number: signal.Signals, is_victim: bool, spoke: bool) -> tuple[int, ...]:
  """How a process may end: 0 where it was done just before, 1 where it lost the others."""
  if not is_victim:
    return (75, 0, 1)
  if number == signal.SIGKILL:
    return (-number, 0)
  return (75, 0) if spoke else (75, 0, -number)  # Before its first word Python may still be starting.


def begin(
  commands: Sequence[Sequence[str]], workdir: pathlib.Path, environment: dict[str, str] | None
) -> list[subprocess.Popen]:
  """Starts a run; what its processes say goes to files beside its folder."""
  started = []
  for i, command in enumerate(commands):
    with output_file(workdir, i).open('w') as file:
      started.append(
        subprocess.Popen(command, cwd=ROOT, env=environment, stdout=file, stderr=file, start_new_session=True)
      )
  return started


def output_file(workdir: pathlib.Path, process: int) -> pathlib.Path:
  return workdir.with_name(f'{workdir.name}.{process}.output')


def said(workdir: pathlib.Path, number: int) -> list[str]:
  """What each of so many processes said."""
  return [output_file(workdir, i).read_text(errors='replace') for i in range(number)]


def signal_one(process: subprocess.Popen, number: signal.Signals, group: bool) -> None:
  if process.poll() is not None:
    return
  if group:
    os.killpg(process.pid, number)
  else:
    process.send_signal(number)


def wait_for_words(started: Sequence[subprocess.Popen], workdir: pathlib.Path, patience: float) -> None:
  """Python and its libraries have started when the first process says something."""
  deadline = time.monotonic() + patience
  while not said(workdir, 1)[0] and all(process.poll() is None for process in started):
    assert time.monotonic() < deadline, f'nothing said within {patience} s'
    time.sleep(0.02)


def have_ended(
  started: Sequence[subprocess.Popen],
  start: float,
  seconds: float,
  writing: pathlib.Path | None,
  longest: float,
) -> bool:
  """Waits so many seconds and then, if a folder is given, until something is being written there, for as long
  again as `longest` at most. Whether a process has ended by itself."""
  while (ended := any(process.poll() is not None for process in started)) is False:
    now = time.monotonic() - start
    if now >= seconds and (writing is None or now >= seconds + longest or unfinished(writing)):
      break
    time.sleep(0.002 if now >= seconds else 0.02)
  return ended


def differences(whole: pathlib.Path, broken: pathlib.Path) -> list[str]:
  """What a run with breaks left otherwise than one without, and what it should not have left."""
  found = [f'{path} is left' for path in unfinished(broken)]
  for name in ('results.json', 'data.npz', 'config.json'):
    if (whole / name).read_bytes() != (broken / name).read_bytes():
      found.append(f'{name} differs')
  for path in sorted(whole.glob('*/**/*.safetensors')) + sorted(whole.glob('encode/*/*.npz')):
    other = broken / path.relative_to(whole)
    if not other.exists() or other.read_bytes() != path.read_bytes():
      found.append(f'{other} differs')
  if of_training(whole) != of_training(broken):
    found.append('metrics.jsonl differs')
  names = [{str(p.relative_to(f)) for p in f.rglob('*.*') if is_lasting(p)} for f in (whole, broken)]
  return found + [f'{name} is in one of them alone' for name in sorted(names[0] ^ names[1])]


def of_training(folder: pathlib.Path) -> dict[str, dict[int, float]]:
  """Metrics by name and step, but for those of time."""
  metrics = read_metrics(folder / 'metrics.jsonl')
  return {name: values for name, values in metrics.items() if not name.startswith('timing/')}


def is_lasting(path: pathlib.Path) -> bool:
  """Whether a file is there after every run; checkpoints and events depend on when it was killed."""
  return path.is_file() and not {'checkpoints', 'events', 'lock'} & set(path.parts)


def main() -> None:
  parser = argparse.ArgumentParser(prog='python -m tests.kills', description=__doc__.split('\n')[0])
  parser.add_argument('--kills', type=int, default=50)
  parser.add_argument('--out', type=pathlib.Path, required=True)
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument(
    '--longest',
    type=float,
    default=5.0,
    help='seconds from the start or the first words to a kill (%(default)s)',
  )
  parser.add_argument('--processes', type=int, default=1, help='of the run')
  options, flags = parser.parse_known_args()
  if not any(flag.startswith('--config=') for flag in flags):
    flags.insert(0, '--config=configs/smoke.py')
  options.out.mkdir(parents=True, exist_ok=True)
  whole, broken = options.out.absolute() / 'whole', options.out.absolute() / 'broken'

  def commands(workdir: pathlib.Path) -> list[list[str]]:
    command = [sys.executable, '-m', 'launch.pipeline', *flags, f'--workdir={workdir}']
    if options.processes == 1:
      return [command]
    port, number = ports.free_ports(1)[0], options.processes
    return [[*command, *processes.address_flags(port, i, number)] for i in range(number)]

  if not (whole / 'results.json').exists():
    statuses = [process.wait() for process in begin(commands(whole), whole, None)]
    assert not any(statuses), said(whole, options.processes)
  kills = kill_until_done(
    lambda: commands(broken),
    broken,
    options.kills,
    options.seed,
    options.longest,
    said_fn=lambda kill: print(
      f'{kill.number.name} {kill.moment} to {kill.victims} after {kill.seconds:.2f} s: {kill.statuses} '
      f'within {kill.until_end:.1f} s; {kill.said}',
      flush=True,
    ),
  )
  print(len(kills), 'kills:', dict(collections.Counter((kill.number.name, kill.moment) for kill in kills)))
  found = differences(whole, broken)
  print('\n'.join(found) or 'as without a break')
  sys.exit(bool(found))


if __name__ == '__main__':
  main()
