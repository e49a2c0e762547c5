"""The report as one HTML file that needs nothing else: pictures are inside it, and it opens from a disk.

    colours = Section('Mean colours', 'What each class looks like.', 'colours.png', 'Figure 6')
    rows = method_rows(results['methods'])
    write_page('report/index.html', Report('Digits', ('AdvMix reads 87.2 %.',), rows, (colours,)))

`method_rows` reads the "methods" of a `results.json`; keys it does not find are shown as "not measured", so a
run that is not finished has a page too.
"""

import base64
import dataclasses
import hashlib
import os
import pathlib
from collections.abc import Mapping, Sequence

import jinja2
import markupsafe
import numpy as np

from advmix_jax.report import charts, grids, style
from advmix_jax.report.explorer import Explorer, as_json

_METHOD_WORDS = {
  'nominal': 'Trained on the images as they are.',
  'mixup': 'Trained on weighted averages of two images and of their labels.',
  'cutout': 'Trained on images with a square blanked out.',
  'cutmix': 'Trained on images with a rectangle taken from another image; labels are mixed by area.',
  'at': 'Adversarial training: every pixel is moved within a small box so that the loss is highest (PGD).',
  'randmix': 'Trained on images whose label-independent latents were replaced by random ones (Equation 17).',
  'advmix': 'Trained on images whose label-independent latents were chosen to mislead the classifier '
  '(Equation 16, Algorithm 2).',
}


@dataclasses.dataclass(frozen=True)
class MethodRow:
  """What is known of one training method; None where it was not measured.

  Attributes:
    name: key of the method in `results.json`.
    title: its name for readers.
    words: what it does, in a sentence.
    clean: accuracy on the original test images, in [0, 1].
    perturbed: accuracy under the evaluation attack, in [0, 1].
    worst_class: clean accuracy of the class it reads worst, in [0, 1].
    worst_class_name: which class that is.
    per_class: clean accuracy by class name, in [0, 1].
    per_class_perturbed: accuracy under the attack by class name, in [0, 1].
    num_clean: test images behind `clean`.
    num_perturbed: test images behind `perturbed`.
    spread: standard deviation over seeds of `clean`, `perturbed` and `worst_class`, which are then means.
    num_seeds: classifiers behind the numbers.
  """

  name: str
  title: str
  words: str = ''
  clean: float | None = None
  perturbed: float | None = None
  worst_class: float | None = None
  worst_class_name: str = ''
  per_class: Mapping[str, float] = dataclasses.field(default_factory=dict)
  per_class_perturbed: Mapping[str, float] = dataclasses.field(default_factory=dict)
  num_clean: int | None = None
  num_perturbed: int | None = None
  spread: Mapping[str, float] = dataclasses.field(default_factory=dict)
  num_seeds: int = 1


@dataclasses.dataclass(frozen=True)
class Section:
  """One picture with its explanation.

  Attributes:
    title: heading.
    text: what is to be seen and how to read it, for a newcomer; paragraphs are split at empty lines.
    figure: PNG file, or None for a section of words alone.
    caption: what the picture shows: data, settings, scale.
    alt: the picture in words for those who do not see it; '' takes the caption.
    pixelated: scale without smoothing, for grids of small images.
    explorer: shown below the text, or None.
  """

  title: str
  text: str
  figure: str | os.PathLike | None = None
  caption: str = ''
  alt: str = ''
  pixelated: bool = False
  explorer: Explorer | None = None


@dataclasses.dataclass(frozen=True)
class Report:
  """Everything a page says.

  Attributes:
    title: heading of the page.
    summary: sentences with the result, first thing on the page.
    rows: the method table; empty leaves it out.
    sections: the pictures in order.
    seeds: what they seed to the numbers.
    commands: that made the run, in their order.
    class_sizes: by class name, evaluated images and those of them that were attacked.
    split: what the images that accuracy is measured on are called.
    attack: settings of the evaluation attack, name to value, shown under the table.
    settings: everything else about the run, name to value.
    versions: packages and machine, name to value.
    language: of the page, as in HTML's `lang`.
  """

  title: str
  summary: Sequence[str] = ()
  rows: Sequence[MethodRow] = ()
  sections: Sequence[Section] = ()
  seeds: Mapping[str, object] = dataclasses.field(default_factory=dict)
  commands: Sequence[str] = ()
  class_sizes: Mapping[str, tuple[int, int]] = dataclasses.field(default_factory=dict)
  split: str = 'test'
  attack: Mapping[str, object] = dataclasses.field(default_factory=dict)
  settings: Mapping[str, object] = dataclasses.field(default_factory=dict)
  versions: Mapping[str, object] = dataclasses.field(default_factory=dict)
  language: str = 'en'


def method_rows(
  results: Mapping[str, Mapping], class_names: Sequence[str] | None = None
) -> tuple[MethodRow, ...]:
  """Rows of the method table from the "methods" of a `results.json`, in the order of the paper.

  Args:
    results: name of a method to its numbers: `clean_accuracy`, `perturbed_accuracy`, `worst_class_accuracy`,
      `worst_class`, `per_class_accuracy` and `per_class_perturbed_accuracy` (lists by class),
      `num_examples`, `num_perturbed_examples`; all may be missing. Without
      `num_perturbed_examples` the attack is taken to have seen `num_examples`.
    class_names: names of the classes; None writes numbers.

  Returns:
    One row per method; methods the paper does not have come last, in the order given.
  """
  order = [name for name in style.METHOD_TITLES if name in results]
  order += [name for name in results if name not in style.METHOD_TITLES]
  return tuple(_method_row(name, results[name], class_names) for name in order)


