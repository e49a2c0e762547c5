"""No attack computes the layers below the mixing level again: convolutions counted in the programs."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advmix_jax import attack, mixing, refill
from tests import tiny

BATCH, LEVELS = 3, (2, 3, 4)
SETTINGS = attack.LatentAttack(0.03, 2, 3, attack.ascent_rule('sign', 0.005))


def count(jaxpr, into_loops=True):
  """Convolutions and matrix products in a program, each counted once; those of loops only if asked for."""
  total = collections.Counter()
  for equation in jaxpr.eqns:
    if equation.primitive.name in ('conv_general_dilated', 'dot_general'):
      total[equation.primitive.name] += 1
    if into_loops or equation.primitive.name not in ('while', 'scan'):
      for inner in programs(equation):
        total += count(inner, into_loops)
  return total


def programs(equation):
  """The programs within an equation: bodies of loops, called functions."""
  leaves = jax.tree.leaves(equation.params, is_leaf=lambda p: hasattr(p, 'jaxpr'))
  leaves = [getattr(leaf, 'jaxpr', leaf) for leaf in leaves]
  return [leaf for leaf in leaves if hasattr(leaf, 'eqns')]


def loops(jaxpr, name):
  """Bodies of all `while` or `scan` loops, in the order of the program."""
  found = []
  for equation in jaxpr.eqns:
    if equation.primitive.name == name:
      found.append(equation.params['body_jaxpr' if name == 'while' else 'jaxpr'].jaxpr)
    for inner in programs(equation):
      found += loops(inner, name)
  return found


class Parts:
  """A generator of 16 pixels, cut, with a convolutional classifier, and what each part of them counts."""

  def __init__(self, level):
    self.decoder, self.params = tiny.decoder(level, (6, 4, 4))
    self.classify, self.classifier_params = tiny.classifier((16, 16, 3), 'cnn')
    self.w, self.keys = tiny.normal(0, BATCH, 6, 7), tiny.keys(0, BATCH)
    self.labels = jnp.zeros(BATCH, jnp.int32)
    w_par, w_perp = mixing.split(self.w, level)
    trunk = jax.eval_shape(lambda w_par: self.decoder.coarse(self.params, w_par), w_par)
    trunk = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), trunk)

    def image(w_perp):
      return self.decoder.fine(self.params, trunk, w_perp)

    def loss(w_perp):
      return jnp.sum(attack.cross_entropy(self.classify(self.classifier_params, image(w_perp)), self.labels))

    self.coarse = self.counted(lambda w_par: self.decoder.coarse(self.params, w_par), w_par)
    self.fine = self.counted(image, w_perp)
    self.draw = self.counted(lambda keys: mixing.draw_w_perp(keys, self.decoder, self.params), self.keys)
    self.seen = self.counted(loss, w_perp)  # `fine` and the classifier.
    self.climbed = self.counted(jax.grad(loss), w_perp)
    assert self.coarse['conv_general_dilated'] > 0 and self.climbed['conv_general_dilated'] > 0

  @staticmethod
  def counted(fn, *args):
    return count(jax.make_jaxpr(fn)(*args).jaxpr)


@pytest.fixture(scope='module', params=LEVELS, ids=lambda level: f'level {level}')
def parts(request):
  return Parts(request.param)


def test_the_attack_of_training_computes_the_trunk_once(parts):
  def search(keys, w):
    def objective_fn(images):
      return attack.objective(parts.classify(parts.classifier_params, images), parts.labels, 'highest_loss')

    return attack.latent_attack(SETTINGS, keys, parts.decoder, parts.params, w, objective_fn)

  jaxpr = jax.make_jaxpr(search)(parts.keys, parts.w).jaxpr
  (steps,), (restarts,) = loops(jaxpr, 'while'), loops(jaxpr, 'scan')
  assert count(steps) == parts.climbed
  assert count(restarts, into_loops=False) == parts.draw + parts.seen + parts.fine
  assert count(jaxpr, into_loops=False) == parts.coarse + parts.seen


def test_the_attack_of_evaluation_computes_the_trunk_when_an_example_enters(parts):
  shared = {
    'classifier': parts.classifier_params,
    'decoder': parts.params,
    'key': jax.random.key(0),
    'waiting': np.bool_(True),
  }
  slots = refill.empty_slots(SETTINGS, parts.decoder, shared, BATCH)
  yes, zeros = np.ones(BATCH, bool), np.zeros(BATCH, np.int32)
  entry = refill.Entry(yes, yes, parts.w, zeros, zeros, zeros)

  def advance(shared, slots, entry):
    return refill.advance(SETTINGS, 'first_error', parts.classify, parts.decoder, shared, slots, entry)

  jaxpr = jax.make_jaxpr(advance)(shared, slots, entry).jaxpr
  entering, steps = loops(jaxpr, 'while')
  assert count(entering) == parts.coarse + parts.draw
  assert count(steps) == parts.climbed
  assert not count(jaxpr, into_loops=False) and not loops(jaxpr, 'scan')


def test_a_random_mix_computes_every_layer_once(parts):
  def random_mix(keys, w):
    return mixing.random_mix(keys, parts.decoder, parts.params, w)

  jaxpr = jax.make_jaxpr(random_mix)(parts.keys, parts.w).jaxpr
  assert not loops(jaxpr, 'while') and not loops(jaxpr, 'scan')
  assert count(jaxpr) == parts.coarse + parts.draw + parts.fine
