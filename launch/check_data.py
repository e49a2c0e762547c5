"""Checks data files, names every one that cannot be used, and fetches MNIST when asked to.

  python -m launch.check_data --dir=DIR  # MNIST, CelebA or pictures of your own, whatever is there
  python -m launch.check_data --dir=DIR --name=folder --fit=crop --resolution=64
  python -m launch.check_data --download --dir=data/mnist

Exit status: 0 all files can be used, 2 some cannot, 75 interrupted, 1 they could not be fetched or read.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from advmix_jax import data, interruption
from advmix_jax.data import celeba, mnist
from advmix_jax.data.file_tree import printable
from advmix_jax.types import BadInputError
from configs import default
from launch import common

NAMES = ('mnist', 'celeba', 'folder')


@common.exit_status
def main(arguments: list[str] | None = None) -> None:
  config = default.get_config()
  parser = argparse.ArgumentParser(prog='python -m launch.check_data', description=__doc__.split('\n')[0])
  parser.add_argument('--dir', default='', help='folder of the files, or a zip; default: $ADVMIX_DATA_DIR')
  parser.add_argument('--download', action='store_true', help='fetch what is missing of MNIST into --dir')
  parser.add_argument('--name', choices=NAMES, help='what the files are; default: what they look like')
  parser.add_argument('--fit', default=config.data.fit, help='config.data.fit (folder)')
  parser.add_argument('--crop', default=config.data.crop, help='config.data.crop (celeba)')
  parser.add_argument('--attribute', default=config.data.attribute, help='config.data.attribute (celeba)')
  parser.add_argument('--resolution', type=int, default=8, help='config.data.resolution (folder)')
  options = parser.parse_args(arguments)
  if options.download:
    if not options.dir:
      raise BadInputError('--download: found no --dir, expected --dir=DIR to put the files into')
    mnist.download(options.dir)
  name = options.name or guess(options.dir)
  if name == 'mnist':
    check_mnist(options.dir)
    return
  for key in ('dir', 'fit', 'crop', 'attribute', 'resolution'):
    config.data[key] = getattr(options, key)
  config.data.name = name
  check_pictures(config)


def guess(directory: str) -> str:
  """What lies in a folder, by the names there; MNIST where nothing speaks for anything else."""
  path = Path(directory)
  if not directory or any(path.glob('*-ubyte*')) or any(path.glob('mnist/*-ubyte*')):
    return 'mnist'
  try:
    celeba.find_folder(directory)
    return 'celeba'
  except BadInputError:
    has_pictures = path.is_file() or any(p.is_dir() or p.suffix in ('.zip', '.json') for p in path.glob('*'))
    return 'folder' if has_pictures else 'mnist'


def check_mnist(directory: str) -> None:
  """Prints what the idx files hold."""
  for part in ('train', 'test'):
    images, labels = mnist.read(directory, part, resolution=32)
    print(f'MNIST {part}: {len(images)} images, labels {labels.min()} to {labels.max()}: official')


def check_pictures(config: ConfigDict) -> None:
  """Prints the number of pictures by part and class, hidden files, and each file that cannot be used.

  Raises:
    BadInputError: there are such files.
  """
  collection, problems = data.inspect(config)
  for i, part in enumerate(data.PARTS):
    labels = collection.labels[collection.parts == i]
    counts = np.bincount(labels, minlength=len(collection.class_names))
    classes = ', '.join(
      f'{name!r} {count}' for name, count in zip(collection.class_names, counts, strict=True)
    )
    if len(labels):
      print(f'{config.data.name} {part}: {len(labels)} images: {classes}')
  for name in collection.hidden:
    print(f'hidden, left out: {printable(name)}')
  for problem in problems:
    print(f'cannot be used: {problem}')
  if problems:
    hint = '; --fit=crop, pad or resize takes more' if collection.framing.fit == 'none' else ''
    raise BadInputError(f'found {len(problems)} files in {collection.place} that cannot be used{hint}')


if __name__ == '__main__':
  interruption.install()
  sys.exit(main())
