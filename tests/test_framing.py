"""One picture: what each option of `data.fit` makes of it, and why a picture is refused."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from advmix_jax.data.framing import BadPicture, Framing, frame
from tests.pictures import encoded

RED, BLUE = (255, 0, 0), (0, 0, 255)


def stripes(width: int, height: int) -> np.ndarray:
  """Red in the middle square, blue outside it."""
  pixels = np.full((height, width, 3), BLUE, np.uint8)
  side = min(width, height)
  top, left = (height - side) // 2, (width - side) // 2
  pixels[top : top + side, left : left + side] = RED
  return pixels


def framed(pixels: np.ndarray, fit: str, resolution: int = 16, kind: str = 'PNG', **options) -> np.ndarray:
  return frame(encoded(pixels, kind, **options), Framing(resolution, fit)).pixels


def png(depth: int, colour_type: int, rows: bytes, **chunks: bytes) -> bytes:
  """A PNG of 16 x 16 pixels, of a kind that pillow does not write."""
  header = struct.pack('>IIBBBBB', 16, 16, depth, colour_type, 0, 0, 0)
  parts = {'IHDR': header, **chunks, 'IDAT': zlib.compress(rows), 'IEND': b''}
  packed = b'\x89PNG\r\n\x1a\n'
  for name, contents in parts.items():
    body = name.encode() + contents
    packed += struct.pack('>I', len(contents)) + body + struct.pack('>I', zlib.crc32(body))
  return packed


def refusal(data: bytes, fit: str = 'none', **rules) -> str:
  with pytest.raises(BadPicture) as error:
    frame(data, Framing(16, fit, **rules))
  return str(error.value)


@pytest.mark.parametrize('width, height', [(32, 16), (16, 48)])
def test_crop_keeps_the_middle_square(width, height):
  assert np.array_equal(framed(stripes(width, height), 'crop'), np.full((16, 16, 3), RED))


def test_pad_keeps_everything_and_adds_black_on_both_sides():
  padded = framed(stripes(32, 16), 'pad', resolution=32)
  assert np.array_equal(padded[8:24], stripes(32, 16))
  assert not padded[:8].any() and not padded[24:].any()


def test_resize_changes_the_proportions():
  squeezed = framed(stripes(32, 16), 'resize')
  assert tuple(squeezed[8, 8]) == RED and tuple(squeezed[8, 0]) == BLUE


@pytest.mark.parametrize('fit', ['none', 'crop', 'pad', 'resize'])
def test_a_square_of_the_right_size_stays_as_it_is(fit):
  pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
  assert np.array_equal(framed(pixels, fit), pixels)


def test_shrinking_averages_before_it_samples():
  board = np.indices((64, 64)).sum(0) % 2 * 255
  small = framed(np.repeat(board[..., None], 3, axis=2).astype(np.uint8), 'none')
  assert abs(small.astype(int) - 127).max() <= 2


def test_grey_has_three_equal_channels_and_is_told():
  grey = np.random.default_rng(0).integers(0, 256, (16, 16), dtype=np.uint8)
  result = frame(encoded(grey), Framing(16, 'none'))
  assert result.is_grey and np.array_equal(result.pixels, np.repeat(grey[..., None], 3, axis=2))
  assert not frame(encoded(stripes(16, 16)), Framing(16, 'none')).is_grey


def test_transparent_pictures_are_put_on_black():
  pixels = np.full((16, 16, 4), 200, np.uint8)
  pixels[:, :8, 3], pixels[:, 8:, 3] = 0, 255
  result = framed(pixels, 'crop')
  assert not result[:, :8].any() and (result[:, 8:] == 200).all()


def test_a_palette_is_resolved():
  palette = Image.fromarray(stripes(16, 16)).convert('P')
  palette.info.clear()
  with_palette = np.asarray(palette.convert('RGB'))
  buffer = io.BytesIO()
  palette.save(buffer, 'PNG')
  assert np.array_equal(frame(buffer.getvalue(), Framing(16, 'crop')).pixels, with_palette)
  assert 'colour mode P' in refusal(buffer.getvalue())


def test_a_picture_lies_as_its_camera_says():
  pixels = np.zeros((16, 16, 3), np.uint8)
  pixels[:8] = 250
  exif = Image.Exif()
  exif[0x0112] = 6  # To be turned clockwise by a quarter: its top comes to the right.
  turned = framed(pixels, 'none', kind='JPEG', quality=95, exif=exif)
  assert turned[:, 12:].min() > 200 and turned[:, :4].max() < 50


@pytest.mark.parametrize(
  'pixels, reason',
  [
    (np.zeros((16, 24, 3), np.uint8), '24x16 pixels, not square'),
    (np.zeros((24, 24, 3), np.uint8), '24x24 pixels, not a power of two'),
    (np.zeros((8, 8, 3), np.uint8), '8x8 pixels, smaller than the 16x16 asked for'),
    (np.zeros((16, 16, 4), np.uint8), 'colour mode RGBA, expected RGB without transparency'),
  ],
)
def test_without_an_option_odd_pictures_are_refused_and_with_any_they_are_taken(pixels, reason):
  assert refusal(encoded(pixels)) == reason
  for fit in ('crop', 'pad', 'resize'):
    assert framed(pixels, fit).shape == (16, 16, 3)


@pytest.mark.parametrize('fit', ['none', 'crop', 'pad', 'resize'])
@pytest.mark.parametrize('kind', ['PNG', 'JPEG'])
def test_truncated_pictures_are_refused_whatever_the_option(fit, kind):
  noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
  whole = encoded(noise, kind)
  assert 'truncated' in refusal(whole[: len(whole) // 2], fit)


@pytest.mark.parametrize(
  'data, reason',
  [
    (b'', 'empty'),
    (b'<html>not found</html>', 'neither PNG nor JPEG: it begins with'),
    (encoded(np.zeros((16, 16, 3), np.uint8), 'GIF'), 'neither PNG nor JPEG'),
    (encoded(np.zeros((16, 16), np.uint16)), 'colour mode I;16, expected 8 bits'),
    (png(16, 2, bytes(16 * 97)), 'colour mode RGB of 16 bits, expected 8 bits'),
    (png(4, 3, bytes(16 * 9), PLTE=bytes(48), tRNS=bytes(300)), 'damaged or truncated'),
  ],
  ids=range(6),
)
def test_what_is_no_picture_of_8_bits_is_refused(data, reason):
  assert reason in refusal(data, 'crop')


@pytest.mark.parametrize('share', [1.5, 3.0])  # pillow warns from 1 on and refuses from 2 on.
def test_a_bomb_is_refused_before_it_is_unpacked(monkeypatch, share):
  data = encoded(np.zeros((40, 40, 3), np.uint8))
  monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', int(1600 / share))
  monkeypatch.setattr(Image.Image, 'load', lambda self: pytest.fail('unpacked'))
  assert '1600 pixels' in refusal(data, 'crop') or '40x40 pixels, expected at most' in refusal(data, 'crop')


def test_padding_makes_no_square_larger_than_a_picture_may_be(monkeypatch):
  monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 32 * 32)
  assert framed(stripes(32, 4), 'pad').shape == (16, 16, 3)
  wide = encoded(np.zeros((4, 33, 3), np.uint8))
  assert refusal(wide, 'pad') == '33x4 pixels, expected at most 1024 when padded to a square'
  assert frame(wide, Framing(16, 'crop')).pixels.shape == (16, 16, 3)


def test_an_animation_is_refused():
  frames = [Image.fromarray(stripes(16, 16)), Image.fromarray(stripes(16, 16)[::-1] // 2)]
  buffer = io.BytesIO()
  frames[0].save(buffer, 'PNG', save_all=True, append_images=frames[1:])
  assert refusal(buffer.getvalue(), 'crop') == 'an animation, expected one picture'


def test_a_size_and_a_box_may_be_required():
  pixels = np.zeros((20, 16, 3), np.uint8)
  pixels[4:12, 4:12] = RED
  rules = {'size': (16, 20), 'box': (4, 4, 12, 12)}
  assert (frame(encoded(pixels), Framing(16, 'resize', **rules)).pixels == RED).all()
  assert refusal(encoded(pixels[:19]), 'resize', **rules) == '16x19 pixels, expected 16x20'
