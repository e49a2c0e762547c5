"""Kills a run again and again, at random moments and while files are being written, until it is done.

  python -m tests.kills --kills=50 --out=DIR
  python -m tests.kills --kills=50 --out=DIR --config=configs/smoke.py:variant --config.seed=1

runs the configuration once without a break in DIR/whole and once with in DIR/broken, and compares the two.
What is not a flag of this program goes to `launch.pipeline`.
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

ROOT = pathlib.Path(__file__).parents[1]
UNFINISHED = re.compile(r'\..+\.\d+\.tmp(\.\w+)?|.*\.orbax-checkpoint-tmp.*')


class Kill(NamedTuple):
  """One of them.

  Attributes:
    number: the signal.
    moment: 'random' | 'writing', while a file that is not whole was there.
    seconds: after the start.
    status: with which the process ended.
    said: its last line of output.
  """

  number: signal.Signals
  moment: str
  seconds: float
  status: int
  said: str


def unfinished(folder: pathlib.Path) -> list[pathlib.Path]:
  """Files and checkpoints that are being written, or that a kill has left."""
  with contextlib.suppress(FileNotFoundError):  # It goes on under our eyes.
    return [path for path in folder.rglob('*') if UNFINISHED.fullmatch(path.name)]
  return []


def kill_until_done(
  command: Sequence[str],
  workdir: pathlib.Path,
  count: int,
  seed: int,
  longest: float,
  environment: dict[str, str] | None = None,
  patience: float = 600.0,
  said_fn: Callable[[Kill], None] = lambda kill: None,
) -> list[Kill]:
  """Starts a command and kills it, up to `count` times, then lets it end.

  Args:
    command: that goes on where it was stopped.
    workdir: its folder.
    count: of kills.
    seed: of signals and moments.
    longest: seconds until a kill.
    environment: of the command.
    patience: seconds for a start that is not killed.
    said_fn: called after each kill.

  Returns:
    The kills.

  Raises:
    AssertionError: the command ended as it should not, with what it said.
  """
  chance = random.Random(seed)
  kills: list[Kill] = []
  output = workdir.with_name(f'{workdir.name}.output')
  while True:
    number = chance.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGUSR2))
    moment, seconds = chance.choice(('random', 'writing')), chance.uniform(0.0, longest)
    group = chance.random() < 0.5  # As Slurm and a terminal do it.
    with output.open('w') as file:
      start = time.monotonic()
      process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=file, stderr=file, start_new_session=True
      )
      if len(kills) == count:
        assert process.wait(patience) == 0, output.read_text()
        break
      if wait(process, start, seconds, workdir if moment == 'writing' else None, longest):
        assert process.returncode == 0, output.read_text()
        break
      if group:
        os.killpg(process.pid, number)
      else:
        process.send_signal(number)
      at = time.monotonic() - start
      status = process.wait(patience)
    lines = output.read_text().splitlines()
    kills.append(Kill(number, moment, at, status, lines[-1] if lines else ''))
    said_fn(kills[-1])
    if number == signal.SIGKILL:
      assert status == -number, kills[-1]
    else:
      expected = (75, 0) if lines else (75, 0, -number)  # Before its first word Python may still be starting.
      assert status in expected, f'{kills[-1]}\n{output.read_text()}'
  output.unlink()
  return kills


def wait(
  process: subprocess.Popen, start: float, seconds: float, writing: pathlib.Path | None, longest: float
) -> bool:
  """Waits so many seconds and then, if a folder is given, until something is being written there, for as long
  again as `longest` at most. Whether the process has ended by itself."""
  while (ended := process.poll() is not None) is False:
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
  names = [{str(p.relative_to(f)) for p in f.rglob('*.*') if is_lasting(p)} for f in (whole, broken)]
  return found + [f'{name} is in one of them alone' for name in sorted(names[0] ^ names[1])]


def is_lasting(path: pathlib.Path) -> bool:
  """Whether a file is there after every run; checkpoints and events depend on when it was killed."""
  return path.is_file() and not {'checkpoints', 'events', 'lock'} & set(path.parts)


def main() -> None:
  parser = argparse.ArgumentParser(prog='python -m tests.kills', description=__doc__.split('\n')[0])
  parser.add_argument('--kills', type=int, default=50)
  parser.add_argument('--out', type=pathlib.Path, required=True)
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--longest', type=float, default=10.0, help='seconds from a start to a kill')
  options, flags = parser.parse_known_args()
  if not any(flag.startswith('--config=') for flag in flags):
    flags.insert(0, '--config=configs/smoke.py')
  options.out.mkdir(parents=True, exist_ok=True)
  whole, broken = options.out.absolute() / 'whole', options.out.absolute() / 'broken'
  command = [sys.executable, '-m', 'launch.pipeline', *flags]
  if not (whole / 'results.json').exists():
    subprocess.run([*command, f'--workdir={whole}'], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
  kills = kill_until_done(
    [*command, f'--workdir={broken}'],
    broken,
    options.kills,
    options.seed,
    options.longest,
    said_fn=lambda kill: print(
      f'{kill.number.name} {kill.moment} after {kill.seconds:.2f} s: {kill.status}; {kill.said}', flush=True
    ),
  )
  print(len(kills), 'kills:', dict(collections.Counter((kill.number.name, kill.moment) for kill in kills)))
  found = differences(whole, broken)
  print('\n'.join(found) or 'as without a break')
  sys.exit(bool(found))


if __name__ == '__main__':
  main()
