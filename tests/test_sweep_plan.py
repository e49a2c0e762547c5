"""What a sweep plans: members by name, and a task for each stage that several of them share."""

import dataclasses
import json
import pathlib
from typing import Any

import numpy as np
import pytest

from advmix_jax import config_check
from advmix_jax.config_keys import ADDED, FREE_KEYS, fixed_keys, flatten
from advmix_jax.stages import encode, train_gan
from advmix_jax.stages.experiment import Experiment
from advmix_jax.sweep import plan
from advmix_jax.types import BadInputError
from advmix_jax.workdir import open_workdir
from configs import smoke
from tests import watched_run


def check(config: Any) -> None:
  config_check.split_names(config)
  config_check.check_config(config)


def planned(
  *changes: dict, before: plan.Plan | None = None, chosen: list[dict] | None = None, **base: Any
) -> plan.Plan:
  config = smoke.get_config()
  config.update_from_flattened_dict({key.replace('__', '.'): value for key, value in base.items()})
  return plan.make_plan('sweep.py', config, changes, check, 1, before, chosen)


def names(found: plan.Plan) -> list[str]:
  return [task.name for task in found.members]


def shared(found: plan.Plan, stage: str) -> list[str]:
  return [task.name for task in found.tasks.values() if task.kind == stage]


def grid(**values: tuple) -> list[dict]:
  members: list[dict] = [{}]
  for key, choices in values.items():
    members = [{**given, key.replace('__', '.'): choice} for given in members for choice in choices]
  return members


def test_folders_say_what_differs_and_no_more():
  assert names(planned(*grid(data__sigma=(0.1, 0.2), seed=(0, 1), train__num_epochs=(3.0,)))) == [
    'data.sigma=0.1,seed=0',
    'data.sigma=0.1,seed=1',
    'data.sigma=0.2,seed=0',
    'data.sigma=0.2,seed=1',
  ]
  assert names(planned({'data.sigma': 6 * 0.05}, {'data.sigma': 1 / 3}, {})) == [
    'data.sigma=0.3',
    'data.sigma=0.3333333333333333',
    'data.sigma=0.0',
  ]
  assert names(planned({'train.methods': ('nominal', 'at')}, {'train.methods': ('advmix',)})) == [
    'train.methods=nominal+at',
    'train.methods=advmix',
  ]
  assert names(planned({'data.generator_classes': (0.495,) * 2 + (0.00125,) * 8}, {}))[0] == (
    'data.generator_classes=0.495x2+0.00125x8'
  )
  assert names(planned({'seed': 4})) == ['seed=4']
  odd = planned({'data.dir': '/no/such place'}, {'data.dir': 'x' * 300})
  assert names(odd)[0] == 'data.dir=_no_such_place' and len(names(odd)[1]) <= 150


@pytest.mark.parametrize(
  'changes, words',
  [
    ([{'data.sigmaa': 0.1}], 'member data.sigmaa=0.1: unknown configuration key .*sigmaa'),
    ([{'nothing.at_all': 1}], 'member nothing.at_all=1: unknown configuration key'),
    ([{'data.sigma': 'large'}], 'member data.sigma=large: .*large'),
    ([{'seed': 0}, {'seed': 1, 'attack.epsilon': -1.0}], 'member seed=1,attack.epsilon=-1.0: config.attack'),
    ([{'train.methods': ('mixmix',)}], 'config.train.methods: found mixmix'),
    ([{'seed': 1}, {'seed': 1}], '2 members have the name seed=1'),
    ([{'data.sigma': 1}, {'data.sigma': 1.0}], 'have the same configuration'),
    ([], r'sweep\(add\) added no member'),
  ],
)  # fmt: skip
def test_a_member_that_cannot_be_run_is_named(changes, words):
  with pytest.raises(BadInputError, match=words):
    planned(*changes)


