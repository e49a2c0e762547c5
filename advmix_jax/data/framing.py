"""One picture: from the bytes of a PNG or JPEG to a square RGB array, or the reason why not."""

import io
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFile, ImageOps

FITS = ('none', 'crop', 'pad', 'resize')
_FORMATS = ('PNG', 'JPEG')


class BadPicture(ValueError):
  """A picture that cannot be used; the text says why, without its name."""


class Framing(NamedTuple):
  """How pictures become squares.

  Attributes:
    resolution: side of the result in pixels.
    fit: 'none' takes RGB or grey squares whose side is a power of two from `resolution` on, and nothing else;
      'crop' the middle square; 'pad' adds black; 'resize' changes the proportions. The last three also
      convert other colour modes, and put transparent pictures on black.
    size: (width, height) that every picture must have; None = any.
    box: (left, top, right, bottom) cut out before `fit`; None = nothing.
  """

  resolution: int
  fit: str
  size: tuple[int, int] | None = None
  box: tuple[int, int, int, int] | None = None


class Framed(NamedTuple):
  """A picture as it will be used: `pixels [R, R, 3]` uint8, and whether the file had no colours."""

  pixels: np.ndarray
  is_grey: bool


def frame(data: bytes, framing: Framing) -> Framed:
  """Decodes and frames one picture.

  Args:
    data: contents of a PNG or JPEG file, from anywhere.
    framing: what to do with it. Sizes change by Lanczos interpolation with prefiltering.

  Raises:
    BadPicture: it is damaged, too large to be safe, or not what `framing` allows.
  """
  try:
    file = Image.open(io.BytesIO(data), formats=_FORMATS)
    _check_header(file, framing)
    image: Image.Image = ImageOps.exif_transpose(file)
    image.load()
    is_grey = image.mode in ('1', 'L', 'LA')
    image = _to_rgb(image)
  except BadPicture:
    raise
  except Exception as error:  # Decoders raise whatever a damaged file leads them to.
    raise BadPicture(_damaged(data, error)) from None
  if framing.box:
    image = image.crop(framing.box)
  image = _to_square(image, framing.fit)
  side = framing.resolution
  if image.size != (side, side):
    image = image.resize((side, side), Image.Resampling.LANCZOS)
  return Framed(np.asarray(image), is_grey)


def _check_header(image: ImageFile.ImageFile, framing: Framing) -> None:
  """Raises `BadPicture` for what the header alone shows, before any pixel is unpacked."""
  width, height = image.size
  most = Image.MAX_IMAGE_PIXELS
  if most and width * height > most:
    raise BadPicture(f'{width}x{height} pixels, expected at most {most} in all')
  if most and framing.fit == 'pad' and max(width, height) ** 2 > most:
    raise BadPicture(f'{width}x{height} pixels, expected at most {most} when padded to a square')
  if image.format == 'PNG' and getattr(image, 'is_animated', False):
    raise BadPicture('an animation, expected one picture')
  if image.mode.startswith(('I', 'F')):
    raise BadPicture(f'colour mode {image.mode}, expected 8 bits for each colour')
  if any(str(tile.args).endswith(';16B') for tile in image.tile):  # Its mode does not say so.
    raise BadPicture(f'colour mode {image.mode} of 16 bits, expected 8 bits for each colour')
  if framing.size and image.size != framing.size:
    expected = 'x'.join(map(str, framing.size))
    raise BadPicture(f'{width}x{height} pixels, expected {expected}')
  if framing.fit != 'none':
    return
  if image.mode not in ('RGB', 'L'):
    raise BadPicture(f'colour mode {image.mode}, expected RGB without transparency')
  if 'transparency' in image.info:
    raise BadPicture('a transparent colour, expected RGB without transparency')
  if width != height:
    raise BadPicture(f'{width}x{height} pixels, not square')
  if width & (width - 1):
    raise BadPicture(f'{width}x{height} pixels, not a power of two')
  if width < framing.resolution:
    raise BadPicture(
      f'{width}x{height} pixels, smaller than the {framing.resolution}x{framing.resolution} asked for'
    )


def _to_rgb(image: Image.Image) -> Image.Image:
  """Any 8-bit mode to RGB; transparent pictures are put on black."""
  if image.mode in ('RGBA', 'LA', 'PA', 'La', 'RGBa') or 'transparency' in image.info:
    image = image.convert('RGBA')
    return Image.alpha_composite(Image.new('RGBA', image.size, (0, 0, 0, 255)), image).convert('RGB')
  return image.convert('RGB')


def _to_square(image: Image.Image, fit: str) -> Image.Image:
  width, height = image.size
  if width == height or fit == 'resize':
    return image
  if fit == 'pad':
    side = max(width, height)
    square = Image.new('RGB', (side, side))
    square.paste(image, ((side - width) // 2, (side - height) // 2))
    return square
  side = min(width, height)
  left, top = (width - side) // 2, (height - side) // 2
  return image.crop((left, top, left + side, top + side))


def _damaged(data: bytes, error: Exception) -> str:
  if not data:
    return 'empty'
  if isinstance(error, Image.UnidentifiedImageError):
    return f'neither PNG nor JPEG: it begins with {data[:8]!r}'
  if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
    return str(error).split(',')[0]
  return f'damaged or truncated ({str(error).splitlines()[0] if str(error) else type(error).__name__})'
