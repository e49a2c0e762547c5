"""What a sweep has to do: one task for each member, and one for each stage that several members share.

A sweep's folder holds

    NAME/                   the workdir of a member, named by the keys in which the members differ
    shared/gan-HASH/        a workdir in which a generator is trained for all members of that hash
    shared/encode-HASH/     a workdir in which their data is encoded
    sweep/plan.json         the tasks; sweep/configs/TASK.json their configurations, as they were planned
    sweep/state/TASK.json   what became of them; sweep/logs/TASK.log what they printed

A member finds what it shares where it would have made it itself, through a link.
"""

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from advmix_jax.config_keys import ADDED, FREE_KEYS, differences, fixed_keys, flatten, unflatten
from advmix_jax.sweep.naming import Changes, hash_of, name_members
from advmix_jax.types import BadInputError
from advmix_jax.workdir import read_json, remove_leftovers, write_json

# The keys on which what a stage writes depends; a key stands for all below it. Those that change nothing
# (`FREE_KEYS`) do not count, unless the members differ in them.
OF_GENERATOR = ('seed', 'precision', 'remat', 'data', 'generator')
DEPENDS_ON = {
  'train_gan': OF_GENERATOR,  # And grids of samples on the mixing level: they are the first member's.
  'encode': (*OF_GENERATOR, 'encode', 'attack.mixing_level', 'evaluate.split', 'evaluate.num_examples'),
}
FOLDER_OF = {'train_gan': 'gan', 'encode': 'encode'}  # What a stage writes, in a workdir.
MEMBER = 'member'


class Task(NamedTuple):
  """Something to be run in a process of its own.

  Attributes:
    name: unique in the sweep.
    kind: `member`, or the stage that members share.
    folder: its workdir, relative to the sweep's.
    needs: names of the tasks that must be done before.
    changes: flat keys in which a member differs from the configuration of the sweep; {} for a stage.
    hash: of everything that its results depend on.
    products: files, relative to `folder`, that are there when it is done.
  """

  name: str
  kind: str
  folder: str
  needs: tuple[str, ...]
  changes: Changes
  hash: str
  products: tuple[str, ...]


class Plan(NamedTuple):
  """All of a sweep.

  Attributes:
    source: the file it is from, with its variant.
    tasks: by name; what is needed comes before what needs it.
    configs: their configurations as JSON has them; of a plan that is read also those of earlier ones.
    threads: of each process; None = as many as it finds.
  """

  source: str
  tasks: dict[str, Task]
  configs: dict[str, dict]
  threads: int | None

  @property
  def members(self) -> list[Task]:
    return [task for task in self.tasks.values() if task.kind == MEMBER]


def make_plan(
  source: str,
  base: ConfigDict,
  changes: Iterable[Changes],
  check: Callable[[ConfigDict], None],
  threads: int | None,
  before: Plan | None = None,
  chosen: Collection[Changes] | None = None,
) -> Plan:
  """Plans the members and what they share.

  Args:
    source: the file the sweep is from.
    base: what the members have in common.
    changes: of each member.
    check: raises `BadInputError` for a configuration that cannot be run.
    threads: see `Plan`.
    before: an earlier plan of the same folder: a member that it has keeps its folder, whatever others there
      are now.
    chosen: of `changes`, the members to plan beside those that `before` has; None = all.

  Raises:
    BadInputError: names the member that cannot be run, or that is there already with other keys.
  """
  all_changes = [dict(given) for given in changes]
  if not all_changes:
    raise BadInputError(f'{source}: sweep(add) added no member, expected at least one call of add(**keys)')
  names = name_members(base, all_changes)
  configs = [
    json.loads(member_config(name, base, given, check).to_json())
    for name, given in zip(names, all_changes, strict=True)
  ]
  swept_free = {key for given in all_changes for key in given if is_within(key, FREE_KEYS)}
  flats = [kept_keys(config, swept_free) for config in configs]
  hashes = [hash_of(flat) for flat in flats]
  for i, value in enumerate(hashes):
    if hashes.index(value) != i:
      raise BadInputError(
        f'the members {names[hashes.index(value)]} and {names[i]} have the same configuration'
      )
  if before is not None:
    names = [kept_name(before, *given) for given in zip(names, hashes, configs, strict=True)]

  uses = {
    i: {stage: hash_of(depended_on(flats[i], stage)) for stage in FOLDER_OF if stage in configs[i]['stages']}
    for i, given in enumerate(all_changes)
    if chosen is None or given in chosen or (before is not None and names[i] in before.tasks)
  }
  users = Counter(used for by_stage in uses.values() for used in by_stage.items())
  tasks: dict[str, Task] = {}
  planned: dict[str, dict] = {}
  for i in uses:
    name = names[i]
    needs: tuple[str, ...] = ()
    for stage, value in uses[i].items():
      if users[stage, value] < 2:
        continue
      shared = f'{FOLDER_OF[stage]}-{value}'
      if shared not in tasks:
        made = products(stage, configs[i])
        tasks[shared] = Task(shared, stage, f'shared/{shared}', needs, {}, value, made)
        planned[shared] = shared_config(configs[i], before, shared)
      needs = (*needs, shared)
    tasks[name] = Task(name, MEMBER, name, needs, all_changes[i], hashes[i], products(MEMBER, configs[i]))
    planned[name] = configs[i]
  return Plan(source, tasks, planned, threads)


