"""The encoder of a run at equal quality: what is compared, and what is said of it."""

import contextlib
import io
import json
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advmix_jax import encoding, mixing
from advmix_jax.bench import equal_quality, measurement, reference_cases
from advmix_jax.interop.weights import save_tree
from advmix_jax.models.decoder import init_generator
from advmix_jax.models.discriminator import init_discriminator
from advmix_jax.ranges import to_float
from advmix_jax.stages import encode, encode_start
from advmix_jax.stages.experiment import Experiment
from configs import smoke
from launch import benchmark as command

pytestmark = pytest.mark.slow  # Of a measurement, and minutes.
STEPS, IMAGES = 8, 8


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  """A run with fresh networks on eight classes of digits; its start is `w_avg`, its steps are longer."""
  config = smoke.get_config()
  config.encode.num_steps = 2
  config.encode.learning_rate = 0.1
  config.encode.batch_size = 4
  folder = tmp_path_factory.mktemp('run')
  experiment = Experiment(SimpleNamespace(path=folder, config=config))
  size = experiment.generator_model.resolution
  key = jax.random.key(5)  # Not with any fresh networks does L_mix fall when reconstructions get better.
  generator = jax.jit(init_generator, static_argnums=1)(key, experiment.generator_model)
  save_tree(experiment.generator_file, generator)
  init = jax.jit(init_discriminator, static_argnums=(1, 2))
  discriminator = init(jax.random.key(1), experiment.discriminator_model, (size, size, 3))
  save_tree(experiment.discriminator_file, discriminator)
  images, w_avg = jnp.zeros((1, size, size, 3)), jnp.zeros(experiment.decoder.w_size)
  start = jax.jit(encode_start.start_model(experiment).init)(jax.random.key(2), images, w_avg)['params']
  save_tree(encode_start.start_file(experiment), jax.tree.map(jnp.zeros_like, start))
  (folder / 'config.json').write_text(config.to_json())
  return experiment


def measured(run, folder, *flags):
  """The case, as the file has it, and what was printed."""
  out = folder / 'bench.json'
  sizes = [f'--encode_steps={STEPS}', f'--encode_images={IMAGES}', '--repeats=1', f'--out={out}']
  with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as printed:
    patch.setattr(measurement, 'PEAK_SIZE', 64)
    status = command.main(['--cases=encoder_equal_quality', f'--run={run.workdir.path}', *sizes, *flags])
  assert status == 0
  (case,) = json.loads(out.read_text())['cases']
  return case, printed.getvalue()


@pytest.fixture(scope='module')
def ours(run, tmp_path_factory):
  return measured(run, tmp_path_factory.mktemp('ours'))


def test_our_steps_are_as_many_as_reach_what_the_papers_do(ours):
  case, printed = ours
  assert case['name'] == 'encoder_equal_quality' and case['plain_steps'] == STEPS
  for measure in ('median_error', 'median_mixing_loss'):
    assert case['reached'] and 0 < case[measure] <= case[f'plain_{measure}']
  assert 2 < case['steps'] <= STEPS and case['mean_steps_taken'] == case['steps']
  assert case['images_per_sec'] == pytest.approx(IMAGES / case['seconds'])
  assert case['ratio_vs_torch'] is None
  assert 'encoder_equal_quality' in printed


def test_what_is_to_be_reached_is_what_adam_from_the_mean_does(run, ours):
  features_fn, shared = encode.load_shared(run)
  train = run.encode_splits.train
  rng = np.random.default_rng((run.config.data.split_seed, len(train)))
  at = np.sort(rng.choice(len(train), IMAGES, replace=False))
  keys = mixing.example_keys(run.key('encode/train'), jnp.asarray(train.index[at], jnp.int32))
  start = encoding.mean_start(run.decoder, shared['decoder'], IMAGES)
  settings = reference_cases.ENCODE._replace(num_steps=STEPS)
  parts = (run.decoder, features_fn, settings, shared['decoder'], shared['features'])
  found = encoding.encode(*parts, keys, to_float(train.images[at]), start)
  case, _ = ours
  assert case['plain_median_error'] == pytest.approx(float(np.median(found.error)), rel=1e-4)
  losses = []
  for n in range(equal_quality.MIXES):
    draws = jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, n)
    mixed = mixing.random_mix(draws, run.decoder, shared['decoder'], found.w)
    images = jnp.asarray(to_float(train.images[at]))
    features, targets = (features_fn(shared['features'], x) for x in (mixed, images))
    losses.append(encoding.feature_loss(features, targets))
  expected = float(np.median(np.mean(losses, axis=0)))
  assert case['plain_median_mixing_loss'] == pytest.approx(expected, rel=1e-3)


@pytest.mark.usefixtures('one_torch_thread')
def test_the_time_of_pytorchs_steps_is_that_of_the_measured_ones_scaled(run, tmp_path, monkeypatch):
  from advmix_jax.torch_reference import cases

  monkeypatch.setattr(cases, 'has_compiler', lambda: False)
  case, _ = measured(run, tmp_path, '--against=torch')
  theirs = case['torch']
  assert theirs['measured_steps'] == reference_cases.ENCODE.num_steps
  assert case['ratio_vs_torch'] == pytest.approx(theirs['seconds'] / case['seconds'])
  scaled = theirs['tried'][theirs['variant']] * STEPS / reference_cases.ENCODE.num_steps
  assert theirs['seconds'] == pytest.approx(scaled, rel=2)  # Two runs of the same work.


@pytest.mark.parametrize(
  'flags, text',
  [
    ([], 'encoder_equal_quality needs --run'),
    (['--run=no/such/folder'], '--run=no/such/folder: found no config.json'),
    (['--run={run}', '--encode_images=65'], '--encode_images is 65, expected 1 to the 64 training images'),
    (
      ['--run={run}', '--encode_mixing_share=1.5'],
      '--encode_mixing_share is 1.5, expected a number in [0, 1]',
    ),
    (['--run={run}', '--encode_steps=0'], '--encode_steps is 0, expected at least 1'),
  ],
)
def test_what_cannot_be_measured_is_said(run, monkeypatch, capsys, flags, text):
  monkeypatch.setattr(measurement, 'PEAK_SIZE', 64)
  flags = [flag.format(run=run.workdir.path) for flag in flags]
  assert command.main(['--cases=encoder_equal_quality', *flags]) == 2
  assert text in capsys.readouterr().err
