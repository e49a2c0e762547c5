"""Tiny pictures drawn with NumPy, data sets of them as files, and their configurations."""

import io
import json
import pathlib
import zipfile

import numpy as np
import pytest
from PIL import Image

from advmix_jax import data
from advmix_jax.types import BadInputError
from configs import default


def shape_picture(label: int, seed: int, side: int = 32) -> np.ndarray:
  """A disc (0) or a cross (1) in any colour on another: `[side, side, 3]` uint8."""
  rng = np.random.default_rng((label, seed))
  y, x = np.mgrid[:side, :side] / (side - 1) * 2 - 1 + rng.uniform(-0.1, 0.1, (2, 1, 1))
  inside = x**2 + y**2 < 0.4 if label == 0 else (np.minimum(abs(x), abs(y)) < 0.18) & (abs(x + y) < 1.1)
  ink, paper = rng.integers(0, 256, (2, 3))
  return np.where(inside[..., None], ink, paper).astype(np.uint8)


def encoded(pixels: np.ndarray, kind: str = 'PNG', **options) -> bytes:
  """The bytes of a picture file; `[H, W]` is grey, four channels are RGBA."""
  buffer = io.BytesIO()
  Image.fromarray(pixels).save(buffer, format=kind, **options)
  return buffer.getvalue()


def write(path: pathlib.Path, pixels: np.ndarray, kind: str = 'PNG', **options) -> pathlib.Path:
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_bytes(encoded(pixels, kind, **options))
  return path


def write_split(
  root: pathlib.Path, names: tuple[str, str] = ('disc', 'cross'), side: int = 32, **numbers: int
) -> pathlib.Path:
  """`root/PART/CLASS/NN.png`; `numbers` are pictures of each class by part."""
  for p, (part, number) in enumerate(numbers.items()):
    for label, name in enumerate(names):
      for i in range(number):
        write(root / part / name / f'{i:03}.png', shape_picture(label, 1000 * p + i, side))
  return root


def stylegan_files(number: int, side: int = 32, grey: bool = False) -> dict[str, bytes]:
  """The files of a StyleGAN data set with labels 3 and 7."""
  files, labels = {}, []
  for i in range(number):
    pixels = shape_picture(i % 2, i, side)
    name = f'{i // 10:05}/img{i:08}.png'
    files[name] = encoded(pixels[..., 0] if grey else pixels)
    labels.append([name, (3, 7)[i % 2]])
  return files | {'dataset.json': json.dumps({'labels': labels}).encode()}


def write_zip(path: pathlib.Path, files: dict[str, bytes]) -> pathlib.Path:
  with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
    for name, contents in files.items():
      archive.writestr(name, contents)
  return path


def folder_config(directory: pathlib.Path, cache: pathlib.Path, **overrides):
  """The default configuration for a folder or zip of pictures, at 16 pixels."""
  config = default.get_config()
  settings = {'name': 'folder', 'num_validation': 0, 'cache_dir': str(cache), 'num_workers': 0}
  config.data.update({**settings, 'dir': str(directory), **overrides})
  return config


def complaint(config) -> str:
  """The one line with which the data of this configuration are refused."""
  with pytest.raises(BadInputError) as error:
    data.load(config)
  assert '\n' not in str(error.value)
  return str(error.value)


CELEBA_NAMES = ('Eyeglasses', 'Pale_Skin', 'Smiling')


def write_celeba(root: pathlib.Path, number: int = 32, names: tuple[str, ...] = CELEBA_NAMES) -> pathlib.Path:
  """CelebA's files in miniature: half training, a quarter validation, a quarter test; all labels in turn."""
  rows, parts = [], []
  for i in range(number):
    name = f'{i + 1:06}.jpg'
    pixels = np.zeros((218, 178, 3), np.uint8)
    pixels[20:198, :, 0] = 255  # Red where the middle square is,
    pixels[57:185, 25:153, 1] = 255  # yellow where the face is.
    write(root / 'img_align_celeba' / name, pixels, 'JPEG', quality=95)
    rows.append(name + ''.join(f' {1 if i >> bit & 1 else -1:2d}' for bit in range(len(names))))
    parts.append(f'{name} {max(4 * i // number - 1, 0)}')
  header = ' '.join(names)
  (root / 'list_attr_celeba.txt').write_text('\n'.join([str(number), header + ' ', *rows]) + '\n')
  (root / 'list_eval_partition.txt').write_text('\n'.join(parts) + '\n')
  return root
