"""Does mixing leave the label alone, and from which level on?"""

import numpy as np

from advmix_jax.data import coloured
from advmix_jax.progress import track
from advmix_jax.report import diagnostic_charts, style
from advmix_jax.report.layout import Row, lay_out
from advmix_jax.stages.diagnostics.reference import Reference
from advmix_jax.stages.diagnostics.subject import Examples, Subject
from advmix_jax.stages.sections.scene import Scene, one_per_class

COLUMNS = 10  # Images in the picture.


def suggested_level(agreement: np.ndarray, threshold: float) -> int | None:
  """The lowest level from which on agreement is never below a threshold.

  Args:
    agreement: `[L + 1]`, at level 0, where nothing is kept, to L, the reconstruction.
    threshold: in [0, 1].

  Returns:
    A level in 1..L - 1; None if not even L - 1 will do.
  """
  enough = agreement[1:-1] >= threshold
  if not enough[-1:].all():
    return None
  below = np.flatnonzero(~enough)
  return int(below[-1]) + 2 if len(below) else 1


def steepest_fall(agreement: np.ndarray) -> int:
  """The level in 1..L - 1 below which agreement `[L + 1]` falls most."""
  return 1 + int(np.diff(agreement[:-1]).argmax())


def changed_share(images: np.ndarray, mixes: np.ndarray) -> float:
  """How far mixes are from what they were made of, as a share of how far two images are from each other.

  Args:
    images: `[N, H, W, C]` uint8.
    mixes: `[D, N, H, W, C]` uint8.

  Returns:
    The ratio of the root mean square differences; 1 = as different as two of the images.
  """
  own = images.astype(np.float32)
  between = 2 * own.var(axis=0).mean() * len(own) / max(1, len(own) - 1)  # Mean over all pairs of two.
  distance = np.mean([np.mean((mix.astype(np.float32) - own) ** 2) for mix in mixes])
  return float(np.sqrt(distance / max(between, 1e-9)))


def measure(subject: Subject, reference: Reference) -> dict:
  """Agreement of the reference before and after random mixing at every level; draws `levels*.png`.

  Images: encoded training images, which the reference has not learnt from if it is the recoloured one;
  encoded attacked images; and generated ones, whose latents owe nothing to the encoder's mixing loss.
  """
  experiment, decoder = subject.experiment, subject.experiment.decoder
  levels = list(range(decoder.num_layers + 1))
  w = subject.fresh('generated', len(subject.train_positions))
  generated = subject.decoded(w)
  looked_at = {'generated images': Examples(generated, reference.predict(generated), w)}
  if subject.has_latents:
    test = f'{subject.attacked_part} images'
    looked_at = {'training images': subject.train, test: subject.test} | looked_at
  first = next(iter(looked_at))
  lines: dict[str, dict] = {}
  seen: dict[str, np.ndarray] = {}
  for name, examples in looked_at.items():
    lines[name], seen[name] = curve(subject, reference, examples, name, levels)
  control = recoloured_agreement(subject, reference)
  agreement = np.array(lines[first]['agreement'])
  threshold = min([agreement[-1], *([] if control is None else [control])]) - subject.settings.tolerance
  alone = np.array(lines['generated images']['agreement'])
  found = {
    'levels': levels,
    'run_level': decoder.mixing_level,
    'lines': lines,
    'recoloured_originals': control,
    'suggested_from': first,
    'threshold': float(threshold),
    'suggested_level': suggested_level(agreement, threshold),
    'falls_most_below': steepest_fall(agreement),
    'suggested_level_by_generated_images': suggested_level(
      alone, min([1.0, *([] if control is None else [control])]) - subject.settings.tolerance
    ),
    'by_class': by_class(looked_at[first].labels, seen[first], experiment.splits.train.num_classes),
  }
  diagnostic_charts.save_levels(subject.folder / 'levels.png', found)
  save_pictures(subject, reference, looked_at[first])
  return found


def curve(
  subject: Subject, reference: Reference, examples: Examples, name: str, levels: list[int]
) -> tuple[dict, np.ndarray]:
  """Agreement at every level, and what the reference sees in mixes at the run's level `[D, N]`."""
  before = reference.predict(examples.images)
  reconstructed = subject.decoded(examples.w)
  line: dict[str, list[float]] = {'agreement': [], 'standard_error': [], 'label': [], 'changed': []}
  at_run_level = np.zeros(0)
  with track(f'diagnose levels, {name}', len(levels)) as update:
    for level in levels:
      mixes = subject.random_mixes(examples, f'levels/{name}', level)
      after = np.stack([reference.predict(mix) for mix in mixes])
      agrees = (after == before[None]).mean(axis=0)
      line['agreement'].append(float(agrees.mean()))
      line['standard_error'].append(float(agrees.std(ddof=1) / np.sqrt(len(agrees))))
      line['label'].append(float((after == examples.labels[None]).mean()))
      line['changed'].append(changed_share(reconstructed, mixes))
      if level == subject.experiment.decoder.mixing_level:
        at_run_level = after
      update(level + 1, '')
  return line | {
    'num_images': len(before),
    'accuracy': float((before == examples.labels).mean()),
  }, at_run_level


def recoloured_agreement(subject: Subject, reference: Reference) -> float | None:
  """How often the reference agrees with itself when nothing but the colour of the original changes.

  What a perfect generator would reach; None where images cannot be given other colours.
  """
  config, train = subject.experiment.config, subject.experiment.splits.train
  if config.data.name not in coloured.SOURCES:
    return None
  recoloured, at = coloured.recolourer(config, train), subject.train_positions
  before = reference.predict(train.images[at])
  # Draws that no batch of a training has.
  draws = [2**31 + draw for draw in range(subject.settings.num_draws)]
  return float(np.mean([reference.predict(recoloured(at, draw)) == before for draw in draws]))


def by_class(labels: np.ndarray, seen: np.ndarray, num_classes: int) -> list[dict]:
  """For each class the share of mixes at the run's level that show it to the reference, and what they are
  most often taken for otherwise."""
  rows = []
  for k in range(num_classes):
    counts = np.bincount(seen[:, labels == k].ravel(), minlength=num_classes)
    others = np.where(np.arange(num_classes) == k, -1, counts)
    total = max(1, int(counts.sum()))
    kept, share = float(counts[k] / total), float(max(0, others.max()) / total)
    rows.append({'kept': kept, 'taken_for': int(others.argmax()), 'share': share})
  return rows


def save_pictures(subject: Subject, reference: Reference, examples: Examples) -> None:
  """Draws the same images mixed with the same draws at every level, and what the reference sees in each."""
  chosen = one_per_class(examples.labels, COLUMNS)
  w, labels = examples.w[chosen], examples.labels[chosen]
  other = subject.fresh('levels/pictures', len(chosen))
  names, decoder = Scene(subject.experiment).class_names, subject.experiment.decoder

  def row(label: str, images: np.ndarray, separate: bool = False) -> Row:
    seen = reference.predict(images)
    captions = [f'{"✓" if own == k else "✗"} {names[k]}' for k, own in zip(seen, labels, strict=True)]
    return Row(label, list(images), captions, seen != labels, separate=separate)

  rows = [row('Original', examples.images[chosen]), row('Reconstruction', subject.decoded(w))]
  for level in range(decoder.num_layers - 1, 0, -1):
    label = f'Level {level}' + ('\n(this run)' if level == decoder.mixing_level else '')
    rows.append(row(label, subject.mixed(w, other, level), separate=level == decoder.num_layers - 1))
  style.save(subject.folder / 'levels_pictures.png', lay_out(rows, cell=96))
