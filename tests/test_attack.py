"""The ascent and its two uses, against closed forms and against what any search must promise."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from advmix_jax import attack, mixing
from advmix_jax.attack import LatentAttack, ascent_rule
from tests import tiny
from tests.tiny import normal, uniform

SIGN = ascent_rule('sign', 0.005)
NETWORK_ATTACK = LatentAttack(0.03, 2, 4, SIGN)
LABELS = jnp.array([0, 1, 2])


def anywhere(x):
  return x


@functools.cache
def toy():
  """`(decoder, params, classify)`: latents that are the image, and a classifier with a curved loss."""
  weights = normal(0, 12, 3)
  return tiny.linear_decoder(), {}, lambda images: jnp.sin(4 * images.reshape(images.shape[0], -1)) @ weights


@functools.cache
def network():
  """The same with a tiny StyleGAN and a linear classifier."""
  classify, classifier_params = tiny.classifier((8, 8, 3))
  return (*tiny.decoder(), lambda images: classify(classifier_params, images))


@functools.cache
def search_fn(parts, settings, select):
  """Algorithm 2, and what it should be compared with."""
  decoder, params, classify = parts()

  @jax.jit
  def run(keys, w, labels, original=None):
    def objective_fn(images):
      return attack.objective(classify(images), labels, select)

    result = attack.latent_attack(settings, keys, decoder, params, w, objective_fn, original)
    nominal = jnp.clip(decoder.decode(params, w), -1, 1) if original is None else original
    start_keys = jax.vmap(jax.random.fold_in, (0, None))(keys, 0)
    random = jnp.clip(mixing.random_mix(start_keys, decoder, params, w), -1, 1)

    def score(images):
      return objective_fn(images)[1]

    seen = {
      'nominal': (nominal, score(nominal)),
      'random': (random, score(random)),
      'again': score(result.best),
    }
    return result, seen

  return run


def searched(settings, keys, w, labels=LABELS, select='highest_loss', original=None, parts=toy):
  return search_fn(parts, settings, select)(keys, w, labels, original)


SMALL_W = 0.1 * normal(0, 3, 3, 4)
W = normal(0, 3, 4, 7)
KEYS = tiny.keys(1, 3)


@pytest.mark.parametrize('parts, w', [(toy, SMALL_W), (network, W)], ids=['toy', 'network'])
def test_the_kept_score_is_that_of_the_kept_image_and_never_below_the_starts(parts, w):
  found, seen = searched(NETWORK_ATTACK, KEYS, w, parts=parts)
  np.testing.assert_allclose(found.score, seen['again'], rtol=1e-5)
  assert (found.score >= seen['nominal'][1] - 1e-6).all() and (found.score >= seen['random'][1] - 1e-6).all()
  assert (found.score > seen['random'][1] + 1e-4).any()
  assert found.best.shape == seen['nominal'][0].shape and np.abs(found.best).max() <= 1


def test_more_restarts_never_lower_the_score():
  """Restart r is drawn from `fold_in(key, r)`, so a longer search begins with the restarts of a short one."""
  scores = [searched(LatentAttack(0.03, n, 2, SIGN), KEYS, SMALL_W)[0].score for n in (0, 1, 4)]
  assert (scores[1] >= scores[0]).all() and (scores[2] >= scores[1]).all()
  assert (scores[2] > scores[0]).any()


def test_without_a_box_to_move_in_the_attack_is_the_plain_mix():
  decoder, params, classify = toy()
  settings = LatentAttack(0.0, 1, 3, SIGN)
  trunk = decoder.coarse(params, SMALL_W[:, :1])

  def objective_fn(images):
    return attack.objective(classify(images), LABELS, 'highest_loss')

  found = jax.jit(lambda keys: attack.latent_search(settings, keys, decoder, params, trunk, objective_fn))(
    KEYS
  )
  np.testing.assert_allclose(found.best, mixing.draw_w_perp(KEYS, decoder, params), rtol=1e-6)

  result, seen = searched(settings, KEYS, SMALL_W)
  wins = seen['random'][1] > seen['nominal'][1]
  expected = jnp.where(wins[:, None, None, None], seen['random'][0], seen['nominal'][0])
  np.testing.assert_allclose(result.best, expected, atol=1e-6)


def test_no_steps_is_the_worst_of_some_random_mixes():
  """K = 0, against a loop over the draws."""
  decoder, params, classify = toy()
  found, seen = searched(LatentAttack(0.03, 4, 0, SIGN), KEYS, SMALL_W)
  scores = [seen['nominal'][1]]
  for restart in range(4):
    keys = jax.vmap(jax.random.fold_in, (0, None))(KEYS, restart)
    images = mixing.random_mix(keys, decoder, params, SMALL_W)
    scores.append(attack.cross_entropy(classify(images), LABELS))
  np.testing.assert_allclose(found.score, np.max(scores, axis=0), rtol=1e-5)
  assert len(set(np.argmax(scores, axis=0))) > 1


def test_a_linear_loss_is_climbed_to_the_corner_of_the_box():
  """Closed form: a restart ends at `map(z)_perp + epsilon sign(gradient)`; the highest one is kept."""
  decoder = tiny.linear_decoder(mixing_level=1)
  slope = normal(1, 3, 4, 1)
  w, epsilon, restarts = 0.1 * normal(2, 2, 3, 4), 0.03, 3

  def objective_fn(images):
    losses = jnp.sum(images * slope[None], axis=(1, 2, 3))
    return losses, losses

  settings = LatentAttack(epsilon, restarts, 7, SIGN)  # 7 steps of 0.005 reach the wall at 0.03.
  keys = tiny.keys(3, 2)
  found = jax.jit(lambda keys: attack.latent_attack(settings, keys, decoder, {}, w, objective_fn))(keys)
  candidates = [(float(objective_fn(w[..., None])[0][i]), w[i, ..., None]) for i in range(2)]
  for i in range(2):
    for restart in range(restarts):
      z = jax.random.normal(jax.random.fold_in(keys[i], restart), (4,))
      w_perp = z[None] / 10 + epsilon * jnp.sign(slope[1:, :, 0])
      image = jnp.concatenate([w[i, :1], w_perp])[..., None]
      candidates[i] = max(candidates[i], (float(jnp.sum(image * slope)), image), key=lambda c: c[0])
    np.testing.assert_allclose(found.score[i], candidates[i][0], rtol=1e-4)
    np.testing.assert_allclose(found.best[i], candidates[i][1], atol=1e-6)


def test_a_linear_classifier_is_attacked_in_pixels_as_the_closed_form_says():
  """Two classes: the gradient's sign is everywhere that of the difference of their weights."""
  images, weights = 0.5 * uniform(0, 3, 4, 4, 3), normal(1, 48, 2)
  labels = jnp.array([0, 1, 0])

  def objective_fn(x):
    return attack.objective(x.reshape(3, -1) @ weights, labels, 'highest_loss')

  epsilon, steps = 0.1, 8
  found = jax.jit(
    lambda k: attack.pixel_attack(k, images, objective_fn, epsilon, steps, 2 * epsilon / steps)
  )(KEYS)
  uphill = jnp.sign(weights[:, 1] - weights[:, 0]).reshape(1, 4, 4, 3) * (1 - 2 * labels[:, None, None, None])
  np.testing.assert_allclose(found.best, images + 2 * epsilon * uphill, atol=1e-5)


