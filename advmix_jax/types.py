"""The few types that everything else is written in.

The one idea of the project is in `Decoder`: a generator cut at the mixing level `m`,

    dec(w_par, w_perp) = fine(coarse(w_par), w_perp).

Mixing, encoding and the attack are statements about `fine` alone; they never see a network.

Names and ranges used everywhere: images are float32 NHWC in [-1, 1]; `z` `[B, Z]` is the latent noise;
`w` `[B, L, D]` holds one latent row per styled layer; `w_par = w[:, :m]` carries the label and
`w_perp = w[:, m:]` does not.
"""

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import numpy as np
import optax

Array = jax.Array
PyTree = Any


class BadInputError(ValueError):
  """Something the user gave is wrong: the text names it, what was found and what was expected."""


class RunError(RuntimeError):
  """A run had to stop for a reason that is not the input's: NaN loss, full disk. One sentence."""


class Interrupted(Exception):
  """A signal asked to stop; what is worth keeping is saved, and the text says what is left."""


@flax.struct.dataclass
class Decoder:
  """A generator cut at a mixing level, as pure functions and sizes.

  Attributes:
    map_z: `(params, z [B, Z]) -> w [B, L, D]`.
    coarse: `(params, w_par [B, m, D]) -> trunk`, any pytree with leading axis `B`.
    fine: `(params, trunk, w_perp [B, L - m, D]) -> images [B, H, W, C]`, not clipped.
    w_avg: `params -> [D]` float32, the mean of `map_z(z)` (centre of truncation, Algorithm 1's start).
    mixing_level: m, the number of leading rows of `w` that carry the label.
    num_layers: L.
    latent_size: Z.
    w_size: D.
  """

  map_z: Callable[[PyTree, Array], Array] = flax.struct.field(pytree_node=False)
  coarse: Callable[[PyTree, Array], PyTree] = flax.struct.field(pytree_node=False)
  fine: Callable[[PyTree, PyTree, Array], Array] = flax.struct.field(pytree_node=False)
  w_avg: Callable[[PyTree], Array] = flax.struct.field(pytree_node=False)
  mixing_level: int = flax.struct.field(pytree_node=False)
  num_layers: int = flax.struct.field(pytree_node=False)
  latent_size: int = flax.struct.field(pytree_node=False)
  w_size: int = flax.struct.field(pytree_node=False)

  def decode(self, params: PyTree, w: Array) -> Array:
    """Whole decoder: `w [B, L, D]` to images `[B, H, W, C]` float32, not clipped."""
    m = self.mixing_level
    return self.fine(params, self.coarse(params, w[:, :m]), w[:, m:])


class TrainState(flax.struct.PyTreeNode):
  """Everything a step of classifier training reads and writes: one functional state.

  Attributes:
    step: int32 scalar, steps done.
    key: one key; a step uses `fold_in(key, step)`.
    params: of the classifier.
    opt_state: of the optimiser.
    ema_params: average of `params` that is evaluated; None without averaging.
    generator: the frozen decoder's parameters; None for methods that need none.
    apply_fn: `(params, images) -> logits [B, K]`.
    tx: the optimiser.
    decoder: cut at the mixing level; None for methods that need none.
    num_classes: K.
  """

  step: Array
  key: Array
  params: PyTree
  opt_state: PyTree
  ema_params: PyTree
  generator: PyTree
  apply_fn: Callable[[PyTree, Array], Array] = flax.struct.field(pytree_node=False)
  tx: optax.GradientTransformation = flax.struct.field(pytree_node=False)
  decoder: Decoder | None = flax.struct.field(pytree_node=False)
  num_classes: int = flax.struct.field(pytree_node=False)


@flax.struct.dataclass
class Batch:
  """A minibatch for the classifier.

  Attributes:
    images: `[B, H, W, C]` float32 in [-1, 1], the originals.
    labels: `[B]` int32.
    latents: `[B, L, D]` float32, the encoded images `enc(x)`; None for methods that need none.
    index: `[B]` int32, each example's global index; random draws per example are keyed by it.
  """

  images: Array
  labels: Array
  latents: Array | None
  index: Array


@flax.struct.dataclass
class Dataset:
  """Labelled images on the host.

  Attributes:
    images: `[N, H, W, 3]` uint8.
    labels: `[N]` int32 in [0, num_classes).
    index: `[N]` int64, position of each example in the source it was taken from.
    colours: `[N, 3]` float32 in [0, 1], the colour each digit was given, or None.
    num_classes: number of classes.
    class_names: of the classes, in the order of the labels; () where they are numbers.
    files: names of the files that the images were read from; () where there are none.
  """

  images: np.ndarray
  labels: np.ndarray
  index: np.ndarray
  colours: np.ndarray | None
  num_classes: int = flax.struct.field(pytree_node=False)
  class_names: tuple[str, ...] = flax.struct.field(pytree_node=False, default=())
  files: tuple[str, ...] = flax.struct.field(pytree_node=False, default=())

  def __len__(self) -> int:
    return len(self.labels)


@flax.struct.dataclass
class Splits:
  """The four parts of a data set: classifier training, validation, test, and what the generator sees."""

  train: Dataset
  validation: Dataset
  test: Dataset
  generator: Dataset
