"""On a CPU every thread is a device of its own, where minibatches allow; a run keeps what it began with."""

import json

import jax
import pytest
from ml_collections import ConfigDict

from configs import celeba, color_mnist, default, digits
from launch import cores
from tests.command_line import smoke_flags


def config(**changes) -> ConfigDict:
  found = default.get_config()
  found.update_from_flattened_dict(changes)
  return found


@pytest.mark.parametrize('get_config', [digits.get_config, color_mnist.get_config, celeba.get_config])
def test_two_and_four_cores_are_as_many_devices(get_config):
  assert [cores.most_devices(get_config(), threads) for threads in (1, 2, 4)] == [1, 2, 4]


def test_devices_share_every_minibatch_evenly():
  assert cores.most_devices(config(), 3) == 2  # Batches of 16, 32, 64.
  assert cores.most_devices(config(**{'train.batch_size': 65}), 16) == 1
  assert cores.most_devices(config(**{'evaluate.batch_size': 72}), 64) == 8
  growing = config(**{'generator.batch_sizes': (64, 32, 20), 'generator.micro_batches': (0, 16, 0)})
  assert cores.most_devices(growing, 16) == 2  # 32 are two parts of 16.
  assert cores.most_devices(config(**{'train.micro_batch': 16}), 16) == 4


@pytest.fixture
def told(monkeypatch):
  """What jax is told of the number of devices; nothing is said by the environment."""
  found: list[int] = []
  monkeypatch.setenv('NPROC', '2')
  monkeypatch.setenv('XLA_FLAGS', '')
  monkeypatch.delenv('JAX_NUM_CPU_DEVICES', raising=False)
  monkeypatch.setattr(jax.config, 'update', lambda key, value: found.append((key, value)))
  return found


def test_a_new_run_has_a_device_for_each_thread(told, tmp_path):
  cores.share_out(tmp_path, config())
  assert told == [('jax_num_cpu_devices', 2)]


@pytest.mark.parametrize('backend, number', [('cpu', 1), ('gpu', 2)])
def test_a_run_that_goes_on_keeps_its_devices_of_a_cpu(told, tmp_path, backend, number):
  (tmp_path / 'versions.json').write_text(json.dumps({'threads': 2, 'devices': 1, 'backend': backend}))
  cores.share_out(tmp_path, config())
  assert told == [('jax_num_cpu_devices', number)]


def test_a_number_that_was_asked_for_counts(told, tmp_path):
  cores.share_out(tmp_path, config(devices=4))
  assert told == [('jax_num_cpu_devices', 4)]


@pytest.mark.parametrize(
  'name, value', [('JAX_NUM_CPU_DEVICES', '3'), ('XLA_FLAGS', '--xla_force_host_platform_device_count=3')]
)
def test_what_jax_was_told_before_stands(told, monkeypatch, tmp_path, name, value):
  monkeypatch.setenv(name, value)
  cores.share_out(tmp_path, config())
  assert told == []


def test_a_run_says_how_many_devices_it_has(launch, tmp_path):
  shown = launch('pipeline', *smoke_flags(tmp_path), '--dry_run').stdout
  threads = int(shown.split(' threads')[0].split()[-1])
  assert f'{cores.most_devices(config(), threads)} cpu device(s)' in shown
