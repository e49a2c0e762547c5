"""What GAN training reads and writes: settings, minibatch, and the one functional state.

The generator is a Flax module with the sizes `latent_size`, `w_size`, `num_layers`, `noise_sizes`,
`label_size`, `resolution`, `image_channels` and the methods `map_z(z, labels)` and `synthesis(w, noise)`; the
discriminator one with `label_size` and `__call__(images, labels, axis_name)`. Where a pair grows,
`synthesis` and the discriminator also take `lod`.
"""

from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import optax

from advmix_jax.models.decoder import init_generator
from advmix_jax.models.discriminator import init_discriminator
from advmix_jax.models.growing import Lod
from advmix_jax.training.path_length import PathLengthSettings
from advmix_jax.types import Array, PyTree

Module = Any  # A Flax module as described above.


class GanSettings(NamedTuple):
  """Settings of a step.

  Attributes:
    r1_gamma: strength of the gradient penalty on real images; with the relativistic loss as well on generated
      ones (R2).
    r1_interval: it is applied every so many steps, that many times as strong; 1 = exact.
    style_mixing_prob: how often the upper layers take a second latent.
    cut_per_sample: every sample has a coin and a cut of its own; False = one per minibatch, as StyleGAN 1.
    ema_decay: of the averaged generator, per step.
    loss: one of `gan_losses.GAN_LOSSES`; `wgan_gp` has a penalty of its own in every step.
    learning_rate_scale: of both optimisers' updates; what changes with the resolution.
    skip_nonfinite: leaves a network and its optimiser as they are when a gradient is not finite.
    lazy_r1: R1 is a step of the discriminator's optimiser of its own, as in StyleGAN 2; False = part of the
      discriminator's loss, as it always is in the relativistic one.
    path_length: of the generator's lazy regularisation.
    part_size: examples of a device whose gradient is taken at a time, see `micro_batch`; 0 = all.
    fixed_cut: the first layer that takes the second latent; 0 = any, drawn anew, as in StyleGAN 1.
  """

  r1_gamma: float
  r1_interval: int
  style_mixing_prob: float
  cut_per_sample: bool
  ema_decay: float
  loss: str = 'logistic'
  learning_rate_scale: float = 1.0
  skip_nonfinite: bool = False
  lazy_r1: bool = False
  path_length: PathLengthSettings = PathLengthSettings()
  part_size: int = 0
  fixed_cut: int = 0


class GanBatch(flax.struct.PyTreeNode):
  """What a step is shown.

  Attributes:
    images: `[B, R, R, C]` float32 in [-1, 1], real.
    labels: `[B]` int32, theirs; also those of the generated images the discriminator learns from. None for
      networks without labels.
    drawn_labels: `[B]` int32, drawn like the data's; of the images the generator learns from.
  """

  images: Array
  labels: Array | None = None
  drawn_labels: Array | None = None


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
    lod: level of detail; None for networks that do not grow.
    generator_model, discriminator_model: Flax modules.
    generator_tx, discriminator_tx: optimisers.
    path_length_mean: scalar, running mean of path lengths; None where they are not regularised.
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
  lod: Lod | None
  generator_model: Module = flax.struct.field(pytree_node=False)
  discriminator_model: Module = flax.struct.field(pytree_node=False)
  generator_tx: optax.GradientTransformation = flax.struct.field(pytree_node=False)
  discriminator_tx: optax.GradientTransformation = flax.struct.field(pytree_node=False)
  path_length_mean: Array | None = None

  def decoder_params(self) -> PyTree:
    """Parameters of the averaged generator as a `Decoder` takes them."""
    return {'params': self.ema, 'noise': self.noise, 'w_avg': self.w_avg}


def create_gan_state(
  key: Array,
  generator: Module,
  discriminator: Module,
  tx: optax.GradientTransformation,
  discriminator_tx: optax.GradientTransformation | None = None,
  lod: Lod | None = None,
  with_path_length: bool = False,
) -> GanState:
  """A fresh state. The key is consumed.

  Args:
    key: one key.
    generator, discriminator: see the module's description.
    tx: of the generator, and of the discriminator if that has none of its own.
    discriminator_tx: of the discriminator.
    lod: where networks that grow begin.
    with_path_length: path lengths will be regularised.
  """
  generator_key, discriminator_key, train_key = jax.random.split(key, 3)
  variables = init_generator(generator_key, generator)
  size = generator.resolution
  scores = init_discriminator(discriminator_key, discriminator, (size, size, generator.image_channels))
  discriminator_tx = tx if discriminator_tx is None else discriminator_tx
  return GanState(
    step=jnp.zeros((), jnp.int32),
    key=train_key,
    generator=variables['params'],
    discriminator=scores,
    generator_opt=tx.init(variables['params']),
    discriminator_opt=discriminator_tx.init(scores),
    ema=jax.tree.map(jnp.copy, variables['params']),  # A copy, as the state is donated.
    w_avg=variables['w_avg'],
    noise=variables['noise'],
    lod=lod,
    generator_model=generator,
    discriminator_model=discriminator,
    generator_tx=tx,
    discriminator_tx=discriminator_tx,
    path_length_mean=jnp.zeros(()) if with_path_length else None,
  )


def restart_optimisers(state: GanState) -> GanState:
  """Forgets what the optimisers know: other layers take part from here on."""
  return state.replace(
    generator_opt=state.generator_tx.init(state.generator),
    discriminator_opt=state.discriminator_tx.init(state.discriminator),
  )
