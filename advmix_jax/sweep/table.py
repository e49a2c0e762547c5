"""How a sweep stands, as text."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from advmix_jax.progress import clock
from advmix_jax.sweep.plan import Plan, log_file
from advmix_jax.sweep.state import FAILED, STATES, Seen


def count(seen: Mapping[str, Seen]) -> str:
  """`3 done, 1 running, 2 planned`."""
  counts = Counter(found.state for found in seen.values())
  return ', '.join(f'{counts[name]} {name}' for name in STATES if counts[name])


def planned(plan: Plan, seen: Mapping[str, Seen]) -> str:
  """What would be run, in order, and what each needs."""
  lines = [f'{plan.source}: {len(plan.members)} members, {len(plan.tasks) - len(plan.members)} shared stages']
  for task in plan.tasks.values():
    needs = f'  (needs {", ".join(task.needs)})' if task.needs else ''
    lines.append(f'{seen[task.name].state:8} {task.name}{needs}')
  return '\n'.join(lines)


def status(out: Path, plan: Plan, seen: Mapping[str, Seen]) -> str:
  """How each task is: state, time spent, what to know about it."""
  members = {task.name: seen[task.name] for task in plan.members}
  shared = {name: found for name, found in seen.items() if name not in members}
  heading = f'{plan.source} in {out}: {len(members)} members: {count(members)}'
  if shared:
    heading += f'; {len(shared)} shared stages: {count(shared)}'
  width = max(len(name) for name in seen)
  lines = [heading]
  for name, found in seen.items():
    time = clock(found.seconds) if found.seconds else ''
    lines.append(f'{found.state:8} {name:{width}} {time:>8}  {found.note}'.rstrip())
    if found.state == FAILED:
      lines.append(f'{"":8} {"":{width}} {"":>8}  log: {log_file(out, name)}')
  return '\n'.join(lines)
