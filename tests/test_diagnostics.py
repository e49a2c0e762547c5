"""Diagnostics, worked by hand: the level that is suggested, colours, checks on curves, and who is asked."""

import types

import numpy as np
import pytest

from advmix_jax import config_check, data
from advmix_jax.data import coloured, colouring
from advmix_jax.stages.diagnostics import classes, levels, nuisance, reference, strength
from advmix_jax.types import BadInputError
from advmix_jax.workdir import config_hash
from configs import default


@pytest.mark.parametrize(
  'agreement, threshold, level',
  [
    ([0.1, 0.2, 0.5, 0.97, 0.98, 0.99, 1.0], 0.97, 3),
    ([0.1, 0.98, 0.98, 0.98, 1.0], 0.97, 1),  # Everything but nothing may be mixed.
    ([0.1, 0.98, 0.5, 0.98, 1.0], 0.97, 3),  # What is good below a bad level does not count.
    ([0.1, 0.2, 0.3, 0.4, 1.0], 0.97, None),
    ([0.99, 0.2, 1.0], 0.97, None),  # Level 0 is no level: nothing of the image would be left.
  ],
)
def test_the_lowest_level_from_which_on_the_class_survives_is_suggested(agreement, threshold, level):
  assert levels.suggested_level(np.array(agreement), threshold) == level


def test_classes_that_the_generator_hardly_draws_are_missing():
  data = np.array([0.5, 0.3, 0.2, 0.0])
  assert classes.overlap(data, data) == pytest.approx(1) and classes.missing(data, data) == []
  drawn = np.array([0.98, 0.01, 0.0, 0.01])
  assert classes.overlap(drawn, data) == pytest.approx(0.51)
  assert classes.missing(drawn, data) == [1, 2]  # The last is not in the data either.


def test_where_most_is_lost_is_named_too():
  assert levels.steepest_fall(np.array([0.1, 0.1, 0.2, 0.4, 0.9, 0.92, 0.99])) == 4
  assert levels.steepest_fall(np.array([0.1, 0.9, 1.0])) == 1


def test_change_is_measured_by_the_distance_between_images():
  images = np.random.default_rng(0).integers(0, 256, (40, 4, 4, 3)).astype(np.uint8)
  assert levels.changed_share(images, images[None]) == 0
  others = np.stack([np.roll(images, 1 + i, axis=0) for i in range(39)])  # Every pair of two, once each way.
  assert levels.changed_share(images, others) == pytest.approx(1)


def test_classes_are_counted_with_what_they_are_taken_for():
  labels, seen = np.array([0, 0, 1]), np.array([[0, 2, 1], [2, 2, 1]])
  first, second, third = levels.by_class(labels, seen, 3)
  assert first == {'kept': 0.25, 'taken_for': 2, 'share': 0.75}
  assert second['kept'] == 1 and second['share'] == 0
  assert third['kept'] == 0  # Not among the images.


def test_the_colour_of_a_digit_is_that_of_its_brightest_pixels():
  grey = np.array([[[0, 100], [250, 255]]], np.uint8)
  images = colouring.colour_digits(grey, np.array([[1.0, 0.5, 0.0]], np.float32))
  found = nuisance.ink_colours(images)
  np.testing.assert_allclose(found, [[0.99, 0.495, 0]], atol=0.005)
  np.testing.assert_array_equal(nuisance.ink_colours(np.zeros((1, 2, 2, 3), np.uint8)), [[0, 0, 0]])


def test_colours_are_reached_by_the_nearest():
  wanted, reached = np.array([[0, 0, 0], [1, 1, 1.0]]), np.array([[0, 0, 0.3], [0, 0.4, 0], [1, 1, 1]])
  np.testing.assert_allclose(nuisance.nearest(wanted, reached), [0.3, 0])


def test_colour_tells_the_class_of_what_is_coloured_by_it_and_no_image_is_asked_about_itself():
  rng = np.random.default_rng(0)
  labels = np.arange(300) % 10
  by_class = colouring.default_mean_colours()[labels]
  sources = np.arange(300)
  assert nuisance.class_from_colour(by_class, labels, sources) == 1
  assert nuisance.class_from_colour(by_class[:20], labels[:20], sources[:20]) == 1  # Two of each class.
  assert nuisance.class_from_colour(rng.random((300, 3)), labels, sources) < 0.2
  # Thirty mixes of each of ten images, each image with a colour of its own: others know nothing of it.
  assert nuisance.class_from_colour(by_class, labels, labels) == 0


