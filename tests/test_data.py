"""Data: splits, colours, subsets and order do not depend on anything but their seeds."""

import pathlib

import numpy as np
import pytest
import sklearn.datasets

from advmix_jax import data
from advmix_jax.data import colouring, digits, subsets
from advmix_jax.types import BadInputError
from advmix_jax.workdir import LEFTOVER
from configs import default


def make_config(seed=0, **overrides):
  config = default.get_config()
  config.seed = seed
  with config.ignore_type():
    for key, value in overrides.items():
      config.data[key] = value
  return config


def test_digits_have_the_stated_sizes_and_are_stratified():
  splits = data.load(make_config())
  assert (len(splits.train), len(splits.validation), len(splits.test)) == (1297, 140, 360)
  for part in (splits.train, splits.validation, splits.test):
    assert part.images.shape == (len(part), 16, 16, 3)
    assert (part.images.dtype, part.labels.dtype, part.index.dtype) == (np.uint8, np.int32, np.int64)
    counts = np.bincount(part.labels, minlength=10)
    assert counts.max() - counts.min() <= 0.1 * counts.max() + 2
  used = np.concatenate([splits.train.index, splits.validation.index, splits.test.index])
  assert np.array_equal(np.sort(used), np.arange(1797))
  assert splits.generator is splits.train


def test_digits_are_those_of_the_library():
  """They are read without importing it."""
  images, labels = sklearn.datasets.load_digits(return_X_y=True)
  table = digits._table()
  np.testing.assert_array_equal(table, np.column_stack([images, labels]))


def test_a_library_without_its_digits_is_bad_input(monkeypatch):
  monkeypatch.setattr(digits, 'FILE', 'datasets/data/none.csv.gz')
  with pytest.raises(BadInputError, match='none.csv.gz is missing, expected the digits'):
    digits.read(8)


@pytest.mark.parametrize('resolution', [8, 32])
def test_digits_at_other_resolutions(resolution):
  splits = data.load(make_config(resolution=resolution))
  assert splits.train.images.shape[1:] == (resolution, resolution, 3)
  # Full intensity is 16 of 16, so some pixel of some digit has the full colour.
  brightest = splits.train.images.reshape(len(splits.train), -1, 3).max((0, 1))
  assert brightest.max() == np.rint(0.9 * 255)


def test_without_spread_each_class_has_its_colour_but_tests_have_any():
  splits = data.load(make_config())
  means = colouring.default_mean_colours()
  assert np.array_equal(splits.train.colours, means[splits.train.labels])
  assert np.array_equal(splits.validation.colours, means[splits.validation.labels])
  assert splits.test.colours.min() < 0.02 and splits.test.colours.max() > 0.98
  assert abs(np.corrcoef(splits.test.labels, splits.test.colours[:, 0])[0, 1]) < 0.15


def test_default_means_are_distinct_and_mix_all_three_channels():
  means = colouring.default_mean_colours()
  assert means.min() > 0.2
  distances = np.abs(means[:, None] - means[None]).max(-1) + np.eye(10)
  assert distances.min() > 0.1


def test_spread_is_normal_clipped_and_reuses_the_draws_of_other_spreads():
  labels = np.repeat(np.arange(10), 2000)
  means = colouring.default_mean_colours()
  small = colouring.train_colours(labels, means, 0.01, seed=0)
  assert np.std((small - means[labels]).ravel()) == pytest.approx(0.01, rel=0.02)
  assert np.mean((small - means[labels]).ravel()) == pytest.approx(0, abs=3e-4)
  large = colouring.train_colours(labels, means, 0.4, seed=0)
  assert large.min() == 0 and large.max() == 1
  inside = (large > 0) & (large < 1)
  assert np.allclose((large - means[labels])[inside], 40 * (small - means[labels])[inside], atol=1e-4)


def test_colour_of_an_example_does_not_depend_on_how_many_are_loaded():
  full = data.load(make_config(sigma=0.2))
  part = data.load(make_config(sigma=0.2, num_train=100, num_validation=50, num_test=60))
  assert (len(part.train), len(part.validation), len(part.test)) == (100, 50, 60)
  train = {i: c for p in (full.train, full.validation) for i, c in zip(p.index, p.colours, strict=True)}
  test = dict(zip(full.test.index, full.test.colours, strict=True))
  for p in (part.train, part.validation, part.generator):
    assert all(np.array_equal(c, train[i]) for i, c in zip(p.index, p.colours, strict=True))
  assert all(np.array_equal(c, test[i]) for i, c in zip(part.test.index, part.test.colours, strict=True))


def test_the_seed_changes_training_colours_and_nothing_of_the_test_set():
  a, b = (data.load(make_config(seed=seed, sigma=0.1, num_train=200)) for seed in (0, 1))
  assert np.array_equal(a.test.images, b.test.images)
  assert np.array_equal(a.validation.index, b.validation.index)
  assert not np.array_equal(a.validation.colours, b.validation.colours)
  assert not np.array_equal(a.train.index, b.train.index)
  again = data.load(make_config(seed=1, sigma=0.1, num_train=200))
  assert np.array_equal(b.train.images, again.train.images)