@pytest.mark.parametrize('steps', [0, 3])
def test_the_pixel_attack_stays_in_its_ball_and_in_the_range(steps):
  images = uniform(0, 3, 4, 4, 3).at[0].set(1.0)
  classify, params = tiny.classifier((4, 4, 3))

  def objective_fn(x):
    return attack.objective(classify(params, x), LABELS, 'highest_loss')

  found = jax.jit(lambda k: attack.pixel_attack(k, images, objective_fn, 0.1, steps, 0.05))(KEYS)
  distance = np.abs(found.best - images)
  assert 0.1 < distance.max() <= 0.2 + 1e-6  # epsilon is on the [0, 1] scale.
  assert np.abs(found.best).max() <= 1


def test_the_update_is_the_sign_or_the_gradient():
  start, slope = jnp.zeros((1, 3)), jnp.array([[2.0, -0.5, 0.0]])

  def objective_fn(x):
    return (jnp.sum(x * slope, axis=1),) * 2

  for update, expected in (('sign', 0.1 * jnp.sign(slope)), ('gradient', 0.1 * slope)):
    found = attack.projected_ascent(objective_fn, start, anywhere, 1, ascent_rule(update, 0.1))
    np.testing.assert_allclose(found.best, expected, rtol=1e-6)


def test_any_optax_rule_and_any_pytree_will_do():
  """With momentum: the second step of a constant gradient is 1.5 times the first."""
  start = {'a': jnp.zeros((2, 3)), 'b': jnp.zeros((2, 1, 2))}

  def total(x):
    return jnp.sum(x['a'], axis=1) + 2 * jnp.sum(x['b'], axis=(1, 2))

  found = attack.projected_ascent(lambda x: (total(x),) * 2, start, anywhere, 2, optax.trace(decay=0.5))
  np.testing.assert_allclose(found.best['a'], 2.5)
  np.testing.assert_allclose(found.best['b'], 5.0)


def parabola(x):
  """Highest at 2; from 0 in steps of 1.5 the search jumps over it."""
  losses = -jnp.square(x[:, 0] - 2)
  return losses, losses


def test_highest_loss_keeps_the_highest_of_all_points_not_the_last():
  found = attack.projected_ascent(parabola, jnp.zeros((1, 1)), anywhere, 2, ascent_rule('sign', 1.5))
  np.testing.assert_allclose(found.best, [[1.5]])
  np.testing.assert_allclose(found.score, [-0.25])


def test_the_point_after_the_last_step_is_evaluated_too():
  found = attack.projected_ascent(parabola, jnp.zeros((1, 1)), anywhere, 1, ascent_rule('sign', 2.0))
  np.testing.assert_allclose(found.best, [[2.0]])


