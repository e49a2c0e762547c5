"""A projection gives the nearest point of its set."""

import jax
import jax.numpy as jnp
import numpy as np
import optax.projections
import pytest

from advmix_jax import projection
from tests.compare import assert_close
from tests.tiny import normal

CENTRE = {'a': normal(0, 3, 4), 'b': (normal(1, 3, 2, 2),)}
POINT = jax.tree.map(lambda c, n: c + 0.2 * n, CENTRE, {'a': normal(2, 3, 4), 'b': (normal(3, 3, 2, 2),)})
PROJECTIONS = {
  'l-infinity ball': lambda x: projection.linf_ball(x, CENTRE, 0.1),
  'box': lambda x: projection.box(x, -0.5, 0.5),
  'box of trees': lambda x: projection.box(x, jax.tree.map(lambda c: c - 0.1, CENTRE), CENTRE),
  'typical shell': lambda x: {'a': projection.typical_shell(x['a'], 0.1), 'b': x['b']},
}


@pytest.mark.parametrize('project', PROJECTIONS.values(), ids=PROJECTIONS)
def test_projecting_twice_is_projecting_once(project):
  once = project(POINT)
  assert any(np.abs(a - b).max() > 0.01 for a, b in zip(*map(jax.tree.leaves, (once, POINT)), strict=True))
  assert_close(project(once), once, rtol=1e-6)


def test_points_inside_are_untouched():
  np.testing.assert_array_equal(projection.linf_ball(CENTRE, CENTRE, 0.0)['a'], CENTRE['a'])
  near = jax.tree.map(lambda c: c + 0.05, CENTRE)
  assert_close(projection.linf_ball(near, CENTRE, 0.1), near, rtol=0)
  x = jnp.array([[-0.5, 0.2, 0.5]])
  np.testing.assert_array_equal(projection.box(x, -0.5, 0.5), x)
  z = normal(0, 4, 9)
  z = 3 * z / jnp.linalg.norm(z, axis=1, keepdims=True)  # |z| = sqrt(d).
  np.testing.assert_allclose(projection.typical_shell(z, 0.1), z, rtol=1e-6)


def test_the_distance_to_the_centre_is_at_most_epsilon():
  found = projection.linf_ball(POINT, CENTRE, 0.1)
  distances = jax.tree.map(lambda a, c: float(jnp.abs(a - c).max()), found, CENTRE)
  assert max(jax.tree.leaves(distances)) == pytest.approx(
    0.1, abs=1e-6
  )  # Reached, as some points are outside.


def test_it_agrees_with_numpy_and_optax():
  found = projection.linf_ball(POINT, CENTRE, 0.1)
  np.testing.assert_allclose(found['a'], np.clip(POINT['a'], CENTRE['a'] - 0.1, CENTRE['a'] + 0.1), rtol=1e-6)
  offset = jax.tree.map(jnp.subtract, POINT, CENTRE)
  ball = jax.tree.map(jnp.add, CENTRE, optax.projections.projection_linf_ball(offset, 0.1))
  assert_close(found, ball, rtol=1e-5, atol=1e-6)
  lower, upper = (jax.tree.map(lambda x, b=bound: jnp.full_like(x, b), POINT) for bound in (-0.5, 0.5))
  expected = optax.projections.projection_box(POINT, lower, upper)
  assert_close(projection.box(POINT, -0.5, 0.5), expected, rtol=1e-6)


def test_the_typical_shell_keeps_the_direction_and_clips_the_norm():
  """Eq. 15: `sqrt(d) - delta d^(1/4) <= |z| <= sqrt(d) + delta d^(1/4)`."""
  direction = normal(0, 3, 16)
  direction = direction / jnp.linalg.norm(direction, axis=1, keepdims=True)
  z = direction * jnp.array([[1.0], [4.0], [9.0]])
  found = projection.typical_shell(z, 0.5)
  np.testing.assert_allclose(np.linalg.norm(found, axis=1), [4 - 0.5 * 2, 4.0, 4 + 0.5 * 2], rtol=1e-5)
  np.testing.assert_allclose(
    found / jnp.linalg.norm(found, axis=1, keepdims=True), direction, rtol=1e-4, atol=1e-5
  )


def test_a_wide_shell_has_no_inner_bound():
  z = 0.1 * normal(0, 3, 4)
  np.testing.assert_allclose(projection.typical_shell(z, 5.0), z, rtol=1e-6)
