"""Steps of GAN training: what they change and by which losses; devices do not change the mathematics."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advmix_jax.models.discriminator import Discriminator
from advmix_jax.models.growing import Lod, at_lod
from advmix_jax.models.stylegan import StyleGAN
from advmix_jax.training import gan, style_mixing
from advmix_jax.training.adam import make_adam
from advmix_jax.training.gan_state import GanSettings, restart_optimisers
from tests import tiny, tiny_gan
from tests.compare import assert_close, differ, halves
from tests.tiny import normal
from tests.tiny_gan import CLASSES, LEARNING_RATE, assert_trained_as_one, batch

GAN_SETTINGS = GanSettings(
  r1_gamma=10.0, r1_interval=2, style_mixing_prob=0.9, cut_per_sample=True, ema_decay=0.75
)
RELATIVISTIC = GAN_SETTINGS._replace(loss='relativistic')

# Losses and updates of another kind, for networks that grow and are told labels.
OTHER_SETTINGS = GAN_SETTINGS._replace(loss='wgan_gp', skip_nonfinite=True, cut_per_sample=False)


@functools.cache
def gan_state(share=None):
  """With a `share`, networks that grow and have labels."""
  other = {} if share is None else {'label_size': CLASSES, 'structure': 'linear'}
  model = StyleGAN((4, 3), latent_size=5, w_size=7, mapping_layers=2, **other)
  lod = None if share is None else Lod(0, jnp.float32(share))
  return tiny_gan.gan_state(model, Discriminator((4, 3), **other), lod=lod)


@functools.cache
def step_fn(settings, with_r1):
  """Compiled once for all tests; they differ in the state they give it."""
  return jax.jit(functools.partial(gan.gan_step, settings=settings, with_r1=with_r1))


def gan_step_fn(with_r1, settings=GAN_SETTINGS):
  return lambda state, given=None: step_fn(settings, with_r1)(state, given or batch(conditional=False))


def other_step_fn():
  """The same for networks that grow and are told labels."""
  return lambda state, given=None: step_fn(OTHER_SETTINGS, False)(state, given or batch())


@pytest.mark.parametrize(
  'settings',
  [
    pytest.param(GAN_SETTINGS, id='plain', marks=pytest.mark.slow),  # test_devices.py compares it as well.
    pytest.param(RELATIVISTIC, id='relativistic', marks=pytest.mark.slow),
    pytest.param(OTHER_SETTINGS, id='growing, labels, WGAN-GP'),
  ],
)
def test_two_devices_train_the_networks_as_one(settings):
  """With R1, which is all of the step; the groups of the minibatch standard deviation are of all devices."""
  is_other = settings is OTHER_SETTINGS
  state, given = gan_state(0.3 if is_other else None), batch(conditional=is_other)
  one = step_fn(settings, not is_other)(state, given)
  step = functools.partial(gan.gan_step, settings=settings, with_r1=not is_other, axis_name='i')
  two = jax.pmap(step, 'i', in_axes=(None, 0), out_axes=0)(state, halves(given))
  assert_trained_as_one(two, one, state, ('generator', 'discriminator', 'ema', 'w_avg'))


def test_a_gan_step_moves_both_networks_and_the_average_of_the_generator():
  """The average takes the generator as it was before this step's update, as StyleGAN 1 does."""
  state = gan_state()
  after, _ = gan_step_fn(False)(state)
  assert differ(after.generator, state.generator) and differ(after.discriminator, state.discriminator)
  assert not differ(after.noise, state.noise)
  assert_close(after.ema, state.generator, rtol=1e-5, atol=1e-5)
  moved = state.replace(ema=jax.tree.map(lambda x: x + 1, state.ema))
  after, _ = gan_step_fn(False)(moved)
  assert_close(after.ema, jax.tree.map(lambda x: x + 0.75, state.generator), rtol=1e-5, atol=1e-4)


def test_w_avg_follows_the_mean_of_mapped_latents_in_both_halves_of_the_step():
  state = gan_state()
  after, _ = gan_step_fn(False)(state.replace(w_avg=state.w_avg + 1000.0))
  expected = state.w_avg * (1 - 0.995**2) + (state.w_avg + 1000) * 0.995**2
  np.testing.assert_allclose(after.w_avg, expected, atol=0.2)  # Means of 8 draws are not the mean.


def test_the_gradient_penalty_is_lazy():
  """`gamma / 2 mean |d score / d image|^2` on real images, `r1_interval` times as strong as in every step."""
  state = gan_state()

  @jax.jit
  def penalty_gradient(params, images):
    def penalty(params):
      def score(x):
        return jnp.sum(state.discriminator_model.apply({'params': params}, x))

      return 0.5 * 10.0 * jnp.mean(jnp.sum(jnp.square(jax.grad(score)(images)), axis=(1, 2, 3)))

    return jax.grad(penalty)(params)

  (without, _), (with_r1, _) = gan_step_fn(False)(state), gan_step_fn(True)(state)
  expected = jax.tree.map(
    lambda g: -LEARNING_RATE * 2 * g, penalty_gradient(state.discriminator, batch().images)
  )
  found = jax.tree.map(lambda a, b: a - b, with_r1.discriminator, without.discriminator)
  scale = max(float(np.abs(x).max()) for x in jax.tree.leaves(expected))
  assert scale > 1e-5
  assert_close(found, expected, rtol=1e-2, atol=1e-2 * scale)


