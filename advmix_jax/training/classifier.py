"""Training of the classifier: the state, and the one step that all methods share."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from advmix_jax import micro_batch
from advmix_jax.methods import PerturbFn
from advmix_jax.types import Array, Batch, Decoder, PyTree, TrainState


def create_train_state(
  key: Array,
  model: nn.Module,
  image_shape: tuple[int, int, int],
  tx: optax.GradientTransformation,
  *,
  decoder: Decoder | None = None,
  generator: PyTree = None,
  ema: bool = False,
) -> TrainState:
  """A fresh state. The key is consumed.

  Args:
    key: initialises the parameters, then drives the training.
    model: Flax classifier with a `num_classes`.
    image_shape: `(H, W, C)`.
    tx: the optimiser.
    decoder: for the methods that mix; None otherwise.
    generator: its parameters.
    ema: keeps an average of the parameters, which is what gets evaluated.
  """

  def apply_fn(params: PyTree, images: Array) -> PyTree:
    return model.apply({'params': params}, images)

  init_key, train_key = jax.random.split(key)
  params = model.init(init_key, jnp.zeros((1, *image_shape)))['params']
  return TrainState(
    step=jnp.zeros((), jnp.int32),
    key=train_key,
    params=params,
    opt_state=tx.init(params),
    ema_params=jax.tree.map(jnp.copy, params) if ema else None,  # A copy, as the state is donated.
    generator=generator,
    apply_fn=apply_fn,
    tx=tx,
    decoder=decoder,
    num_classes=model.num_classes,
  )


def train_step(
  state: TrainState,
  batch: Batch,
  perturb_fn: PerturbFn,
  *,
  ema_decay: float = 0.0,
  part_size: int = 0,
  axis_name: str | None = None,
) -> tuple[TrainState, dict[str, Array]]:
  """One optimiser step on what the method makes of the batch.

  Args:
    state: the buffer may be donated.
    batch: this device's share.
    perturb_fn: from `methods.METHODS`.
    ema_decay: of the averaged parameters, if the state has them.
    part_size: examples whose gradient is taken at a time; 0 = all. `perturb_fn` sees the whole share.
    axis_name: of the devices; gradients and metrics are averaged over it once.

  Returns:
    The new state and `{'loss', 'accuracy'}` on the perturbed batch.
  """
  key = jax.random.fold_in(state.key, state.step)
  images, targets = jax.lax.stop_gradient(perturb_fn(key, state, batch))

  def gradients_of(part):
    images, targets = part

    def loss_fn(params):
      logits = state.apply_fn(params, images)
      return jnp.mean(optax.softmax_cross_entropy(logits, targets)), logits

    (loss, logits), gradients = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
    accuracy = jnp.mean(jnp.argmax(logits, -1) == jnp.argmax(targets, -1))
    return gradients, {'loss': loss, 'accuracy': accuracy}

  parts = micro_batch.num_parts(len(images), part_size)
  gradients, metrics = micro_batch.average(gradients_of, (images, targets), parts)
  if axis_name is not None:
    gradients, metrics = jax.lax.pmean((gradients, metrics), axis_name)
  updates, opt_state = state.tx.update(gradients, state.opt_state, state.params)
  params = optax.apply_updates(state.params, updates)
  ema_params = state.ema_params
  if ema_params is not None:
    ema_params = optax.incremental_update(params, ema_params, 1 - ema_decay)
  state = state.replace(step=state.step + 1, params=params, opt_state=opt_state, ema_params=ema_params)
  return state, metrics
