"""Training of StyleGAN 1: non-saturating logistic loss, R1 (Karras et al. 2019; Mescheder et al. 2018)."""

from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import optax

from advmix_jax import mixing
from advmix_jax.models.discriminator import Discriminator
from advmix_jax.models.noise import draw_noise
from advmix_jax.models.stylegan import StyleGAN, init_generator
from advmix_jax.types import Array, PyTree

W_AVG_DECAY = 0.995


class GanSettings(NamedTuple):
  """Settings of a step.

  Attributes:
    r1_gamma: strength of the gradient penalty on real images.
    r1_interval: it is applied every so many steps, that many times as strong; 1 = exact.
    style_mixing_prob: how often the upper layers take a second latent.
    cut_per_sample: every sample has a coin and a cut of its own; False = one per minibatch, as StyleGAN 1.
    ema_decay: of the averaged generator, per step.
  """

  r1_gamma: float
  r1_interval: int
  style_mixing_prob: float
  cut_per_sample: bool
  ema_decay: float


class GanState(flax.struct.PyTreeNode):
  """Generator and discriminator in training.

  Attributes:
    step: int32 scalar, steps done.
    key: one key; a step uses `fold_in(key, step)`.
    generator, discriminator: parameters.
    generator_opt, discriminator_opt: optimiser states.
    ema: averaged generator parameters, what images are made with.
    w_avg: `[D]`, running mean of mapped latents.
    noise: the constant noise of each layer, for use after training.
    generator_model, discriminator_model: Flax modules.
    tx: optimiser of both networks.
  """

  step: Array
  key: Array
  generator: PyTree
  discriminator: PyTree
  generator_opt: PyTree
  discriminator_opt: PyTree
  ema: PyTree
  w_avg: Array
  noise: tuple[Array, ...]
  generator_model: StyleGAN = flax.struct.field(pytree_node=False)
  discriminator_model: Discriminator = flax.struct.field(pytree_node=False)
  tx: optax.GradientTransformation = flax.struct.field(pytree_node=False)

  def decoder_params(self) -> PyTree:
    """Parameters of the averaged generator as a `Decoder` takes them."""
    return {'params': self.ema, 'noise': self.noise, 'w_avg': self.w_avg}


def create_gan_state(
  key: Array, generator: StyleGAN, discriminator: Discriminator, tx: optax.GradientTransformation
) -> GanState:
  """A fresh state. The key is consumed."""
  generator_key, discriminator_key, train_key = jax.random.split(key, 3)
  variables = init_generator(generator_key, generator)
  size = generator.resolution
  images = jnp.zeros((4, size, size, generator.image_channels))
  scores = discriminator.init(discriminator_key, images)['params']
  return GanState(
    step=jnp.zeros((), jnp.int32),
    key=train_key,
    generator=variables['params'],
    discriminator=scores,
    generator_opt=tx.init(variables['params']),
    discriminator_opt=tx.init(scores),
    ema=jax.tree.map(jnp.copy, variables['params']),  # A copy, as the state is donated.
    w_avg=variables['w_avg'],
    noise=variables['noise'],
    generator_model=generator,
    discriminator_model=discriminator,
    tx=tx,
  )


def style_mix(key: Array, keys: Array, w: Array, other: Array, settings: GanSettings) -> Array:
  """Rows from a random cut on are taken from `other`; both `[B, L, D]`. The keys are consumed.

  Args:
    key: for a cut shared by the minibatch.
    keys: `[B]`, for a cut of each sample's own.
    w: kept below the cut.
    other: taken from the cut on.
    settings: probability, and who shares the cut.
  """
  num_layers = w.shape[1]

  def draw_cut(key):
    coin_key, cut_key = jax.random.split(key)
    cut = jax.random.randint(cut_key, (), 1, num_layers)
    return jnp.where(jax.random.uniform(coin_key) < settings.style_mixing_prob, cut, num_layers)

  cuts = jax.vmap(draw_cut)(keys) if settings.cut_per_sample else jnp.full(w.shape[0], draw_cut(key))
  keep = jnp.arange(num_layers)[None] < cuts[:, None]
  return jnp.where(keep[:, :, None], w, other)


