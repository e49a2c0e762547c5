"""Becomes a command that is asked to end (SIGTERM) when the process that started it has died.

    python tether.py PARENT COMMAND [ARGUMENT ...]

A program of its own, of the standard library alone: the alternative, a function between fork and exec, may
hang where the parent has threads, and jax has. The kernel's request outlasts exec, and the process keeps its
number. Linux only; elsewhere it is just the command.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(parent: int, command: list[str]) -> None:
  prctl = getattr(ctypes.CDLL(None), 'prctl', None)
  if prctl is not None:
    prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # It died before.
      sys.exit(75)
  os.execvp(command[0], command)


if __name__ == '__main__':
  main(int(sys.argv[1]), sys.argv[2:])
