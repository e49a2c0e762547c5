"""What of a discriminator mixes the examples of a batch, and what does not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advmix_jax.models.discriminator import Discriminator, block_names, minibatch_stddev
from advmix_jax.models.discriminator2 import Discriminator2
from tests import tiny
from tests.tiny import normal


@pytest.mark.parametrize('batch, size', [(8, 4), (4, 4), (2, 2)])
def test_minibatch_stddev_takes_strided_groups(batch, size):
  """Of M groups, example n is in group n mod M. A batch smaller than the group is one group."""
  x = np.random.default_rng(0).standard_normal((batch, 3, 3, 2)).astype(np.float32)
  found = np.asarray(minibatch_stddev(jnp.asarray(x), 4))
  assert found.shape == (batch, 3, 3, 3)
  np.testing.assert_array_equal(found[..., :2], x)
  num_groups = batch // size
  for n in range(batch):
    members = x[n % num_groups :: num_groups]
    expected = np.sqrt(members.var(axis=0) + 1e-8).mean()
    np.testing.assert_allclose(found[n, ..., 2], expected, rtol=1e-5)


def test_a_batch_that_the_groups_do_not_divide_is_refused():
  with pytest.raises(ValueError, match='a batch of 6 is not a multiple of the group size 4'):
    minibatch_stddev(jnp.zeros((6, 2, 2, 1)), 4)


@pytest.mark.parametrize('kind', [Discriminator, Discriminator2])
def test_features_of_a_discriminator_do_not_mix_examples_but_its_score_does(kind):
  """They have the same names and sizes for both."""
  model = kind(fmaps=(4, 3))
  images = normal(0, 4, 8, 8, 3)
  params = tiny.random_params(jax.eval_shape(lambda: model.init(jax.random.key(0), images)), 0)
  run = jax.jit(lambda x: (model.apply(params, x, method='features'), model.apply(params, x)))
  features, scores = run(images)
  assert {name: x.shape for name, x in features.items()} == {'block_8': (4, 8, 8, 3), 'block_4': (4, 4, 4, 4)}
  assert set(features) == set(block_names(8))
  changed, changed_scores = run(images.at[1].set(0.0))
  for name in features:
    np.testing.assert_array_equal(np.delete(features[name], 1, axis=0), np.delete(changed[name], 1, axis=0))
    assert not np.array_equal(features[name][1], changed[name][1])
  assert not np.allclose(scores[0], changed_scores[0])  # By the minibatch standard deviation.
