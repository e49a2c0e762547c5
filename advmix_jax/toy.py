"""Figure 4: AdvMix and mixup on two Gaussian factors, only one of which carries the label.

    z_par = 20 y in {0, 20},  x2 ~ N(z_par, 1);      z_perp in {0, 10} whatever y,  x1 ~ N(z_perp, sqrt(3))

The data are `dec(map(z))` of a `Decoder` like any other: row 0 of `w` is the coordinate x2, which carries the
label, row 1 is x1, which does not, and an "image" is the point (x1, x2), `[B, 1, 1, 2]`. Unlike images, the
points are not bounded by [-1, 1]: nothing here clips them. The encoder is exact, `w` being known.

    points = draw_data(key, toy_config)               # a `Points`
    recombined = advmix_samples(key, points, n, toy_config)   # Eq. 11, through advmix_jax.mixing
    blended = mixup_samples(key, points, n, alpha)    # Eq. 10
"""

import flax.struct
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from advmix_jax import mixing
from advmix_jax.types import Array, BadInputError, Decoder, PyTree

_MIXING_LEVEL = 1  # Row 0 of w carries the label, row 1 does not.
_LATENT_SIZE = 4  # Sign and noise of each of the two factors.


@flax.struct.dataclass
class Points:
  """Points of the plane with soft labels.

  Attributes:
    x: `[N, 2]` float32, (x1, x2).
    labels: `[N]` float32 in [0, 1], the probability of class 1; 0 or 1 but for mixup.
    w: `[N, 2, 1]` float32, the latents of `x`, or None where there are none.
  """

  x: Array
  labels: Array
  w: Array | None


def check_config(toy: ml_collections.ConfigDict) -> None:
  """Raises `BadInputError` for keys of `config.toy` that make no sense, with what was found."""
  for name in ('num_points', 'num_samples'):
    if toy[name] < 1:
      raise BadInputError(f'config.toy.{name} is {toy[name]}, expected at least 1')
  for name in ('par_sd', 'perp_sd', 'par_step', 'perp_step'):
    if not 0 < toy[name] < float('inf'):
      raise BadInputError(f'config.toy.{name} is {toy[name]}, expected a positive number')


def toy_decoder(toy: ml_collections.ConfigDict) -> Decoder:
  """The model as a decoder without parameters (pass None): L = 2, D = 1, m = 1, images `[B, 1, 1, 2]`.

  Args:
    toy: `config.toy`.

  Returns:
    A decoder whose latents are the coordinates themselves: `w[:, 0]` is x2 (coarse, carries the label) and
    `w[:, 1]` is x1 (fine). `map_z` takes z `[B, 4]`: the sign of its first entry picks the mode of x2, the
    second is the noise around it; the last two do the same for x1. `w_avg` is one row, as in StyleGAN; here
    it is the mean over two rows with different means, so it is no mode of anything.
  """

  def map_z(params: PyTree, z: Array) -> Array:
    del params
    x2 = toy.par_step * (z[:, 0] > 0) + toy.par_sd * z[:, 1]
    x1 = toy.perp_step * (z[:, 2] > 0) + toy.perp_sd * z[:, 3]
    return jnp.stack([x2, x1], axis=1)[:, :, None]

  def coarse(params: PyTree, w_par: Array) -> Array:
    del params
    return w_par[:, 0]

  def fine(params: PyTree, trunk: Array, w_perp: Array) -> Array:
    del params
    return jnp.concatenate([w_perp[:, 0], trunk], axis=1)[:, None, None, :]

  def w_avg(params: PyTree) -> Array:
    del params
    return jnp.array([(toy.par_step + toy.perp_step) / 4], jnp.float32)

  return Decoder(
    map_z=map_z,
    coarse=coarse,
    fine=fine,
    w_avg=w_avg,
    mixing_level=_MIXING_LEVEL,
    num_layers=2,
    latent_size=_LATENT_SIZE,
    w_size=1,
  )


