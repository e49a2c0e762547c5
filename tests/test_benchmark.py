"""The benchmark's figures have the right form, and its count of operations is right."""

import json
import sys

import jax
import jax.numpy as jnp
import pytest

from advmix_jax.bench import measurement, reference_cases, timing
from advmix_jax.bench.operations import operations
from advmix_jax.models import conv
from launch import benchmark as command

TINY = reference_cases.Networks(
  fmaps=(6, 4), w_size=5, mapping_layers=1, classifier_fmaps=(2, 2, 3, 3), mixing_level=2, batch_size=8
)


@pytest.fixture(scope='module')
def reference():
  return reference_cases.Reference(TINY)


@pytest.mark.parametrize('name', reference_cases.CASES)
def test_every_case_can_be_built_and_says_what_it_does(name, reference):
  case = reference_cases.CASES[name](reference)
  batches = {'encoder_step': reference_cases.ENCODE.num_steps, 'attack_eval_cnn': 4}
  assert case.images == 8 * batches.get(name, 1)
  assert case.settings
  assert (case.flops is None) == (name == 'attack_eval_cnn')
  assert case.flops is None or case.flops > 0


def test_more_work_is_counted_as_more(reference):
  flops = {name: reference_cases.CASES[name](reference).flops for name in ('gan_step', 'gan_step_r1')}
  assert flops['gan_step_r1'] > 1.2 * flops['gan_step']
  short, long = (reference.attack_train('linear', 1, steps).flops for steps in (2, 4))
  assert 1.4 < long / short < 2


def flops(jaxpr, while_trips=()):
  return sum(o.flops * o.times for o in operations(jaxpr, while_trips))


def test_operations_by_hand():
  def program(x, kernel, images):
    x, _ = jax.lax.scan(lambda x, _: (jnp.tanh(x @ x), None), x, length=3)
    unused = x @ x
    del unused
    return jax.lax.while_loop(lambda x: x[0, 0] > 0, lambda x: x @ x, x), conv.conv2d(images, kernel)

  jaxpr = jax.make_jaxpr(program)(jnp.ones((4, 4)), jnp.ones((3, 3, 2, 5)), jnp.ones((1, 6, 6, 2)))
  products, convolution = 2 * 4 * 4 * 4, 2 * 6 * 6 * 5 * 9 * 2
  assert flops(jaxpr.jaxpr, (7,)) == (3 + 7) * products + convolution


def test_a_gradient_that_nobody_uses_is_not_counted():
  """The backward pass of the convolution computes both of its gradients; the compiler drops one."""
  x, kernel = jnp.ones((1, 6, 6, 2)), jnp.ones((3, 3, 2, 2))
  gradient = jax.make_jaxpr(jax.grad(lambda x: jnp.sum(jnp.square(conv.conv2d(x, kernel)))))(x)
  assert flops(gradient.jaxpr) == 2 * (2 * 6 * 6 * 2 * 9 * 2)


