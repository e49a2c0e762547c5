"""Memory of the compiled steps: of those that the stages compile, by shapes alone."""

import importlib
import json
import math
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from advmix_jax import config_check, parallel
from advmix_jax.stages import step_memory
from advmix_jax.stages.networks import Networks
from tests.test_config_check import changed

ALL = ('train_gan', 'encode', 'train', 'evaluate', 'report')


def networks_of(config) -> Networks:
  config_check.split_names(config)
  config_check.check_values(config)
  return Networks(config, pathlib.Path(), 10, 10)


@pytest.mark.parametrize(
  'changes, expected',
  [
    ({}, ['gan', 'gan with R1']),
    ({'generator.r1_interval': 1}, ['gan with R1']),
    ({'generator.loss': 'wgan_gp'}, ['gan']),
    ({'generator.architecture': 'stylegan2'}, ['gan', 'gan with R1', 'gan with R1 and path lengths']),
  ],
)
def test_the_programs_of_gan_training(changes, expected):
  assert [name for name, *_ in step_memory.gan_programs(changed(changes))] == expected


def test_a_generator_of_1024_pixels_takes_no_memory_here():
  """All steps of the paper's setting: shapes only, no data, no weights, nothing compiled."""
  config = importlib.import_module('configs.ffhq1024').get_config('mix')
  networks = networks_of(config)
  found = {
    name: (batch_size, part_size, arguments)
    for name, batch_size, part_size, (_, arguments) in step_memory.steps(networks, ALL)
  }
  methods = [f'train/{method}' for method in config.train.methods]
  assert list(found) == ['encode', *methods, 'evaluate']  # Its generator is from elsewhere.
  for _, _, arguments in found.values():
    assert all(isinstance(x, jax.ShapeDtypeStruct) for x in jax.tree.leaves(arguments))
  devices = parallel.num_devices()
  _, _, (shared, slots, entry) = found['evaluate']
  assert slots.trunk['features'].shape == (devices, config.evaluate.batch_size // devices, 64, 64, 256)
  assert slots.trunk['features'].dtype == jnp.bfloat16
  assert slots.w_perp.shape[2:] == (10, 512) and entry.w.shape[2:] == (18, 512)
  assert shared['decoder']['params']['layers_17']['weight'].shape == (3, 3, 16, 16)
  batch_size, part_size, (state, batch) = found['train/advmix']
  assert (batch_size, part_size) == (config.train.batch_size, config.train.micro_batch)
  assert batch.images.shape == (devices, batch_size // devices, 64, 64, 3)
  assert state.generator is not None and found['train/nominal'][2][0].generator is None


def test_figures_of_a_step_and_what_parts_save():
  """Arguments are the state and the batch; a part of a quarter has less than half of the temporaries."""
  config = changed({'train.batch_size': 512, 'train.methods': ('nominal',), 'train.classifier': 'cnn'})
  (whole,) = step_memory.measure(networks_of(config), ('train',))
  config.train.micro_batch = 64
  (parts,) = step_memory.measure(networks_of(config), ('train',))
  assert (whole['step'], whole['batch_size'], whole['part_size']) == ('train/nominal', 256, 256)
  assert parts['part_size'] == 64 and parts['temporaries'] < 0.5 * whole['temporaries']
  _, arguments = step_memory.train_step(networks_of(config), 'nominal')
  state, batch = arguments
  size = sum(math.prod(x.shape) * 4 for x in jax.tree.leaves(state.params)) * 3  # With both of Adam's.
  size += sum(math.prod(x.shape) * 4 for x in jax.tree.leaves(batch)) // parallel.num_devices()
  for figures in (whole, parts):
    assert figures['arguments'] == pytest.approx(size, rel=0.02)  # And step, key, counts.
    named = figures['arguments'] + figures['temporaries'] + figures['outputs'] - figures['shared']
    assert figures['total'] == named
    assert figures['shared'] > 0.9 * figures['outputs']  # The state is donated.


def command(*arguments):
  """`launch.memory` in a process of its own, as its flags are read from the command line; one device."""
  return subprocess.run(
    [sys.executable, '-m', 'launch.memory', '--config=configs/smoke.py', *arguments],
    capture_output=True,
    text=True,
    cwd=pathlib.Path(__file__).parents[1],
  )


def test_the_command_prints_and_writes_a_line_for_each_step(tmp_path):
  out = tmp_path / 'memory.json'
  done = command('--config.stages=train', '--config.train.methods=nominal', f'--out={out}')
  assert done.returncode == 0, done.stderr
  assert done.stdout.splitlines()[1].startswith('train/nominal: batch 16 in parts of 16: total ')
  written = json.loads(out.read_text())
  assert [step['step'] for step in written['steps']] == ['train/nominal']
  assert written['backend'] == 'cpu' and '--config.stages=train' in written['command']


@pytest.mark.parametrize(
  'change, expected',
  [
    ('--config.train.micro_batch=5', 'error: config.train.micro_batch is 5, expected 0 or a divisor of 16'),
    ('--config.attack.mixing_level=40', 'mixing level 40 is outside 1..5'),
    ('--config.no_such_key=1', 'no_such_key'),
  ],
)
def test_bad_input_is_a_line(change, expected):
  done = command(change)
  assert done.returncode == 2
  assert expected in done.stderr and len(done.stderr.splitlines()) == 1
