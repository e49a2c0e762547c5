"""Stage 5: pictures of what the run has learnt, and one HTML page that shows and explains them.

Everything is computed here from what the other stages left; a section whose inputs are not there yet says
which stage makes them, so an unfinished run has a page too.
"""

from collections.abc import Callable

import numpy as np

from advmix_jax import interruption
from advmix_jax.config_keys import flatten
from advmix_jax.report.page import MethodRow, Report, Section, write_page
from advmix_jax.stages.experiment import Experiment
from advmix_jax.stages.sections import diagnosed, explorer, latents, measured, overview, variants
from advmix_jax.stages.sections.scene import Scene
from advmix_jax.types import BadInputError
from advmix_jax.workdir import read_json

SECTIONS: tuple[Callable[[Scene], list[Section]], ...] = (
  measured.accuracy,
  overview.overview,
  explorer.explorer,
  latents.style_mixing,
  variants.attacked_images,
  variants.generated_images,
  latents.encoder,
  diagnosed.diagnostics,
  variants.pairs,
  measured.colours,
  measured.classifier_losses,
  measured.gan_losses,
)


def run(experiment: Experiment) -> None:
  """Writes `report/*.png` and `report/index.html`."""
  scene = Scene(experiment)
  sections = []
  for draw in SECTIONS:
    interruption.check()
    sections += section_or_reason(draw, scene)
  write_page(scene.folder / 'index.html', describe(scene, sections))


def section_or_reason(draw: Callable[[Scene], list[Section]], scene: Scene) -> list[Section]:
  """What `draw` makes, or, where another stage has not run, a section that says so."""
  try:
    return draw(scene)
  except BadInputError as error:
    return [Section(draw.__name__.replace('_', ' ').capitalize(), f'Not drawn: {error}.')]


def describe(scene: Scene, sections: list[Section]) -> Report:
  """Everything the page says."""
  config, rows = scene.experiment.config, scene.rows
  versions = scene.experiment.workdir.path / 'versions.json'
  return Report(
    title=f'AdvMix on {config.data.name}',
    summary=summary(rows, config.evaluate.split),
    rows=rows,
    sections=sections,
    seeds=seeds(scene),
    commands=scene.experiment.workdir.commands(),
    class_sizes=class_sizes(scene),
    split=config.evaluate.split,
    attack=scene.results['attack'] if rows else {},
    settings=flatten(config.to_dict()),
    versions=flatten(read_json(versions)) if versions.exists() else {},
  )


def seeds(scene: Scene) -> dict[str, object]:
  """What is seeded by what."""
  experiment = scene.experiment
  found: dict[str, object] = {'seed': experiment.config.seed}
  if experiment.train_seeds != (experiment.config.seed,):
    found['seeds of the classifiers'] = ', '.join(map(str, experiment.train_seeds))
  return found | {'seed of the split and of the test colours': experiment.config.data.split_seed}


def class_sizes(scene: Scene) -> dict[str, tuple[int, int]]:
  """By class name, evaluated images and those of them that are attacked."""
  test = scene.experiment.evaluated
  attacked = test.labels[scene.experiment.attacked_positions]
  counts = (np.bincount(labels, minlength=test.num_classes).tolist() for labels in (test.labels, attacked))
  return dict(zip(scene.whole_names, zip(*counts, strict=True), strict=True))


def summary(rows: tuple[MethodRow, ...], split: str) -> list[str]:
  """The result in sentences, as far as it is known."""
  by_name = {row.name: row for row in rows}
  if not rows:
    return ['This run is not finished: no classifier has been evaluated yet.']
  sentences = []
  advmix, nominal = by_name.get('advmix'), by_name.get('nominal')
  if advmix and nominal and advmix.clean is not None and nominal.clean is not None:
    sentences.append(
      f'AdvMix reads {100 * advmix.clean:.1f} % of the {split} images correctly, training without it '
      f'{100 * nominal.clean:.1f} %.'
    )
  attacked = [row for row in rows if row.perturbed is not None]
  if attacked:
    best = max(attacked, key=lambda row: row.perturbed or 0.0)
    sentences.append(
      f'When variants are searched for that mislead it, {best.title} is the most robust: it still reads '
      f'{100 * (best.perturbed or 0):.1f} %.'
    )
  return sentences
