"""Draws images with a generator: official weights that launch.convert wrote, or the gan folder of a run.

  python -m launch.generate --generator=ffhq --count=16 --seed=1 --out=faces.png
  python -m launch.generate --generator=ffhq --latents=in.npz --truncation_psi=0.7 --out=out.npz
  python -m launch.generate --generator=ffhq --count=12 --mix_level=8 --out=mixing.png

in.npz holds z [B, Z] (and labels, where the generator has classes) or w [B, L, D], as projected_w.npz does.
out.npz holds w [B, L, D], after truncation, and images [B, H, W, C] float32, not clipped to [-1, 1].

Exit status: 0 done, 2 bad input, 75 interrupted before anything was written, 1 anything else.
"""

import argparse
import functools
import math
import sys
from pathlib import Path

import jax

from advmix_jax import generate, interruption, latents
from advmix_jax.interop.generator_folder import load_generator
from advmix_jax.types import BadInputError
from launch import common


@common.exit_status
def main(arguments: list[str] | None = None) -> None:
  options = read_options(arguments)
  jax.config.update('jax_default_matmul_precision', 'highest')  # TF32 would be visible in the images.
  interruption.install()
  run(options)


def read_options(arguments: list[str] | None) -> argparse.Namespace:
  parser = argparse.ArgumentParser(
    prog='python -m launch.generate',
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument('--generator', type=Path, required=True, help='folder with architecture.json')
  parser.add_argument('--out', type=Path, required=True, help='file to write, .npz or .png')
  parser.add_argument('--latents', type=Path, help='.npz of z or w; without it, z is drawn')
  parser.add_argument('--count', type=int, help='how many to draw without --latents (16)')
  parser.add_argument('--seed', type=int, default=0, help='of z and of random noise (%(default)s)')
  parser.add_argument('--label', type=int, help='class of all images, for a generator that has classes')
  parser.add_argument('--truncation_psi', type=float, default=1.0, help='1 = off (%(default)s)')
  parser.add_argument('--truncation_cutoff', type=int, help='rows of w that are truncated; 0 = none')
  parser.add_argument('--noise_mode', choices=generate.NOISE_MODES, default='const')
  parser.add_argument(
    '--mix_level', type=int, help='rows below it from the first half, the others from the second'
  )
  parser.add_argument('--batch_size', type=int, help='images at once')
  return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> None:
  """Everything is checked before the first image is drawn."""
  generate.check_out(options.out)
  check_numbers(options)
  generator = load_generator(options.generator)
  if options.mix_level is not None:
    generator.check_level(options.mix_level)
  if options.latents is None:
    given = latents.draw_latents(generator, options.count or 16, options.seed, options.label)
  else:
    given = latents.read_latents(options.latents, generator, options.label)
  if options.mix_level is not None and len(given) < 2:
    raise BadInputError(f'--mix_level={options.mix_level}: found 1 latent, expected at least 2 to mix')

  w = generate.map_latents(generator, given)
  w = generate.truncated(generator, w, options.truncation_psi, options.truncation_cutoff)
  draw_fn = functools.partial(
    generate.draw,
    generator,
    noise_mode=options.noise_mode,
    seed=options.seed,
    batch_size=options.batch_size,
  )
  if options.mix_level is None:
    generate.write(options.out, w, draw_fn(w))
  else:
    generate.write_mixing(options.out, w, options.mix_level, draw_fn)
  print(f'wrote {options.out}')


def check_numbers(options: argparse.Namespace) -> None:
  """Raises `BadInputError` for a flag out of its range."""
  if options.count is not None and options.latents is not None:
    raise BadInputError(f'--count={options.count}: expected no --latents beside it, which has its own')
  if options.count is not None and not 1 <= options.count <= latents.MAX_COUNT:
    raise BadInputError(f'--count={options.count}: expected 1 to {latents.MAX_COUNT}')
  if options.batch_size is not None and options.batch_size < 1:
    raise BadInputError(f'--batch_size={options.batch_size}: expected at least 1')
  if not 0 <= options.seed < 1 << 32:
    raise BadInputError(f'--seed={options.seed}: expected 0 to {(1 << 32) - 1}')
  if not math.isfinite(options.truncation_psi):
    raise BadInputError(f'--truncation_psi={options.truncation_psi}: expected a number')
  if options.truncation_cutoff is not None and options.truncation_cutoff < 0:
    raise BadInputError(f'--truncation_cutoff={options.truncation_cutoff}: expected 0 or more')


if __name__ == '__main__':
  common.use_compile_cache()
  sys.exit(main())
