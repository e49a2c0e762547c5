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
from advmix_jax.bench import measurement, reference_cases
from advmix_jax.interop.weights import save_tree
from advmix_jax.models.decoder import init_generator
from advmix_jax.models.discriminator import init_discriminator
from advmix_jax.ranges import to_float
from advmix_jax.stages import encode, encode_start
from advmix_jax.stages.experiment import Experiment
from configs import smoke
from launch import benchmark as command

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('quick_compile')]  # Of a measurement, and minutes.
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
  generator = jax.jit(init_generator, static_argnums=1)(jax.random.key(0), experiment.generator_model)
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


def test_our_steps_are_as_many_as_reach_the_error_of_the_papers(ours):
  case, printed = ours
  assert case['name'] == 'encoder_equal_quality' and case['plain_steps'] == STEPS
  assert case['reached'] and case['median_error'] <= case['plain_median_error']
  assert 2 < case['steps'] <= STEPS and case['mean_steps_taken'] == case['steps']
  assert case['images_per_sec'] == pytest.approx(IMAGES / case['seconds'])
  assert case['ratio_vs_torch'] is None
  assert 'encoder_equal_quality' in printed


def test_the_error_to_reach_is_that_of_adam_from_the_mean(run, ours):
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
    (['--run={run}', '--encode_steps=0'], '--encode_steps is 0, expected at least 1'),
  ],
)
def test_what_cannot_be_measured_is_said(run, monkeypatch, capsys, flags, text):
  monkeypatch.setattr(measurement, 'PEAK_SIZE', 64)
  flags = [flag.format(run=run.workdir.path) for flag in flags]
  assert command.main(['--cases=encoder_equal_quality', *flags]) == 2
  assert text in capsys.readouterr().err
