"""Bad input to the main job is refused in one line that names it, before anything is trained."""

import json
import sys
import threading

import pytest
from absl import flags

from advmix_jax.stages import pipeline
from advmix_jax.types import BadInputError
from configs import smoke
from launch import job
from launch.config_file import ConfigFile
from tests.command_line import refused, smoke_flags


@pytest.mark.parametrize(
  'flag, words',
  [
    ('--config.attack.epsilonn=1', ('unknown configuration key \'epsilonn\' Did you mean "epsilon"',)),
    ('--config.nonsense=1', ("unknown configuration key 'nonsense'",)),
    ('--config.attack.epsilon=-1', ('config.attack.epsilon is -1.0', 'at least 0')),
    ('--config.attack.num_steps=two', ('config.attack.num_steps', 'two')),
    ('--config.train.methods=nominal,mixmix', ('config.train.methods: found mixmix', 'advmix')),
    ('--config.train.methods=1', ('config.train.methods: found 1',)),
    ('--config.stages=train,bake', ('config.stages: found bake', 'train_gan')),
    ('--config.evaluate.num_examples=41', ('config.evaluate.num_examples is 41', 'at most the 40')),
    ('--config=configs/none.py', ('--config=configs/none.py: found no such file',)),
    ('--config=README.md', ('--config=README.md: SyntaxError: ',)),
    ('--config=configs/__init__.py', ('--config=configs/__init__.py: expected a function get_config',)),
    (
      '--config=configs/color_mnist.py:gpu',
      ('--config=configs/color_mnist.py: ', 'cpu, paper and paper_exact', 'gpu'),
    ),
    ('--no_such_flag', ('no_such_flag',)),
    ('stray', ("'stray'",)),
    ('--workdir=', ('--workdir is missing',)),
    ('--workdir=pyproject.toml', ('pyproject.toml cannot be written',)),
  ],
  ids=lambda value: value if isinstance(value, str) else '',
)
def test_bad_input_is_one_line_and_status_2(launch, tmp_path, flag, words):
  others = [given for given in smoke_flags(tmp_path / 'run') if given.split('=')[0] != flag.split('=')[0]]
  line = refused(launch('pipeline', *others, flag))
  assert all(word in line for word in words), line
  assert not (tmp_path / 'run' / 'gan').exists()


@pytest.mark.parametrize(
  'code, words',
  [
    ('raise RuntimeError("two\\nlines")', 'RuntimeError: two lines'),
    ('def get_config(): return {}["size"]', "KeyError: 'size'"),
    ('def get_config(): return open("/no/such/file")', '/no/such/file'),
    ('def get_config(): return {}', 'expected a function get_config() -> ConfigDict in it'),
  ],
  ids=['when read', 'when called', 'no such other file', 'another type'],
)
def test_a_configuration_file_that_fails_is_named(launch, tmp_path, code, words):
  file = tmp_path / 'mine.py'
  file.write_text(code)
  line = refused(launch('pipeline', f'--config={file}', f'--workdir={tmp_path}', '--config.seed=1'))
  assert line.startswith(f'error: --config={file}: ') and words in line


def test_a_stored_configuration_that_lacks_keys_is_told_which(launch, tmp_path):
  """As one that an older version has stored."""
  config = json.loads(smoke.get_config().to_json())
  del config['generator']['loss'], config['seed']
  file = tmp_path / 'config.json'
  file.write_text(json.dumps(config))
  line = refused(launch('pipeline', f'--config={file}', f'--workdir={tmp_path / "run"}'))
  assert line.startswith(f'error: --config={file}: ') and 'found no generator.loss, seed, expected' in line


@pytest.mark.parametrize(
  'key, value, expected',
  [
    ('data.resolution', '16', 'a whole number'),
    ('data.resolution', True, 'a whole number'),
    ('data.num_test', None, 'a whole number'),
    ('data.split_seed', 1.5, 'a whole number'),
    ('data.sigma', '0.1', 'a number'),
    ('data.sigma', 10**400, 'a number'),
    ('data.dir', None, 'text'),
    ('generator.fmaps', 8, 'a list'),
    ('generator.fmaps', None, 'a list'),
    ('train.methods', 'nominal', 'a list'),
    ('remat', 1, 'true or false'),
    ('data', 'digits', 'keys and values'),
    ('seed', {'a': 1}, 'a whole number'),
  ],
  ids=str,
)
def test_a_value_of_another_kind_is_named(tmp_path, key, value, expected):
  config = json.loads(smoke.get_config().to_json())
  *owners, name = key.split('.')
  owner = config
  for part in owners:
    owner = owner[part]
  owner[name] = value
  file = tmp_path / 'config.json'
  file.write_text(json.dumps(config))
  with pytest.raises(flags.Error) as error:
    ConfigFile().parse(str(file))
  assert str(error.value) == f'--config={file}: config.{key} is {value!r}, expected {expected}'


def test_a_configuration_file_that_sets_none_is_named(tmp_path):
  file = tmp_path / 'mine.py'
  lines = ('from configs import smoke', 'def get_config():', ' c = smoke.get_config()', ' c.data.dir = None')
  file.write_text('\n'.join([*lines, ' return c']))
  with pytest.raises(flags.Error, match='config.data.dir is None, expected text'):
    ConfigFile().parse(str(file))


NO_DEVICES = '{"threads": 2, "devices": null}'


@pytest.mark.parametrize(
  'text', ['{"threads": 2', '[]', '{}', '{"threads": "many"}', '{"threads": 0}', NO_DEVICES]
)
def test_a_damaged_record_of_versions_is_named(launch, tmp_path, text):
  (tmp_path / 'versions.json').write_text(text)
  line = refused(launch('pipeline', *smoke_flags(tmp_path)))
  assert line.startswith(f'error: {tmp_path}/versions.json ') and 'numbers of threads and devices' in line


@pytest.mark.parametrize(
  'stage, first',
  [('train', 'encode'), ('encode', 'train_gan'), ('evaluate', 'encode'), ('diagnose', 'train_gan')],
)
def test_a_stage_alone_names_the_stage_to_run_first_and_claims_no_folder(launch, tmp_path, stage, first):
  assert f'run the stage {first} first' in refused(launch(stage, *smoke_flags(tmp_path)))
  assert [path.name for path in tmp_path.iterdir()] == ['lock']


@pytest.mark.usefixtures('fresh_flags')
@pytest.mark.parametrize('flag', ['config', 'workdir'])
def test_what_the_system_says_of_a_name_is_shown_with_the_name(monkeypatch, capsys, flag):
  monkeypatch.setattr(threading, 'excepthook', threading.excepthook)  # It is put back.
  given = {'config': 'configs/smoke.py', 'workdir': 'runs/none'} | {flag: 'x' * 300}
  monkeypatch.setattr(sys, 'argv', ['pipeline', *(f'--{key}={value}' for key, value in given.items())])
  assert job.run(sys.argv, None) == 2
  (line,) = capsys.readouterr().err.splitlines()
  assert line.startswith('error: ') and 'File name too long' in line and 'x' * 300 in line


def test_a_variant_of_a_file_without_variants_is_refused_so():
  with pytest.raises(flags.Error, match="digits.py: .*found the variant 'nope', expected none"):
    ConfigFile().parse('configs/digits.py:nope')


def test_no_stage_at_all_is_refused():
  with pytest.raises(BadInputError, match='config.stages: found none, expected some of train_gan, encode'):
    pipeline.check_stages(())
