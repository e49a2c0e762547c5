"""Algorithm 1: images to latents, by gradient descent on a reconstruction loss and a mixing loss.

    encode_fn = functools.partial(encode, decoder, features_fn, settings)
    result = jax.jit(encode_fn)(params, feature_params, keys, images, start)

`features_fn(images) -> {layer: activations}` is passed in (discriminator, VGG-16, or none for pixels alone).
Every image is a problem of its own; a batch solves many at once.
"""

import functools
from collections.abc import Callable, Iterable
from typing import Generic, NamedTuple

import jax
import jax.numpy as jnp
import optax

from advmix_jax import mixing
from advmix_jax.ranges import AnyArray
from advmix_jax.types import Array, Decoder, PyTree

SCHEDULES = ('step', 'cosine')
WHITENED_BETAS = (0.5, 0.8)  # Adam's where directions are about equally steep: few steps need short memories.
FeaturesFn = Callable[[PyTree, Array], dict[str, Array]]


class EncodeSettings(NamedTuple):
  """Settings of Algorithm 1.

  Attributes:
    num_steps: N; 0 returns the start.
    learning_rate: of Adam, in units of w: see `update_rule`.
    final_learning_rate: from three quarters of the steps on.
    pixel_weight: alpha_0.
    feature_weight: alpha_i, the same for all layers.
    mixing_weight: beta_i, the same for all layers; 0 leaves L_mix out.
    mixing_share: of the steps, the first ones, that descend L_mix too; the others L_rec alone. Paper: 1.
    layer_weights: pairs of a layer and a factor of both its alpha_i and its beta_i; 1 for layers not named.
    schedule: step, as in the paper | cosine: the rate falls all the way, along half a cosine.
  """

  num_steps: int
  learning_rate: float
  final_learning_rate: float
  pixel_weight: float
  feature_weight: float
  mixing_weight: float
  layer_weights: tuple[tuple[str, float], ...] = ()
  schedule: str = 'step'
  mixing_share: float = 1.0


class Encoded(NamedTuple, Generic[AnyArray]):
  """Latents `w [B, L, D]` and the mean squared pixel error `[B]` of `dec(w)` in [-1, 1] units."""

  w: AnyArray
  error: AnyArray


def squared_error(a: Array, b: Array) -> Array:
  """Mean squared difference of each example, `[B, ...]` to `[B]`."""
  return jnp.mean(jnp.square(a - b).reshape(a.shape[0], -1), axis=1)


def reconstruction_loss(
  image: Array, target: Array, features: dict, target_features: dict, s: EncodeSettings
) -> Array:
  """L_rec `[B]`: `alpha_0 mse(x', x) + sum_i alpha_i mse(A_i(x'), A_i(x))`."""
  loss = s.pixel_weight * squared_error(image, target)
  return loss + s.feature_weight * feature_loss(features, target_features, s.layer_weights)


def feature_loss(
  features: dict, target_features: dict, layer_weights: Iterable[tuple[str, float]] = ()
) -> Array | float:
  """`sum_i c_i mse(A_i(x'), A_i(x))`, `[B]`, with `c_i` of `layer_weights` or 1; 0 without features."""
  weights = dict(layer_weights)
  return sum(
    weights.get(name, 1.0) * squared_error(features[name], target_features[name]) for name in target_features
  )


def mixing_loss(
  decoder: Decoder,
  features_fn: FeaturesFn,
  settings: EncodeSettings,
  params: PyTree,
  feature_params: PyTree,
  keys: Array,
  target_features: dict[str, Array],
  trunk: PyTree,
) -> Array:
  """L_mix `[B]` of one draw, without its factor: `sum_i mse(A_i(dec(w_par, map(z)_perp)), A_i(x))`.

  Args:
    decoder, features_fn, settings, params, feature_params: as for `encode`.
    keys: `[B]`; consumed.
    target_features: `features_fn` of the images x.
    trunk: `decoder.coarse` of w_par.
  """
  mixed = decoder.fine(params, trunk, mixing.draw_w_perp(keys, decoder, params))
  features = features_fn(feature_params, mixed)
  return jnp.asarray(feature_loss(features, target_features, settings.layer_weights))


def final_phase(settings: EncodeSettings) -> int:
  """The step from which the final learning rate counts, or, with the cosine, is near."""
  return (3 * settings.num_steps) // 4


def learning_rate(settings: EncodeSettings, step: Array | int) -> Array:
  """Of step 0, 1, ... of Algorithm 1."""
  first, final = settings.learning_rate, settings.final_learning_rate
  if settings.schedule == 'cosine':
    share = (1 + jnp.cos(jnp.pi * (step + 0.5) / max(settings.num_steps, 1))) / 2
    return final + (first - final) * share
  return jnp.where(step < final_phase(settings), first, final)


def descends_mixing(settings: EncodeSettings, step: Array | int) -> Array | bool:
  """Whether step 0, 1, ... of Algorithm 1 descends L_mix as well as L_rec."""
  if settings.mixing_share == 1:
    return True
  return jnp.asarray(step) < round(settings.mixing_share * settings.num_steps)


