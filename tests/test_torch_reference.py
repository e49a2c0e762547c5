"""PyTorch computes our numbers from our parameters, so that the benchmark compares the same work."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='the extra bench (PyTorch) is not installed')

from advmix_jax import parallel
from advmix_jax.bench import measurement, reference_cases
from advmix_jax.methods import METHODS
from advmix_jax.torch_reference import algorithms, cases, networks
from advmix_jax.torch_reference.process import TorchProcess
from advmix_jax.training import gan_losses
from advmix_jax.training.classifier import train_step
from advmix_jax.types import RunError
from launch import benchmark as command
from tests.tiny import normal

pytestmark = pytest.mark.usefixtures('one_torch_thread')
SIZES = reference_cases.Networks(
  fmaps=(6, 5, 4), w_size=5, mapping_layers=2, classifier_fmaps=(2, 2, 3, 3), mixing_level=5, batch_size=8
)
LAYOUTS = {name: variant for name, variant in cases.VARIANTS.items() if not variant.compiled}


@pytest.fixture(scope='module')
def reference():
  """Biases and weights of the noise are zero in fresh networks; here they are not."""
  reference = reference_cases.Reference(SIZES)
  reference.params = randomised(reference.params, 1)
  return reference


def randomised(tree, seed):
  rng = np.random.default_rng(seed)
  return jax.tree.map(lambda x: x + 0.1 * rng.standard_normal(x.shape).astype(np.float32), tree)


def discriminator_params(reference):
  return randomised(jax.jit(reference.discriminator.init)(jax.random.key(3), reference.images)['params'], 2)


def to_nhwc(images):
  return images.detach().permute(0, 2, 3, 1).numpy()


def to_nchw(images):
  return torch.tensor(np.asarray(images)).permute(0, 3, 1, 2)


@pytest.mark.parametrize('variant', LAYOUTS.values(), ids=LAYOUTS)
def test_the_generator_maps_and_draws_as_ours_does(variant, reference):
  theirs = variant.generator(reference.params)
  z = normal(0, 8, 5)
  w = jax.jit(reference.decoder.map_z)(reference.params, z)
  np.testing.assert_allclose(theirs.map_z(torch.tensor(np.asarray(z))).detach(), w, atol=1e-5)
  w = w + 0.5 * normal(1, *w.shape)  # Rows that differ.
  images = to_nhwc(theirs.synthesis(torch.tensor(np.asarray(w))))
  np.testing.assert_allclose(images, jax.jit(reference.decoder.decode)(reference.params, w), atol=1e-4)


@pytest.mark.parametrize('variant', LAYOUTS.values(), ids=LAYOUTS)
def test_the_discriminator_gives_our_scores_and_features(variant, reference):
  params = discriminator_params(reference)
  theirs, images = variant.discriminator(params), variant.images(reference.images)
  scores = jax.jit(reference.discriminator.apply)({'params': params}, reference.images)
  np.testing.assert_allclose(theirs(images).detach(), scores, atol=1e-4)
  features = reference.discriminator.apply({'params': params}, reference.images, method='features')
  for found, expected in zip(theirs.features(images), features.values(), strict=True):
    np.testing.assert_allclose(to_nhwc(found), expected, atol=1e-4)


@pytest.mark.parametrize('name', ['cnn', 'linear'])
@pytest.mark.parametrize('variant', LAYOUTS.values(), ids=LAYOUTS)
def test_the_classifiers_give_our_logits(variant, name, reference):
  state = reference.classifier_state(name)
  params = randomised(state.params, 3)
  logits = variant.classifier(params, 16)(variant.images(reference.images))
  np.testing.assert_allclose(logits.detach(), jax.jit(state.apply_fn)(params, reference.images), atol=1e-4)


@pytest.mark.parametrize('name', ['cnn', 'linear'])
def test_the_attack_of_training_finds_our_losses(name, reference):
  case = reference.attack_train(name, num_restarts=2, num_steps=3)
  ours = parallel.unshard(case.run())
  images, losses = cases.BUILDERS['attack_train_cnn'](case, SIZES, cases.Variant())()
  np.testing.assert_allclose(losses, ours.score, rtol=1e-3)
  np.testing.assert_allclose(to_nhwc(images), ours.best, atol=1e-2)


def test_the_attack_of_evaluation_breaks_the_same_examples(reference, monkeypatch):
  monkeypatch.setattr(reference_cases, 'CENTRED', -0.5)  # A classifier that some examples hold against.
  case = reference.attack_eval(num_restarts=2, num_steps=3)
  broken = cases.BUILDERS['attack_eval_cnn'](case, SIZES, cases.Variant())()
  assert 0 < broken.sum() < len(broken) == 32
  np.testing.assert_array_equal(broken, case.run())


def test_an_evaluation_ends_when_the_whole_batch_is_misclassified(reference):
  case = reference.attack_eval(num_restarts=1, num_steps=3, num_batches=1)
  params, generator, keys, batch = case.arguments
  calls = []

  class Counting(cases.Variant):
    def wrap(self, function):
      return lambda *args: calls.append(0) or function(*args)

  for labels, expected in [((batch.labels + 5) % 10, 1), (batch.labels, 4)]:
    attacked = case._replace(arguments=(params, generator, keys, dataclasses.replace(batch, labels=labels)))
    cases.BUILDERS['attack_eval_cnn'](attacked, SIZES, Counting())()
    assert len(calls) == expected
    calls.clear()


def test_the_encoder_takes_our_steps(reference):
  case = reference.encoder()
  w, error = cases.BUILDERS['encoder_step'](case, SIZES, cases.Variant())()
  ours = parallel.unshard(case.run())
  np.testing.assert_allclose(error, ours.error, rtol=1e-3)
  assert np.median(np.abs(w.numpy() - ours.w)) < 1e-3


def test_the_discriminator_learns_from_our_losses(reference):
  """R1 included, whose gradient is a second derivative."""
  params = discriminator_params(reference)
  fake = normal(5, *reference.images.shape)

  def loss_fn(params):
    def score(images):
      return reference.discriminator.apply({'params': params}, images)

    loss = gan_losses.discriminator_loss('logistic', score(fake), score(reference.images))
    return jnp.mean(loss) + 5 * jnp.mean(gan_losses.scores_and_squared_gradients(score, reference.images)[1])

  expected, gradient = jax.jit(jax.value_and_grad(loss_fn))(params)
  training = gan_training(reference, params)
  images = to_nchw(reference.images)
  loss = training.loss_of_fake(to_nchw(fake)) + training.penalised_loss_of_real(images)
  loss.backward()
  assert loss.item() == pytest.approx(float(expected), rel=1e-4)
  found = training.discriminator.convs[0].weight.grad.permute(2, 3, 1, 0)
  np.testing.assert_allclose(found, gradient['convs_0']['weight'], rtol=1e-3, atol=1e-4)


def gan_training(reference, params):
  return algorithms.GanTraining(
    networks.Generator(reference.params['params'], reference.params['noise']),
    networks.Discriminator(params),
    learning_rate=1e-3,
    betas=(0.0, 0.99),
    r1_weight=5.0,
    style_mixing_prob=0.9,
    ema_decay=0.9,
    wrap=lambda function: function,
  )


def test_a_gan_step_moves_both_networks_and_the_average(reference):
  training = gan_training(reference, discriminator_params(reference))
  watched = (training.generator.to_rgb, training.discriminator.out, training.average.to_rgb)
  before = [module.weight.detach().clone() for module in watched]
  for _ in range(2):  # The average follows one step behind.
    losses = training.step(to_nchw(reference.images))
  assert all(torch.isfinite(loss) for loss in losses)
  for module, old in zip(watched, before, strict=True):
    assert not torch.equal(module.weight, old)
  assert training.w_avg.abs().max() > 0


@pytest.mark.parametrize('name', ['gan_step', 'gan_step_r1'])
def test_a_gan_step_has_two_losses(name, reference):
  case = reference.gan(with_r1=name == 'gan_step_r1')
  losses = cases.BUILDERS[name](case, SIZES, cases.Variant())()
  assert len(losses) == 2 and all(torch.isfinite(loss) for loss in losses)


def test_everything_that_is_compared_is_a_case():
  assert cases.BUILDERS.keys() <= reference_cases.CASES.keys()


def test_a_classifier_step_has_our_losses(reference):
  case = reference.classifier()
  state, batch = case.arguments
  run = cases.BUILDERS['classifier_step'](case, SIZES, cases.Variant())
  step = jax.jit(functools.partial(train_step, perturb_fn=METHODS['nominal'](None)))
  for _ in range(3):
    state, metrics = step(state, batch)
    assert run().item() == pytest.approx(float(metrics['loss']), rel=1e-4)


def test_a_comparison_is_printed_and_written(tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(measurement, 'PEAK_SIZE', 64)
  monkeypatch.setattr(reference_cases, 'Networks', lambda: SIZES)
  monkeypatch.setenv('PATH', '')  # So that no compiler is found, in the process of PyTorch as well.
  out = tmp_path / 'bench.json'
  names = ['attack_train_linear', 'classifier_step']
  assert command.main(['--against=torch', f'--cases={",".join(names)}', '--repeats=1', f'--out={out}']) == 0
  figures = json.loads(out.read_text())
  assert [case['name'] for case in figures['cases']] == names
  for case in figures['cases']:
    theirs = case['torch']
    assert case['ratio_vs_torch'] == pytest.approx(theirs['seconds'] / case['seconds'])
    assert theirs['variant'] in LAYOUTS and theirs['tried']['compile'] == 'found no C++ compiler'
  assert figures['machine']['torch']['version'] == torch.__version__
  assert figures['machine']['matmul_flops'] == max(figures['machine']['matmul_flops_of'].values())
  assert 'of PyTorch (' in capsys.readouterr().out


def test_what_cannot_be_compiled_is_passed_over_with_the_reason(reference, monkeypatch):
  def refuse(*unused_args):
    raise RuntimeError('no such thing\nand more')

  monkeypatch.setattr(torch, 'compile', lambda function: refuse)
  monkeypatch.setattr(cases, 'has_compiler', lambda: True)
  found = cases.fastest('classifier_step', reference.classifier(), SIZES)
  assert found.tried['compile'] == 'RuntimeError: no such thing' and found.variant in LAYOUTS


def test_what_goes_wrong_in_the_process_of_pytorch_is_said_here():
  with TorchProcess(SIZES) as process:
    assert process.fastest('no_case') is None
    with pytest.raises(RunError, match='matmul -1 failed in the process of PyTorch: RuntimeError: '):
      process.matmul(-1)
    process._process.kill()
    with pytest.raises(RunError, match="the process of PyTorch ended at 'environment'"):
      process.environment()
