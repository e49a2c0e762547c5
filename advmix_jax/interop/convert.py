"""From an official file to a folder that `generator_folder` reads."""

from collections.abc import Iterator
from pathlib import Path

from advmix_jax.interop import generator_folder, official
from advmix_jax.types import BadInputError

LICENCE = (
  'NVIDIA licenses the weights it publishes for non-commercial use only. The converted folder holds the same '
  'weights under the same licence; they were converted on this machine only.'
)


def convert(source: Path, out: Path) -> Iterator[str]:
  """Converts `source` into the folder `out`, and yields lines that say what was found and written.

  The same file can be converted into the same folder again; the bytes written are the same.

  Raises:
    BadInputError: the file cannot be converted, or the folder holds another generator.
  """
  check_out(out)
  found = official.read_official(source)
  description = generator_folder.describe(
    found.generator,
    found.discriminator,
    truncation=found.truncation,
    source={'file': source.name, 'kind': found.kind, 'network': found.generator_name, 'sha256': found.sha256},
  )
  check_same(out, found.sha256)
  model, truncation = found.generator, found.truncation
  yield f'{source}: {found.kind}, SHA-256 {found.sha256}'
  yield f'  generator      {found.generator_name}: {official.count_numbers(found.params):,} numbers'
  yield f'  images         {model.resolution} x {model.resolution}, {model.image_channels} channels'
  yield f'  channels       {" ".join(map(str, model.fmaps))} at 4, 8, ... pixels'
  yield f'  styles         {model.num_layers} of {model.w_size}, z of {model.latent_size}'
  if model.label_size:
    yield f'  classes        {model.label_size}'
  if found.discriminator is not None:
    yield f'  discriminator  D: {official.count_numbers(found.discriminator_params):,} numbers'
  yield f'  truncation     psi {truncation.psi:g}, {_rows(truncation.cutoff)}, by default in its own code'
  generator_folder.save_generator(out, description, found.params, found.discriminator_params)
  yield f'wrote {out}: {", ".join(sorted(path.name for path in out.iterdir()))}'
  yield LICENCE


def check_out(out: Path) -> None:
  """Raises `BadInputError` if `out` cannot be a folder."""
  if out.exists() and not out.is_dir():
    raise BadInputError(f'{out}: found a file, expected a folder to write')


def check_same(out: Path, sha256: str) -> None:
  """Raises `BadInputError` if the folder holds a generator of another file."""
  if not (out / generator_folder.DESCRIPTION).exists():
    return
  there = generator_folder.read_description(out).get('source') or {}
  if there.get('sha256') != sha256:
    raise BadInputError(
      f'{out}: found the generator of {there.get("file", "a run")}, expected an empty folder'
    )


def _rows(cutoff: int | None) -> str:
  return 'all styles' if cutoff is None else f'the first {cutoff} styles'
