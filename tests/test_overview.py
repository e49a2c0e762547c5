"""The picture of a run: which test images it shows, and what it says that two classifiers read."""

import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advmix_jax.encoding import Encoded
from advmix_jax.stages import encoded
from advmix_jax.stages.sections import overview
from advmix_jax.types import BadInputError, Dataset
from configs import default
from tests import tiny

# Three classes. Class and colour of each test image, of its variant, and whether the search broke it.
LABELS = np.array([0, 1, 1, 2, 2, 0], np.int32)
COLOURS = np.array([0, 2, 1, 2, 2, 0])
VARIANT_COLOURS = np.array([1, 2, 0, 0, 1, 2])
VARIANT_SHAPES = np.array([0, 1, 1, 2, 0, 0])  # The search has gone too far with the fifth.
BROKEN = np.array([True, True, True, True, True, False])


def drawn(shapes: np.ndarray, colours: np.ndarray) -> np.ndarray:
  """Images `[N, 8, 8, 3]` uint8 whose first row tells the shape and whose second tells the colour."""
  images = np.zeros((len(shapes), 8, 8, 3), np.uint8)
  images[np.arange(len(shapes)), 0, shapes] = 255
  images[np.arange(len(shapes)), 1, colours] = 255
  return images


@pytest.fixture
def scene(tmp_path, monkeypatch):
  """A run whose nominal classifier reads colours, and whose AdvMix classifier reads shapes."""
  config = default.get_config()
  config.train.methods = ('nominal', 'advmix')
  (tmp_path / 'evaluate').mkdir()
  np.savez(
    tmp_path / 'evaluate' / 'nominal.npz', images=drawn(VARIANT_SHAPES, VARIANT_COLOURS), broken=BROKEN
  )
  (tmp_path / 'results.json').write_text('{}')
  decoder = dataclasses.replace(
    tiny.linear_decoder(),
    fine=lambda params, trunk, w_perp: jnp.zeros((len(trunk), 8, 8, 3)) + w_perp.mean(),
  )
  monkeypatch.setattr(
    encoded, 'load_latents', lambda experiment, part: Encoded(np.zeros((6, 3, 4)), np.zeros(6))
  )
  experiment = types.SimpleNamespace(
    config=config,
    workdir=types.SimpleNamespace(path=tmp_path),
    evaluated=Dataset(drawn(LABELS, COLOURS), LABELS, np.arange(6), None, 3),
    attacked_positions=np.arange(6),
    classifiers=lambda method: (method,),
    load_classifier=lambda name: {'nominal': jnp.int32(1), 'advmix': jnp.int32(0)}[name],
    classify=lambda row, images: images[:, row, :3, 0],
    decoder=decoder,
    key=lambda name: jax.random.key(0),
  )
  return types.SimpleNamespace(
    experiment=experiment,
    folder=tmp_path / 'report',
    results_file=tmp_path / 'results.json',
    attacked_method='nominal',
    class_names=('disc', 'cross', 'star'),
    generator=None,
    decode=lambda w: drawn(LABELS[: len(w)], LABELS[: len(w)]),
  )


def test_it_counts_the_images_that_both_read_and_that_mislead_the_first(scene):
  """Images 0, 2, 3, 4: the second is misread by its colour, the last was not broken."""
  (section,) = overview.overview(scene)
  assert 'Of the 4 test images that both read' in section.text
  assert 'AdvMix reads 3 of the variants too' in section.text
  assert section.figure.read_bytes()[:4] == b'\x89PNG'


def test_answers_are_marked(scene):
  seen = overview.read(scene, ('nominal', 'advmix'), drawn(VARIANT_SHAPES, VARIANT_COLOURS))
  assert overview.answers(seen, np.array([0, 4]), LABELS[[0, 4]], scene) == [
    '✗ Nominal: cross\n✓ AdvMix: disc',
    '✗ Nominal: cross\n✗ AdvMix: disc',
  ]


def test_without_such_an_image_it_says_so(scene):
  np.savez(
    scene.folder.parent / 'evaluate' / 'nominal.npz', images=drawn(LABELS, COLOURS), broken=~np.ones(6, bool)
  )
  with pytest.raises(BadInputError, match='no attacked image'):
    overview.overview(scene)


def test_a_run_without_advmix_has_none(scene):
  scene.experiment.config.train.methods = ('nominal', 'randmix')
  assert overview.overview(scene) == []