def test_figures_are_printed_and_written_in_the_agreed_form(tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(measurement, 'PEAK_SIZE', 64)
  monkeypatch.setattr(reference_cases, 'Networks', lambda: TINY)
  out = tmp_path / 'bench.json'
  names = ['classifier_step', 'attack_eval_cnn']
  assert command.main([f'--cases={",".join(names)}', '--repeats=1', f'--out={out}']) == 0
  figures = json.loads(out.read_text())
  assert [case['name'] for case in figures['cases']] == names
  for case in figures['cases']:
    assert case['images_per_sec'] > 0 and case['ratio_vs_torch'] is None
  assert figures['cases'][0]['share_of_matmul_peak'] > 0
  assert figures['cases'][1]['share_of_matmul_peak'] is None
  assert 0 <= figures['cases'][1]['broken'] <= 1
  assert figures['machine']['matmul_flops'] > 0 and figures['networks']['batch_size'] == 8
  assert figures['command'].startswith('python -m launch.benchmark --cases=classifier_step,attack_eval_cnn ')
  assert figures['date'] and figures['machine']['processor'] and figures['machine']['packages']['jax']
  assert 'classifier_step' in capsys.readouterr().out


def dtypes(precision):
  """Of what is multiplied when images are generated and classified."""
  reference = reference_cases.Reference(TINY._replace(precision=precision))
  classifier = reference.classifier_state()

  def classified(params, w):
    return classifier.apply_fn(classifier.params, reference.decoder.decode(params, w))

  found = operations(jax.make_jaxpr(classified)(reference.params, reference.batch.latents).jaxpr)
  return {o.dtype for o in found if o.kind == 'product'}


def test_convolutions_and_the_peak_can_be_in_bfloat16(tmp_path, monkeypatch):
  monkeypatch.setattr(measurement, 'PEAK_SIZE', 64)
  monkeypatch.setattr(reference_cases, 'Networks', lambda: TINY)
  out = tmp_path / 'bench.json'
  flags = ('--cases=classifier_step', '--precision=bfloat16', '--batch_size=4', '--repeats=1')
  assert command.main([*flags, f'--out={out}']) == 0
  figures = json.loads(out.read_text())
  assert (figures['networks']['precision'], figures['networks']['batch_size']) == ('bfloat16', 4)
  assert 'bfloat16' in dtypes('bfloat16') and dtypes('float32') == {'float32'}
  assert measurement.matmul('bfloat16')().dtype == jnp.bfloat16


def test_on_accelerators_the_product_is_larger_and_counted_as_it_is(monkeypatch):
  monkeypatch.setattr(measurement, 'PEAK_SIZE', 5)
  monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
  assert measurement.matmul('float32')().shape == (20, 20)
  assert measurement.matmul_flops([0.5]) == 2 * 20**3 / 0.5


def test_pytorch_is_compared_in_float32(capsys):
  assert command.main(['--against=torch', '--precision=bfloat16']) == 2
  assert "error: --precision is 'bfloat16', expected float32 with --against=torch" in capsys.readouterr().err


@pytest.mark.parametrize(
  'argument, text',
  [
    ('--cases=gan_step,attack', "--cases: found 'attack', expected some of gan_step, "),
    ('--page=page.md', '--page: found no --from, expected the files that --out wrote'),
    ('--repeats=0', '--repeats is 0, expected at least 1'),
    ('--batch_size=0', '--batch_size is 0, expected at least 1'),
    ('--out=/dev/null/bench.json', '--out=/dev/null/bench.json cannot be written: '),
  ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(argument, text, capsys):
  assert command.main([argument]) == 2
  captured = capsys.readouterr()
  assert captured.err.startswith('error: ' + text) and captured.err.count('\n') == 1


def test_without_pytorch_a_comparison_is_bad_input(monkeypatch, capsys):
  for name in [name for name in sys.modules if name.startswith('advmix_jax.torch_reference')]:
    monkeypatch.delitem(sys.modules, name)
  monkeypatch.setitem(sys.modules, 'torch', None)  # As if it were not installed.
  assert command.main(['--against=torch', '--repeats=1']) == 2
  assert 'error: --against=torch needs PyTorch, which is not installed: pip' in capsys.readouterr().err


def test_both_sides_run_in_turns_and_each_begins_every_second_time(monkeypatch):
  order = []
  runs = [lambda: order.append('ours'), lambda: order.append('theirs')]
  ours, theirs = timing.in_turns(runs, 3)
  assert order == ['ours', 'theirs', 'theirs', 'ours', 'ours', 'theirs']
  assert len(ours) == len(theirs) == 3 and min(ours + theirs) >= 0


class FakeFastest:
  run, variant, tried = None, 'eager', {'eager': 6.0}


def test_the_ratio_is_taken_pair_by_pair(monkeypatch):
  """A machine that is slow during one pair slows both sides of it."""
  seconds = [[1.0, 2.0, 4.0], [3.0, 6.0, 8.0], [1e9, 1e9, 1e9]]
  monkeypatch.setattr(measurement, 'in_turns', lambda runs, repeats: seconds)
  case = reference_cases.Case(lambda: None, images=8, flops=40.0, settings={}, arguments=())
  figures = measurement.measure(case, theirs=FakeFastest, product=lambda: None, repeats=3, peak=100.0)
  assert figures['images_per_sec'] == 4 and figures['torch']['images_per_sec'] == 8 / 6
  assert figures['ratio_vs_torch'] == 3 and figures['ratio_quartiles'] == [2.5, 3.0]
  assert figures['seconds_quartiles'] == [1.5, 3.0]
  assert figures['flops_per_sec'] == 20 and figures['share_of_matmul_peak'] == 0.2


def test_the_peak_is_the_highest_rate_of_products_before_a_case_and_beside_it(monkeypatch):
  monkeypatch.setattr(measurement, 'PEAK_SIZE', 5)  # 250 operations.
  monkeypatch.setattr(measurement, 'in_turns', lambda runs, repeats: [[1.0, 2.0, 4.0], [1.0, 1.25, 2.0]])
  case = reference_cases.Case(lambda: None, images=8, flops=40.0, settings={}, arguments=())
  for at_first, expected in ((100.0, 200.0), (400.0, 400.0)):
    figures = measurement.measure(case, theirs=None, product=lambda: None, repeats=3, peak=at_first)
    assert figures['matmul_flops'] == expected and figures['share_of_matmul_peak'] == 20 / expected