def modes(toy: ml_collections.ConfigDict) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """The four true modes: means `[4, 2]` of (x1, x2), standard deviations `[2]`, labels `[4]`."""
  means = np.array([[perp, par] for par in (0.0, toy.par_step) for perp in (0.0, toy.perp_step)])
  return means, np.array([toy.perp_sd, toy.par_sd]), np.array([0, 0, 1, 1])


def draw_data(key: Array, toy: ml_collections.ConfigDict) -> Points:
  """`num_points` points of the model, `dec(map(z))`. The key is consumed."""
  decoder = toy_decoder(toy)
  z = mixing.draw_z(mixing.example_keys(key, jnp.arange(toy.num_points)), decoder.latent_size)
  w = decoder.map_z(None, z)
  return Points(x=decoder.decode(None, w)[:, 0, 0], labels=(z[:, 0] > 0).astype(jnp.float32), w=w)


def advmix_samples(key: Array, points: Points, num_samples: int, toy: ml_collections.ConfigDict) -> Points:
  """Eq. 11: `dec(w_par of A, w_perp of B)` with the label of A, for random pairs. The key is consumed.

  Args:
    key: a key.
    points: the data, with latents.
    num_samples: number of pairs, drawn with replacement.
    toy: `config.toy`.

  Returns:
    `num_samples` points with latents.
  """
  if points.w is None:
    raise ValueError('points have no latents; Eq. 11 recombines latents')
  decoder = toy_decoder(toy)
  first, second = _pairs(key, len(points.x), num_samples)
  w = mixing.mix(points.w[first], points.w[second], decoder.mixing_level)
  return Points(x=decoder.decode(None, w)[:, 0, 0], labels=points.labels[first], w=w)


def mixup_samples(key: Array, points: Points, num_samples: int, alpha: float) -> Points:
  """Eq. 10: `lambda x_A + (1 - lambda) x_B`, labels alike, lambda ~ Beta(alpha, alpha). The key is consumed.

  Args:
    key: a key.
    points: the data.
    num_samples: number of pairs, drawn with replacement.
    alpha: parameter of the Beta distribution; small values keep most points near one of their sources.

  Returns:
    `num_samples` points without latents.
  """
  pair_key, weight_key = jax.random.split(key)
  first, second = _pairs(pair_key, len(points.x), num_samples)
  weight = jax.random.beta(weight_key, alpha, alpha, (num_samples,))
  x = weight[:, None] * points.x[first] + (1 - weight[:, None]) * points.x[second]
  return Points(x=x, labels=weight * points.labels[first] + (1 - weight) * points.labels[second], w=None)


def _pairs(key: Array, num_points: int, num_pairs: int) -> Array:
  return jax.random.randint(key, (2, num_pairs), 0, num_points)


def agreement(points: Points, toy: ml_collections.ConfigDict) -> dict[str, float | int]:
  """How well points agree with the model they should come from.

  Distances are in standard deviations, `sqrt(((x1 - m1)/s1)^2 + ((x2 - m2)/s2)^2)`; of the model's own points
  `1 - exp(-9/2)`, 98.9 %, lie within three of their mode.

  Returns:
    `near_a_mode`: share within three standard deviations of any mode.
    `near_a_mode_of_its_label`: share within three of a mode of the likelier label; none for a label of 1/2.
    `num_points`: how many points these are shares of.
  """
  means, deviations, mode_labels = modes(toy)
  x, labels = np.asarray(points.x, np.float64), np.asarray(points.labels)
  distance = np.sqrt((((x[:, None, :] - means[None]) / deviations[None, None]) ** 2).sum(axis=2))
  near = distance <= 3
  own = np.where(mode_labels[None] == 1, labels[:, None] > 0.5, labels[:, None] < 0.5)
  return {
    'near_a_mode': float(near.any(axis=1).mean()),
    'near_a_mode_of_its_label': float((near & own).any(axis=1).mean()),
    'num_points': len(x),
  }
