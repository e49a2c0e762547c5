"""Converts an official generator to a folder of plain arrays, without running anything in the file.

  python -m launch.convert stylegan2-ffhq-config-f.pkl ffhq
  python -m launch.generate --generator=ffhq --count=16 --out=faces.png

SOURCE is a pickle of StyleGAN 1, StyleGAN 2 or StyleGAN 2-ADA, for TensorFlow or PyTorch; neither is needed.
OUT gets generator.safetensors, discriminator.safetensors and architecture.json.

Exit status: 0 done, 2 bad input, 75 interrupted, 1 anything else.
"""

import argparse
import sys
from pathlib import Path

from advmix_jax import interruption
from advmix_jax.interop import convert
from launch import common


@common.exit_status
def main(arguments: list[str] | None = None) -> None:
  parser = argparse.ArgumentParser(
    prog='python -m launch.convert',
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument('source', type=Path, metavar='SOURCE', help='the official file')
  parser.add_argument('out', type=Path, metavar='OUT', help='folder to write')
  options = parser.parse_args(arguments)
  for line in convert.convert(options.source, options.out):
    print(line)
    interruption.check()


if __name__ == '__main__':
  interruption.install()
  sys.exit(main())