def test_num_train_is_balanced_and_leaves_the_generators_data_whole():
  splits = data.load(make_config(num_train=105))
  assert sorted(np.bincount(splits.train.labels)) == [10] * 5 + [11] * 5
  assert len(splits.generator) == 1297
  assert set(splits.train.index) <= set(splits.generator.index)


def test_colouring_is_the_rounded_product():
  rng = np.random.default_rng(0)
  grey = rng.integers(0, 256, (3, 4, 4), dtype=np.uint8)
  colours = rng.random((3, 3)).astype(np.float32)
  image = colouring.colour_digits(grey, colours)
  assert image.dtype == np.uint8
  assert image[1, 2, 3, 0] == round(float(grey[1, 2, 3]) * float(colours[1, 0]))
  assert np.array_equal(colouring.colour_digits(grey, np.ones((3, 3), np.float32))[..., 2], grey)


def test_configured_mean_colours_are_used():
  means = tuple((i / 10, 0.5, 1.0) for i in range(10))
  config = make_config(mean_colours=means)
  assert np.array_equal(data.mean_colours(config), np.asarray(means, np.float32))
  splits = data.load(config)
  assert np.array_equal(splits.train.colours, np.asarray(means, np.float32)[splits.train.labels])


def test_rgb_train_colour_is_the_label_mod_3_and_the_generators_is_independent():
  splits = data.load(make_config(name='rgb_digits', generator_colours=(0.9, 0.05, 0.05)))
  assert np.array_equal(splits.train.colours.argmax(1), splits.train.labels % 3)
  assert np.array_equal(splits.validation.colours.argmax(1), splits.validation.labels % 3)
  assert np.array_equal(splits.generator.index, splits.train.index)
  for part in (splits.train, splits.test, splits.generator):
    assert np.array_equal(np.sort(part.colours, axis=1), np.tile([0, 0, 1], (len(part), 1)))
  share = np.mean(splits.generator.colours, axis=0)
  assert np.allclose(share, (0.9, 0.05, 0.05), atol=0.03)
  for label in range(10):
    assert np.mean(splits.generator.colours[splits.generator.labels == label, 0]) > 0.75
  assert np.allclose(np.mean(splits.test.colours, axis=0), 1 / 3, atol=0.08)


def test_rgb_generator_colours_are_even_by_default_and_rare_ones_occur():
  even = colouring.rgb_generator_colours(30_000, (), seed=0)
  assert np.allclose(even.mean(0), 1 / 3, atol=0.01)
  rare = colouring.rgb_generator_colours(60_000, (0.999, 0.0005, 0.0005), seed=0)
  assert rare[:, 0].mean() == pytest.approx(0.999, abs=5e-4)
  assert rare[:, 1].sum() > 5 and rare[:, 2].sum() > 5
  assert colouring.rgb_generator_colours(1000, (0, 0, 1), seed=0)[:, 2].all()


def test_class_shares_give_the_largest_subset_that_meets_them():
  labels = np.repeat(np.arange(3), [100, 50, 10])
  chosen = subsets.by_class_shares(labels, (0.8, 0.2, 0.0), np.random.default_rng(0))
  assert list(np.bincount(labels[chosen], minlength=3)) == [100, 25, 0]
  assert len(set(chosen)) == len(chosen)
  rare = subsets.by_class_shares(labels, (0.999, 0.0005, 0.0005), np.random.default_rng(0))
  assert list(np.bincount(labels[rare])) == [100, 1, 1]


def test_generator_classes_leave_the_classifiers_data_whole():
  shares = (0.99,) + (0.01 / 9,) * 9
  splits = data.load(make_config(generator_classes=shares))
  assert len(splits.train) == 1297
  counts = np.bincount(splits.generator.labels, minlength=10)
  assert counts[0] > 100 and np.all(counts[1:] == 1)


@pytest.mark.parametrize('num', [0, 1, 7, 10, 13])
def test_apportion_sums_to_the_number(num):
  seats = subsets.apportion(np.array([0.5, 0.3, 0.2]), num)
  assert seats.sum() == num
  assert np.all(np.abs(seats - num * np.array([0.5, 0.3, 0.2])) < 1)


def test_balanced_takes_what_small_classes_have():
  labels = np.repeat(np.arange(3), [2, 10, 10])
  chosen = subsets.balanced(labels, 12, np.random.default_rng(0))
  assert list(np.bincount(labels[chosen])) == [2, 5, 5]
  assert len(subsets.balanced(labels, 22, np.random.default_rng(0))) == 22


def test_a_uniform_draw_sees_no_labels_and_a_smaller_one_is_a_part_of_it():
  labels = np.repeat(np.arange(3), [2, 10, 10])
  chosen = subsets.uniform(labels, 12, np.random.default_rng(0))
  assert len(set(chosen)) == 12 and list(chosen) == sorted(chosen)
  assert np.array_equal(chosen, subsets.uniform(np.zeros(22, int), 12, np.random.default_rng(0)))
  assert set(subsets.uniform(labels, 5, np.random.default_rng(0))) <= set(chosen)


