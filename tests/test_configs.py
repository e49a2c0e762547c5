"""Every configuration file stands the checks, and goes through JSON."""

import pathlib

import pytest

from advmix_jax import config_check
from advmix_jax.config_keys import flatten
from advmix_jax.stages.networks import build_networks
from configs import default
from launch.config_file import ConfigFile
from tests.test_config_check import complaint, load

CONFIGS = [
  ('celeba', 'small'),
  ('color_mnist', 'cpu'),
  ('color_mnist', 'paper'),
  ('digits', None),
  ('ffhq1024', 'gan'),
  ('folder', '32'),
  ('folder', '64'),
  ('folder', '128'),
  ('rgb_mnist', 'unbiased'),
  ('rgb_mnist', 'red99'),
  ('rgb_mnist', 'red999'),
  ('smoke', None),
  ('stylegan1', '1'),
  ('stylegan1', '2'),
  ('stylegan1', '4'),
  ('stylegan1', '8'),
  ('toy', None),
]


def test_every_file_is_in_the_table():
  folder = pathlib.Path(default.__file__).parent
  files = {path.stem for path in folder.glob('*.py')} - {'__init__', 'default'}
  assert files == {name for name, _ in CONFIGS}


@pytest.mark.parametrize('name, variant', CONFIGS)
def test_every_configuration_stands_the_checks_wherever_its_data_lies(name, variant):
  config = load(name, variant)
  config.data.dir = '/nowhere'
  config.lock()
  config_check.split_names(config)
  config_check.check_config(config)
  with pytest.raises(AttributeError, match='epsilon'):
    config.attack.epsilonn = 1.0


def test_celeba_of_the_paper_asks_for_a_generator():
  config = load('celeba', 'paper')
  assert 'config.data.resolution is 64' in complaint(config)
  assert complaint(config).endswith('or a generator in config.generator.path')
  config.generator.path = 'ffhq'
  assert complaint(config).startswith('config.generator.path: ffhq/architecture.json is missing')


def test_color_mnist_as_in_the_paper_asks_for_weights():
  text = complaint(load('color_mnist', 'paper_exact'))
  assert text.startswith("config.encode.vgg16_weights is ''")


@pytest.mark.parametrize('name, variant', CONFIGS)
def test_every_configuration_goes_through_json(name, variant, tmp_path):
  config = load(name, variant)
  (tmp_path / 'config.json').write_text(config.to_json())
  read = ConfigFile().parse(str(tmp_path / 'config.json'))
  assert flatten(read.to_dict()) == flatten(config.to_dict())


@pytest.mark.parametrize(
  'name, variants',
  [
    ('celeba', 'small and paper'),
    ('color_mnist', 'cpu, paper and paper_exact'),
    ('ffhq1024', 'gan and mix'),
    ('folder', '32, 64, 128'),
    ('rgb_mnist', 'red99, red999'),
    ('stylegan1', '1, 2, 4, 8'),
  ],
)
def test_an_unknown_variant_is_told_the_variants(name, variants):
  with pytest.raises(ValueError, match=f"{name}.py has the variants .*{variants}, not 'gpu'"):
    load(name, 'gpu')


def test_the_generator_of_rgb_mnist_mixes_where_the_attack_does():
  config = load('rgb_mnist', 'unbiased')
  config.attack.mixing_level = 7
  assert config.to_dict()['generator']['style_mixing_level'] == 7
  config.generator.style_mixing_level = 0
  assert config.attack.mixing_level == 7


@pytest.mark.parametrize('architecture', ['stylegan1', 'stylegan2'])
def test_the_mapping_is_as_the_keys_have_it(architecture):
  config = load('digits')
  config.generator.architecture = architecture
  config.generator.mapping_layers, config.generator.mapping_lr_multiplier = 3, 0.5
  generator, _ = build_networks(config.generator, pathlib.Path(), 10)
  assert (generator.mapping_layers, generator.mapping_lr_multiplier) == (3, 0.5)
