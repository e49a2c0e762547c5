"""What the explorer's data holds: pictures in their places, likely classes, sizes, and nothing executable."""

import base64
import io
import json
import re

import numpy as np
import PIL.Image
import pytest

from advmix_jax.report import explorer, page
from tests import explorer_data


def pixels(sheet: dict, cell: int, side: int) -> np.ndarray:
  """The picture in a place of a sheet."""
  data = base64.b64decode(sheet['url'].removeprefix('data:image/png;base64,'))
  whole = np.asarray(PIL.Image.open(io.BytesIO(data)))
  row, column = divmod(cell, sheet['columns'])
  return whole[row * side : (row + 1) * side, column * side : (column + 1) * side]


@pytest.mark.parametrize('number', [1, 2, 5, 9, 10])
def test_a_sheet_holds_every_picture_in_its_place(number):
  images = np.random.default_rng(0).integers(0, 256, (number, 8, 8, 3), dtype=np.uint8)
  sheet = explorer.sheet(images)
  for cell, image in enumerate(images):
    np.testing.assert_array_equal(pixels(sheet, cell, 8), image)


def test_no_pictures_make_no_sheet():
  assert explorer.sheet(np.zeros((0, 8, 8, 3), np.uint8)) == {'url': '', 'columns': 1}


def test_readings_are_the_likeliest_classes_and_the_true_one():
  p = np.array([[0.05, 0.5, 0.2, 0.15, 0.07, 0.03], [0.9, 0.02, 0.02, 0.02, 0.02, 0.02]])
  unlikely, likely = explorer.readings(p, np.array([5, 0]))
  assert unlikely == [1, 5000, 2, 2000, 3, 1500, 5, 300]
  assert likely == [0, 9000, 1, 200, 2, 200, 3, 200]  # The first of equals, as argmax.


def test_readings_of_two_classes_are_both():
  assert explorer.readings(np.array([[0.25, 0.75]]), np.array([0])) == [[1, 7500, 0, 2500]]


def test_variants_have_places_where_they_are_present_and_only_there():
  made = explorer_data.make(seeds=(3, 4))
  found = explorer.as_json(made)
  assert [one['seed'] for one in found['seeds']] == [3, 4]
  for seed, given in zip(found['seeds'], made.seeds, strict=True):
    for v, (variants, wanted) in enumerate(zip(seed['variants'], given.variants, strict=True)):
      for example, cell in enumerate(variants['cells']):
        assert (cell >= 0) == wanted.present[example]
        for one in seed['classifiers']:
          assert (one['variants'][v][example] is not None) == wanted.present[example]
        if cell >= 0:
          np.testing.assert_array_equal(pixels(variants, cell, 8), wanted.images[example])
    for one, classifier in zip(seed['classifiers'], given.classifiers, strict=True):
      assert one['fooled'] == classifier.fooled.tolist()
      assert [reading[0] for reading in one['original']] == classifier.original.argmax(1).tolist()


def test_what_fits_is_counted_as_if_nothing_were_compressed():
  per_picture = 64 * 64 * 3
  fit = explorer.how_many_fit(per_picture, np.full(1000, 6), 70)
  assert (
    fit * (6 * per_picture * 4 / 3 + 70 * 40)
    <= explorer.MAX_BYTES
    < (fit + 1) * (6 * per_picture * 4 / 3 + 70 * 40)
  )
  assert explorer.how_many_fit(per_picture, np.full(20, 6), 70) == 20


def write(folder, made: explorer.Explorer) -> str:
  report = page.Report('Run', sections=[page.Section('Explorer', 'Text.', explorer=made)])
  return page.write_page(folder / 'index.html', report).read_text('utf-8')


def test_the_largest_page_is_below_15_megabytes_and_its_data_is_within_the_bound(tmp_path):
  methods = ('nominal', 'mixup', 'cutout', 'cutmix', 'at', 'randmix', 'advmix')
  num_readings = 3 * len(methods) * (3 + len(methods))
  pictures = np.full(200, 2 + 3 * (1 + len(methods)))  # As if every attack found a variant.
  count = explorer.how_many_fit(64 * 64 * 3, pictures, num_readings)
  made = explorer_data.make(count, 100, explorer_data.long_names(100), methods, seeds=(0, 1, 2), side=64)
  text = write(tmp_path, made)
  assert len(text.encode()) < explorer.MAX_BYTES + 1_000_000 < 15_000_000


def test_names_cannot_end_the_data_and_the_page_names_its_script(tmp_path):
  made = explorer_data.make(num_classes=6, names=explorer_data.long_names(6))
  text = write(tmp_path, made)
  assert explorer_data.HOSTILE not in text and '<img' not in text
  (data,) = re.findall(r'<script type="application/json" id="explorer-data">(.*?)</script>', text, re.DOTALL)
  assert tuple(json.loads(data)['classes']) == explorer_data.long_names(6)
  assert text.count('<script') == text.count('</script>') == 2
  assert 'default-src &#39;none&#39;' in text and 'script-src &#39;sha256-' in text


def test_the_same_explorer_gives_the_same_bytes(tmp_path):
  assert write(tmp_path / 'a', explorer_data.make()) == write(tmp_path / 'b', explorer_data.make())


def test_a_page_without_an_explorer_has_no_script(tmp_path):
  text = page.write_page(tmp_path / 'index.html', page.Report('Nothing yet')).read_text('utf-8')
  assert '<script' not in text
