"""The figures of a report that are rows of images, each function writing one PNG.

    save_mixed_pairs            Figure 2: mixup, Cutout and CutMix side by side
    save_encoder_progress       Figure 5: images, their reconstruction by Algorithm 1, mixed variants
    save_mean_colours           Figure 6: the mean colour of each class
    save_attack_panel           Figures 8, 9, 10: original, variant and rescaled difference
    save_generated_panel        Figure 11: the same for generated images, with probabilities

Images are uint8 NHWC; probabilities are given in [0, 1] and shown in per cent.
"""

import dataclasses
import os
import pathlib
from collections.abc import Sequence

import numpy as np

from advmix_jax.report import grids, style
from advmix_jax.report.layout import Row, lay_out


@dataclasses.dataclass(frozen=True)
class Variants:
  """One method's changed versions of the originals of an attack panel.

  Attributes:
    name: the method as readers know it.
    images: `[C, H, W, 3]` uint8.
    predicted: `[C]` int, the class the attacked net gives each.
  """

  name: str
  images: np.ndarray
  predicted: np.ndarray


def rescaled_difference(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """`b - a`, centred at grey and scaled so that the largest absolute difference of each image is full scale.

  Args:
    a: `[..., H, W, 3]` uint8.
    b: the same shape, uint8.

  Returns:
    pictures: `[..., H, W, 3]` uint8; 128 is no change, 255 and 0 are plus and minus `scale`.
    scale: `[...]` int64, each image's largest absolute difference in grey levels of 255; 0 where `a` is `b`.

  Raises:
    ValueError: if the two do not match.
  """
  a, b = np.asarray(a), np.asarray(b)
  if a.shape != b.shape or a.dtype != np.uint8 or b.dtype != np.uint8 or a.ndim < 3:
    raise ValueError(
      f'a is {a.dtype} {list(a.shape)} and b {b.dtype} {list(b.shape)}, expected uint8 [..., H, W, 3] twice'
    )
  difference = b.astype(np.int64) - a.astype(np.int64)
  scale = np.abs(difference).max(axis=(-3, -2, -1))
  unit = difference / np.maximum(scale, 1)[..., None, None, None]
  return np.rint(127.5 + 127.5 * unit).astype(np.uint8), scale


def save_mean_colours(
  path: str | os.PathLike, colours: np.ndarray, class_names: Sequence[str], *, per_row: int = 10
) -> pathlib.Path:
  """Draws the mean colour of each class as a swatch with its class (Figure 6).

  Args:
    path: file to write.
    colours: `[K, 3]` in [0, 1], red, green, blue.
    class_names: `[K]` names.
    per_row: swatches in a row.

  Returns:
    The path.
  """
  colours = np.asarray(colours, np.float64)
  if colours.ndim != 2 or colours.shape[1] != 3 or len(colours) != len(class_names):
    raise ValueError(f'colours are {list(colours.shape)} for {len(class_names)} classes, expected [K, 3]')
  swatches = np.rint(255 * np.clip(colours, 0, 1)).astype(np.uint8)[:, None, None, :]
  rows = []
  for start in range(0, len(swatches), per_row):
    part = slice(start, start + per_row)
    captions = [
      f'{name}\n#{r:02x}{g:02x}{b:02x}'
      for name, (r, g, b) in zip(class_names[part], swatches[part, 0, 0], strict=True)
    ]
    rows.append(Row('Class' if not start else '', list(swatches[part]), captions))
  return style.save(path, lay_out(rows, cell=96))


def save_mixed_pairs(
  path: str | os.PathLike,
  first: np.ndarray,
  second: np.ndarray,
  mixup: np.ndarray,
  cutout: np.ndarray,
  cutmix: np.ndarray,
) -> pathlib.Path:
  """Draws what the three augmentations make of two images (Figure 2), one pair per row.

  Args:
    path: file to write.
    first, second: `[R, H, W, 3]` uint8, the sources.
    mixup, cutout, cutmix: `[R, H, W, 3]` uint8, the results; Cutout's comes from `first` alone.

  Returns:
    The path.
  """
  given = (first, second, mixup, cutout, cutmix)
  columns = [grids.check_images('an image column', column, 4) for column in given]
  if len({column.shape for column in columns}) != 1:
    raise ValueError(f'columns are {[list(column.shape) for column in columns]}, expected equal shapes')
  headings = ['Image A', 'Image B', 'mixup', 'Cutout', 'CutMix']
  rows = [Row('', [column[r] for column in columns]) for r in range(len(first))]
  return style.save(path, lay_out(rows, headings=headings, wide_gaps=(2,)))


def save_encoder_progress(
  path: str | os.PathLike,
  originals: np.ndarray,
  reconstructions: np.ndarray,
  steps: Sequence[int],
  variants: np.ndarray,
  *,
  labels: Sequence[str] | None = None,
) -> pathlib.Path:
  """Draws Algorithm 1 at work (Figure 5): image, reconstructions at some steps, then mixed variants.

  Args:
    path: file to write.
    originals: `[R, H, W, 3]` uint8.
    reconstructions: `[R, S, H, W, 3]` uint8, `dec(w)` after `steps[s]` steps.
    steps: `[S]` step numbers.
    variants: `[R, V, H, W, 3]` uint8, `dec(w_par, map(z)_perp)` for V draws of z, w from the last step.
    labels: `[R]` words before each row; None for none.

  Returns:
    The path.
  """
  originals = grids.check_images('originals', originals, 4)
  reconstructions = grids.check_images('reconstructions', reconstructions, 5)
  variants = grids.check_images('variants', variants, 5)
  num, size = originals.shape[0], originals.shape[1:]
  if reconstructions.shape != (num, len(steps), *size) or (num, *size) != (
    len(variants),
    *variants.shape[2:],
  ):
    raise ValueError(
      f'reconstructions are {list(reconstructions.shape)} and variants {list(variants.shape)}; '
      f'for {num} originals of {list(size)} and {len(steps)} steps, '
      f'expected {[num, len(steps), *size]} and {[num, "V", *size]}'
    )
  rows = [
    Row(labels[r] if labels else '', [originals[r], *reconstructions[r], *variants[r]]) for r in range(num)
  ]
  headings = ['Original', *(f'Step {step}' for step in steps)]
  headings += [f'Variant {v + 1}' for v in range(variants.shape[1])]
  return style.save(path, lay_out(rows, headings=headings, wide_gaps=(1, 1 + len(steps))))


def save_attack_panel(
  path: str | os.PathLike,
  originals: np.ndarray,
  labels: np.ndarray,
  variants: Sequence[Variants],
  *,
  predicted: np.ndarray,
  class_names: Sequence[str] | None = None,
) -> pathlib.Path:
  """Draws originals, and for each method its variants over their rescaled differences (Figures 8, 9, 10).

  Args:
    path: file to write.
    originals: `[C, H, W, 3]` uint8, one column each.
    labels: `[C]` int, true classes; a prediction that differs is marked.
    variants: blocks of two rows, one per method.
    predicted: `[C]` int, what the attacked net says of the originals.
    class_names: names of the classes; None writes numbers.

  Returns:
    The path.
  """
  originals = grids.check_images('originals', originals, 4)
  rows = [_judged_row('Original', originals, labels, predicted, class_names)]
  for variant in variants:
    row = _judged_row(variant.name, variant.images, labels, variant.predicted, class_names)
    rows += [dataclasses.replace(row, separate=True), _difference_row(originals, variant.images)]
  return style.save(path, lay_out(rows))


def save_generated_panel(
  path: str | os.PathLike,
  generated: np.ndarray,
  variants: np.ndarray,
  labels: np.ndarray,
  generated_probabilities: np.ndarray,
  variant_probabilities: np.ndarray,
  *,
  class_names: Sequence[str] | None = None,
) -> pathlib.Path:
  """Draws generated images, their adversarial variants with probabilities, and differences (Figure 11).

  Args:
    path: file to write.
    generated: `[C, H, W, 3]` uint8, `dec(map(z))`.
    variants: `[C, H, W, 3]` uint8.
    labels: `[C]` int, the class each generated image is taken to be.
    generated_probabilities: `[C, K]`, the attacked net's softmax on `generated`.
    variant_probabilities: `[C, K]`, the same on `variants`.
    class_names: names of the classes; None writes numbers.

  Returns:
    The path.
  """
  generated = grids.check_images('generated', generated, 4)
  rows = []
  for name, images, probabilities in (
    ('Generated', generated, generated_probabilities),
    ('Adversarial\nvariant', variants, variant_probabilities),
  ):
    row = _judged_row(name, images, labels, np.argmax(probabilities, axis=1), class_names)
    captions = [
      f'p({_class(label, class_names)}) {_percent(p[label])}\n{caption}'
      for label, p, caption in zip(labels, probabilities, row.captions or (), strict=True)
    ]
    rows.append(dataclasses.replace(row, captions=captions))
  return style.save(path, lay_out([*rows, _difference_row(generated, variants)]))


def _judged_row(
  name: str,
  images: np.ndarray,
  labels: np.ndarray,
  predicted: np.ndarray,
  class_names: Sequence[str] | None,
) -> Row:
  """Images with what the attacked net sees in each."""
  wrong = np.asarray(predicted) != np.asarray(labels)
  captions = [
    f'{"✗" if differs else "✓"} seen as {_class(label, class_names)}'
    for label, differs in zip(predicted, wrong, strict=True)
  ]
  return Row(name, list(images), captions, wrong)


def _difference_row(originals: np.ndarray, variants: np.ndarray) -> Row:
  difference, scale = rescaled_difference(originals, variants)
  captions = [f'±{s}/255' if s else 'no change' for s in scale]
  return Row('difference,\nrescaled', list(difference), captions, quiet=True)


def _class(label: int, class_names: Sequence[str] | None) -> str:
  return str(class_names[label]) if class_names else str(int(label))


def _percent(share: float) -> str:
  """How a share relates to a number of per cent; what is not 0 or 1 is never rounded to it."""
  percent = 100 * float(share)
  if 0 < percent < 0.1:
    return '< 0.1 %'
  if 99.9 < percent < 100:
    return '> 99.9 %'
  return f'= {percent:.1f} %'
