"""Cost to scale on paper: operations and bytes of programs small enough to count by hand, and the page."""

import importlib
import json
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from advmix_jax import config_check, parallel
from advmix_jax.bench import hardware, scaling, scaling_page, work
from advmix_jax.bench.hardware import Accelerator, Efficiency
from advmix_jax.bench.operations import Operation, operations
from advmix_jax.methods import METHODS
from advmix_jax.models.conv import conv2d
from advmix_jax.stages.networks import Networks

ROOT = pathlib.Path(__file__).parents[1]
F32 = 4  # Bytes.


def counted(fn, *shapes, trips=()):
  arguments = [jax.ShapeDtypeStruct(*shape) if isinstance(shape, tuple) else shape for shape in shapes]
  return operations(jax.make_jaxpr(fn)(*arguments).jaxpr, trips)


def total(found, what):
  return sum(getattr(o, what) * o.times for o in found)


def array(*shape, dtype=jnp.float32):
  return jax.ShapeDtypeStruct(shape, dtype)


def test_a_product_reads_both_matrices_and_writes_one():
  (found,) = counted(jnp.matmul, array(3, 5), array(5, 7))
  assert found == Operation('product', 'float32', 2 * 3 * 5 * 7, F32 * (15 + 35 + 21), 1.0)


def test_bfloat16_has_two_bytes():
  (found,) = counted(jnp.matmul, array(3, 5, dtype=jnp.bfloat16), array(5, 7, dtype=jnp.bfloat16))
  assert (found.dtype, found.bytes) == ('bfloat16', 2 * (15 + 35 + 21))


@pytest.mark.parametrize('padding, side', [((1, 1), 8), ((0, 0), 6)])
def test_a_convolution_by_hand(padding, side):
  (found,) = counted(lambda x, k: conv2d(x, k, padding), array(2, 8, 8, 5), array(3, 3, 5, 7))
  assert found.flops == 2 * 2 * side * side * 7 * 3 * 3 * 5
  assert found.bytes == F32 * (2 * 8 * 8 * 5 + 3 * 3 * 5 * 7 + 2 * side * side * 7)


def test_what_works_element_by_element_is_one_pass():
  """However many operations it is; a number that is spread out is read as a number."""
  found = counted(lambda x, a: jnp.tanh(x * a + 1.0) * x, array(100), array())
  assert found == [Operation('pass', '', 0.0, F32 * (100 + 1 + 100), 1.0)]


def test_a_reduction_ends_a_pass():
  """x is read for the sum and again for the difference, which is fused with the square."""
  found = counted(lambda x: jnp.square(x - jnp.sum(x)), array(100))
  assert [o.bytes for o in found] == [F32 * (100 + 1), F32 * (100 + 1 + 100)]


def test_what_a_product_takes_is_written_first():
  found = counted(lambda x, y: jnp.tanh(x) @ y, array(3, 5), array(5, 7))
  assert [(o.kind, o.bytes) for o in found] == [('pass', F32 * 30), ('product', F32 * (15 + 35 + 21))]


def test_what_nothing_needs_is_not_counted():
  found = counted(lambda x: (x @ x, x + 1)[1], array(5, 5))
  assert [o.kind for o in found] == ['pass']


def test_loops_are_counted_out():
  def scanned(x):
    return jax.lax.scan(lambda c, _: (c @ c, None), x, length=6)[0]

  def until(x):
    return jax.lax.while_loop(lambda c: jnp.sum(c) < 1, lambda c: scanned(c), x)

  product = 2 * 5 * 5 * 5
  assert total(counted(scanned, array(5, 5)), 'flops') == 6 * product
  assert total(counted(until, array(5, 5), trips=(3,)), 'flops') == 3 * 6 * product
  with pytest.raises(ValueError, match='found 1 while loops, expected 0'):
    counted(until, array(5, 5))


def test_of_branches_the_one_with_more_to_do_counts():
  def either(p, x):
    return jax.lax.cond(p, lambda x: x @ x, lambda x: x @ x @ x, x)

  assert total(counted(either, array(dtype=jnp.bool_), array(5, 5)), 'flops') == 2 * 2 * 5**3


SLOW = Accelerator('a', 'b', {'float32': 100.0, 'bfloat16': 200.0}, 0.0, 10.0, 5.0, 20.0, 2.0, 8)


def test_an_operation_takes_as_long_as_the_slower_of_its_two_sides():
  share = Efficiency(0.5, 0.5, 1.0)
  found = [
    Operation('product', 'float32', 1000.0, 10.0, 2.0),  # 20 s of products, 2 s of memory; twice.
    Operation('product', 'bfloat16', 100.0, 50.0, 1.0),  # 1 s, 10 s.
    Operation('pass', '', 0.0, 5.0, 1.0),  # 1 s.
    Operation('collective', '', 0.0, 1e9, 1.0),  # Not on the device.
  ]
  assert hardware.seconds(found, SLOW, share) == (51.0, 41.0, 15.0, 11.0)


@pytest.mark.parametrize('devices, expected', [(1, 0.0), (2, 2.0), (8, 3.5), (16, 37.5)])
def test_an_all_reduce_in_a_ring(devices, expected):
  """40 bytes: each device passes on 2 (n - 1) / n of them, between machines at a tenth of the rate."""
  assert hardware.reduce_seconds(40.0, devices, SLOW, Efficiency(1, 1, 1)) == expected


def step(stage, **changes):
  found = [Operation('product', 'float32', 100.0, 0.0, 1.0)]
  return work.Work(stage, stage, 4, 1.0, found, 0.0, 0.0, 0.0)._replace(**changes)


def hours_of(one, images, devices=(1, 8)):
  (row,) = scaling.hours([one], {one.stage: images}, devices, SLOW, Efficiency(1, 1, 1))
  return row['on']


