"""The seven training methods: what the classifier sees instead of the plain image.

A method is one function of the experiment's settings that returns

    perturb(key, state, batch) -> images [B, H, W, C] float32 in [-1, 1], targets [B, K] float32

and one line in `METHODS`. `key` is the step's key and is consumed; what is random for an example is drawn
from the key folded with its global index, what is random for a minibatch from the key itself.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict as Config

from advmix_jax import attack, micro_batch, mixing
from advmix_jax.types import Array, Batch, TrainState

PerturbFn = Callable[[Array, TrainState, Batch], tuple[Array, Array]]


def in_parts(perturb_fn: PerturbFn, part_size: int) -> PerturbFn:
  """A method that takes each example by itself, so many at a time; 0 = the whole minibatch at once.

  A batch that they do not divide, such as a few examples for a report, goes in smaller parts.
  """

  def perturb(key, state, batch):
    size = len(batch.labels)
    parts = micro_batch.num_parts(size, math.gcd(size, part_size))
    return micro_batch.collect(lambda part: perturb_fn(key, state, part), batch, parts)

  return perturb


def one_hot(state: TrainState, batch: Batch) -> Array:
  """Labels as targets, `[B, K]` float32."""
  return jax.nn.one_hot(batch.labels, state.num_classes)


def nominal(config: Config, axis_name: str | None = None) -> PerturbFn:
  """The images as they are."""

  def perturb(key, state, batch):
    return batch.images, one_hot(state, batch)

  return perturb


def partners(key: Array, arrays: tuple[Array, ...], axis_name: str | None) -> tuple[Array, ...]:
  """Each example's partner, from one permutation of the minibatch of all devices. The key is consumed."""
  whole = arrays if axis_name is None else jax.lax.all_gather(arrays, axis_name, tiled=True)
  order = jax.random.permutation(key, whole[0].shape[0])
  if axis_name is not None:
    size = arrays[0].shape[0]
    order = jax.lax.dynamic_slice_in_dim(order, jax.lax.axis_index(axis_name) * size, size)
  return tuple(a[order] for a in whole)


def mixup(config: Config, axis_name: str | None = None) -> PerturbFn:
  """Eq. 10 (Zhang et al. 2018): `lambda x_a + (1 - lambda) x_b`, targets too; lambda ~ Beta(alpha, alpha)."""

  def perturb(key, state, batch):
    pair_key, weight_key = jax.random.split(key)
    targets = one_hot(state, batch)
    other_images, other_targets = partners(pair_key, (batch.images, targets), axis_name)
    keys = mixing.example_keys(weight_key, batch.index)
    weight = jax.vmap(lambda k: jax.random.beta(k, config.mixup.alpha, config.mixup.alpha))(keys)
    of_image, of_target = weight[:, None, None, None], weight[:, None]
    images = of_image * batch.images + (1 - of_image) * other_images
    return images, of_target * targets + (1 - of_target) * other_targets

  return perturb


def square_mask(centre: Array, half: Array, height: int, width: int) -> Array:
  """Pixels inside a square, cut off at the border: `centre [B, 2]`, `half [B, 2]` to `[B, H, W, 1]` bool."""
  rows = jnp.abs(jnp.arange(height)[None] + 0.5 - centre[:, :1]) < half[:, :1]
  columns = jnp.abs(jnp.arange(width)[None] + 0.5 - centre[:, 1:]) < half[:, 1:]
  return (rows[:, :, None] & columns[:, None, :])[..., None]


def random_centres(keys: Array, height: int, width: int) -> Array:
  """One pixel position for each of `keys [B]`, `[B, 2]` float32. The keys are consumed."""
  size = jnp.array([height, width], jnp.float32)
  return jax.vmap(lambda k: jax.random.uniform(k, (2,)))(keys) * size[None]


def cutout(config: Config, axis_name: str | None = None) -> PerturbFn:
  """A square at a random place is set to mid-grey (DeVries and Taylor 2017)."""

  def perturb(key, state, batch):
    height, width = batch.images.shape[1:3]
    centres = random_centres(mixing.example_keys(key, batch.index), height, width)
    mask = square_mask(centres, jnp.full_like(centres, config.cutout.size / 2), height, width)
    return jnp.where(mask, 0.0, batch.images), one_hot(state, batch)

  return perturb