def update_rule(whitening: Array | None = None) -> optax.GradientTransformation:
  """The direction of a step on `w [L, D]` of one image, to go against.

  Args:
    whitening: `M [L D, L D]`; Adam then steps in the coordinates u of `w = M u`. None = Adam on w, as in the
      paper.
  """
  if whitening is None:
    return optax.scale_by_adam()

  def multiply(matrix: Array) -> optax.GradientTransformation:
    return optax.stateless(lambda g, _: (matrix @ g.reshape(-1)).reshape(g.shape))

  adam = optax.scale_by_adam(*WHITENED_BETAS)
  return optax.chain(multiply(whitening.T), adam, multiply(whitening))


def objective(
  decoder: Decoder,
  features_fn: FeaturesFn,
  settings: EncodeSettings,
  params: PyTree,
  feature_params: PyTree,
  step_keys: Array,
  images: Array,
  target_features: dict[str, Array],
  w: Array,
  mixing_too: Array | bool = True,
) -> tuple[Array, tuple[Array, Array]]:
  """What a step of Algorithm 1 descends: L_rec, and L_mix of one draw.

  Args:
    decoder, features_fn, settings, params, feature_params: as for `encode`.
    step_keys: `[B]` keys for L_mix; consumed.
    images: `[B, H, W, C]`.
    target_features: `features_fn` of them.
    w: `[B, L, D]`.
    mixing_too: bool, `[B]` or one for all: see `descends_mixing`. Where it is False for all, L_mix is not
      computed.

  Returns:
    The sum over the batch, so that each image's gradient is its own; of each image L_rec `[B]` and the mean
    squared pixel error `[B]`.
  """
  w_par, w_perp = mixing.split(w, decoder.mixing_level)
  trunk = decoder.coarse(params, w_par)
  image = decoder.fine(params, trunk, w_perp)
  rec = reconstruction_loss(image, images, features_fn(feature_params, image), target_features, settings)
  loss = rec
  if settings.mixing_weight > 0 and target_features:
    parts = decoder, features_fn, settings, params, feature_params, step_keys, target_features
    loss_mix_fn = functools.partial(mixing_loss, *parts)
    if mixing_too is True:
      loss_mix = loss_mix_fn(trunk)
    else:
      loss_mix = jax.lax.cond(jnp.any(mixing_too), loss_mix_fn, lambda trunk: jnp.zeros_like(rec), trunk)
      loss_mix = jnp.where(mixing_too, loss_mix, 0.0)
    loss = loss + settings.mixing_weight * loss_mix
  return jnp.sum(loss), (rec, squared_error(image, images))


def encode(
  decoder: Decoder,
  features_fn: FeaturesFn,
  settings: EncodeSettings,
  params: PyTree,
  feature_params: PyTree,
  keys: Array,
  images: Array,
  start: Array,
  whitening: Array | None = None,
  halt: Array | int | None = None,
) -> Encoded[Array]:
  """Algorithm 1 on a batch: descent on every row of `w` (W+), all images for all steps.

  Args:
    decoder: cut at the mixing level.
    features_fn: `(feature_params, images) -> {layer: activations}`, each example by itself; `{}` for pixels.
    settings: steps, rates and weights.
    params: the decoder's parameters.
    feature_params: given to `features_fn`.
    keys: `[B]` keys for the mixing loss; consumed. Step n draws from `fold_in(key, n)`.
    images: `[B, H, W, C]` float32 in [-1, 1].
    start: `[B, L, D]` float32: w_avg in every row, or what an amortised encoder says.
    whitening: see `update_rule`; None = Adam on w, as in the paper.
    halt: after so many of the steps, to see the latents on their way; None = after all.

  Returns:
    Latents and reconstruction errors. No gradient flows through them.
  """
  target_features = features_fn(feature_params, images)
  tx = update_rule(whitening)

  def loss_fn(w, n):
    step_keys = jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, n)
    parts = decoder, features_fn, settings, params, feature_params, step_keys, images, target_features
    return objective(*parts, w, descends_mixing(settings, n))

  def step(n, carry):
    w, opt_state = carry
    gradient, _ = jax.grad(loss_fn, has_aux=True)(w, n)
    direction, opt_state = jax.vmap(tx.update)(gradient, opt_state)
    return w - learning_rate(settings, n) * direction, opt_state

  num_steps = settings.num_steps if halt is None else halt
  w, _ = jax.lax.fori_loop(0, num_steps, step, (start, jax.vmap(tx.init)(start)))
  error = squared_error(decoder.decode(params, w), images)
  return jax.lax.stop_gradient(Encoded(w, error))


def mean_start(decoder: Decoder, params: PyTree, batch: int) -> Array:
  """Algorithm 1's start: `w_avg` in every row, `[batch, L, D]`."""
  return jnp.broadcast_to(decoder.w_avg(params)[None, None], (batch, decoder.num_layers, decoder.w_size))