def test_more_attack_may_be_weaker_by_noise_alone():
  right = np.ones(100, bool)
  none, few, many = (right & (np.arange(100) >= n) for n in (0, 2, 50))
  assert strength.not_weaker([none, few, many])['holds']
  assert strength.not_weaker([few, none])['holds']  # Two of a hundred.
  found = strength.not_weaker([none, many, few])
  assert not found['holds'] and found['largest_rise'] == pytest.approx(0.48)
  assert strength.not_weaker([none])['holds']


def small_digits():
  config = default.get_config()
  config.data.num_train, config.data.num_test = 100, 40
  return config


def test_recoloured_images_are_the_same_digits_in_colours_that_do_not_depend_on_the_class():
  config = small_digits()
  train = data.load(config).train
  recoloured = coloured.recolourer(config, train)
  at = np.arange(100)
  images = recoloured(at, 0)
  shapes = [
    x.max(axis=3) > 0.4 * x.max(axis=(1, 2, 3), keepdims=True)[..., 0] for x in (images, train.images)
  ]
  assert (shapes[0] == shapes[1]).mean() > 0.99
  colours = nuisance.ink_colours(images)
  assert nuisance.class_from_colour(colours, train.labels, at) < 0.35
  assert nuisance.class_from_colour(nuisance.ink_colours(train.images), train.labels, at) > 0.9
  np.testing.assert_array_equal(images, recoloured(at, 0))
  assert (recoloured(at, 1) != images).any()


def test_colours_of_the_reference_are_not_those_of_the_test():
  seeds = [(seed, draw) for seed in range(3) for draw in range(3)]
  drawn = [colouring.independent_colours(20, False, *given) for given in seeds]
  drawn += [colouring.test_colours(20, seed) for seed in range(3)]
  assert len({x.tobytes() for x in drawn}) == len(drawn)
  pure = colouring.independent_colours(50, True, 0, 0)
  assert set(map(tuple, pure.tolist())) == {(1, 0, 0), (0, 1, 0), (0, 0, 1)}


def asked(name='digits', wanted='auto', methods=('nominal', 'randmix', 'advmix')):
  config = default.get_config()
  config.data.name, config.diagnose.reference, config.train.methods = name, wanted, methods
  experiment = types.SimpleNamespace(config=config)
  return reference.name_of(types.SimpleNamespace(experiment=experiment, settings=config.diagnose))


def test_who_is_asked(tmp_path):
  assert asked() == asked('rgb_mnist') == 'recoloured'
  assert asked('celeba') == 'advmix'
  assert asked('folder', methods=('nominal', 'mixup')) == 'mixup'
  assert asked('celeba', 'randmix') == asked(wanted='randmix') == 'randmix'
  assert asked(wanted=str(tmp_path)) == str(tmp_path)
  with pytest.raises(BadInputError, match="reference is 'at', expected auto, recoloured, .*nominal, randmix"):
    asked(wanted='at')
  with pytest.raises(BadInputError, match='images of celeba cannot be given other colours'):
    asked('celeba', 'recoloured')
  with pytest.raises(BadInputError, match='found no classifier.safetensors in it or in train/METHOD of it'):
    reference.in_folder(tmp_path)
  (tmp_path / reference.FILE).touch()
  with pytest.raises(BadInputError, match='found no config.json in it or above it'):
    reference.in_folder(tmp_path)


def test_settings_of_diagnostics_are_checked_and_change_nothing_else():
  config, other = default.get_config(), default.get_config()
  other.diagnose.num_images = 7
  assert config_hash(config) == config_hash(other)
  other.diagnose.methods = ('advmix, mixmix',)  # As the command line may give it.
  config_check.split_names(other)
  with pytest.raises(BadInputError, match=r'config.diagnose.methods: found mixmix, expected some of nominal'):
    config_check.check_values(other)
