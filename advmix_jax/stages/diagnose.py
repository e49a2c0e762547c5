"""An optional stage: measures whether what the method rests on holds on this data; see docs/diagnostics.md.

Reads what the other stages left and changes nothing of theirs. Each part is kept in a file of its own with
the settings and checksums of the files it was made with, so that a rerun does what is missing or was made
with others.
"""

import functools
import json
import os
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from advmix_jax import interruption
from advmix_jax.report import diagnostic_charts
from advmix_jax.stages.diagnostics import classes, levels, nuisance, reconstructions, reference
from advmix_jax.stages.diagnostics.strength import Strength
from advmix_jax.stages.diagnostics.subject import Subject
from advmix_jax.stages.experiment import Experiment, require
from advmix_jax.types import BadInputError
from advmix_jax.workdir import config_hash, read_json, write_json

FILE = 'diagnostics.json'


def run(experiment: Experiment) -> None:
  """Writes `diagnostics/diagnostics.json` and figures; parts whose stages have not run are left out.

  Raises:
    BadInputError: nothing can be measured yet; names the stage to run first.
  """
  require(experiment.generator_file, 'train_gan')
  subject = Subject(experiment)
  found: dict[str, Any] = {}
  missing: dict[str, str] = {}
  for name, make in parts(subject).items():
    interruption.check()
    try:
      found[name] = make()
    except Unavailable as error:
      missing[name] = str(error)
      print(f'note: diagnose: {name} is left out: {error}', flush=True)
  if not found:
    raise BadInputError(next(iter(missing.values())))
  write_json(subject.folder / FILE, result(subject, found, missing))
  for line in summary(found):
    print(line)
  print(f'diagnostics: {subject.folder / FILE}; the stage report puts them on its page', flush=True)


class Unavailable(BadInputError):
  """What a part needs is not there yet."""


def parts(subject: Subject) -> dict[str, Callable[[], dict]]:
  """What is measured, by name; each returns its numbers, from its file where that is of these settings."""
  return {
    'classes': lambda: with_reference(
      subject, 'classes', ('num_images', 'num_draws'), ['classes'], classes.measure
    ),
    'levels': lambda: with_reference(
      subject,
      'levels',
      ('num_images', 'num_draws', 'tolerance'),
      ['levels', 'levels_pictures'],
      levels.measure,
    ),
    'encoder': lambda: encoder(subject),
    'nuisance': lambda: colours(subject),
    'attack': lambda: attack(subject),
  }


def with_reference(
  subject: Subject,
  name: str,
  keys: tuple[str, ...],
  figures: list[str],
  measure: Callable[[Subject, reference.Reference], dict],
  files: Iterable[Path] = (),
) -> dict:
  """A part that asks the reference, see `kept_part`, with which reference it was."""
  given = reference_of(subject)
  found = kept_part(subject, name, keys, figures, lambda: measure(subject, given), [given.file, *files])
  return {'reference': given.name, 'reference_is': given.words} | found


def encoder(subject: Subject) -> dict:
  """What the encoder loses."""
  needs_latents(subject)
  needs_classifiers(subject)
  keys = ('num_images', 'methods')
  files = [subject.classifier_file(method) for method in subject.methods]
  return with_reference(subject, 'encoder', keys, ['encoder'], reconstructions.measure, files)


def colours(subject: Subject) -> dict:
  """Which colours are reached."""
  needs_latents(subject)
  keys = ('num_images', 'num_draws', 'colour_distance')
  return kept_part(subject, 'nuisance', keys, ['colours'], lambda: nuisance.measure(subject))


def reference_of(subject: Subject) -> reference.Reference:
  """Loads or trains the reference; what has not been trained yet is `Unavailable`."""
  name = reference.name_of(subject)
  if name in subject.experiment.config.train.methods:
    needs_classifiers(subject, (name,))
  return reference.load(subject)


def needs_latents(subject: Subject) -> None:
  if not subject.has_latents:
    raise Unavailable(
      f'{subject.experiment.workdir.path / "encode"} is not whole: run the stage encode first'
    )


def needs_classifiers(subject: Subject, methods: tuple[str, ...] = ()) -> None:
  for method in methods or subject.methods:
    file = subject.classifier_file(method)
    if not file.exists():
      raise Unavailable(f'{file} is missing: run the stage train first')