def cutmix(config: Config, axis_name: str | None = None) -> PerturbFn:
  """A box from another image, whose share of the area is its share of the target (Yun et al. 2019)."""

  def perturb(key, state, batch):
    pair_key, box_key, area_key = jax.random.split(key, 3)
    height, width = batch.images.shape[1:3]
    targets = one_hot(state, batch)
    other_images, other_targets = partners(pair_key, (batch.images, targets), axis_name)
    keys = mixing.example_keys(area_key, batch.index)
    kept = jax.vmap(lambda k: jax.random.beta(k, config.cutmix.alpha, config.cutmix.alpha))(keys)
    sides = jnp.sqrt(1 - kept)[:, None] * jnp.array([[height, width]], jnp.float32)
    centres = random_centres(mixing.example_keys(box_key, batch.index), height, width)
    mask = square_mask(centres, sides / 2, height, width)
    share = jnp.mean(mask.astype(jnp.float32), axis=(1, 2))  # [B, 1], after the border cut the box off.
    return jnp.where(mask, other_images, batch.images), (1 - share) * targets + share * other_targets

  return perturb


def classifier_objective(state: TrainState, labels: Array, select: str) -> attack.ObjectiveFn:
  """What an attack on the classifier being trained climbs, as a function of images."""
  return lambda images: attack.objective(state.apply_fn(state.params, images), labels, select)


def share_of_ramp(step: Array, ramp_steps: int) -> Array | float:
  """How far an attack that grows in training has come: 0 at step 0, 1 from step `ramp_steps` on."""
  return jnp.minimum(1.0, step / ramp_steps) if ramp_steps else 1.0


def adversarial_training(config: Config, axis_name: str | None = None) -> PerturbFn:
  """Pixel-space projected gradient ascent against the present classifier (Madry et al. 2018)."""
  at = config.at

  def perturb(key, state, batch):
    keys = mixing.example_keys(key, batch.index)
    objective_fn = classifier_objective(state, batch.labels, 'highest_loss')
    share = share_of_ramp(state.step, at.ramp_steps)
    found = attack.pixel_attack(
      keys, batch.images, objective_fn, share * at.epsilon, at.num_steps, share * at.step_size
    )
    return found.best, one_hot(state, batch)

  return in_parts(perturb, config.train.micro_batch)


def randmix(config: Config, axis_name: str | None = None) -> PerturbFn:
  """Eq. 17: the encoded image with everything that does not carry the label drawn at random."""

  def perturb(key, state, batch):
    keys = mixing.example_keys(key, batch.index)
    delta = config.attack.typical_delta
    images = mixing.random_mix(keys, state.decoder, state.generator, batch.latents, delta)
    return jnp.clip(images, -1.0, 1.0), one_hot(state, batch)

  return in_parts(perturb, config.train.micro_batch)


def latent_attack_settings(config: Config, num_restarts: int, num_steps: int) -> attack.LatentAttack:
  """Algorithm 2 as the experiment's `attack.*` keys have it."""
  a = config.attack
  rule = attack.ascent_rule(a['update'], a.step_size)  # `a.update` is a method of ConfigDict.
  return attack.LatentAttack(a.epsilon, num_restarts, num_steps, rule, a.typical_delta)


def weakened(settings: attack.LatentAttack, share: Array | float) -> attack.LatentAttack:
  """An attack with a share in [0, 1] of its radius, its step size and what its first restart competes with.

  The worst of several images is an attack already, so these come one by one: the reconstruction, then the
  other restarts. With share 0 it is one random mix, as RandMix draws it.
  """
  others = jnp.floor(share * settings.num_restarts).astype(jnp.int32)
  return settings._replace(
    epsilon=share * settings.epsilon,
    must_beat_start=others > 0,
    num_restarts=jnp.maximum(others, 1),
    rule=optax.chain(settings.rule, optax.scale(share)),
  )


def advmix(config: Config, axis_name: str | None = None) -> PerturbFn:
  """Eq. 16: the variant from Algorithm 2 that the present classifier finds hardest."""
  whole = latent_attack_settings(config, config.attack.num_restarts, config.attack.num_steps)
  ramp_steps = config.attack.ramp_steps

  def perturb(key, state, batch):
    keys = mixing.example_keys(key, batch.index)
    objective_fn = classifier_objective(state, batch.labels, config.attack.select)
    original = batch.images if config.attack.start_from == 'original' else None
    # Without a ramp the number of restarts is known when this is compiled.
    settings = weakened(whole, share_of_ramp(state.step, ramp_steps)) if ramp_steps else whole
    found = attack.latent_attack(
      settings, keys, state.decoder, state.generator, batch.latents, objective_fn, original
    )
    return found.best, one_hot(state, batch)

  return in_parts(perturb, config.train.micro_batch)


METHODS: dict[str, Callable[..., PerturbFn]] = {
  'nominal': nominal,
  'mixup': mixup,
  'cutout': cutout,
  'cutmix': cutmix,
  'at': adversarial_training,
  'randmix': randmix,
  'advmix': advmix,
}
NEEDS_LATENTS = ('randmix', 'advmix')
