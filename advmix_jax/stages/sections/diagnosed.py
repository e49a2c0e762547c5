"""Sections that show what the stage diagnose measured."""

import pathlib

from advmix_jax.report.page import Section
from advmix_jax.stages import diagnose
from advmix_jax.stages.experiment import require
from advmix_jax.stages.sections.scene import Scene
from advmix_jax.workdir import read_json

GUIDE = 'docs/diagnostics.md says what to do when a picture looks bad.'


def diagnostics(scene: Scene) -> list[Section]:
  """The pictures of the stage diagnose, or how to have them."""
  folder = scene.experiment.workdir.path / 'diagnostics'
  if not (folder / diagnose.FILE).exists():
    text = (
      'Whether the mixing level, the encoder, the generator and the attack are good enough on this data has '
      'not been measured in this run. The stage diagnose does (python -m launch.diagnose, with the flags of '
      f'this run); the stage report then shows it here. {GUIDE}'
    )
    return [Section('Can this run be trusted?', text)]
  found = read_json(folder / diagnose.FILE)
  sections = []
  if 'classes' in found:
    sections.append(
      Section(
        'Does the generator draw every class?',
        f'{diagnose.about_classes(found["classes"])} Images of a class that is hardly ever drawn are encoded '
        'badly, and their variants look like other classes.',
        folder / 'classes.png',
        'Classes that the reference sees in generated images, beside those of the images that the generator '
        f'learnt from. The reference is {found["classes"]["reference_is"]}.',
      )
    )
  if 'levels' in found:
    levels = found['levels']
    judge = f'The reference is {levels["reference_is"]}.'
    sections += [
      Section(
        'Does mixing leave the class alone?',
        f'{diagnose.about_level(levels)} {judge} The lower the level, the more is mixed: the level to choose '
        'is the lowest at which the class survives. At level 0 nothing is kept, which is what chance alone '
        'agrees on.',
        folder / 'levels.png',
        'Left: how often the reference sees the class of the original in a random mix, with 95 % intervals. '
        'Right: how far a mix is from its reconstruction.',
      ),
      Section(
        'The same draws at every level',
        f'A level is too low where rows no longer show one class. {judge} A cross marks what it takes for '
        'another class.',
        folder / 'levels_pictures.png',
        'Training images, their reconstructions, and random mixes of them, from the highest level to the '
        'lowest; a column has the same draw at every level.',
      ),
    ]
  if 'encoder' in found:
    sections.append(
      Section(
        'What does the encoder lose?',
        'Where a solid line lies below the dotted one of its classifier, reconstructions have lost what it '
        'reads. A classifier that relies on the nuisance can be right on its training images and on their '
        'reconstructions alone.',
        folder / 'encoder.png',
        'Accuracy on originals (dotted) and on their reconstructions (solid), by the error of the encoder.',
      )
    )
  if 'nuisance' in found:
    sections.append(
      Section(
        'Which colours does mixing reach?',
        'Classifiers can only become indifferent to what they are shown. Random mixes should reach the '
        'colours of the test, and their colour should tell nothing of the class.',
        folder / 'colours.png',
        f'Colours ({found["nuisance"]["colour"]}) of training images, of random mixes of them and of the '
        'images of the test.',
      )
    )
  if 'attack' in found:
    sections += [
      Section(
        'Is the attack strong enough?',
        'More restarts, steps or radius must not raise a line; one that still falls at the settings of the '
        'evaluation says that the accuracies under perturbation in the table are too high.',
        folder / 'attack.png',
        'Accuracy under perturbation on a part of the attacked images, against each setting by itself.',
      ),
      Section(
        'Loss along the attack',
        'The loss should rise from the random mix (step 0) and level off before the last step of the '
        'evaluation (dotted line).',
        folder / 'loss.png',
        'Loss at each step of the first restart over all these images.',
      ),
    ]
  for section in sections:
    require(pathlib.Path(section.figure or folder), 'diagnose')
  return sections