def attack(subject: Subject) -> dict:
  """Strength of the attack and loss along it, of each classifier; draws `attack.png` and `loss.png`."""
  needs_latents(subject)
  needs_classifiers(subject)
  strength = Strength(subject)
  experiment = subject.experiment
  measured = {}
  for method in subject.methods:
    results = experiment.workdir.path / 'evaluate' / f'{experiment.classifiers(method)[0]}.npz'
    measured[method] = kept_part(
      subject,
      f'attack-{method}',
      ('num_attacked', 'restarts', 'steps', 'epsilons'),
      [],
      functools.partial(strength.measure, method),
      [subject.classifier_file(method), results],
    )
  found = {'axes': strength.axes, 'methods': measured}
  diagnostic_charts.save_strength(subject.folder / 'attack.png', found)
  diagnostic_charts.save_losses(subject.folder / 'loss.png', found)
  return found


def kept_part(
  subject: Subject,
  name: str,
  keys: tuple[str, ...],
  figures: list[str],
  measure: Callable[[], dict],
  files: Iterable[Path] = (),
) -> dict:
  """What a part found: from its file where that was made of the same files and settings and has its figures.

  Args:
    subject: of the run.
    name: of the part.
    keys: of `config.diagnose`, those that it depends on.
    figures: that `measure` draws.
    measure: makes the part.
    files: on which it depends besides the generator and the latents.
  """
  interruption.check()
  file = subject.folder / 'parts' / f'{name}.json'
  settings = {key: subject.settings[key] for key in keys} | {'made_of': checksums(subject, files)}
  settings = json.loads(json.dumps(settings))  # As they are read again.
  if file.exists() and all((subject.folder / f'{figure}.png').exists() for figure in figures):
    kept = read_json(file)
    if isinstance(kept, dict) and kept.get('settings') == settings and 'found' in kept:
      found: dict = kept['found']
      return found
  print(f'diagnose: {name}', flush=True)
  found = json.loads(json.dumps(measure()))
  write_json(file, {'settings': settings, 'found': found})
  return found


def checksums(subject: Subject, files: Iterable[Path]) -> dict[str, int]:
  """Of the generator, the latents and these files, as far as they exist, by path from the run's folder."""
  experiment = subject.experiment
  latents = [experiment.latents_file(part) for part in ('train', subject.attacked_part)]
  return {
    os.path.relpath(file, experiment.workdir.path): zlib.crc32(file.read_bytes())
    for file in (experiment.generator_file, *latents, *files)
    if file.exists()
  }


def result(subject: Subject, found: dict, missing: dict[str, str]) -> dict:
  """The contents of `diagnostics.json`; no times in it, so that equal runs give equal bytes."""
  config = subject.experiment.config
  return {
    'seed': config.seed,
    'config_hash': config_hash(config),
    'data': config.data.name,
    'split': config.evaluate.split,
    'settings': subject.settings.to_dict(),
    'missing': sorted(missing),
    **found,
  }


def summary(found: dict) -> list[str]:
  """What there is to know at once, in sentences."""
  lines = []
  if 'classes' in found:
    lines.append(about_classes(found['classes']))
  if 'levels' in found:
    lines.append(about_level(found['levels']))
  if 'nuisance' in found:
    covered, by_colour = found['nuisance']['covered'], found['nuisance']['class_from_colour']
    lines.append(
      f'Random mixes reach {covered["random mixes"]:.1%} of the colours they will be tested in (training '
      f'images {covered["training images"]:.1%}); their colour alone tells the class of '
      f'{by_colour["random mixes"]:.1%} (guessing: {found["nuisance"]["chance"]:.1%}).'
    )
  if 'attack' in found:
    weaker = [
      f'{method} ({axis})'
      for method, numbers in found['attack']['methods'].items()
      for axis, check in numbers['more_is_not_weaker'].items()
      if not check['holds']
    ]
    lines.append(
      f'More attack was weaker for {", ".join(weaker)}: see docs/diagnostics.md.'
      if weaker
      else 'More restarts, more steps and a larger radius were never weaker, but for noise.'
    )
  return lines


def about_classes(classes: dict) -> str:
  """Whether the generator draws all classes."""
  names = ', '.join(classes['names'][k] for k in classes['missing'])
  return (
    f'The classes of generated images have {classes["overlap"]:.0%} in common with those of their data; '
    + (f'hardly ever drawn: {names}.' if names else 'none is missing.')
  )


def about_level(levels: dict) -> str:
  """What the disentanglement curve says of the run's mixing level."""
  run, suggested, source = levels['run_level'], levels['suggested_level'], levels['suggested_from']
  agreement = levels['lines'][source]['agreement']
  text = (
    f'At the mixing level of this run, {run}, the reference sees the class of the original in '
    f'{agreement[run]:.1%} of the random mixes ({source}), and in {agreement[-1]:.1%} where nothing is mixed.'
  )
  if suggested is None:
    return (
      f'{text} No level keeps the class as often as {levels["threshold"]:.1%}; '
      f'it is lost most below level {levels["falls_most_below"]}.'
    )
  return f'{text} The lowest level that keeps it as often as {levels["threshold"]:.1%} is {suggested}.'
