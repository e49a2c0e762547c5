"""Resampling of StyleGAN 2: what inserted zeros and the filter give, with gradients fast in loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advmix_jax.models import fir
from tests import stylegan2_reference as reference
from tests.convolutions import assert_same_value_and_gradients, forms_in_a_loop, plain_conv
from tests.tiny import normal


def plain_filter(x, padding, stride=1, dilation=1):
  """By one general depthwise convolution of lax."""
  channels = x.shape[3]
  kernel = jnp.tile(jnp.asarray(reference.FILTER, jnp.float32)[:, :, None, None], (1, 1, 1, channels))
  return plain_conv(x, kernel, padding, stride, dilation, groups=channels)


def plain_upsample_conv(x, kernel):
  return 4 * plain_filter(plain_conv(x, kernel[::-1, ::-1], (2, 2), dilation=2), (1, 1))


def plain_downsample_conv(x, kernel):
  return plain_conv(plain_filter(x, (2, 2)), kernel, (0, 0), stride=2)


# Ours, the same by general convolutions, the shape of x. Those of images ignore the kernel.
CASES = {
  'smooth': (lambda x, k: fir.smooth(x, (1, 0)), lambda x, k: plain_filter(x, (1, 0)), (2, 6, 5, 3)),
  'upsample': (
    lambda x, k: fir.upsample(x),
    lambda x, k: 4 * plain_filter(x, (2, 2), dilation=2),
    (2, 3, 5, 3),
  ),
  'downsample': (
    lambda x, k: fir.downsample(x),
    lambda x, k: plain_filter(x, (1, 1), stride=2),
    (2, 6, 4, 3),
  ),
  'upsample_conv': (fir.upsample_conv, plain_upsample_conv, (2, 3, 4, 3)),
  'downsample_conv': (fir.downsample_conv, plain_downsample_conv, (2, 6, 4, 3)),
}


@pytest.mark.parametrize('case', CASES.values(), ids=CASES)
def test_value_and_gradients_are_those_of_general_convolutions(case):
  ours, theirs, shape = case
  assert_same_value_and_gradients(ours, theirs, normal(0, *shape), normal(1, 3, 3, 3, 4))


def test_the_definitions_with_inserted_zeros():
  x, kernel = np.asarray(normal(0, 2, 4, 4, 3)), np.asarray(normal(1, 3, 3, 3, 2))
  nchw, oihw = x.transpose(0, 3, 1, 2), np.broadcast_to(kernel.transpose(3, 2, 0, 1), (2, 2, 3, 3, 3))
  padded = reference.pad(nchw, 2, 2)
  expected = {
    fir.upsample: reference.upsample(nchw),
    fir.downsample: reference.fir(reference.pad(nchw, 1, 1))[:, :, ::2, ::2],
    fir.upsample_conv: 4 * reference.fir(reference.pad(reference.transposed(nchw, oihw), 1, 1)),
    fir.downsample_conv: reference.correlate(reference.fir(padded), oihw, stride=2),
  }
  for fn, value in expected.items():
    found = jax.jit(fn)(x) if fn in (fir.upsample, fir.downsample) else jax.jit(fn)(x, kernel)
    np.testing.assert_allclose(found, value.transpose(0, 2, 3, 1), rtol=1e-4, atol=1e-5, err_msg=fn.__name__)


def test_up_and_downsampling_are_each_others_gradient():
  """`<upsample x, y> = 4 <x, downsample y>`."""
  x, y = normal(0, 2, 3, 4, 2), normal(1, 2, 6, 8, 2)
  left, right = jnp.vdot(fir.upsample(x), y), 4 * jnp.vdot(x, fir.downsample(y))
  assert float(left) == pytest.approx(float(right), rel=1e-5)


@pytest.mark.skipif(jax.default_backend() != 'cpu', reason='convolutions are plain lax on accelerators')
@pytest.mark.parametrize('fn', [fir.upsample_conv, fir.downsample_conv])
def test_gradients_in_a_loop_keep_the_form_that_has_a_fast_kernel(fn):
  assert forms_in_a_loop(fn) == {'b01f_01io->b01f'}
