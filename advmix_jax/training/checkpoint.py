"""Checkpoints: the one place that knows orbax. Only what training changes is saved."""

import contextlib
import functools
import logging
import shutil
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from advmix_jax import hosts, run_lock
from advmix_jax.types import PyTree, RunError

logger = logging.getLogger(__name__)


def _is_key(x: object) -> bool:
  return isinstance(x, jax.Array) and jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)


def _plain(tree: PyTree) -> PyTree:
  """Typed keys as the integers they hold."""
  return jax.tree.map(lambda x: jax.random.key_data(x) if _is_key(x) else x, tree)


def _typed(tree: PyTree, template: PyTree) -> PyTree:
  return jax.tree.map(lambda x, t: jax.random.wrap_key_data(x) if _is_key(t) else x, tree, template)


def _described(tree: PyTree) -> dict[str, tuple]:
  """Shape and dtype of each array by its path."""
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return {
    jax.tree_util.keystr(path, simple=True, separator='/'): (tuple(x.shape), str(x.dtype))
    for path, x in leaves
  }


def _alone() -> ocp.options.MultiprocessingOptions:
  """Of the processes of a run the first alone writes: each holds the whole state, and the others go on."""
  if hosts.count() == 1:
    return ocp.options.MultiprocessingOptions()
  return ocp.options.MultiprocessingOptions(
    primary_host=0, active_processes={0}, barrier_sync_key_prefix='first'
  )


def _on_host(tree: PyTree) -> PyTree:
  """A copy in the host's memory: the next step is given the state's own, perhaps before the copy is written.

  What `device_get` gives on a CPU is no copy.
  """
  host = jax.device_get(tree)
  return jax.tree.map(np.array, host) if jax.default_backend() == 'cpu' else host


def _check_finite(step: int, tree: PyTree) -> None:
  for path, x in jax.tree_util.tree_leaves_with_path(tree):
    if jnp.issubdtype(x.dtype, jnp.floating) and not np.isfinite(x).all():
      name = jax.tree_util.keystr(path, simple=True, separator='/')
      raise RunError(
        f'{name} is not finite after step {step}, which is not saved; lower the learning rate, or look at '
        'the data'
      )


@functools.cache
def _drop_late_answers() -> None:
  """Where an array cannot be written, orbax closes its event loop; tensorstore, which then cannot tell it of
  the others, would print a trace for each of them, beside our sentence about the first."""
  show = sys.unraisablehook

  def show_others(failure: 'sys.UnraisableHookArgs') -> None:
    if not (isinstance(failure.exc_value, RuntimeError) and str(failure.exc_value) == 'Event loop is closed'):
      show(failure)

  sys.unraisablehook = show_others


class Checkpointer:
  """Checkpoints of one loop in one folder, newest last, written in the background.

  Args:
    folder: absolute path.
    keep: how many are kept.
  """

  def __init__(self, folder: Path, keep: int):
    _drop_late_answers()
    folder.mkdir(parents=True, exist_ok=True)  # With several processes orbax does not make it.
    options = ocp.CheckpointManagerOptions(
      max_to_keep=keep, create=False, enable_async_checkpointing=True, multiprocessing_options=_alone()
    )
    handler = ocp.StandardCheckpointHandler()
    self._manager = ocp.CheckpointManager(folder, options=options, item_handlers=handler)
    self._folder = folder
    self._begun: int | None = None

  @property
  def busy(self) -> bool:
    """Whether a checkpoint is being written: `save` would wait for it."""
    return self._manager.is_saving_in_progress()

  def save(self, step: int, state: PyTree) -> None:
    """Begins to save, whole or not at all; once per step number. The state may be overwritten on return.

    Raises:
      RunError: if this checkpoint, or the one begun before, cannot be written, with the reason; older
        checkpoints remain. If the state holds a number that is not finite: a run could never go on from it.
        Or if another run has taken the folder over.
    """
    if step in self._manager.all_steps():
      return
    self.wait()
    run_lock.check(self._folder)
    self._begun = step
    on_host = _on_host(_plain(state))
    _check_finite(step, on_host)
    try:
      self._manager.save(step, args=ocp.args.StandardSave(on_host))
    except Exception as error:
      raise self._failed(error) from error

  def wait(self) -> None:
    """Returns when what `save` began is on disk. Raises `RunError`, as `save`, if it cannot be written."""
    try:
      self._manager.wait_until_finished()
      self._manager.check_for_errors()
    except Exception as error:
      raise self._failed(error) from error

  def _failed(self, error: Exception) -> RunError:
    # orbax passes on what tensorstore raises: OSError, ValueError, RuntimeError.
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return RunError(f'checkpoint {self._begun} could not be written to {self._folder}: {reason}')

  def restore(self, template: PyTree) -> PyTree | None:
    """The newest checkpoint that can be read, as `template`; None if there is none.

    A broken checkpoint is named and put aside as `STEP.broken`, and the one before it is taken.

    Raises:
      RunError: if none of the checkpoints can be read; or if one is whole but holds other arrays than the
        template. They are left alone.
    """
    self.wait()
    abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, _plain(template))
    broken: dict[int, str] = {}
    for step in sorted(self._manager.all_steps(), reverse=True):
      try:
        found, expected = _described(self._manager.item_metadata(step).tree), _described(abstract)
        restored = None
        if found == expected:  # Otherwise orbax would cast or fail.
          restored = self._manager.restore(step, args=ocp.args.StandardRestore(abstract))
      except Exception as error:  # A truncated file shows as one of many types.
        broken[step] = (
          str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        )
        continue
      if restored is None:
        name = min(k for k in found.keys() | expected.keys() if found.get(k) != expected.get(k))
        raise RunError(
          f'checkpoint {step} of {self._folder} holds {name} as {found.get(name, "absent")}, expected '
          f'{expected.get(name, "absent")}; it was made by another version: delete the folder to start again'
        )
      for newer, reason in broken.items():
        self._put_aside(newer, reason)
      return _typed(restored, template)
    for step, reason in broken.items():  # Perhaps for a passing reason.
      raise RunError(
        f'checkpoint {step} of {self._folder} cannot be read ({reason}), nor any other there; try again, or '
        'delete the folder to start again'
      )
    return None

  def _put_aside(self, step: int, reason: str) -> None:
    logger.warning(
      'checkpoint %s of %s is broken (%s); going back to the one before', step, self._folder, reason
    )
    aside = self._folder / f'{step}.broken'
    shutil.rmtree(aside, ignore_errors=True)
    (self._folder / str(step)).rename(aside)
    self._manager.reload()

  def close(self) -> None:
    """Waits for what is being written; if that fails, `wait` would have said so."""
    with contextlib.suppress(RunError):
      self.wait()
    self._manager.close()


class NoCheckpoints:
  """What the other processes of a run have instead: process 0 reads and writes for all."""

  busy = False

  def save(self, step: int, state: PyTree) -> None:
    pass

  def wait(self) -> None:
    pass

  def restore(self, template: PyTree) -> PyTree | None:
    return None

  def close(self) -> None:
    pass


def open_checkpoints(folder: Path, keep: int) -> Checkpointer | NoCheckpoints:
  """Checkpoints of one loop; see `Checkpointer`."""
  return Checkpointer(folder, keep) if hosts.is_first() else NoCheckpoints()
