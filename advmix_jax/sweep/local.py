"""Runs a sweep on this machine: so many processes at a time, the next as soon as one ends.

It ends when nothing is left that can run. A signal is passed on to the processes, which save what they have;
if this process is killed, the kernel asks them to (`process.start`).
"""

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from advmix_jax import interruption, process_identity
from advmix_jax.sweep import member, process, state
from advmix_jax.sweep.plan import MEMBER, Plan, Task, log_file
from advmix_jax.sweep.state import DONE, FAILED, PLANNED, RUNNING

POLL_SECONDS = 0.1
LOOK_SECONDS = 2.0  # Between looks at processes that another launcher has left.
AT_ONCE_SECONDS = 20.0  # A run that is interrupted this soon has not got far ...
MOST_AT_ONCE = 5  # ... and after so many of them in a row something is wrong.

Slot = dict[str, str]  # Variables of the environment that give a process its accelerators.


class Child(NamedTuple):
  """A running task."""

  task: Task
  slot: int
  process: subprocess.Popen[bytes]
  since: float


class Local:
  """The scheduler.

  Args:
    out: absolute path of the sweep's folder.
    plan: what to do.
    slots: one for each process at a time.
    tell: takes a line for the user.
    command: of a task; the sweep's own programs, but for tests.
  """

  def __init__(
    self,
    out: Path,
    plan: Plan,
    slots: list[Slot],
    tell: Callable[[str], None],
    command: Callable[[Path, Task], list[str]] = member.command,
  ):
    self._out, self._plan, self._slots, self._tell, self._command = out, plan, slots, tell, command
    self._children: dict[int, Child] = {}  # By slot.
    self._interruptions: dict[str, int] = {}  # In a row, each at once.
    self._states: dict[str, str] = {}
    # What members share goes first: the last of them would otherwise run beside empty slots.
    self._order = sorted(plan.tasks, key=lambda name: plan.tasks[name].kind == MEMBER)
    self._looked = 0.0

  def run(self) -> dict[str, str]:
    """Runs what is not done, failed tasks as well; the state of each task at the end.

    Raises:
      Interrupted: a signal arrived; every process has ended.
    """
    self._look()
    for name, found in self._states.items():
      if found == FAILED:
        self._states[name] = PLANNED
    try:
      while True:
        self._collect_ended()
        if interruption.requested():
          break
        self._fill_slots()
        if not self._children and RUNNING not in self._states.values():
          return self._states
        time.sleep(POLL_SECONDS)
        if RUNNING in self._left_by_others() and time.monotonic() - self._looked > LOOK_SECONDS:
          self._look()
      self._stop()
    except KeyboardInterrupt:  # The second Ctrl-C.
      for child in self._children.values():
        child.process.kill()
      raise
    except BaseException:  # A full disk: nothing can be noted, but all can save.
      for child in self._children.values():
        child.process.terminate()
      for child in self._children.values():
        child.process.wait()
      raise
    interruption.check('its processes have saved what they had; the same command goes on from here')
    return self._states

  def _left_by_others(self) -> list[str]:
    own = {child.task.name for child in self._children.values()}
    return [found for name, found in self._states.items() if name not in own]

  def _look(self) -> None:
    """Reads the states of all tasks but the own ones; those that failed here stay so."""
    self._looked = time.monotonic()
    own = {child.task.name for child in self._children.values()}
    seen = state.observe(self._out, self._plan)
    for name, found in seen.items():
      if name not in own and self._states.get(name) in (None, RUNNING):
        is_running = found.state == RUNNING and process_identity.is_here(state.read(self._out, name))
        if is_running and name not in self._states:
          self._tell(f'{name}: still running ({found.note}); waiting for it')
        # Another machine's launcher does not hold the folder, as this one does, so its runs are ending.
        self._states[name] = PLANNED if found.state == RUNNING and not is_running else found.state

  def _fill_slots(self) -> None:
    others = self._left_by_others().count(RUNNING)
    if others and any(self._slots):  # Which accelerators they have is not known.
      return
    free = [i for i in range(len(self._slots)) if i not in self._children]
    for slot in free[: max(0, len(free) - others)]:
      name = next((name for name in self._order if self._is_ready(name)), None)
      if name is None:
        return
      self._start(self._plan.tasks[name], slot)

  def _is_ready(self, name: str) -> bool:
    needs = self._plan.tasks[name].needs
    return self._states[name] == PLANNED and all(self._states[need] == DONE for need in needs)

  def _start(self, task: Task, slot: int) -> None:
    member.prepare(self._out, self._plan, task)
    log = member.begin_log(self._out, task)
    environment = member.environment(self._plan.threads, self._slots[slot])
    started = process.start(self._command(self._out, task), log, environment)
    state.write(self._out, task.name, RUNNING, **process_identity.identity(started.pid))
    self._children[slot] = Child(task, slot, started, time.monotonic())
    self._states[task.name] = RUNNING
    self._tell(f'{task.name}: started')

  def _collect_ended(self) -> None:
    for slot, child in list(self._children.items()):
      status = child.process.poll()
      if status is None:
        continue
      del self._children[slot]
      name, seconds = child.task.name, time.monotonic() - child.since
      self._states[name] = state.write_end(self._out, name, status, seconds)
      if self._states[name] == DONE:
        self._check_products(child.task)
      elif self._states[name] == PLANNED:
        self._interrupted(name, seconds)
      self._tell_end(name, seconds)

  def _check_products(self, task: Task) -> None:
    """A run that says it is done, but is not, failed."""
    missing = [name for name in task.products if not (self._out / task.folder / name).exists()]
    if missing:
      with log_file(self._out, task.name).open('a') as log:
        log.write(f'error: it ended without {missing[0]}\n')
      self._states[task.name] = state.write_end(self._out, task.name, 1, 0.0)

  def _interrupted(self, name: str, seconds: float) -> None:
    """A run that was asked to stop goes to the end of the line; not for ever if it is at once each time."""
    self._order.remove(name)
    self._order.append(name)
    self._interruptions[name] = self._interruptions.get(name, 0) + 1 if seconds < AT_ONCE_SECONDS else 0
    if self._interruptions[name] >= MOST_AT_ONCE:
      self._states[name] = FAILED
      state.write(self._out, name, FAILED, status=interruption.STATUS)

  def _tell_end(self, name: str, seconds: float) -> None:
    found = self._states[name]
    if found == FAILED:
      why = state.reason(self._out, name, state.read(self._out, name))
      self._tell(f'{name}: failed ({why}); see {log_file(self._out, name)}')
    else:
      word = 'done' if found == DONE else 'interrupted'
      self._tell(f'{name}: {word} after {seconds:.0f} s')

  def _stop(self) -> None:
    """Asks all processes to save and to end, and waits until they have."""
    if self._children:
      self._tell(f'stopping {len(self._children)} processes')
    for child in self._children.values():
      child.process.terminate()
    while self._children:
      self._collect_ended()
      time.sleep(POLL_SECONDS)
