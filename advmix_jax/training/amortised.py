"""Training of the feed-forward start of the encoder.

Half of what it learns from is generated, with known latents; the other half are the real images it is for:
on generated images alone it is lost where the generator seldom goes.
"""

from collections.abc import Callable

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax

from advmix_jax import mixing
from advmix_jax.encoding import EncodeSettings, FeaturesFn, reconstruction_loss, squared_error
from advmix_jax.types import Array, Decoder, PyTree


class AmortisedState(flax.struct.PyTreeNode):
  """The encoder in training.

  Attributes:
    step: int32 scalar, steps done.
    key: one key; a step uses `fold_in(key, step)`.
    params, opt_state: of the encoder.
    decoder_params, feature_params: frozen.
    apply_fn: `(params, images, w_avg) -> w [B, L, D]`.
    tx: the optimiser.
    decoder: any level; whole images are compared.
    features_fn: as for Algorithm 1.
  """

  step: Array
  key: Array
  params: PyTree
  opt_state: PyTree
  decoder_params: PyTree
  feature_params: PyTree
  apply_fn: Callable[..., Array] = flax.struct.field(pytree_node=False)
  tx: optax.GradientTransformation = flax.struct.field(pytree_node=False)
  decoder: Decoder = flax.struct.field(pytree_node=False)
  features_fn: FeaturesFn = flax.struct.field(pytree_node=False)


def create_amortised_state(
  key: Array,
  model: nn.Module,
  image_shape: tuple[int, int, int],
  tx: optax.GradientTransformation,
  decoder: Decoder,
  features_fn: FeaturesFn,
  decoder_params: PyTree = None,
  feature_params: PyTree = None,
) -> AmortisedState:
  """A fresh state for the Flax encoder `model`. The key is consumed."""

  def apply_fn(params: PyTree, images: Array, w_avg: Array) -> PyTree:
    return model.apply({'params': params}, images, w_avg)

  init_key, train_key = jax.random.split(key)
  params = model.init(init_key, jnp.zeros((1, *image_shape)), jnp.zeros(decoder.w_size))['params']
  return AmortisedState(
    step=jnp.zeros((), jnp.int32),
    key=train_key,
    params=params,
    opt_state=tx.init(params),
    decoder_params=decoder_params,
    feature_params=feature_params,
    apply_fn=apply_fn,
    tx=tx,
    decoder=decoder,
    features_fn=features_fn,
  )


def sample_latents(keys: Array, decoder: Decoder, params: PyTree) -> Array:
  """Latents `[B, L, D]` of two mapped draws with a cut at a random layer, so that rows differ as in W+.

  The `keys [B]` are consumed.
  """
  parts = jax.vmap(lambda k: jax.random.split(k, 3))(keys)
  first, second = (decoder.map_z(params, mixing.draw_z(parts[:, i], decoder.latent_size)) for i in (0, 1))
  cuts = jax.vmap(lambda k: jax.random.randint(k, (), 1, decoder.num_layers + 1))(parts[:, 2])
  return jnp.where((jnp.arange(decoder.num_layers)[None] < cuts[:, None])[:, :, None], first, second)


def amortised_step(
  state: AmortisedState, batch: dict[str, Array], settings: EncodeSettings, *, axis_name: str | None = None
) -> tuple[AmortisedState, dict[str, Array]]:
  """One step on generated and real images: compares images (L_rec), and latents where they are known.

  Args:
    state: the buffer may be donated.
    batch: this device's share of `index [B]` int32, places in the minibatch of all devices, each of which
      generates an image of its own, and of `images [B, H, W, C]` float32 in [-1, 1], real ones.
    settings: weights of L_rec.
    axis_name: of the devices; gradients and metrics are averaged over it.
  """
  decoder = state.decoder
  keys = mixing.example_keys(jax.random.fold_in(state.key, state.step), batch['index'])
  w = sample_latents(keys, decoder, state.decoder_params)
  generated = jnp.clip(decoder.decode(state.decoder_params, w), -1.0, 1.0)
  images = jnp.concatenate([generated, batch['images']])
  target_features = state.features_fn(state.feature_params, images)
  w_avg = decoder.w_avg(state.decoder_params)
  spread = jnp.mean(jnp.square(w - w_avg[None, None]))
  if axis_name is not None:
    spread = jax.lax.pmean(spread, axis_name)  # Of all devices: a mean of ratios would be another one.

  def loss_fn(params):
    guess = state.apply_fn(params, images, w_avg)
    decoded = decoder.decode(state.decoder_params, guess)
    features = state.features_fn(state.feature_params, decoded)
    reconstruction = jnp.mean(reconstruction_loss(decoded, images, features, target_features, settings))
    latent = jnp.mean(squared_error(guess[: len(w)], w)) / spread
    metrics = {
      'loss': reconstruction + latent,
      'pixel_error': jnp.mean(squared_error(decoded, images)),
      'latent_error': latent,
    }
    return metrics['loss'], metrics

  gradients, metrics = jax.grad(loss_fn, has_aux=True)(state.params)
  if axis_name is not None:
    gradients, metrics = jax.lax.pmean((gradients, metrics), axis_name)
  updates, opt_state = state.tx.update(gradients, state.opt_state, state.params)
  state = state.replace(
    step=state.step + 1, params=optax.apply_updates(state.params, updates), opt_state=opt_state
  )
  return state, metrics