def test_members_share_the_stages_that_their_keys_do_not_change():
  found = planned(*grid(data__sigma=(0.0, 0.2), train__seed=(0, 1), attack__epsilon=(0.03, 0.1)))
  assert len(found.members) == 8
  assert len(shared(found, 'train_gan')) == len(shared(found, 'encode')) == 2
  for member in found.members:
    gan, latents = member.needs
    assert found.configs[gan]['data']['sigma'] == member.changes['data.sigma']
    assert found.tasks[latents].needs == (gan,)
  order = list(found.tasks)
  assert all(
    order.index(need) < order.index(task.name) for task in found.tasks.values() for need in task.needs
  )

  of_level = planned(*grid(attack__mixing_level=(2, 4)))
  assert len(shared(of_level, 'train_gan')) == 1 and not shared(of_level, 'encode')
  of_encoder = planned(*grid(encode__num_steps=(2, 3)))
  assert len(shared(of_encoder, 'train_gan')) == 1 and not shared(of_encoder, 'encode')
  for alone in (
    planned(*grid(seed=(0, 1))),
    planned(*grid(generator__r1_gamma=(1.0, 2.0))),
    planned({'seed': 0}),
  ):
    assert not shared(alone, 'train_gan') and not any(task.needs for task in alone.members)


def test_members_of_other_data_do_not_share_though_its_place_changes_nothing_otherwise():
  one, two = planned(*grid(data__dir=('a', 'b'), train__seed=(0, 1))), planned(*grid(train__seed=(0, 1)))
  assert len(shared(one, 'train_gan')) == 2
  moved = planned(*grid(train__seed=(0, 1)), data__dir='elsewhere')
  assert list(moved.tasks) == list(two.tasks)


def test_a_plan_is_read_as_it_was_written(tmp_path):
  found = planned(*grid(data__sigma=(0.0, 0.2), attack__epsilon=(0.03, 0.1)))
  plan.save_plan(tmp_path, found)
  again = plan.load_plan(tmp_path)
  assert again.tasks == found.tasks and list(again.tasks) == list(found.tasks)
  assert [list(task.changes) for task in again.members] == [['data.sigma', 'attack.epsilon']] * 4
  assert again.configs == found.configs and again.threads == 1
  with pytest.raises(BadInputError, match='none/sweep/plan.json is missing, expected the folder of a sweep'):
    plan.load_plan(tmp_path / 'none')


def test_a_plan_of_which_a_configuration_is_gone_is_refused(tmp_path):
  found = planned(*grid(data__sigma=(0.0, 0.2)))
  plan.save_plan(tmp_path, found)
  plan.config_file(tmp_path, found.members[1].name).unlink()
  with pytest.raises(BadInputError, match=r'configs/data.sigma=0.2.json is missing, expected every config'):
    plan.load_plan(tmp_path)


# For each key on which neither generator nor latents depend, another value.
OTHERS = {
  'attack.epsilon': 0.1,
  'attack.step_size': 0.01,
  'attack.num_restarts': 3,
  'attack.num_steps': 1,
  'attack.update': 'gradient',
  'attack.select': 'first_error',
  'attack.start_from': 'original',
  'attack.typical_delta': 1.0,
  'attack.ramp_steps': 5,
  'train.methods': ('mixup',),
  'train.classifier': 'linear',
  'train.fmaps': (2, 2, 4, 4),
  'train.batch_size': 8,
  'train.micro_batch': 4,
  'train.num_epochs': 3.0,
  'train.learning_rate': 1e-2,
  'train.seed': 7,
  'train.num_seeds': 2,
  'train.ema_decay': 0.9,
  'mixup.alpha': 0.5,
  'cutout.size': 2,
  'cutmix.alpha': 0.5,
  'at.epsilon': 0.2,
  'at.num_steps': 3,
  'at.step_size': 0.3,
  'at.ramp_steps': 5,
  'evaluate.num_restarts': 3,
  'evaluate.num_steps': 3,
  'evaluate.batch_size': 16,
  'evaluate.start_from': 'reconstruction',
  'evaluate.select': 'highest_loss',
  'report.num_examples': 2,
}


