"""A whole small run in this process, stage by stage, that notes what jax is made to do.

Noted are: each step function's traces and compiled programs, and every moment at which the host waits for a
device to hand out a value. On CPU jax's own transfer guard stays silent, as host and device share memory.
"""

import contextlib
import functools
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import pytest
from jax._src.array import ArrayImpl

from advmix_jax import config_check, interruption, parallel
from advmix_jax.stages import encode, evaluate, train, train_gan
from advmix_jax.stages.experiment import Experiment
from advmix_jax.types import Interrupted
from advmix_jax.workdir import open_workdir
from configs import smoke

STAGES = {'train_gan': train_gan.run, 'encode': encode.run, 'train': train.run, 'evaluate': evaluate.run}
STEPS_OF_GAN, GRID_AFTER, STEPS_OF_ENCODER, INTERRUPTED_AT, LOGGED = 8, 5, 6, 5, 3


class Step:
  """A function that `parallel` compiles.

  Attributes:
    name: of the Python function, with its module's.
    keywords: it was given by partials.
    traces: how often the Python function ran.
    programs: HLO of what was compiled for its calls.
    calls: number of calls.
  """

  def __init__(self, wrap: Callable, fn: Callable, events: list[tuple]):
    self.name, self.keywords = named(fn)
    self.traces = self.calls = 0
    self.programs: list[str] = []
    self._events = events

    @functools.wraps(fn)
    def traced(*args: Any, **keywords: Any) -> Any:
      self.traces += 1
      return fn(*args, **keywords)

    self._compiled = wrap(traced)

  def __call__(self, *args: Any) -> Any:
    before = executables()
    self._events.append(('step', self.name, self.calls))
    self.calls += 1
    results = self._compiled(*args)
    if self.traces > len(self.programs):
      self.programs.append(largest_new(before))
    return results


def executables() -> list[Any]:
  return jax.devices()[0].client.live_executables()


def largest_new(before: list[Any]) -> str:
  """HLO of the largest program that is not one of `before`, which must be kept: equal is the same object."""
  new = [program for program in executables() if not any(program is old for old in before)]
  return max((module.to_string() for program in new for module in program.hlo_modules()), key=len)


def named(fn: Callable) -> tuple[str, dict[str, Any]]:
  """Name and keywords of a function under any number of partials."""
  keywords: dict[str, Any] = {}
  while isinstance(fn, functools.partial):
    keywords |= fn.keywords
    fn = fn.func
  return f'{fn.__module__.rpartition(".")[2]}.{fn.__qualname__}', keywords


class Run:
  """What was noted.

  Attributes:
    steps: of the stages, in the order in which they were made.
    events: `('step', name, call)` and `('wait', what)` in their order.
  """

  def __init__(self) -> None:
    self.steps: list[Step] = []
    self.events: list[tuple] = []

  def of(self, name: str, **keywords: Any) -> list[Step]:
    return [step for step in self.steps if step.name == name and keywords.items() <= step.keywords.items()]


def watched(run: Run, wrap: Callable, fn: Callable) -> Step:
  run.steps.append(Step(wrap, fn, run.events))
  return run.steps[-1]


def after_noting(run: Run, what: str, fn: Callable, x: Any) -> Any:
  run.events.append(('wait', what))
  return fn(x)


@contextlib.contextmanager
def noted(run: Run) -> Iterator[None]:
  with pytest.MonkeyPatch.context() as patch:
    for name in ('pmap_step', 'pmap_map', 'pmap_carry'):
      patch.setattr(parallel, name, functools.partial(watched, run, getattr(parallel, name)))
    value = functools.partial(after_noting, run, 'value', ArrayImpl._value.fget)
    patch.setattr(ArrayImpl, '_value', property(lambda array: value(array)))
    for name in ('block_until_ready', 'device_get'):
      patch.setattr(jax, name, functools.partial(after_noting, run, name, getattr(jax, name)))
    wait = functools.partial(after_noting, run, 'block_until_ready', ArrayImpl.block_until_ready)
    patch.setattr(ArrayImpl, 'block_until_ready', lambda array: wait(array))
    yield


def small_config() -> Any:
  """Numbers that leave a rest: no part is a multiple of its batch."""
  config = smoke.get_config()
  config.data.resolution, config.data.num_train, config.data.num_test = 8, 50, 40
  config.generator.fmaps = (6, 4)
  config.generator.r1_interval = 2
  config.generator.total_kimg = STEPS_OF_GAN * config.generator.batch_size / 1000
  config.generator.sample_kimg = GRID_AFTER * config.generator.batch_size / 1000
  config.encode.init_kimg = STEPS_OF_ENCODER * config.encode.init_batch_size / 1000
  config.encode.batch_size, config.encode.shard_size = 16, 32
  config.train.methods = ('nominal', 'advmix')
  config.train.num_epochs = 2.5
  config.attack.mixing_level = 2
  config.cutout.size = 4
  config.checkpoint.seconds = 1e9
  config.log_every_steps = LOGGED
  config_check.split_names(config)
  config_check.check_config(config)
  return config


def whole_run(folder: Path) -> Run:
  """GAN training, encoding, two classifiers, of which the second has a break, evaluation."""
  run = Run()
  workdir = open_workdir(folder, small_config())
  experiment = Experiment(workdir)
  received: list[int] = []
  requested = interruption.requested

  def requested_once() -> bool:
    trained = [step.calls for step in run.of('classifier.train_step')]
    if len(trained) == 2 and trained[1] == INTERRUPTED_AT:
      received.append(signal.SIGTERM)
    return requested()

  with noted(run), pytest.MonkeyPatch.context() as patch:
    patch.setattr(interruption, '_received', received)
    patch.setattr(interruption, 'requested', requested_once)
    for name in ('train_gan', 'encode'):
      STAGES[name](experiment)
    with pytest.raises(Interrupted):
      train.run(experiment)
    received.clear()
    for name in ('train', 'evaluate'):
      STAGES[name](experiment)
  workdir.close()
  return run
