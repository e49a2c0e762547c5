"""The compiled steps of every stage on some of four simulated devices.

    python -m tests.on_devices OUT all 1 4    # OUT-1.npz, OUT-4.npz
    python -m tests.on_devices OUT some 2     # Those that take least to compile.

A process of its own, as the number of simulated devices is fixed when jax starts.
"""

import functools
import sys
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
import optax

from advmix_jax import attack, evaluation, hosts, mixing, parallel, refill
from advmix_jax.training.amortised import amortised_step
from advmix_jax.training.gan import gan_step
from advmix_jax.types import PyTree
from tests import (
  test_amortised,
  test_encode_refill,
  test_gan,
  test_refill,
  test_training,
  tiny,
  tiny_gan,
)

MOST = 4  # Simulated devices.
METHODS = ('nominal', 'mixup')
SLOTS = 16


def stepped(
  name: str, step_fn: Callable, state: PyTree, batch: PyTree, saved: tuple[str, ...]
) -> dict[str, np.ndarray]:
  """State and metrics after one step, by name; on all devices each replica is compared with the first."""
  given = parallel.shard(jax.tree.map(lambda x: parallel.own_part(np.asarray(x)), batch))
  if parallel.num_devices() == MOST and hosts.count() == 1:
    replicas = jax.pmap(step_fn, parallel.AXIS, in_axes=(None, 0), out_axes=0)(state, given)
    for x in jax.tree.leaves(jax.tree.map(plain, replicas)):
      np.testing.assert_array_equal(x, np.broadcast_to(x[:1], x.shape), err_msg=f'replicas of {name}')
    after, metrics = jax.tree.map(lambda x: x[0], replicas)
  else:
    state = parallel.replicate_first(jax.tree.map(jnp.copy, state))  # As it is donated.
    after, metrics = parallel.pmap_step(step_fn)(state, given)
  kept = {key: getattr(after, key) for key in saved}
  return named(name, kept | {'metrics': metrics})


def plain(x: jax.Array) -> np.ndarray:
  return np.asarray(jax.random.key_data(x) if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else x)


def named(name: str, tree: PyTree) -> dict[str, np.ndarray]:
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return {
    f'{name}/{jax.tree_util.keystr(path, simple=True, separator="/")}': np.asarray(x) for path, x in leaves
  }


def steps(*, all_of_them: bool = False) -> Iterator[dict[str, np.ndarray]]:
  """One step of every training, the optimisers plain descent: Adam would blow up the rounding of zeros."""
  with_axis = functools.partial(functools.partial, axis_name=parallel.AXIS)
  step = with_axis(gan_step, settings=test_gan.GAN_SETTINGS, with_r1=True)
  saved = ('generator', 'discriminator', 'ema', 'w_avg')
  yield stepped('gan', step, test_gan.gan_state(), tiny_gan.batch(conditional=False), saved)

  for method in METHODS if all_of_them else METHODS[:1]:
    step = test_training.classifier_step(method, parallel.AXIS)
    yield stepped(method, step, test_training.classifier_state(), test_training.batch(), ('params',))
  if not all_of_them:
    return

  step = with_axis(amortised_step, settings=test_amortised.SETTINGS)
  real = tiny.uniform(1, test_amortised.SIZE, test_amortised.LAYERS, test_amortised.WIDTH, 1)
  yield stepped('start', step, test_amortised.state(optax.sgd(0.05)), test_amortised.batch(real), ('params',))


def whole_data_sets(*, all_of_them: bool = False) -> Iterator[dict[str, np.ndarray]]:
  """Algorithm 2 and Algorithm 1 on numbers of examples that no number of devices divides."""
  assert test_encode_refill.NUM_IMAGES % MOST and (test_refill.NUM_EXAMPLES - 1) % MOST
  decoder, classify, shared, originals, w, labels = test_refill.problem()
  settings, most = test_refill.settings_of(), len(labels) - 1
  advance = functools.partial(refill.advance, settings, 'first_error', classify, decoder)
  advance_fn, slots = test_refill.on_all_devices(advance, decoder, settings, shared, SLOTS)
  order = test_refill.IN_TURN[:most]
  search = evaluation.begin(originals[:most], np.zeros(most, bool), order, SLOTS)
  broken = evaluation.attack_all(advance_fn, slots, search, w[:most], labels[:most])
  yield {'evaluate/broken': broken.broken, 'evaluate/restart': broken.restart}
  if not all_of_them:
    return

  yield encoded()


def encoded() -> dict[str, np.ndarray]:
  """What Algorithm 1 finds, in double: over many steps Adam blows up the rounding of small gradients."""
  jax.config.update('jax_enable_x64', True)
  pieces = test_encode_refill.pieces_of(SLOTS, place=test_encode_refill.on_all_devices)
  jax.config.update('jax_enable_x64', False)
  positions = np.concatenate([at for at, _ in pieces])
  found = jax.tree.map(lambda *x: np.concatenate(x), *(found for _, found in pieces))
  order = np.argsort(positions)
  return {
    'encode/positions': positions,
    'encode/w': found.w[order],
    'encode/error': found.error[order],
  }


def attack_of_training() -> dict[str, np.ndarray]:
  """The loss that Algorithm 2 reaches on each of 200 examples."""
  decoder, classify, shared, _, w, labels = test_refill.problem()
  settings = test_refill.settings_of()

  def reached(shared, batch):
    w, labels, index = batch

    def objective_fn(images):
      return attack.objective(classify(shared['classifier'], images), labels, 'highest_loss')

    params = shared['decoder']
    trunk = decoder.coarse(params, w[:, : decoder.mixing_level])
    keys = mixing.example_keys(shared['key'], index)
    return attack.latent_search(settings, keys, decoder, params, trunk, objective_fn).score

  batch = parallel.shard((w, labels, np.arange(len(labels), dtype=np.int32)))
  return {'attack/loss': parallel.unshard(parallel.pmap_map(reached)(parallel.replicate(shared), batch))}


def main(out: str, what: str, *numbers: str) -> None:
  jax.config.update('jax_numpy_rank_promotion', 'raise')
  for number in map(int, numbers):
    parallel.use(number)
    parts = [*steps(all_of_them=what == 'all'), attack_of_training()]
    parts += whole_data_sets(all_of_them=what == 'all')
    found = {key: value for part in parts for key, value in part.items()}
    np.savez(f'{out}-{number}.npz', **found)


if __name__ == '__main__':
  main(*sys.argv[1:])