def gan_step(
  state: GanState, real: Array, settings: GanSettings, *, with_r1: bool, axis_name: str | None = None
) -> tuple[GanState, dict[str, Array]]:
  """One discriminator step, the average, one generator step.

  Args:
    state: the buffer may be donated.
    real: `[B, R, R, C]` float32 in [-1, 1], this device's share.
    settings: losses and averages.
    with_r1: applies the gradient penalty, `r1_interval` times as strong (lazy regularisation).
    axis_name: of the devices; gradients, metrics and w_avg are averaged over it.

  Returns:
    The new state and scalar metrics, the losses per network and the mean scores.
  """
  generator, discriminator = state.generator_model, state.discriminator_model
  key = jax.random.fold_in(state.key, state.step)
  d_key, g_key = jax.random.split(key)
  start = 0 if axis_name is None else jax.lax.axis_index(axis_name) * real.shape[0]
  positions = start + jnp.arange(real.shape[0])

  def average(tree):
    return tree if axis_name is None else jax.lax.pmean(tree, axis_name)

  def fake_images(params, key):
    """Generated images and the mean of their (unmixed) latents."""
    cut_key, example_key = jax.random.split(key)
    keys = jax.vmap(lambda k: jax.random.split(k, 4))(mixing.example_keys(example_key, positions))

    def apply(*args: PyTree, method: str) -> PyTree:
      return generator.apply({'params': params}, *args, method=method)

    both = jnp.concatenate([mixing.draw_z(keys[:, i], generator.latent_size) for i in (0, 1)])
    w, other = jnp.split(apply(both, method='map_z'), 2)
    mixed = style_mix(cut_key, keys[:, 2], w, other, settings)
    noise = jax.vmap(lambda k: draw_noise(k, generator.noise_sizes))(keys[:, 3])
    noise = tuple(n[:, 0] for n in noise)
    return apply(mixed, noise, method='synthesis'), jnp.mean(w[:, 0], axis=0)

  def score(params, images):
    return discriminator.apply({'params': params}, images, axis_name=axis_name)

  def update_w_avg(w_avg, mean):
    return mean + (w_avg - mean) * W_AVG_DECAY

  def discriminator_loss(params, fake):
    fake_scores, real_scores = score(params, fake), score(params, real)
    loss = jnp.mean(jax.nn.softplus(fake_scores) + jax.nn.softplus(-real_scores))
    metrics = {'scores/real': jnp.mean(real_scores), 'scores/fake': jnp.mean(fake_scores)}
    if with_r1:
      gradient = jax.grad(lambda x: jnp.sum(score(params, x)))(real)
      penalty = jnp.mean(jnp.sum(jnp.square(gradient), axis=(1, 2, 3)))
      loss = loss + 0.5 * settings.r1_gamma * settings.r1_interval * penalty
    return loss, metrics

  def generator_loss(params, discriminator_params):
    fake, mean_w = fake_images(params, g_key)
    return jnp.mean(jax.nn.softplus(-score(discriminator_params, fake))), mean_w

  def apply_gradients(params, opt_state, gradients):
    updates, opt_state = state.tx.update(average(gradients), opt_state, params)
    return optax.apply_updates(params, updates), opt_state

  fake, mean_w = fake_images(state.generator, d_key)
  w_avg = update_w_avg(state.w_avg, average(mean_w))
  (d_loss, metrics), gradients = jax.value_and_grad(discriminator_loss, has_aux=True)(
    state.discriminator, fake
  )
  discriminator_params, discriminator_opt = apply_gradients(
    state.discriminator, state.discriminator_opt, gradients
  )
  ema = optax.incremental_update(state.generator, state.ema, 1 - settings.ema_decay)

  (g_loss, mean_w), gradients = jax.value_and_grad(generator_loss, has_aux=True)(
    state.generator, discriminator_params
  )
  generator_params, generator_opt = apply_gradients(state.generator, state.generator_opt, gradients)
  metrics = average(metrics | {'loss/discriminator': d_loss, 'loss/generator': g_loss})
  state = state.replace(
    step=state.step + 1,
    generator=generator_params,
    discriminator=discriminator_params,
    generator_opt=generator_opt,
    discriminator_opt=discriminator_opt,
    ema=ema,
    w_avg=update_w_avg(w_avg, average(mean_w)),
  )
  return state, metrics
