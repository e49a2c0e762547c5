"""What hangs is ended with its stacks; what is slow, stopped or compiling is not."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PROGRAM = """
import sys, threading, time
from ml_collections import ConfigDict
import jax, jax.numpy as jnp
from advmix_jax import watchdog

def hangs_here():
  time.sleep(60)

x = jnp.ones(3)
watchdog._TICK_SECONDS = 0.05
limits = ConfigDict({'first_step_seconds': FIRST, 'step_seconds': LATER})
print('begun', flush=True)
with watchdog.Watchdog('gan', limits) as dog:
  BODY
print('ended', flush=True)
"""


def start(first, later, *body):
  text = PROGRAM.replace('FIRST', str(first)).replace('LATER', str(later)).replace('BODY', '\n  '.join(body))
  environment = os.environ | {'PYTHONPATH': str(ROOT)}
  return subprocess.Popen(
    [sys.executable, '-c', text], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
  )


def outcome(*arguments):
  process = start(*arguments)
  out, err = process.communicate(timeout=120)
  return process.returncode, out, err


@pytest.mark.parametrize(
  'first, later, body, limit',
  [
    (0.4, 60.0, ('hangs_here()',), '0.4 s (config.watchdog.first_step_seconds)'),
    (60.0, 0.4, ('dog.step_done()', 'hangs_here()'), '0.4 s (config.watchdog.step_seconds)'),
  ],
  ids=['first step', 'later step'],
)
def test_a_step_that_hangs_ends_the_run_with_a_sentence_and_all_stacks(first, later, body, limit):
  code, out, err = outcome(first, later, *body)
  assert code == 1 and out == 'begun\n'
  sentence, *stacks = err.splitlines()
  assert sentence.startswith(f'error: gan: no step was done within {limit}')
  assert any('hangs_here' in line for line in stacks) and any('_watch' in line for line in stacks)


@pytest.mark.parametrize(
  'first, later, body',
  [
    (60.0, 1.0, ('for _ in range(5):', '  time.sleep(0.3)', '  dog.step_done()')),
    (0.0, 0.0, ('time.sleep(0.8)',)),
    (60.0, 0.4, ('dog.step_done()', 'jax.jit(jnp.sin)(x)', 'time.sleep(0.6)')),
  ],
  ids=['steps within the limit', 'no limit', 'a later step that compiles'],
)
def test_a_run_that_moves_is_left_alone(first, later, body):
  code, out, err = outcome(first, later, *body)
  assert (code, out) == (0, 'begun\nended\n'), err


def test_the_time_for_which_a_process_is_stopped_does_not_count():
  process = start(1.0, 1.0, 'time.sleep(0.3)', 'print("stop", flush=True)', 'time.sleep(0.3)')
  assert process.stdout.readline() == 'begun\n' and process.stdout.readline() == 'stop\n'
  process.send_signal(signal.SIGSTOP)
  time.sleep(2.0)
  process.send_signal(signal.SIGCONT)
  out, err = process.communicate(timeout=60)
  assert (process.returncode, out) == (0, 'ended\n'), err
