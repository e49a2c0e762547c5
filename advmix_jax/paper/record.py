"""What was run, as `docs/results/NAME.json` has it: rows, and all that one needs to run it again."""

import json
import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from advmix_jax.config_keys import fixed_keys
from advmix_jax.paper.published import RESULTS
from advmix_jax.paper.rows import fault_of, make_rows, misfit
from advmix_jax.stages import clock
from advmix_jax.sweep.collect import SEED_KEYS, seed_keys
from advmix_jax.sweep.naming import hash_of
from advmix_jax.sweep.plan import MEMBER, Plan
from advmix_jax.sweep.state import DONE, Seen
from advmix_jax.types import BadInputError
from advmix_jax.workdir import read_json, write_json

NOT_NOTED = 'not noted'
NOTES = 'reproduce.json'  # In the sweep's folder: where and with which code its runs were begun.
KEYS: dict[str, type] = {
  'rows': list,
  'command': str,
  'commit': str,
  'versions': dict,
  'machine': str,
}
KEYS |= {'variant': str, 'wall_seconds': float, 'seed_keys': list, 'seconds': dict, 'runs': dict}
KEYS |= {'other_versions': list, 'setup': dict}


def note(out: Path, machine: str, commit: str) -> None:
  """Adds this machine and this code to the folder's notes."""
  here, notes = {'machine': machine, 'commit': commit}, read_notes(out)
  if here not in notes:
    write_json(out / NOTES, [*notes, here])


def read_notes(out: Path) -> list[dict[str, str]]:
  """What `note` kept; [] for a folder whose runs `launch.sweep` has made."""
  return read_json(out / NOTES) if (out / NOTES).exists() else []


def make_record(
  name: str, out: Path, plan: Plan, seen: Mapping[str, Seen], command: str, variant: str
) -> dict[str, Any]:
  """The record of one figure or table.

  Args:
    name: of `published.RESULTS`.
    out: folder of the sweep.
    plan: its tasks.
    seen: how these are.
    command: that gives these numbers.
    variant: of the configuration.

  Raises:
    BadInputError: no run is done.
  """
  done = [task for task in plan.members if seen[task.name].state == DONE]
  if not done:
    raise BadInputError(f'--workdir={out}: no run is done, expected at least one with results')
  notes = read_notes(out)
  seconds = stage_seconds(out, plan)
  versions = [read_json(out / task.folder / 'versions.json') for task in done]
  first, *others = distinct(versions)
  return {
    'name': name,
    'variant': variant,
    'configuration': configuration(plan),
    'rows': make_rows(out, plan, seen, RESULTS[name]),
    'command': command,
    'commit': ', '.join(dict.fromkeys(given['commit'] for given in notes)) or NOT_NOTED,
    'machine': '; '.join(dict.fromkeys(given['machine'] for given in notes)) or NOT_NOTED,
    'versions': first,
    'other_versions': others,
    'setup': setup(plan.configs[done[0].name]),
    'wall_seconds': sum(seconds.values()),
    'seconds': seconds,
    'seed_keys': seed_keys(plan) or ['seed'],
    'runs': {  # By what their results depend on.
      'done': sorted(task.hash for task in done),
      'planned': sorted(task.hash for task in plan.members),
    },
  }


def of_seeds(command: str, rows: Iterable[Mapping[str, Any]], every: Sequence[str]) -> str:
  """The command that gives the numbers of these rows: with --seeds where they lack one of `every`."""
  own = {str(seed) for row in rows for seed in row['seeds']}
  bare = command.partition(' --seeds=')[0]
  return bare if own.issuperset(every) else f'{bare} --seeds={",".join(s for s in every if s in own)}'


def distinct(versions: list[dict[str, Any]]) -> list[dict[str, Any]]:
  """Each once, in the order in which they first come."""
  return [given for i, given in enumerate(versions) if given not in versions[:i]]


def configuration(plan: Plan) -> str:
  """A hash of all on which the numbers depend but for the seeds and the code."""
  settings = {
    hash_of({key: value for key, value in fixed_keys(config).items() if key not in SEED_KEYS})
    for config in (plan.configs[task.name] for task in plan.members)
  }
  return hash_of({'settings': sorted(settings)})


def stage_seconds(out: Path, plan: Plan) -> dict[str, float]:
  """Seconds by stage, of all runs and of what they share, over all the processes that these took.

  Stages that somebody had a run do besides, such as its diagnosis, do not count.
  """
  total: dict[str, float] = {}
  for task in plan.tasks.values():
    own = clock.read_seconds(out / task.folder)
    counted = plan.configs[task.name]['stages'] if task.kind == MEMBER else (task.kind,)
    for stage in own.keys() & counted:
      total[stage] = total.get(stage, 0.0) + own[stage]
  return total


def setup(config: Mapping[str, Any]) -> dict[str, str]:
  """What a reader must know of the sizes of a run, in words; {} of figure 4."""
  if 'toy' in config['stages']:
    return {}
  data, encode, attack, evaluate = (config[key] for key in ('data', 'encode', 'attack', 'evaluate'))
  generator, features = config['generator'], encode['features']
  found = {
    'training images': str(data['num_train'] or 'all'),
    'epochs': f'{config["train"]["num_epochs"]:g}',
    'classifier': config['train']['classifier'],
    'generator': f'{generator["total_kimg"]:g} kimg, w of {generator["w_size"]}',
    'encoder': f'{encode["num_steps"]} steps ({encode["rule"]}) from {encode["init"]}, features {features}',
    'attack in training': f'{attack["num_restarts"]} × {attack["num_steps"]}, ε = {attack["epsilon"]:g}',
    'in evaluation': f'{evaluate["num_restarts"]} × {evaluate["num_steps"]}',
    'mixing level': str(attack['mixing_level']),
  }
  if generator['path']:
    found['generator'] = 'given'
  return found | ({'crop': data['crop']} if data['name'] == 'celeba' else {})


def commit_of(folder: Path) -> str:
  """The commit that is checked out there; `unknown` where that is no repository."""

  def ask(*arguments: str) -> str:
    command = ['git', '-C', str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

  try:
    changed = ask('status', '--porcelain', '--untracked-files=no')
    return ask('rev-parse', '--short=12', 'HEAD') + (' with changes' if changed else '')
  except (OSError, subprocess.CalledProcessError):
    return 'unknown'


def describe_machine(processor: str, cores: int) -> str:
  return f'{processor}, {cores} cores, {platform.system()}'


def read_record(file: Path) -> dict[str, Any]:
  """Raises `BadInputError` for a file that is no record."""
  expected = 'expected a file of launch.reproduce --record'
  try:
    found: Any = json.loads(file.read_text())
  except (OSError, ValueError) as error:
    raise BadInputError(f'{file}: {error}, {expected}') from error
  if not isinstance(found, dict):
    raise BadInputError(f'{file}: found {type(found).__name__}, {expected}')
  if fault := misfit(found, KEYS):
    raise BadInputError(f'{file}: {fault}, {expected}')
  if not found['runs'].keys() >= {'done', 'planned'}:
    raise BadInputError(f'{file}: runs has {", ".join(found["runs"]) or "no key"}, expected done and planned')
  for number, row in enumerate(found['rows']):
    if fault := fault_of(row):
      raise BadInputError(f'{file}: row {number}: {fault}, {expected}')
  if found.get('name') not in RESULTS:
    raise BadInputError(f'{file}: name is {found.get("name")!r}, expected one of {", ".join(RESULTS)}')
  return found