def part(plan: Plan, chosen: Collection[Changes]) -> Plan:
  """The members with these changes, and what they need."""
  members = {task.name: task for task in plan.members if task.changes in chosen}
  needed = {name for task in members.values() for name in task.needs}
  return plan._replace(tasks={n: task for n, task in plan.tasks.items() if n in members or n in needed})


def kept_name(before: Plan, name: str, value: str, config: dict) -> str:
  """The folder that a member of this hash has already, or else `name`.

  Raises:
    BadInputError: if that folder is another member's.
  """
  for task in before.members:
    if task.hash == value:
      return task.name
  if name in before.tasks and (
    differing := differences(fixed_keys(before.configs[name]), fixed_keys(config))
  ):
    raise BadInputError(
      f'member {name} was planned with another configuration: {differing}; choose another --out'
    )
  return name


def shared_config(config: dict, before: Plan | None, name: str) -> dict:
  """Of a shared stage: that of its first member, but for keys that the stage does not depend on: where it was
  planned before, these stay as they are in its folder."""
  if before is None or name not in before.configs:
    return config
  return unflatten(flatten(config) | ADDED | fixed_keys(before.configs[name]))


def member_config(
  name: str, base: ConfigDict, changes: Changes, check: Callable[[ConfigDict], None]
) -> ConfigDict:
  """The configuration of a member; raises `BadInputError`, with its name, if it cannot be run."""
  config = base.copy_and_resolve_references().lock()
  try:
    config.update_from_flattened_dict(changes)
    check(config)
  except BadInputError as error:
    raise BadInputError(f'member {name}: {error}') from None
  except KeyError as error:
    raise BadInputError(f'member {name}: unknown configuration key {error.args[0]}') from None
  except (TypeError, ValueError) as error:
    raise BadInputError(f'member {name}: {error}') from None
  return config


def products(kind: str, config: dict) -> tuple[str, ...]:
  """Files that are there when a task of this kind is done."""
  if kind == 'train_gan':
    return ('gan/generator.safetensors',)
  if kind == 'encode':
    return tuple(f'encode/{part}/manifest.json' for part in ('train', config['evaluate']['split']))
  return ('results.json',) if 'evaluate' in config['stages'] else ()


def is_within(key: str, owners: Iterable[str]) -> bool:
  """Whether a flat key is one of `owners`, or below one."""
  return any(key == owner or key.startswith(f'{owner}.') for owner in owners)


def kept_keys(config: dict, swept_free: Iterable[str]) -> dict[str, Any]:
  """The flat keys that tell members apart."""
  flat = flatten(config)
  return fixed_keys(config) | {key: flat[key] for key in swept_free}


def depended_on(flat: dict[str, Any], stage: str) -> dict[str, Any]:
  """Those of the flat keys on which what a stage writes depends."""
  found = {key: value for key, value in flat.items() if is_within(key, (*DEPENDS_ON[stage], *FREE_KEYS))}
  if not uses_labels(flat):
    found.pop('data.attribute', None)
  return found


def uses_labels(flat: dict[str, Any]) -> bool:
  """Whether labels count before the classifier: which images are drawn, or what the generator is told."""
  drawn_by_class = flat.get('data.draw') != 'uniform' or len(flat['data.generator_classes']) > 0
  return drawn_by_class or flat['generator.conditional']


def config_file(out: Path, name: str) -> Path:
  return out / 'sweep' / 'configs' / f'{name}.json'


def log_file(out: Path, name: str) -> Path:
  return out / 'sweep' / 'logs' / f'{name}.log'


def plan_file(out: Path) -> Path:
  return out / 'sweep' / 'plan.json'


def save_plan(out: Path, plan: Plan) -> None:
  """Writes the plan and the configurations; the plan last. For the process that holds the sweep's folder."""
  remove_leftovers(config_file(out, '').parent)
  for half in plan_file(out).parent.glob('.plan.json.*'):
    half.unlink()  # Not of all the folder: jobs of Slurm write their states at any time.
  for name, config in plan.configs.items():
    write_json(config_file(out, name), config)
  tasks = [task._asdict() | {'changes': list(task.changes.items())} for task in plan.tasks.values()]
  write_json(plan_file(out), {'source': plan.source, 'threads': plan.threads, 'tasks': tasks})


def has_plan(out: Path) -> bool:
  """Raises `BadInputError` for a folder that cannot be read."""
  try:
    return plan_file(out).exists()
  except OSError as error:
    raise BadInputError(f'--out={out} cannot be read: {error.strerror}') from error


def load_plan(out: Path) -> Plan:
  """Raises `BadInputError` if there is none, or the configuration of a task is gone."""
  if not has_plan(out):
    raise BadInputError(f'--out={out}: {plan_file(out)} is missing, expected the folder of a sweep')
  found = read_json(plan_file(out))
  tasks = {
    given['name']: Task(
      **given
      | {key: tuple(given[key]) for key in ('needs', 'products')}
      | {'changes': dict(given['changes'])}  # Written as pairs, so that they keep their order.
    )
    for given in found['tasks']
  }
  files = config_file(out, '').parent.glob('[!.]*.json')
  configs = {file.name.removesuffix('.json'): read_json(file) for file in files}
  for name in tasks:
    if name not in configs:
      missing = config_file(out, name)
      raise BadInputError(f'--out={out}: {missing} is missing, expected every configuration that was planned')
  return Plan(found['source'], tasks, configs, found['threads'])
