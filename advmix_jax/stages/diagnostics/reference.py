"""The classifier whose word is taken for what a mixed image shows.

A classifier that the nuisance fools is of no use as one: on Colour-MNIST nominal training reads colours.
Where images can be given other colours, one is trained on training images in colours that do not depend on
the label; elsewhere a method of the run has to do, whose word is circular: it has learnt from mixed images
that they show their label.
"""

import functools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from advmix_jax import batched, data, interruption
from advmix_jax.data import coloured
from advmix_jax.evaluation import predictions
from advmix_jax.interop.weights import load_tree, save_tree
from advmix_jax.methods import METHODS
from advmix_jax.models.classifier import make_classifier
from advmix_jax.ranges import to_float
from advmix_jax.stages.diagnostics.subject import Subject
from advmix_jax.stages.experiment import require
from advmix_jax.stages.networks import compute_dtype, shapes
from advmix_jax.training.classifier import create_train_state, train_step
from advmix_jax.training.loop import Loop, run_loop
from advmix_jax.types import BadInputError, Batch, PyTree
from advmix_jax.workdir import read_config, read_json, write_json

RECOLOURED = 'recoloured'
# Least fooled by the nuisance first.
ORDER = ('advmix', 'randmix', 'at', 'cutmix', 'mixup', 'cutout', 'nominal')
FILE = 'classifier.safetensors'


class Reference(NamedTuple):
  """A classifier that is asked what images show.

  Attributes:
    name: recoloured, a method of the run, or a folder.
    predict: `images [N, H, W, 3] uint8 -> [N]` int.
    file: of its parameters.
  """

  name: str
  predict: Callable[[np.ndarray], np.ndarray]
  file: Path

  @property
  def words(self) -> str:
    """Which it is, in a sentence."""
    if self.name == RECOLOURED:
      return 'trained on other training images, in colours independent of the label'
    where = f'the {self.name} classifier of this run' if self.name in METHODS else self.name
    return f'{where} (if it learnt from mixed images of this generator, its word is circular: too optimistic)'


def name_of(subject: Subject) -> str:
  """Which reference `diagnose.reference` means.

  Raises:
    BadInputError: there is no such reference.
  """
  config, wanted = subject.experiment.config, subject.settings.reference
  can_recolour = config.data.name in coloured.SOURCES
  trained = tuple(config.train.methods)
  if wanted == 'auto':
    return RECOLOURED if can_recolour else next(name for name in ORDER if name in trained)
  if wanted == RECOLOURED:
    if not can_recolour:
      raise BadInputError(
        f'config.diagnose.reference is recoloured, expected a method of the run or a folder: images of '
        f'{config.data.name} cannot be given other colours'
      )
    return RECOLOURED
  if wanted not in trained and not Path(wanted).is_dir():
    raise BadInputError(
      f'config.diagnose.reference is {wanted!r}, expected auto, recoloured, one of config.train.methods '
      f'({", ".join(trained)}) or the folder of another run'
    )
  return wanted


def load(subject: Subject) -> Reference:
  """The reference that the configuration asks for; the recoloured one is trained if it is not there yet."""
  name, config = name_of(subject), subject.experiment.config
  if name == RECOLOURED:
    return made(subject, name, config, trained_file(subject), 'cnn')
  if name in config.train.methods:
    file = subject.classifier_file(name)
    require(file, 'train')
    return made(subject, name, config, file, config.train.classifier)
  file, theirs = in_folder(Path(name))
  return made(subject, name, theirs, file, theirs.train.classifier)


def in_folder(folder: Path) -> tuple[Path, ConfigDict]:
  """The classifier in the folder of a run, or in a folder within it, and the run's configuration."""
  files = [folder / FILE, *(folder / 'train' / method / FILE for method in ORDER)]
  file = next((file for file in files if file.exists()), None)
  run = next(
    (parent for parent in (folder, *folder.absolute().parents) if (parent / 'config.json').exists()), None
  )
  if file is None or run is None:
    what = f'{FILE} in it or in train/METHOD of it' if file is None else 'config.json in it or above it'
    raise BadInputError(f'config.diagnose.reference: found no {what}: {folder}, expected a finished run')
  return file, ConfigDict(read_config(run))


def made(subject: Subject, name: str, config: ConfigDict, file: Path, kind: str) -> Reference:
  """A reference from its file; `config` is that of the run it was trained in."""
  experiment = subject.experiment
  model = make_classifier(
    kind, tuple(config.train.fmaps), experiment.splits.train.num_classes, compute_dtype(experiment.config)
  )
  template = shapes(lambda key: model.init(key, jnp.zeros((1, *experiment.image_shape)))['params'])
  params = load_tree(file, template)

  def classify(params, images):
    return model.apply({'params': params}, images)

  @jax.jit
  def predict_batch(images):
    return predictions(classify, params, images)

  def predict(images: np.ndarray) -> np.ndarray:
    def of_batch(images: np.ndarray) -> np.ndarray:
      interruption.check()
      return np.asarray(predict_batch(images))

    return batched.in_batches(of_batch, images, subject.batch_size)

  return Reference(name, predict, file)


def trained_file(subject: Subject) -> Path:
  """The recoloured reference; trained by the settings there are now, from where an earlier process was."""
  folder = subject.folder / 'reference'
  settings = {'epochs': subject.settings.reference_epochs, 'num_images': len(subject.train_positions)}
  record, file = folder / 'settings.json', folder / FILE
  if not record.exists() or read_json(record) != settings:
    shutil.rmtree(folder, ignore_errors=True)
    write_json(record, settings)
  if not file.exists():
    save_tree(file, train(subject, folder / 'checkpoints'))
  return file


def train(subject: Subject, folder: Path) -> PyTree:
  """A CNN of the run's widths on training images that are not looked at, in fresh colours in every batch."""
  experiment, config = subject.experiment, subject.experiment.config
  part = experiment.splits.train
  others = np.setdiff1d(np.arange(len(part)), subject.train_positions)
  size = min(config.train.batch_size, len(others))
  order = data.index_batches(len(others), size, config.seed)
  recoloured = coloured.recolourer(config, part)
  model = make_classifier('cnn', tuple(config.train.fmaps), part.num_classes, compute_dtype(config))
  state = create_train_state(
    experiment.key('diagnose/reference'), model, experiment.image_shape, experiment.classifier_tx
  )
  step = jax.jit(functools.partial(train_step, perturb_fn=METHODS['nominal'](config)), donate_argnums=(0,))

  def batch_fn(number: int) -> Batch:
    at = others[order[number]]
    images, index = to_float(recoloured(at, number)), part.index[at].astype(np.int32)
    return Batch(images=jnp.asarray(images), labels=part.labels[at], latents=None, index=index)

  loop = Loop(
    name='diagnose/reference',
    folder=folder,
    num_steps=max(1, round(subject.settings.reference_epochs * len(others) / size)),
    batch_size=size,
    step_fn=lambda i, state, batch: step(state, batch),
    batch_fn=batch_fn,
    saved=('step', 'key', 'params', 'opt_state'),
    place_fn=jax.device_put,
  )
  params: PyTree = run_loop(loop, state, experiment.workdir).params
  return params
