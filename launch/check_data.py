"""Checks the MNIST files in a folder, and fetches missing ones when asked to.

  python -m launch.check_data --dir=data/mnist
  python -m launch.check_data --download --dir=data/mnist

Exit status: 0 the files are whole and official, 2 they are not, 1 they could not be fetched.
"""

import argparse
import sys

from advmix_jax.data import mnist
from advmix_jax.types import BadInputError
from launch import common


@common.exit_status
def main(arguments: list[str] | None = None) -> None:
  parser = argparse.ArgumentParser(prog='python -m launch.check_data', description=__doc__.split('\n')[0])
  parser.add_argument('--dir', default='', help='folder of the files; default: $ADVMIX_DATA_DIR')
  parser.add_argument('--download', action='store_true', help='fetch what is missing into --dir')
  options = parser.parse_args(arguments)
  if options.download:
    if not options.dir:
      raise BadInputError('--download: found no --dir, expected --dir=DIR to put the files into')
    mnist.download(options.dir)
  for part in ('train', 'test'):
    images, labels = mnist.read(options.dir, part, resolution=32)
    print(f'MNIST {part}: {len(images)} images, labels {labels.min()} to {labels.max()}: official')


if __name__ == '__main__':
  sys.exit(main())