def test_the_relativistic_loss_compares_scores_of_two_kinds():
  """Scores that are all the same give the loss of a fair coin, and nothing moves their common part."""
  state = gan_state()
  constant = jax.tree.map(jnp.zeros_like, state.discriminator)
  constant['out']['bias'] = jnp.array([0.7])
  after, metrics = gan_step_fn(False, RELATIVISTIC)(state.replace(discriminator=constant))
  assert float(metrics['loss/discriminator']) == float(metrics['loss/generator']) == pytest.approx(np.log(2))
  np.testing.assert_allclose(after.discriminator['out']['bias'], 0.7, atol=1e-6)


def test_the_relativistic_loss_has_the_penalty_on_real_and_on_generated_images():
  """A generator of zeros draws zeros: R2 is what R1 is on such images."""
  state, given = gan_state(), batch(conditional=False)
  state = state.replace(generator=jax.tree.map(jnp.zeros_like, state.generator))

  def penalty(settings, images):
    given_images = given.replace(images=images)
    (with_r1, _), (without, _) = (gan_step_fn(r1, settings)(state, given_images) for r1 in (True, False))
    return jax.tree.map(lambda a, b: a - b, with_r1.discriminator, without.discriminator)

  both = penalty(RELATIVISTIC, given.images)
  parts = [penalty(GAN_SETTINGS, images) for images in (given.images, jnp.zeros_like(given.images))]
  assert_close(both, jax.tree.map(lambda a, b: a + b, *parts), rtol=1e-3, atol=1e-6)
  assert differ(both, parts[0])


def test_the_networks_losses_by_hand():
  """Non-saturating logistic loss, from the scores in the metrics when all scores are the same."""
  state = gan_state()
  constant = jax.tree.map(jnp.zeros_like, state.discriminator)
  constant['out']['bias'] = jnp.array([0.7])
  _, metrics = gan_step_fn(False)(state.replace(discriminator=constant))

  def softplus(x):
    return np.log1p(np.exp(x))

  assert float(metrics['scores/real']) == pytest.approx(0.7) == float(metrics['scores/fake'])
  assert float(metrics['loss/discriminator']) == pytest.approx(softplus(0.7) + softplus(-0.7), rel=1e-5)


@pytest.mark.parametrize('cut_per_sample', [True, False])
def test_style_mixing_takes_the_rows_from_a_cut_on(cut_per_sample):
  """Cuts in 1..L-1 with the given probability, else none; one for each sample, or one for all."""
  number, layers = 400, 4
  w, other = jnp.zeros((number, layers, 1)), jnp.ones((number, layers, 1))
  settings = GAN_SETTINGS._replace(style_mixing_prob=0.6, cut_per_sample=cut_per_sample)
  mix = jax.jit(lambda key, keys: style_mixing.style_mix(key, keys, w, other, settings))
  runs = 1 if cut_per_sample else 60
  mixed = [np.asarray(mix(jax.random.key(r), tiny.keys(100 + r, number)))[..., 0] for r in range(runs)]
  for rows in mixed:
    assert (np.diff(rows, axis=1) >= 0).all() and (rows[:, 0] == 0).all()
    if not cut_per_sample:
      assert (rows == rows[:1]).all()
  cuts = layers - np.concatenate([rows if cut_per_sample else rows[:1] for rows in mixed]).sum(axis=1)
  assert set(cuts) == {1, 2, 3, 4}
  assert np.mean(cuts < layers) == pytest.approx(0.6, abs=0.1 if cut_per_sample else 0.25)


def test_without_style_mixing_nothing_is_taken():
  w, other = normal(0, 5, 4, 3), normal(1, 5, 4, 3)
  settings = GAN_SETTINGS._replace(style_mixing_prob=0.0)
  mixed = style_mixing.style_mix(jax.random.key(0), tiny.keys(1, 5), w, other, settings)
  np.testing.assert_array_equal(mixed, w)


@pytest.mark.parametrize('cut_per_sample', [True, False])
def test_a_fixed_cut_is_where_every_mixed_sample_takes_the_second_latent(cut_per_sample):
  w, other = jnp.zeros((400, 8, 1)), jnp.ones((400, 8, 1))
  settings = GAN_SETTINGS._replace(style_mixing_prob=0.6, cut_per_sample=cut_per_sample, fixed_cut=6)
  mixed = [style_mixing.style_mix(key, tiny.keys(1, 400), w, other, settings) for key in tiny.keys(2, 9)]
  cuts = 8 - np.asarray(mixed)[..., 0].sum(axis=2)
  assert set(cuts.flat) == {6, 8}
  if cut_per_sample:
    assert np.mean(cuts == 6) == pytest.approx(0.6, abs=0.1)


