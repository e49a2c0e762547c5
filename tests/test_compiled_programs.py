"""What a whole run makes jax do: fast convolutions, one trace of each step, no waiting inside a step loop.

The programs are those that ran, on two devices, as XLA left them; the same steps alone, under jit, are those
of the benchmark. LLVM's optimisations, which come after, are left out: the text is the same without.
"""

import collections
import re

import jax
import jax.numpy as jnp
import pytest

from advmix_jax.bench import hlo, reference_cases
from advmix_jax.training import loop
from tests import watched_run

pytestmark = pytest.mark.skipif(jax.default_backend() != 'cpu', reason='the forms are those of XLA on CPU')
FAST_FORM = 'b01f_01io->b01f'
STEPS = {
  'GAN': ('gan.gan_step', {'with_r1': False}),
  'GAN with R1': ('gan.gan_step', {'with_r1': True}),
  'start of the encoder': ('amortised.amortised_step', {}),
  'encoder': ('encode_refill.advance', {}),
  'nominal and AdvMix': ('classifier.train_step', {}),
  'attack of evaluation': ('refill.advance', {}),
  'prediction': ('evaluation.predictions', {}),
}
CASES = (
  pytest.param('gan_step_r1', marks=pytest.mark.slow),  # The run above has it too.
  *('encoder_step', 'attack_train_cnn', 'classifier_step'),
)
CLASSIFIER_STEPS, ENCODED_BATCHES = 8, 4 + 2
TINY = reference_cases.Networks(
  fmaps=(6, 4), w_size=5, mapping_layers=1, classifier_fmaps=(2, 2, 3, 3), mixing_level=2, batch_size=8
)


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  return watched_run.whole_run(tmp_path_factory.mktemp('runs') / 'small')


@pytest.fixture(scope='module')
def reference():
  return reference_cases.Reference(TINY)


def instructions(program):
  return [instruction for lines in program.values() for instruction in lines]


def pooling_gradients(program):
  """What XLA makes of `select_and_scatter` on CPU has another opcode, but keeps the name."""
  return [i for i in instructions(program) if re.search('select.and.scatter', f'{i.opcode} {i.op_name}')]


def assert_fast(program):
  """Convolutions in the form that has a fast kernel, and pooling that was not turned into a scatter."""
  forms = {i.attribute('dim_labels') for i in instructions(program) if i.opcode == 'convolution'}
  assert forms == {FAST_FORM}
  assert not pooling_gradients(program)


def assert_trunk_outside(program, parts=('StyleGAN.fine',)):
  """Some loop computes images and their gradients, none of those the layers below the mixing level."""
  climbing = [
    body
    for body in hlo.loop_bodies(program)
    if any(i.opcode == 'convolution' and 'transpose(' in i.op_name for i in body)
  ]
  assert climbing
  for body in climbing:
    convolutions = [i.op_name for i in body if i.opcode == 'convolution']
    assert all(any(part in name for name in convolutions) for part in parts)
    assert not [name for name in convolutions if 'StyleGAN.coarse' in name]


@pytest.mark.parametrize('name, keywords', STEPS.values(), ids=STEPS)
def test_steps_of_a_run_hold_fast_convolutions_alone(run, name, keywords):
  steps = run.of(name, **keywords)
  assert steps
  for step in steps:
    for text in step.programs:
      assert_fast(hlo.parse(text))


def test_attacks_of_a_run_leave_the_trunk_alone(run):
  _, advmix, _ = run.of('classifier.train_step')
  (evaluation,) = run.of('refill.advance')
  for step in (advmix, evaluation):
    (text,) = step.programs
    assert_trunk_outside(hlo.parse(text))


@pytest.mark.parametrize('name', CASES)
def test_steps_alone_hold_fast_convolutions_alone(reference, name):
  """One device, jit, as the benchmark times them."""
  case = reference_cases.CASES[name](reference)
  before = watched_run.executables()
  jax.block_until_ready(case.run())
  program = hlo.parse(watched_run.largest_new(before))
  assert_fast(program)
  if name.startswith('attack'):
    assert_trunk_outside(program)


