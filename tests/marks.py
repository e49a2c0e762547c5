"""Processes that carry a mark in their environment: what a cluster started, however far down."""

import contextlib
import os
import pathlib
import signal

MARK = 'ADVMIX_SLURM_TEST'  # A variable that tells what belongs to a cluster, and to which node.


def marked(name: str) -> list[int]:
  """Processes, by number, of a cluster's `FOLDER/` or of a node's `FOLDER/NODE`."""
  found, variable = [], f'{MARK}={name}'.encode()
  for file in pathlib.Path('/proc').glob('[0-9]*/environ'):
    with contextlib.suppress(OSError):  # It ended, or is another user's.
      if any(entry.startswith(variable) for entry in file.read_bytes().split(b'\0')):
        found.append(int(file.parent.name))
  return found


def kill_marked(name: str) -> None:
  """Kills them and all that they started.

  All are stopped first: none lives to report the end of another, as none does where a machine goes down.
  """
  processes = descendants(marked(name))
  for sent in (signal.SIGSTOP, signal.SIGKILL):
    for process in processes:
      with contextlib.suppress(ProcessLookupError):
        os.kill(process, sent)


def descendants(processes: list[int]) -> list[int]:
  """The processes and all that they started, parents first."""
  children: dict[int, list[int]] = {}
  for file in pathlib.Path('/proc').glob('[0-9]*/stat'):
    with contextlib.suppress(OSError):
      # "number (name) state parent ...", where a name may hold anything.
      parent = int(file.read_text().rpartition(')')[2].split()[1])
      children.setdefault(parent, []).append(int(file.parent.name))
  found = list(dict.fromkeys(processes))
  for process in found:  # Grows while it is read.
    found += [child for child in children.get(process, []) if child not in found]
  return found
