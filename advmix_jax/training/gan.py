"""A step of GAN training in the manner of StyleGAN 1 and 2 (Karras et al. 2019, 2020), for any networks."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from advmix_jax import micro_batch, mixing
from advmix_jax.models.growing import Lod, at_lod
from advmix_jax.models.noise import draw_noise
from advmix_jax.training import gan_losses
from advmix_jax.training.gan_state import GanBatch, GanSettings, GanState
from advmix_jax.training.path_length import path_length_gradients, path_length_loss, path_lengths
from advmix_jax.training.style_mixing import style_mix
from advmix_jax.types import Array, PyTree

W_AVG_DECAY = 0.995


class _Share(NamedTuple):
  """This device's share of a minibatch.

  Attributes:
    axis_name: of the devices; None for one alone.
    positions: `[b]`, of its examples in the whole minibatch; their draws are keyed by it.
  """

  axis_name: str | None
  positions: Array

  def average(self, tree: PyTree) -> PyTree:
    return tree if self.axis_name is None else jax.lax.pmean(tree, self.axis_name)

  def average_parts(
    self, fn: Callable[[GanBatch, '_Share'], PyTree], batch: GanBatch, settings: GanSettings
  ) -> PyTree:
    """The mean of `fn` over the parts of this share and over the devices."""
    parts = micro_batch.num_parts(len(self.positions), settings.part_size)

    def of_part(part):
      return fn(part[0], self._replace(positions=part[1]))

    return self.average(micro_batch.average(of_part, (batch, self.positions), parts))


def gan_step(
  state: GanState,
  batch: GanBatch,
  settings: GanSettings,
  *,
  with_r1: bool,
  with_path_length: bool = False,
  axis_name: str | None = None,
) -> tuple[GanState, dict[str, Array]]:
  """One discriminator step, the average, one generator step; and steps of lazy regularisation.

  Args:
    state: the buffer may be donated.
    batch: this device's share; the images in full resolution also where the networks are still growing.
    settings: losses and averages.
    with_r1: applies the gradient penalty, `r1_interval` times as strong (lazy regularisation).
    with_path_length: a further step of the generator, of path-length regularisation.
    axis_name: of the devices; gradients, metrics and w_avg are averaged over it.

  Returns:
    The new state and scalar metrics, the losses per network and the mean scores.

  Raises:
    ValueError: path lengths are to be regularised, and the state has no running mean of them.
  """
  if with_path_length and state.path_length_mean is None:
    raise ValueError('the state has no running mean of path lengths, expected one from create_gan_state')
  size = batch.images.shape[0]
  start = 0 if axis_name is None else jax.lax.axis_index(axis_name) * size
  share = _Share(axis_name, start + jnp.arange(size))
  key = jax.random.fold_in(state.key, state.step)
  d_key, g_key, *more = jax.random.split(key, 2 + (settings.loss == 'wgan_gp') + with_path_length)
  if state.lod is not None:
    batch = batch.replace(images=at_lod(batch.images, state.lod))

  penalty_key = more[0] if settings.loss == 'wgan_gp' else None
  state, metrics = _discriminator_step(state, batch, settings, d_key, penalty_key, share, with_r1)
  if with_r1 and settings.lazy_r1:
    state = _r1_step(state, batch, settings, share)
  ema = optax.incremental_update(state.generator, state.ema, 1 - settings.ema_decay)
  state, generator_metrics = _generator_step(state.replace(ema=ema), batch, settings, g_key, share)
  if with_path_length:
    state = _path_length_step(state, batch, settings, more[-1], share)
  metrics = metrics | generator_metrics
  if state.path_length_mean is not None:
    metrics['path_length'] = state.path_length_mean
  if state.lod is not None:
    metrics['lod'] = jnp.asarray(state.lod.floor + state.lod.share)
  return state.replace(step=state.step + 1), metrics


def _discriminator_step(
  state: GanState,
  batch: GanBatch,
  settings: GanSettings,
  key: Array,
  penalty_key: Array | None,
  share: _Share,
  with_r1: bool,
) -> tuple[GanState, dict[str, Array]]:
  def gradients_of(batch, share):
    fake, mean_w = _fake_images(state, state.generator, batch.labels, settings, key, share)

    def loss_fn(params):
      def score(images):
        return _scores(state, params, images, batch.labels, share)

      def scored(images, is_penalised):
        return _penalised(score, images, settings) if is_penalised else (score(images), jnp.zeros(()))

      has_r1 = with_r1 and not settings.lazy_r1
      fake_scores, r2 = scored(fake, has_r1 and settings.loss == 'relativistic')
      real_scores, r1 = scored(batch.images, has_r1)
      loss = jnp.mean(gan_losses.discriminator_loss(settings.loss, fake_scores, real_scores))
      if penalty_key is not None:
        keys = mixing.example_keys(penalty_key, share.positions)
        loss = loss + jnp.mean(gan_losses.gradient_penalty(score, batch.images, fake, keys))
      loss = loss + r1 + r2
      metrics = {'scores/real': jnp.mean(real_scores), 'scores/fake': jnp.mean(fake_scores)}
      return loss, metrics | {'loss/discriminator': loss}

    return *jax.grad(loss_fn, has_aux=True)(state.discriminator), mean_w

  gradients, metrics, mean_w = share.average_parts(gradients_of, batch, settings)
  params, opt, was_skipped = _update(
    state.discriminator_tx, state.discriminator, state.discriminator_opt, gradients, settings
  )
  w_avg = _update_w_avg(state.w_avg, mean_w)
  state = state.replace(discriminator=params, discriminator_opt=opt, w_avg=w_avg)
  return state, metrics | _skipped('discriminator', was_skipped)


def _generator_step(
  state: GanState, batch: GanBatch, settings: GanSettings, key: Array, share: _Share
) -> tuple[GanState, dict[str, Array]]:
  is_paired = settings.loss == 'relativistic'

  def gradients_of(batch, share):
    labels = batch.labels if is_paired else batch.drawn_labels  # Pairs are of one class.

    def loss_fn(params):
      fake, mean_w = _fake_images(state, params, labels, settings, key, share)
      scores = _scores(state, state.discriminator, fake, labels, share)
      real = scores
      if is_paired:
        real = _scores(state, state.discriminator, batch.images, labels, share)
      return jnp.mean(gan_losses.generator_loss(settings.loss, scores, real)), mean_w

    return jax.value_and_grad(loss_fn, has_aux=True)(state.generator)

  (loss, mean_w), gradients = share.average_parts(gradients_of, batch, settings)
  params, opt, was_skipped = _update(
    state.generator_tx, state.generator, state.generator_opt, gradients, settings
  )
  w_avg = _update_w_avg(state.w_avg, mean_w)
  state = state.replace(generator=params, generator_opt=opt, w_avg=w_avg)
  return state, {'loss/generator': loss} | _skipped('generator', was_skipped)


def _penalised(score: gan_losses.ScoreFn, images: Array, settings: GanSettings) -> tuple[Array, Array]:
  """Scores, and the penalty R1, of generated images R2."""
  scores, squared = gan_losses.scores_and_squared_gradients(score, images)
  return scores, 0.5 * settings.r1_gamma * settings.r1_interval * jnp.mean(squared)


def _r1_step(state: GanState, batch: GanBatch, settings: GanSettings, share: _Share) -> GanState:
  def gradients_of(batch, share):
    def loss_fn(params):
      return _penalised(lambda x: _scores(state, params, x, batch.labels, share), batch.images, settings)[1]

    return jax.grad(loss_fn)(state.discriminator)

  gradients = share.average_parts(gradients_of, batch, settings)
  params, opt, _ = _update(
    state.discriminator_tx, state.discriminator, state.discriminator_opt, gradients, settings
  )
  return state.replace(discriminator=params, discriminator_opt=opt)


def _path_length_step(
  state: GanState, batch: GanBatch, settings: GanSettings, key: Array, share: _Share
) -> GanState:
  """Of new latents, one for every `batch_shrink` examples of the batch."""
  model, shrink = state.generator_model, settings.path_length.batch_shrink
  mean = state.path_length_mean
  assert mean is not None
  latents_key, direction_key = jax.random.split(key)
  shape = (model.resolution, model.resolution, model.image_channels)

  def lengths_of(params, part):
    labels, positions = part
    keys = mixing.example_keys(direction_key, positions)
    direction = jax.vmap(lambda k: jax.random.normal(k, shape))(keys)
    own = share._replace(positions=positions)
    w, noise, _ = _latents(state, params, labels, settings, latents_key, own)
    return path_lengths(lambda w: _synthesis(state, params, w, noise), w, direction)

  def loss_fn(lengths):
    return path_length_loss(lengths, mean, settings.path_length, share.axis_name)

  labels = None if batch.drawn_labels is None else batch.drawn_labels[::shrink]
  whole = labels, share.positions[::shrink]
  parts = math.gcd(micro_batch.num_parts(len(share.positions), settings.part_size), len(whole[1]))
  gradients, new_mean = path_length_gradients(lengths_of, loss_fn, state.generator, whole, parts)
  params, opt, _ = _update(
    state.generator_tx, state.generator, state.generator_opt, share.average(gradients), settings
  )
  return state.replace(generator=params, generator_opt=opt, path_length_mean=new_mean)


def _one_hot(labels: Array | None, label_size: int) -> Array | None:
  return jax.nn.one_hot(labels, label_size) if label_size else None


def _lod_argument(state: GanState) -> dict[str, Lod]:
  return {} if state.lod is None else {'lod': state.lod}


def _fake_images(
  state: GanState, params: PyTree, labels: Array | None, settings: GanSettings, key: Array, share: _Share
) -> tuple[Array, Array]:
  """Generated images `[b, R, R, C]` and the mean `[D]` of their latents before mixing."""
  w, noise, mean = _latents(state, params, labels, settings, key, share)
  return _synthesis(state, params, w, noise), mean


def _synthesis(state: GanState, params: PyTree, w: Array, noise: tuple[Array, ...]) -> Array:
  model = state.generator_model
  return model.apply({'params': params}, w, noise, method='synthesis', **_lod_argument(state))


def _latents(
  state: GanState, params: PyTree, labels: Array | None, settings: GanSettings, key: Array, share: _Share
) -> tuple[Array, tuple[Array, ...], Array]:
  """Mixed latents `[b, L, D]`, noise, and the mean `[D]` of the latents before mixing."""
  model = state.generator_model
  cut_key, example_key = jax.random.split(key)
  keys = jax.vmap(lambda k: jax.random.split(k, 4))(mixing.example_keys(example_key, share.positions))
  both = jnp.concatenate([mixing.draw_z(keys[:, i], model.latent_size) for i in (0, 1)])
  given = _one_hot(labels, model.label_size)
  given = None if given is None else jnp.concatenate([given, given])
  w, other = jnp.split(model.apply({'params': params}, both, given, method='map_z'), 2)
  num_drawn = model.num_layers - (0 if state.lod is None else 2 * state.lod.floor)
  mixed = style_mix(cut_key, keys[:, 2], w, other, settings, num_drawn)
  noise = jax.vmap(lambda k: draw_noise(k, model.noise_sizes))(keys[:, 3])
  return mixed, tuple(n[:, 0] for n in noise), jnp.mean(w[:, 0], axis=0)


def _scores(state: GanState, params: PyTree, images: Array, labels: Array | None, share: _Share) -> Array:
  model = state.discriminator_model
  given = _one_hot(labels, model.label_size)
  return model.apply({'params': params}, images, given, axis_name=share.axis_name, **_lod_argument(state))


def _update(
  tx: optax.GradientTransformation, params: PyTree, opt: PyTree, gradients: PyTree, settings: GanSettings
) -> tuple[PyTree, PyTree, Array | None]:
  """New parameters and optimiser state, and whether the update was left out; None if it never is."""
  updates, new_opt = tx.update(gradients, opt, params)
  if settings.learning_rate_scale != 1:
    updates = jax.tree.map(lambda u: u * settings.learning_rate_scale, updates)
  new_params = optax.apply_updates(params, updates)
  if not settings.skip_nonfinite:
    return new_params, new_opt, None
  is_finite = jnp.all(jnp.stack([jnp.all(jnp.isfinite(g)) for g in jax.tree.leaves(gradients)]))
  params, opt = jax.tree.map(
    lambda new, old: jnp.where(is_finite, new, old), (new_params, new_opt), (params, opt)
  )
  return params, opt, ~is_finite


def _skipped(name: str, was_skipped: Array | None) -> dict[str, Array]:
  return {} if was_skipped is None else {f'skipped/{name}': was_skipped.astype(jnp.float32)}


def _update_w_avg(w_avg: Array, mean: Array) -> Array:
  return mean + (w_avg - mean) * W_AVG_DECAY
