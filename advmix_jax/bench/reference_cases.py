"""Images per second of the steps that take the time, on reference networks.

The networks: a generator of 32 pixels with 64, 64, 32 and 16 maps at 4, 8, 16 and 32 pixels, w of 64, mapping
depth 4, its discriminator, a classifier of 32-32-64-64 maps and a linear one; mixing level 6, epsilon 0.03,
steps of 0.005, batches of 64. Each case runs one compiled step over the devices of the process, as runs do;
`bench.measurement` times it.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from advmix_jax import attack, batched, encoding, evaluation, mixing, parallel, refill
from advmix_jax.bench.operations import operations
from advmix_jax.methods import METHODS
from advmix_jax.models.classifier import make_classifier
from advmix_jax.models.decoder import generator_decoder, init_generator
from advmix_jax.models.discriminator import Discriminator
from advmix_jax.models.stylegan import StyleGAN
from advmix_jax.ranges import to_float, to_uint8
from advmix_jax.training.classifier import create_train_state, train_step
from advmix_jax.training.gan import gan_step
from advmix_jax.training.gan_state import GanBatch, GanSettings, create_gan_state
from advmix_jax.types import Array, Batch, TrainState

NUM_CLASSES = 10
EPSILON, STEP_SIZE = 0.03, 0.005  # Of the attack.
CENTRED = 0.2  # Share of the mean logits taken away from the classifier in evaluation; see `attack_eval`.
LEARNING_RATE = 1e-3
GAN_BETAS = (0.0, 0.99)
GAN = GanSettings(r1_gamma=10.0, r1_interval=1, style_mixing_prob=0.9, cut_per_sample=True, ema_decay=0.998)
ENCODE = encoding.EncodeSettings(
  num_steps=5,
  learning_rate=0.05,
  final_learning_rate=0.01,
  pixel_weight=1.0,
  feature_weight=1.0,
  mixing_weight=0.2,
)


class Networks(NamedTuple):
  """Sizes of the networks, and settings that all cases share.

  Attributes:
    fmaps: of the generator and the discriminator at 4, 8, ... pixels.
    w_size: of z and w.
    mapping_layers: depth of the mapping.
    classifier_fmaps: of the CNN.
    mixing_level: m.
    batch_size: images in a step.
    precision: float32 | bfloat16, as the key of the configuration.
  """

  fmaps: tuple[int, ...] = (64, 64, 32, 16)
  w_size: int = 64
  mapping_layers: int = 4
  classifier_fmaps: tuple[int, ...] = (32, 32, 64, 64)
  mixing_level: int = 6
  batch_size: int = 64
  precision: str = 'float32'


class Case(NamedTuple):
  """A compiled step, ready to run.

  Attributes:
    run: runs it; returns what must be waited for.
    images: processed by a run.
    flops: in its matrix products and convolutions; None if that depends on the data.
    settings: what else is worth knowing, for the record.
    arguments: what the step is given, for another program that does the same.
  """

  run: Callable[[], Any]
  images: int
  flops: float | None
  settings: dict[str, Any]
  arguments: tuple


def make_case(
  step: Callable,
  shared: tuple,
  batch: tuple,
  images: int,
  while_trips: Sequence[int] = (),
  averages: bool = False,
  **settings: Any,
) -> Case:
  """A case that runs `step(*shared, *batch)`, the batch shared out among the devices.

  Args:
    step: what is timed.
    shared: arguments that every device has.
    batch: arguments with a leading axis of examples.
    images: that a run processes.
    while_trips: how often each while loop in it turns.
    averages: it averages over the devices, whose axis it takes as `axis_name`.
    **settings: for the record.
  """
  found = operations(jax.make_jaxpr(step)(*shared, *batch).jaxpr, while_trips)
  flops = sum(o.flops * o.times for o in found)
  parallel.use_for(len(jax.tree.leaves(batch)[0]))
  mapped = functools.partial(step, axis_name=parallel.AXIS) if averages else step
  compiled = parallel.pmap_map(lambda shared, batch: mapped(*shared, *batch))
  given = parallel.replicate(shared), parallel.distribute(batch)
  return Case(lambda: compiled(*given), images, flops, settings, (*shared, *batch))


class Reference:
  """The reference networks, with fresh parameters, and inputs for them."""

  def __init__(self, networks: Networks):
    self.networks = n = networks
    dtype = jnp.dtype(n.precision)
    self.generator = StyleGAN(
      n.fmaps, latent_size=n.w_size, w_size=n.w_size, mapping_layers=n.mapping_layers, dtype=dtype
    )
    self.discriminator = Discriminator(n.fmaps, dtype=dtype)
    self.decoder = generator_decoder(self.generator, n.mixing_level)
    self.params = jax.jit(init_generator, static_argnums=1)(jax.random.key(0), self.generator)
    size, rng = self.generator.resolution, np.random.default_rng(0)
    self.images = jnp.asarray(rng.uniform(-1, 1, (n.batch_size, size, size, 3)), jnp.float32)
    self.labels = jnp.arange(n.batch_size, dtype=jnp.int32) % NUM_CLASSES
    self.batch = Batch(self.images, self.labels, self.draw_w(rng, n.batch_size), jnp.arange(n.batch_size))

  def draw_w(self, rng: np.random.Generator, count: int) -> Array:
    """`[count, L, D]`."""
    z = rng.standard_normal((count, self.networks.w_size))
    return self.decoder.map_z(self.params, jnp.asarray(z, jnp.float32))

  def classifier_state(self, name: str = 'cnn') -> TrainState:
    n = self.networks
    model = make_classifier(name, n.classifier_fmaps, NUM_CLASSES, jnp.dtype(n.precision))
    shape = (self.generator.resolution, self.generator.resolution, 3)
    tx = optax.adam(LEARNING_RATE)
    key = jax.random.key(1)
    return create_train_state(key, model, shape, tx, decoder=self.decoder, generator=self.params)

  def gan(self, *, with_r1: bool) -> Case:
    """One discriminator and one generator step."""
    tx = optax.adam(LEARNING_RATE, *GAN_BETAS)
    create = jax.jit(create_gan_state, static_argnums=(1, 2, 3))
    state = create(jax.random.key(2), self.generator, self.discriminator, tx)
    step = functools.partial(gan_step, settings=GAN, with_r1=with_r1)
    return make_case(step, (state,), (GanBatch(self.images),), len(self.images), averages=True, r1=with_r1)

  def encoder(self) -> Case:
    """Steps of Algorithm 1 with pixels, the discriminator's features and L_mix; counted in image steps."""
    params = jax.jit(self.discriminator.init)(jax.random.key(3), self.images)

    def features_fn(params, images):
      return self.discriminator.apply(params, images, method='features')

    start = encoding.mean_start(self.decoder, self.params, len(self.images))
    keys = jax.random.split(jax.random.key(4), len(self.images))
    step = functools.partial(encoding.encode, self.decoder, features_fn, ENCODE)
    settings: dict[str, Any] = {'steps': ENCODE.num_steps, 'features': 'discriminator'}
    images = len(self.images) * ENCODE.num_steps
    return make_case(step, (self.params, params), (keys, self.images, start), images, **settings)

  def attack_train(self, name: str, num_restarts: int = 5, num_steps: int = 7) -> Case:
    """Algorithm 2 as training uses it: the highest loss of all restarts and steps."""
    settings = attack.LatentAttack(EPSILON, num_restarts, num_steps, attack.ascent_rule('sign', STEP_SIZE))
    state = self.classifier_state(name)

    def step(params, generator, keys, batch):
      def objective_fn(images):
        return attack.objective(state.apply_fn(params, images), batch.labels, 'highest_loss')

      return attack.latent_attack(settings, keys, self.decoder, generator, batch.latents, objective_fn)

    keys = jax.random.split(jax.random.key(5), len(self.images))
    shared, batch = (state.params, self.params), (keys, self.batch)
    shape: dict[str, Any] = {'restarts': num_restarts, 'steps': num_steps, 'classifier': name}
    return make_case(step, shared, batch, len(self.images), (num_steps,), **shape)

  def attack_eval(self, num_restarts: int = 10, num_steps: int = 20, num_batches: int = 4) -> Case:
    """Algorithm 2 as evaluation uses it: an example's search ends at its first error.

    As many slots as a batch has images; `num_batches` times as many examples wait for them.

    The labels are those that the network predicts, so an example ends when the prediction changes. A fresh
    network prefers one class everywhere; it prefers it less here, so that about 40 % of the examples hold.
    """
    settings = attack.LatentAttack(EPSILON, num_restarts, num_steps, attack.ascent_rule('sign', STEP_SIZE))
    state, size = self.classifier_state(), len(self.images)
    count = num_batches * size
    w = np.asarray(self.draw_w(np.random.default_rng(1), count))
    originals = to_uint8(np.asarray(jax.jit(self.decoder.decode)(self.params, w)))
    preferred = jnp.mean(jax.jit(state.apply_fn)(state.params, to_float(originals)), axis=0)
    dense = state.params['dense']
    dense = dense | {'bias': dense['bias'] - CENTRED * preferred}
    state = state.replace(params=state.params | {'dense': dense})
    predict = jax.jit(functools.partial(evaluation.predictions, state.apply_fn))
    labels = np.asarray(predict(state.params, originals), np.int32)
    parts = (settings, 'first_error', state.apply_fn, self.decoder)
    parallel.use_for(size)
    step = parallel.pmap_carry(functools.partial(refill.advance, *parts))
    score = parallel.pmap_map(functools.partial(refill.start_scores, *parts))
    shared = {'classifier': state.params, 'decoder': self.params, 'key': jax.random.key(6)}
    shared = parallel.replicate(shared)

    def advance(slots, entry, waiting):
      slots, found = step(shared | {'waiting': np.bool_(waiting)}, slots, parallel.shard(entry))
      return slots, parallel.unshard(found)

    def score_batch(at):
      return parallel.unshard(score(shared, parallel.shard((w[at], labels[at], at.astype(np.int32)))))

    def run():
      order = evaluation.by_score(batched.in_batches(score_batch, np.arange(count), size))
      search = evaluation.begin(originals, np.zeros(count, bool), order, size)
      slots = parallel.distribute(refill.empty_slots(settings, self.decoder, shared, size))
      return evaluation.attack_all(advance, slots, search, w, labels).broken

    shape = {'restarts': num_restarts, 'steps': num_steps, 'classifier': 'cnn', 'examples': count}
    shape |= {'broken': float(run().mean())}
    batch = Batch(jnp.asarray(to_float(originals)), jnp.asarray(labels), jnp.asarray(w), jnp.arange(count))
    keys = mixing.example_keys(jax.random.key(6), batch.index)
    return Case(run, count, None, shape, (state.params, self.params, keys, batch))

  def classifier(self) -> Case:
    """A nominal training step."""
    state = self.classifier_state()
    perturb_fn = METHODS['nominal'](None)
    step = functools.partial(train_step, perturb_fn=perturb_fn)
    return make_case(step, (state,), (self.batch,), len(self.images), averages=True, classifier='cnn')


CASES: dict[str, Callable[[Reference], Case]] = {
  'gan_step': lambda r: r.gan(with_r1=False),
  'gan_step_r1': lambda r: r.gan(with_r1=True),
  'encoder_step': lambda r: r.encoder(),
  'attack_train_cnn': lambda r: r.attack_train('cnn'),
  'attack_train_linear': lambda r: r.attack_train('linear'),
  'attack_eval_cnn': lambda r: r.attack_eval(),
  'classifier_step': lambda r: r.classifier(),
}