def _method_row(name: str, numbers: Mapping, class_names: Sequence[str] | None) -> MethodRow:
  def class_name(k: int) -> str:
    return str(class_names[k]) if class_names else str(k)

  per_class = numbers.get('per_class_accuracy') or ()
  worst = numbers.get('worst_class')
  if worst is None and len(per_class):
    known = [np.inf if share is None else share for share in per_class]
    worst = int(np.argmin(known))
  num_clean = numbers.get('num_examples')
  return MethodRow(
    name=name,
    title=style.method_title(name),
    words=_METHOD_WORDS.get(name, ''),
    clean=numbers.get('clean_accuracy'),
    perturbed=numbers.get('perturbed_accuracy'),
    worst_class=numbers.get('worst_class_accuracy'),
    worst_class_name='' if worst is None else class_name(worst),
    per_class={class_name(k): share for k, share in enumerate(per_class)},
    per_class_perturbed={
      class_name(k): share for k, share in enumerate(numbers.get('per_class_perturbed_accuracy') or ())
    },
    num_clean=num_clean,
    num_perturbed=numbers.get('num_perturbed_examples', num_clean),
    spread={
      column: numbers[f'{key}_sd']
      for column, key in (
        ('clean', 'clean_accuracy'),
        ('perturbed', 'perturbed_accuracy'),
        ('worst_class', 'worst_class_accuracy'),
      )
      if f'{key}_sd' in numbers
    },
    num_seeds=len(numbers.get('per_seed', ())) or 1,
  )


def write_page(path: str | os.PathLike, report: Report) -> pathlib.Path:
  """Writes a report as one self-contained HTML file.

  Args:
    path: file to write; its folder is made.
    report: what to say. Its texts are escaped, not read as HTML.

  Returns:
    The path.

  Raises:
    FileNotFoundError: a section's picture is missing.
    ValueError: a section's picture is not a PNG.
  """
  environment = jinja2.Environment(
    loader=jinja2.FileSystemLoader(pathlib.Path(__file__).parent),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
  )
  environment.filters.update(
    percent=_percent,
    interval=_interval,
    data_uri=_data_uri,
    paragraphs=_paragraphs,
    inlined=_inlined,
    worst=_worst,
    mean=_mean,
    explorer_json=as_json,
  )
  environment.tests['missing'] = lambda value: value is None
  script = _inlined('explorer.js')
  html = environment.get_template('page.html.j2').render(
    report=report,
    explorer_script=script,
    policy=_policy(script),
    best_clean=_best(report.rows, 'clean'),
    best_perturbed=_best(report.rows, 'perturbed'),
    best_worst=_best(report.rows, 'worst_class'),
    png_size=_png_size,
  )
  return grids.write_atomically(path, html.encode('utf-8'))


def _inlined(name: str) -> markupsafe.Markup:
  """A style sheet or script of this folder, as it stands in a page."""
  text = (pathlib.Path(__file__).parent / name).read_text('utf-8')
  if '</' in text:
    raise ValueError(f"{name} holds '</', which would end the element around it")
  return markupsafe.Markup(text)


def _policy(script: str) -> str:
  """Content security policy: a browser runs this script alone and fetches nothing."""
  digest = base64.b64encode(hashlib.sha256(script.encode('utf-8')).digest()).decode('ascii')
  return f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"


def _percent(share: float | None) -> str:
  return 'not measured' if share is None else f'{100 * share:.1f} %'


def _interval(share: float | None, count: int | None) -> str:
  """A 95 % interval in words, or nothing where it cannot be known."""
  if share is None or not count:
    return ''
  low, high = charts.wilson_interval(share, count)
  return f'{100 * low:.1f} to {100 * high:.1f}'


def _known(per_class: Mapping[str, float | None]) -> dict[str, float]:
  return {name: share for name, share in per_class.items() if share is not None}


def _worst(per_class: Mapping[str, float | None]) -> tuple[list[str], float] | None:
  """The classes with the lowest share, and that share."""
  known = _known(per_class)
  lowest = min(known.values(), default=None)
  return None if lowest is None else ([name for name, share in known.items() if share == lowest], lowest)


def _mean(per_class: Mapping[str, float | None]) -> float | None:
  """The mean over classes, each counted once."""
  known = _known(per_class)
  return sum(known.values()) / len(known) if known else None


def _best(rows: Sequence[MethodRow], column: str) -> float | None:
  """The highest number of a column; None where no row stands out."""
  values = [value for row in rows if (value := getattr(row, column)) is not None]
  return max(values) if len(set(values)) > 1 else None


def _read_png(path: str | os.PathLike) -> bytes:
  data = pathlib.Path(path).read_bytes()
  if data[:8] != b'\x89PNG\r\n\x1a\n' or len(data) < 24:
    raise ValueError(f'{path} is not a PNG: it begins with {data[:8]!r}')
  return data


def _data_uri(path: str | os.PathLike) -> str:
  return 'data:image/png;base64,' + base64.b64encode(_read_png(path)).decode('ascii')


def _png_size(path: str | os.PathLike) -> tuple[int, int]:
  """Width and height from a PNG's header, so that the page does not jump while it loads."""
  data = _read_png(path)
  return int.from_bytes(data[16:20], 'big'), int.from_bytes(data[20:24], 'big')


def _paragraphs(text: str) -> list[str]:
  return [part.strip() for part in text.split('\n\n') if part.strip()]
