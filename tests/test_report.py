"""The report's pictures have the right sizes and words, and are the same each time."""

import re

import numpy as np
import PIL.Image
import pytest

from advmix_jax.report import charts, grids, pictures, style


def random_images(*shape: int, seed: int = 0) -> np.ndarray:
  return np.random.default_rng(seed).integers(0, 256, (*shape, 16, 16, 3), dtype=np.uint8)


def pixels(path) -> np.ndarray:
  with PIL.Image.open(path) as image:
    assert image.format == 'PNG'
    return np.asarray(image.convert('RGB'))


def test_grid_has_the_images_where_they_belong(tmp_path):
  images = random_images(2, 3)
  path = grids.save_grid(tmp_path / 'new' / 'grid.png', images, scale=2)
  picture = pixels(path)
  assert picture.shape == (2 * 34 + 2, 3 * 34 + 2, 3)
  for r in range(2):
    for c in range(3):
      top, left = 2 + 34 * r, 2 + 34 * c
      np.testing.assert_array_equal(picture[top : top + 32 : 2, left : left + 32 : 2], images[r, c])
  assert [file.name for file in path.parent.iterdir()] == ['grid.png']  # No temporary file is left.


def test_style_mixing_has_coarse_on_the_left_and_fine_on_top(tmp_path):
  coarse, fine = np.full((2, 8, 8, 3), 10, np.uint8), np.full((3, 8, 8, 3), 20, np.uint8)
  mixed = np.full((2, 3, 8, 8, 3), 30, np.uint8)
  picture = pixels(grids.save_style_mixing(tmp_path / 'mixing.png', coarse, fine, mixed, scale=1))
  assert picture.shape == (3 * 10 + 2 + 4, 4 * 10 + 2 + 4, 3)
  assert picture[2, 2].tolist() == [255] * 3  # The corner is empty.
  assert picture[2, -3].tolist() == [20] * 3
  assert picture[-3, 2].tolist() == [10] * 3
  assert picture[-3, -3].tolist() == [30] * 3


@pytest.mark.parametrize(
  'images',
  [
    random_images(2),
    random_images(2, 2).astype(np.float32),
    random_images(2, 0),
    random_images(2, 2)[..., :1],
  ],
)
def test_grid_names_what_is_wrong(tmp_path, images):
  with pytest.raises(ValueError, match=re.escape(str(list(images.shape)))):
    grids.save_grid(tmp_path / 'grid.png', images)
  assert not list(tmp_path.iterdir())


def test_rescaled_difference_is_centred_and_full_scale():
  a = random_images(2)
  b = a.copy()
  a[0, 3, 4, 1], b[0, 3, 4, 1] = 100, 140
  a[0, 0, 0, 0], b[0, 0, 0, 0] = 100, 80
  picture, scale = pictures.rescaled_difference(a, b)
  assert scale.tolist() == [40, 0]
  assert picture[0, 3, 4, 1] == 255
  assert picture[0, 0, 0, 0] == round(127.5 - 127.5 / 2)
  assert (picture[1] == 128).all()
  swapped, _ = pictures.rescaled_difference(b, a)
  np.testing.assert_allclose(swapped.astype(int) + picture, 255, atol=1)


def test_rescaled_difference_refuses_unequal_images():
  with pytest.raises(ValueError, match='16, 16, 3'):
    pictures.rescaled_difference(random_images(2), random_images(3))


@pytest.mark.parametrize(('accuracy', 'count'), [(0.0, 10), (1.0, 10), (0.5, 1000), (0.873, 360)])
def test_wilson_interval_holds_the_share(accuracy, count):
  low, high = charts.wilson_interval(accuracy, count)
  assert 0 <= low <= accuracy <= high <= 1
  assert high - low < 2 / np.sqrt(count)
  wider = charts.wilson_interval(accuracy, count // 2)
  assert wider[1] - wider[0] > high - low


def test_wilson_interval_known_value():
  # Ten of ten: 1 / (1 + z^2 / n), by hand.
  assert charts.wilson_interval(1.0, 10)[0] == pytest.approx(1 / (1 + 1.959964**2 / 10), abs=1e-6)


def every_figure(folder):
  """Draws each figure once from synthetic arrays; name to path."""
  rng = np.random.default_rng(0)
  names = list(style.METHOD_TITLES)
  shares = rng.random(len(names))
  row, labels = random_images(4), np.arange(4)
  probabilities = rng.dirichlet(np.ones(10), 4)
  curve = (np.arange(100), rng.random(100))
  variants = [
    pictures.Variants(name, random_images(4, seed=k), labels[::-1]) for k, name in enumerate(('AT', 'AdvMix'))
  ]
  draw = {
    'bars': lambda p: charts.save_method_bars(
      p, names, shares, shares / 2, worst_class=shares / 3, num_clean=50, num_perturbed=50, chance=0.1
    ),
    'curves': lambda p: charts.save_curves(
      p, {'advmix': curve, 'x': curve}, xlabel='step', ylabel='loss', log_y=True
    ),
    'colours': lambda p: pictures.save_mean_colours(p, rng.random((10, 3)), [str(k) for k in range(10)]),
    'pairs': lambda p: pictures.save_mixed_pairs(p, row, row, row, row, row),
    'encoder': lambda p: pictures.save_encoder_progress(
      p, row, random_images(4, 3), [0, 5, 9], random_images(4, 2)
    ),
    'attack': lambda p: pictures.save_attack_panel(p, row, labels, variants, predicted=labels),
    'generated': lambda p: pictures.save_generated_panel(p, row, row, labels, probabilities, probabilities),
  }
  return {name: function(folder / f'{name}.png') for name, function in draw.items()}


def test_figures_are_pictures_and_the_same_each_time(tmp_path):
  first = every_figure(tmp_path / 'a')
  second = every_figure(tmp_path / 'b')
  for name, path in first.items():
    picture = pixels(path)
    assert min(picture.shape[:2]) > 100, name
    assert picture.std() > 1, name
    assert path.read_bytes() == second[name].read_bytes(), name


def test_panel_draws_images_pixel_by_pixel(tmp_path):
  images = random_images(1)
  picture = pixels(pictures.save_mixed_pairs(tmp_path / 'pairs.png', *[images] * 5))
  # The first image lies at the left margin, below the heading, every pixel a block of 8 by 8.
  row = np.repeat(images[0, 0], 8, axis=0)
  tops = [y for y in range(picture.shape[0]) if np.abs(picture[y, 14:142].astype(int) - row).max() <= 1]
  assert len(tops) == 8


def test_curves_leave_gaps_for_what_is_not_finite(tmp_path):
  values = np.ones(100)
  values[10:20] = np.nan
  path = charts.save_curves(
    tmp_path / 'c.png', {'at': (np.arange(100), values)}, xlabel='step', ylabel='loss'
  )
  assert path.exists()


def test_figures_name_what_is_wrong(tmp_path):
  row = random_images(4)
  with pytest.raises(ValueError, match='equal shapes'):
    pictures.save_mixed_pairs(tmp_path / 'p.png', row, row, row[:2], row, row)
  with pytest.raises(ValueError, match='expected'):
    pictures.save_encoder_progress(tmp_path / 'p.png', row, random_images(4, 3), [0, 1], random_images(4, 2))
  with pytest.raises(ValueError, match='classes'):
    pictures.save_mean_colours(tmp_path / 'p.png', np.zeros((3, 3)), ['0'])