@dataclasses.dataclass
class Recorded:
  """A configuration that notes which of its keys are read."""

  config: Any
  read: set[str]
  prefix: str = ''

  def __getattr__(self, key: str) -> Any:
    return self[key] if key in self.config else getattr(self.config, key)

  def __getitem__(self, key: str) -> Any:
    value = self.config[key]
    if hasattr(value, 'to_dict'):
      return Recorded(value, self.read, f'{self.prefix}{key}.')
    self.read.add(f'{self.prefix}{key}')
    return value

  def __contains__(self, key: str) -> bool:
    return key in self.config


def made(folder: pathlib.Path, config: Any) -> tuple[dict[str, np.ndarray], dict[str, set[str]]]:
  """The bytes and arrays that the shared stages write, and the keys that each reads."""
  read: dict[str, set[str]] = {}
  workdir = open_workdir(folder, config)
  experiment = Experiment(workdir)
  for name, run in (('train_gan', train_gan.run), ('encode', encode.run)):
    read[name] = set()
    experiment.config = workdir.config = Recorded(config, read[name])
    run(experiment)
  workdir.close()
  files = {}
  for file in sorted([*folder.glob('gan/*.*'), *folder.glob('encode/**/*.*')]):
    relative = file.relative_to(folder).as_posix()
    if file.suffix == '.npz':
      files |= {f'{relative}/{key}': value for key, value in np.load(file).items()}
    elif file.is_file() and 'checkpoints' not in relative:
      files[relative] = np.frombuffer(file.read_bytes(), np.uint8)
  return files, read


def test_attributes_share_what_is_made_before_the_classifier_unless_images_are_drawn_by_class():
  attributes = {'data.attribute': 'Smiling'}, {'data.attribute': 'Wearing_Hat'}
  faces = {'data__name': 'celeba', 'data__resolution': 16, 'data__num_validation': 0}
  by_class = planned(*attributes, **faces)
  assert not shared(by_class, 'train_gan') and not shared(by_class, 'encode')
  uniform = planned(*attributes, **faces, data__draw='uniform')
  assert len(shared(uniform, 'train_gan')) == len(shared(uniform, 'encode')) == 1
  assert all(len(task.needs) == 2 for task in uniform.members)
  told = planned(*attributes, **faces, data__draw='uniform', generator__conditional=True)
  assert not shared(told, 'train_gan') and not shared(told, 'encode')


@pytest.mark.usefixtures('compiled_once')
def test_the_table_of_keys_is_what_the_stages_depend_on(tmp_path):
  config = watched_run.small_config()
  config.generator.r1_interval = 1  # One program.
  files, read = made(tmp_path / 'one', config)
  assert {name.split('/')[0] for name in files} == {'gan', 'encode'} and len(files) > 10
  for stage, keys in read.items():
    unknown = {key for key in keys if not plan.is_within(key, (*plan.DEPENDS_ON[stage], *FREE_KEYS))}
    assert not unknown, f'{stage} reads {sorted(unknown)}'
    assert len(keys) > 10

  everything = {*fixed_keys(json.loads(config.to_json())), *ADDED}
  independent = {key for key in everything if not plan.is_within(key, plan.DEPENDS_ON['encode'])}
  assert independent == set(OTHERS), 'a key is new: does a shared stage depend on it?'
  assert all(flatten(config.to_dict())[key] != value for key, value in OTHERS.items())
  other = config.copy_and_resolve_references()
  other.update_from_flattened_dict(OTHERS)
  check(other)
  again, _ = made(tmp_path / 'two', other)
  assert again.keys() == files.keys()
  for name, value in files.items():
    np.testing.assert_array_equal(again[name], value, name)