def test_devices_share_the_images():
  on = hours_of(step('encode'), 3600 * 80)
  assert [o['hours'] for o in on] == [80, 10] and {o['waits_for'] for o in on} == {'matrix products'}


def test_batches_that_come_too_slowly_are_waited_for():
  (on,) = hours_of(step('encode', host=15.0), 3600, (1,))  # 3 s for each image; it takes 1 s.
  assert on['hours'] == 3 and on['waits_for'] == 'host' and on['shares']['host'] == pytest.approx(2 / 3)


def test_the_minibatch_of_the_classifier_is_shared_and_that_of_the_generator_grows():
  """8 devices, 35 s for each sum over them: 4 images of the one, 32 of the other go into a step."""
  shared = hours_of(step('train', reduced=400.0), 3600 * 8, (8,))[0]
  grown = hours_of(step('train_gan', reduced=400.0), 3600 * 8, (8,))[0]
  assert shared['hours'] == pytest.approx(1 + 35.0)  # A step has an image on every device at least.
  assert grown['hours'] == pytest.approx(1 + 35.0 / 4) and grown['waits_for'] == 'all-reduce'


def networks_of(name, *variant) -> Networks:
  config = importlib.import_module(f'configs.{name}').get_config(*variant)
  config_check.split_names(config)
  return Networks(config, pathlib.Path(), 10, 10)


def test_the_attack_of_a_training_step_is_counted_for_every_restart_and_step():
  """Against the step without restarts: each adds as many passes through fine layers and classifier."""
  networks = networks_of('smoke')
  flops = []
  for restarts in (1, 2, 4):
    networks.config.attack.num_restarts = restarts
    found = work.train_work(networks, 'advmix')
    assert found.images * parallel.num_devices() == networks.config.train.batch_size
    flops.append(total(found.found, 'flops'))
  assert flops[2] - flops[1] == pytest.approx(2 * (flops[1] - flops[0]))


def test_a_gradient_of_the_classifier_is_reduced_once_a_step():
  networks = networks_of('smoke')
  found = work.train_work(networks, 'nominal')
  params = jax.eval_shape(networks.create_classifier, jax.random.key(0)).params
  assert found.reduced == pytest.approx(work.size(params), rel=0.01)  # And a few metrics.


def test_steps_of_the_encoder_and_refills_are_counted():
  networks = networks_of('smoke')
  flops = []
  for networks.config.encode.num_steps in (1, 2, 4):
    flops.append(total(work.encode_work(networks).found, 'flops'))
  assert flops[2] - flops[1] == pytest.approx(2 * (flops[1] - flops[0]))
  assert flops[0] > flops[1] - flops[0]  # What an image needs when it enters.


def test_shares_of_regularised_steps_and_of_resolutions():
  """R1 every 8th step of the digits; the resolutions of a network that grows, as long as each is shown."""
  found = list(work.gan_work(networks_of('digits')))
  assert [(w.name, w.share) for w in found] == [('16 px, R1', 1 / 8), ('16 px', 7 / 8)]


PAGE, FIGURES = ROOT / 'docs' / 'scaling.md', ROOT / 'docs' / 'scaling.json'


def test_the_page_is_what_the_command_gives(tmp_path):
  scaling_page.write_page(tmp_path / 'page.md', scaling_page.read_figures(FIGURES))
  assert (tmp_path / 'page.md').read_text() == PAGE.read_text()


def test_the_figures_are_those_of_the_programs():
  """Of one step; on the page are all."""
  config = importlib.import_module('configs.ffhq1024').get_config('mix')
  config.remat = False
  config_check.split_names(config)
  found = scaling.row(work.evaluate_work(Networks(config, pathlib.Path(), 2, 2)), hardware.H200, Efficiency())
  (stored,) = [r for r in json.loads(FIGURES.read_text())['steps'] if r['stage'] == 'evaluate']
  for key in ('flops_per_byte', 'seconds', 'bytes'):
    assert found[key] == pytest.approx(stored[key], rel=0.05), key  # Two devices here, one there.


def test_colour_mnist_at_the_papers_size_is_reckoned_with_within_half_an_hour():
  """On one H200, from data to all methods' accuracies; those that do not mix take less than AdvMix."""
  config = importlib.import_module('configs.color_mnist').get_config('paper')
  config_check.split_names(config)
  networks = Networks(config, pathlib.Path(), 10, 10)
  images = {
    'train_gan': config.generator.total_kimg * 1000,
    'encode': 70_000,
    'train': len(METHODS) * config.train.num_epochs * 60_000,
    'evaluate': len(METHODS) * config.evaluate.num_restarts * 10_000,
  }
  steps = list(work.of_run(networks, networks, 'advmix'))
  stages = scaling.hours(steps, images, [1], hardware.H200, Efficiency())
  assert sum(stage['on'][0]['hours'] for stage in stages) < 0.5


@pytest.mark.parametrize(
  'flags, expected',
  [
    (('--page=x.md',), 'error: --config is missing'),
    (
      ('--config=configs/smoke.py', '--devices=1,no'),
      "error: --devices: found 'no', expected",
    ),
    (('--from=configs/smoke.py',), 'error: --from=configs/smoke.py: '),
    (('--config=configs/smoke.py', '--products=0'), 'flag --products=0'),
    (('--config=configs/smoke.py', '--gan=none.py'), '=none.py: found no such file'),
  ],
)
def test_bad_input_is_a_line(flags, expected):
  done = subprocess.run(
    [sys.executable, '-m', 'launch.scaling', *flags], capture_output=True, text=True, cwd=ROOT
  )
  assert done.returncode == 2 and expected in done.stderr and len(done.stderr.splitlines()) == 1