def test_an_empty_class_with_a_share_is_refused():
  with pytest.raises(BadInputError, match='data.generator_classes.*class 1'):
    subsets.by_class_shares(np.array([0, 0, 2]), (0.5, 0.3, 0.2), np.random.default_rng(0))


@pytest.mark.parametrize(
  'overrides, message',
  [
    ({'name': 'cifar'}, 'data.name: found cifar, expected one of digits'),
    ({'resolution': 24}, 'data.resolution: found 24, expected a power of two from 8'),
    ({'resolution': 4}, 'data.resolution: found 4'),
    ({'resolution': 0}, 'data.resolution: found 0'),
    ({'name': 'mnist', 'resolution': 16}, 'data.resolution: found 16, expected a power of two from 32'),
    ({'sigma': -0.1}, 'data.sigma: found -0.1'),
    ({'sigma': float('nan')}, 'data.sigma: found nan'),
    ({'mean_colours': ((1, 0, 0),)}, r'data.mean_colours: found shape \(1, 3\)'),
    ({'mean_colours': ((1, 0, 0),) * 9 + ((2, 0, 0),)}, 'data.mean_colours: found a value of 2'),
    ({'mean_colours': ((1, 0), (1, 0, 0))}, 'data.mean_colours'),
    ({'generator_classes': (0.5, 0.5)}, 'data.generator_classes.*10 shares'),
    ({'generator_classes': (0.2,) * 10}, 'data.generator_classes.*sum to 2'),
    ({'generator_classes': (1.5, -0.5) + (0,) * 8}, 'data.generator_classes'),
    ({'generator_colours': (1, 0, 0)}, 'data.generator_colours.*only the rgb'),
    ({'name': 'rgb_digits', 'generator_colours': (1, 1, 0)}, 'data.generator_colours.*sum to 2'),
    ({'name': 'rgb_digits', 'sigma': 0.1}, 'data.sigma: found 0.1, expected 0'),
    ({'num_train': 1298}, 'data.num_train: found 1298, expected 0 .all. or 10 to 1297'),
    ({'num_train': 9}, 'data.num_train: found 9'),
    ({'num_validation': 1428}, 'data.num_validation: found 1428, expected 0 to 1427'),
    ({'num_validation': -1}, 'data.num_validation: found -1'),
    ({'num_test': 361}, 'data.num_test: found 361, expected 0 .all. to 360'),
    ({'split_seed': -1}, 'data.split_seed: found -1'),
    ({'split_seed': 2**32}, 'data.split_seed: found 4294967296, expected a number from 0 to 4294967295'),
    ({'draw': 'at_random'}, r'data.draw: found .*at_random.*, expected by_class . uniform'),
  ],
)
def test_bad_keys_are_named(overrides, message):
  with pytest.raises(BadInputError, match=message):
    data.load(make_config(**overrides))


def test_batches_are_random_access_and_reshuffled_every_epoch():
  batches = data.index_batches(50, 16, seed=3)
  forward = [batches[step] for step in range(25)]
  assert all(batch.dtype == np.int32 and batch.shape == (16,) for batch in forward)
  again = data.index_batches(50, 16, seed=3)
  for step in (24, 3, 11):
    assert np.array_equal(again[step], forward[step])
  epochs = np.concatenate(forward).reshape(8, 50)
  assert all(np.array_equal(np.sort(epoch), np.arange(50)) for epoch in epochs)
  assert len({tuple(epoch) for epoch in epochs}) == 8
  assert not np.array_equal(data.index_batches(50, 16, seed=4)[0], forward[0])


def test_a_batch_may_be_larger_than_the_data():
  batch = data.index_batches(5, 12, seed=0)[0]
  assert list(np.sort(batch[:5])) == list(np.sort(batch[5:10])) == list(range(5))


def test_what_a_kill_leaves_of_the_record_is_removed_as_other_files_are(tmp_path, monkeypatch):
  written = []
  monkeypatch.setattr('os.replace', lambda source, target: written.append(pathlib.Path(source).name))
  config = make_config()
  data.save_record(tmp_path, data.load(config), config)
  assert all(LEFTOVER.fullmatch(name) for name in written) and len(written) == 1


def test_record_holds_colours_indices_and_seeds_and_repeats_byte_for_byte(tmp_path):
  config = make_config(seed=2, sigma=0.1)
  splits = data.load(config)
  first = data.save_record(tmp_path, splits, config).read_bytes()
  path = data.save_record(tmp_path, splits, config)
  assert path.read_bytes() == first
  assert [p.name for p in tmp_path.iterdir()] == ['data.npz']
  with np.load(path) as record:
    assert record['seed'] == 2 and record['split_seed'] == 0 and record['sigma'] == 0.1
    assert np.array_equal(record['train_colours'], splits.train.colours)
    assert np.array_equal(record['test_index'], splits.test.index)
    assert np.array_equal(record['mean_colours'], data.mean_colours(config))