def test_the_tests_would_see_a_slow_form():
  """Plain lax in a loop, and its pooling, are what the tests above must not find."""

  def loss(x):
    kernel = jnp.ones((3, 3, 4, 4))
    y = jax.lax.conv_general_dilated(x, kernel, (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC'))
    return jnp.sum(jax.lax.reduce_window(y, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), 'VALID'))

  climb = jax.jit(lambda x: jax.lax.fori_loop(0, 3, lambda i, x: x + jax.grad(loss)(x), x))
  program = hlo.parse(climb.lower(jnp.ones((2, 8, 8, 4))).compile().as_text())
  assert 'b01f_01oi->b01f' in {i.attribute('dim_labels') for i in instructions(program)}
  assert pooling_gradients(program)
  with pytest.raises(AssertionError):
    assert_fast(program)


def test_every_step_is_traced_once(run):
  """Also after the break, and with batches that the examples do not fill."""
  assert [(step.name, step.traces) for step in run.steps if step.calls and step.traces != 1] == []
  assert all(step.calls > 1 for step in run.steps if step.programs)


def test_a_run_has_one_program_for_each_step(run):
  """The GAN's two: with R1 and without. The second classifier's two: that of the process after the break."""
  made = collections.Counter(step.name for step in run.steps if step.calls)
  assert made == {
    'gan.gan_step': 2,
    'amortised.amortised_step': 1,
    'encode_refill.advance': 1,
    'classifier.train_step': 3,
    'refill.advance': 1,
    'evaluation.predictions': 1,
    'refill.start_scores': 1,
  }
  _, first, second = run.of('classifier.train_step')
  assert first.calls == watched_run.INTERRUPTED_AT and second.calls == CLASSIFIER_STEPS - first.calls
  assert computed(first.programs[0]) == computed(second.programs[0])


def computed(text):
  """Opcodes and shapes."""
  return [(i.opcode, i.shape) for i in instructions(hlo.parse(text))]


def waits(run, name):
  """For each training of that name: how often the host waited before each of its steps but the first."""
  found, number = [], 0
  for kind, what, *call in run.events:
    if kind == 'wait':
      number += 1
      continue
    if what == name and call == [0]:
      found.append([])
    elif what == name:
      found[-1].append(number)
    number = 0
  return found


def behind(step):
  """Waits before a step: from the third on for one, that two before it."""
  return int(step > loop.AHEAD)


def test_steps_follow_each_other_without_waiting_for_the_devices(run):
  """The host waits for a step when the next is with the devices already; and when it logs, for the values of
  the log before, long there: two metrics."""
  log = watched_run.LOGGED
  (encoder,) = waits(run, 'amortised.amortised_step')
  assert encoder == [behind(step) for step in range(1, watched_run.STEPS_OF_ENCODER)]
  nominal, advmix, _ = waits(run, 'classifier.train_step')
  logged = [2 if step % log == 0 and step > log else 0 for step in range(CLASSIFIER_STEPS)]
  assert nominal == [behind(step) + logged[step] for step in range(1, CLASSIFIER_STEPS)]
  assert advmix == [behind(step) for step in range(1, watched_run.INTERRUPTED_AT)]


def test_steps_of_the_gan_wait_for_logs_and_grids_of_samples_alone(run):
  """Those with and without R1 follow each other; a grid is drawn in the middle."""
  number, found = 0, []
  for kind, what, *_ in run.events:
    if kind == 'wait':
      number += 1
    elif what == 'gan.gan_step':
      found.append(number)
      number = 0
    else:
      break
  log, grid = 2 * watched_run.LOGGED, watched_run.GRID_AFTER
  assert [step for step, number in enumerate(found) if number > behind(step) and step] == [grid, log]
  assert found[log] == 4 + behind(log)  # Two losses, two scores.


def test_what_the_encoder_found_is_read_once_a_call(run):
  """What is finished, latents, errors and steps. All images take the same steps, so all slots end at once.

  The first calls are short, until it is known how long a step takes.
  """
  (found,) = waits(run, 'encode_refill.advance')
  assert set(found) == {4} and ENCODED_BATCHES - 1 <= len(found) <= 2 * ENCODED_BATCHES