def test_the_start_is_kept_when_every_step_is_worse():
  found = attack.projected_ascent(parabola, jnp.full((1, 1), 2.1), anywhere, 3, ascent_rule('gradient', 7.0))
  np.testing.assert_allclose(found.best, [[2.1]])


def counted_search(thresholds, num_steps):
  """Steps of 1 uphill from 0; an example is misclassified from its threshold on. Counts the evaluations."""
  calls = []

  def objective_fn(x):
    jax.debug.callback(lambda: calls.append(1))
    losses = x[:, 0]
    return losses, jnp.where(losses >= jnp.asarray(thresholds), jnp.inf, losses)

  start = jnp.zeros((len(thresholds), 1))
  rule = ascent_rule('sign', 1.0)
  search = jax.jit(lambda x: attack.projected_ascent(objective_fn, x, anywhere, num_steps, rule))
  found = jax.block_until_ready(search(start))
  jax.effects_barrier()
  return found, len(calls)


def test_first_error_keeps_the_first_misclassified_point():
  found, _ = counted_search([2.0, 4.0, 99.0], 6)
  np.testing.assert_array_equal(found.best[:, 0], [2.0, 4.0, 6.0])
  np.testing.assert_array_equal(found.score, [np.inf, np.inf, 6.0])


def test_the_search_ends_when_every_example_is_misclassified():
  assert counted_search([0.0, 0.0], 10)[1] == 2  # The start, and the point that the loop ended at.
  assert counted_search([2.0, 1.0], 10)[1] == 4
  assert counted_search([2.0, 99.0], 10)[1] == 11  # K + 1.


def test_first_error_scores_are_infinite_exactly_for_errors():
  logits = jnp.array([[1.0, 0.0], [0.0, 1.0], [3.0, 0.0]])
  losses, scores = attack.objective(logits, jnp.array([0, 0, 1]), 'first_error')
  expected = [np.log1p(np.exp(-1)), np.log1p(np.exp(1)), np.log1p(np.exp(3))]  # Eq. 8 by hand.
  np.testing.assert_allclose(losses, expected, rtol=1e-5)
  np.testing.assert_allclose(scores, [expected[0], np.inf, np.inf], rtol=1e-5)
  np.testing.assert_array_equal(attack.objective(logits, jnp.array([0, 0, 1]), 'highest_loss')[1], losses)


def test_an_original_that_is_misclassified_is_kept_as_it_is():
  original = uniform(5, 3, 3, 4, 1)
  labels = (jnp.argmax(toy()[2](original), axis=1) + jnp.array([1, 1, 0])) % 3
  found, _ = searched(LatentAttack(0.03, 1, 2, SIGN), KEYS, SMALL_W, labels, 'first_error', original)
  np.testing.assert_array_equal(found.best[:2], original[:2])
  assert np.isinf(found.score[:2]).all()


@pytest.mark.parametrize('parts, w', [(toy, SMALL_W), (network, W)], ids=['toy', 'network'])
def test_a_batch_is_a_loop_over_examples(parts, w):
  together, _ = searched(NETWORK_ATTACK, KEYS, w, parts=parts)
  for i in (0, 2):
    one = slice(i, i + 1)
    alone, _ = searched(NETWORK_ATTACK, KEYS[one], w[one], LABELS[one], parts=parts)
    np.testing.assert_allclose(together.score[i], alone.score[0], rtol=1e-4)
    np.testing.assert_allclose(together.best[i], alone.best[0], atol=1e-3)


def test_vmap_is_a_loop_over_examples():
  decoder, params, classify = toy()
  settings = LatentAttack(0.03, 2, 3, SIGN)

  def alone(key, w, label):
    def objective_fn(x):
      return attack.objective(classify(x), label[None], 'first_error')

    found = attack.latent_attack(settings, key[None], decoder, params, w[None], objective_fn)
    return found.best[0], found.score[0]

  best, score = jax.jit(jax.vmap(alone))(KEYS, SMALL_W, LABELS)
  assert 0 < np.isinf(score).sum() < 3  # Some end early, some do not.
  one = jax.jit(alone)
  for i in range(3):
    alone_best, alone_score = one(KEYS[i], SMALL_W[i], LABELS[i])
    np.testing.assert_allclose(score[i], alone_score, rtol=1e-5)
    np.testing.assert_allclose(best[i], alone_best, atol=1e-6)


def test_the_search_gives_no_gradient():
  def loss(x):
    return jnp.sum(attack.projected_ascent(parabola, x, anywhere, 2, ascent_rule('sign', 1.5)).best)

  np.testing.assert_array_equal(jax.grad(loss)(jnp.zeros((2, 1))), 0.0)


def test_unknown_names_are_refused():
  with pytest.raises(ValueError, match="attack update must be sign or gradient, not 'signs'"):
    ascent_rule('signs', 0.1)
  with pytest.raises(ValueError, match="attack select must be highest_loss or first_error, not 'last'"):
    attack.objective(jnp.zeros((1, 2)), jnp.zeros(1, jnp.int32), 'last')
