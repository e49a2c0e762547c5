"""Profiles: instructions of compiled programs are given their kind and their part; shares add up."""

import jax
import jax.numpy as jnp
import pytest

from advmix_jax.bench import hlo, kinds, profile, reference_cases
from advmix_jax.models import conv
from launch import benchmark as command
from tests.test_benchmark import TINY

TEXT = """HloModule jit_f

%body (p: (f32[2], s32[])) -> (f32[2], s32[]) {
  %p = (f32[2]{0}, /*index=1*/s32[]) parameter(0)
  ROOT %fusion.1 = f32[2]{0} fusion(%p), kind=kLoop, calls=%inner, metadata={op_name="jit(f)/while/body/add"}
}

%inner (q: f32[2]) -> f32[2] {
  ROOT %add.2 = f32[2]{0} add(%q, %q)
}

ENTRY %main (x: f32[2]) -> f32[2] {
  %while.3 = (f32[2]{0}, s32[]) while(%x), condition=%cond, body=%body, metadata={op_name="jit(f)/while"}
  ROOT %conv = f32[4,9,8,4]{3,2,1,0} convolution(%x, %x), window={size=3x3}, dim_labels=b01f_01io->b01f
}
"""


def test_a_program_is_read():
  program = hlo.parse(TEXT)
  assert list(program) == ['body', 'inner', 'main']
  loop, convolution = program['main']
  assert (loop.opcode, loop.called, loop.op_name) == ('while', ('cond', 'body'), 'jit(f)/while')
  assert convolution.attribute('dim_labels') == 'b01f_01io->b01f' and convolution.shape.startswith('f32[4,9')
  (body,) = hlo.loop_bodies(program)
  assert [i.name for i in body] == ['p', 'fusion.1', 'add.2']


def compiled(fn, *arguments):
  return hlo.parse(jax.jit(fn).lower(*arguments).compile().as_text())


def kinds_in(program):
  """Kinds of what the entry of a program runs, without what only hands on."""
  convolved = kinds.modules_that_convolve(program)
  return {
    kinds.kind_of(program, i, convolved)
    for lines in program.values()
    for i in lines
    if i.opcode in ('convolution', 'dot', 'fusion', 'copy', 'transpose', 'reduce')
  }


def test_convolutions_and_their_gradients_are_told_apart():
  x, kernel = jnp.ones((2, 8, 8, 4)), jnp.ones((3, 3, 4, 5))

  def loss(x, kernel):
    with jax.named_scope('Net/conv'):
      return jnp.sum(jnp.sin(conv.conv2d(x, kernel)))

  def found(argument):
    return kinds_in(compiled(jax.grad(loss, argument), x, kernel)) & {
      kinds.CONVOLUTION,
      kinds.INPUT_GRADIENT,
      kinds.KERNEL_GRADIENT,
    }

  assert kinds_in(compiled(loss, x, kernel)) & {kinds.CONVOLUTION, kinds.INPUT_GRADIENT} == {
    kinds.CONVOLUTION
  }
  assert found(0) == {kinds.CONVOLUTION, kinds.INPUT_GRADIENT}
  assert found(1) == {kinds.CONVOLUTION, kinds.KERNEL_GRADIENT}


@pytest.mark.parametrize(
  'fn, kind',
  [
    (lambda x: x @ x, kinds.MATRIX_PRODUCT),
    (lambda x: jnp.sin(x) * 2, kinds.ELEMENTWISE),
    (lambda x: x.T, kinds.COPY),
    (lambda x: jnp.sum(x, axis=0), kinds.REDUCTION),
    (lambda x: jax.random.normal(jax.random.key(x[0, 0].astype(int)), (64, 64)), kinds.RANDOM),
  ],
  ids=lambda value: value if isinstance(value, str) else '',
)
def test_other_work_is_told_apart(fn, kind):
  assert kind in kinds_in(compiled(fn, jnp.ones((64, 64))))


@pytest.mark.parametrize(
  'op_name, part, backward',
  [
    ('jit(_fun)/shard_map/jvp(StyleGAN.synthesis)/StyleGAN.coarse/layers_0/add', 'StyleGAN.coarse', False),
    ('jit(f)/while/body/transpose(jvp(StyleGAN.fine))/layers_5/mul', 'StyleGAN.fine', True),
    ('jit(f)/transpose(jvp(transpose(jvp(jvp(Discriminator)))))/conv/mul', 'Discriminator', False),
    ('jit(f)/mapping/dense/dot_general', 'other', False),
    ('', 'other', False),
  ],
)
def test_the_name_of_an_operation_says_the_part_and_the_direction(op_name, part, backward):
  assert (kinds.part_of(op_name), kinds.is_backward(op_name)) == (part, backward)


@pytest.mark.slow
def test_a_profile_of_a_case_adds_up(capsys):
  figures = profile.profile_cases(['attack_train_cnn'], TINY)['attack_train_cnn']
  for rows in (figures['by_kind'], figures['by_part']):
    assert sum(row['share'] for row in rows) == pytest.approx(1)
    assert [row['share'] for row in rows] == sorted((row['share'] for row in rows), reverse=True)
  assert {row['name'] for row in figures['by_kind']} <= set(kinds.KINDS)
  found = {row['name'] for row in figures['by_kind']} | {row['name'] for row in figures['by_part']}
  assert {kinds.CONVOLUTION, kinds.INPUT_GRADIENT, 'StyleGAN.fine', 'TruncatedVGG'} <= found
  assert kinds.KERNEL_GRADIENT not in found  # An attack moves no weights.
  assert 'attack_train_cnn: ' in capsys.readouterr().out


def test_an_unknown_case_is_bad_input(monkeypatch, capsys):
  monkeypatch.setattr(command.measurement, 'PEAK_SIZE', 64)
  assert command.main(['--profile=attack', '--repeats=1']) == 2
  assert "error: --profile: found 'attack', expected some of gan_step, " in capsys.readouterr().err
  assert 'attack' not in reference_cases.CASES