def test_cuts_lie_among_the_layers_that_are_drawn():
  w, other = jnp.zeros((400, 8, 1)), jnp.ones((400, 8, 1))
  settings = GAN_SETTINGS._replace(style_mixing_prob=0.5)
  mixed = style_mixing.style_mix(jax.random.key(0), tiny.keys(1, 400), w, other, settings, num_drawn=4)
  cuts = 8 - np.asarray(mixed)[..., 0].sum(axis=1)
  assert set(cuts) == {1, 2, 3, 8}


def test_the_discriminator_sees_fakes_of_the_datas_labels_and_the_generator_learns_from_drawn_ones():
  state, given = gan_state(0.3), batch()
  after, _ = other_step_fn()(state, given)
  drawn, _ = other_step_fn()(state, given.replace(drawn_labels=given.labels))
  assert not differ(drawn.discriminator, after.discriminator) and differ(drawn.generator, after.generator)
  labels, _ = other_step_fn()(state, given.replace(labels=given.drawn_labels))
  assert differ(labels.discriminator, after.discriminator)


def changed(after, before) -> set[str]:
  return {name for name in before if differ(after[name], before[name])}


@pytest.mark.parametrize(
  'lod, generator, discriminator',
  [
    (Lod(1, jnp.float32(0)), {'layers_0', 'layers_1', 'to_rgb_lod_1'}, {'from_rgb_lod_1'}),
    (
      Lod(0, jnp.float32(0.3)),
      {f'layers_{i}' for i in range(4)} | {'to_rgb', 'to_rgb_lod_1'},
      {'from_rgb', 'from_rgb_lod_1', 'convs_0', 'downs_0'},
    ),
    (
      Lod(0, jnp.float32(0)),
      {f'layers_{i}' for i in range(4)} | {'to_rgb'},
      {'from_rgb', 'convs_0', 'downs_0'},
    ),
  ],
  ids=['4 pixels', '8 pixels fade in', '8 pixels'],
)
def test_only_the_layers_that_are_drawn_learn(lod, generator, discriminator):
  state = gan_state(0.3).replace(lod=lod)
  after, metrics = other_step_fn()(state)
  assert changed(after.generator, state.generator) == generator | {'mapping'}
  assert changed(after.discriminator, state.discriminator) == discriminator | {'conv', 'dense', 'out'}
  assert float(metrics['lod']) == pytest.approx(lod.floor + float(lod.share))


def test_a_growing_step_shows_the_discriminator_faded_images():
  state, given = gan_state(0.3), batch()
  faded = given.replace(images=at_lod(given.images, state.lod))
  assert np.abs(faded.images - given.images).max() > 0.1
  labels = jax.nn.one_hot(given.labels, CLASSES)
  scores = state.discriminator_model.apply(
    {'params': state.discriminator}, faded.images, labels, lod=state.lod
  )
  _, metrics = other_step_fn()(state, given)
  assert float(metrics['scores/real']) == pytest.approx(float(scores.mean()), rel=1e-4)


def test_an_update_whose_gradient_is_not_finite_is_left_out():
  """Here the discriminator's, for the sake of one pixel; the generator goes on."""
  state, given = gan_state(0.3), batch()
  broken = given.replace(images=given.images.at[0, 0, 0, 0].set(jnp.nan))
  after, metrics = other_step_fn()(state, broken)
  assert not differ(after.discriminator, state.discriminator) and differ(after.generator, state.generator)
  assert (float(metrics['skipped/discriminator']), float(metrics['skipped/generator'])) == (1.0, 0.0)
  assert np.isnan(metrics['loss/discriminator'])  # The host loop stops there.
  after, metrics = gan_step_fn(False)(gan_state(), batch(conditional=False).replace(images=broken.images))
  assert np.isnan(after.discriminator['out']['bias']).all() and 'skipped/discriminator' not in metrics


def test_the_learning_rate_can_be_scaled():
  settings = GAN_SETTINGS._replace(learning_rate_scale=0.25)
  step = jax.jit(functools.partial(gan.gan_step, settings=settings, with_r1=False))
  state = gan_state()
  (whole, _), (quarter, _) = gan_step_fn(False)(state), step(state, batch(conditional=False))
  expected = jax.tree.map(lambda a, b: a + (b - a) / 4, state.discriminator, whole.discriminator)
  assert_close(quarter.discriminator, expected, rtol=1e-5, atol=1e-6)


def test_optimisers_forget_when_other_layers_take_part():
  tx = make_adam('optax', 1e-3)
  state = gan_state().replace(generator_tx=tx, discriminator_tx=tx)
  fresh = restart_optimisers(state)
  used = fresh.replace(
    generator_opt=jax.tree.map(lambda x: x + 1, fresh.generator_opt),
    discriminator_opt=jax.tree.map(lambda x: x + 2, fresh.discriminator_opt),
  )
  again = restart_optimisers(used)
  for name in ('generator_opt', 'discriminator_opt'):
    assert not any(np.any(x) for x in jax.tree.leaves(getattr(again, name)))
  assert not differ(again.generator, state.generator)
