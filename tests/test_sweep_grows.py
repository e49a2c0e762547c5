"""A sweep whose folder has an earlier plan: members keep their folders, stages are as they were planned."""

import pytest

from advmix_jax.config_keys import fixed_keys
from advmix_jax.sweep import plan
from advmix_jax.types import BadInputError
from tests.test_sweep_plan import grid, names, planned, shared


def test_a_sweep_that_grows_keeps_the_folders_it_has():
  before = planned(*grid(seed=(0, 1)))
  grown = planned(*grid(data__sigma=(0.0, 0.2), seed=(0, 1)), before=before)
  assert names(grown) == ['seed=0', 'seed=1', 'data.sigma=0.2,seed=0', 'data.sigma=0.2,seed=1']
  with pytest.raises(BadInputError, match=r'member seed=0 .* train.num_epochs is 2.0 there, 3.0 here'):
    planned(*grid(seed=(0, 1)), before=before, train__num_epochs=3.0)
  free = planned(*grid(seed=(0, 1)), before=before, checkpoint__seconds=9.0)
  assert names(free) == ['seed=0', 'seed=1'] and free.configs['seed=0']['checkpoint']['seconds'] == 9.0


def test_members_that_are_chosen_later_join_those_of_before():
  """Of `--seeds`: names are those that all members have, whichever are chosen."""
  everything = grid(data__sigma=(0.0, 0.2), seed=(0, 1, 2))
  of_seed = {seed: [given for given in everything if given['seed'] == seed] for seed in (0, 1, 2)}
  first = planned(*everything, chosen=of_seed[0])
  assert names(first) == ['data.sigma=0.0,seed=0', 'data.sigma=0.2,seed=0']
  both = planned(*everything, chosen=of_seed[2], before=first)
  assert names(both) == [f'data.sigma={sigma},seed={seed}' for sigma in (0.0, 0.2) for seed in (0, 2)]
  assert [task.changes for task in plan.part(both, of_seed[2]).members] == of_seed[2]


def test_a_folder_named_without_the_seed_is_kept_when_others_are_chosen():
  """As names were of the chosen members alone."""
  everything = grid(data__sigma=(0.0, 0.2), seed=(0, 1))
  old = planned(everything[0], everything[2])
  assert names(old) == ['data.sigma=0.0', 'data.sigma=0.2']
  found = planned(*everything, chosen=[everything[1], everything[3]], before=old)
  sigmas = 'data.sigma=0.0', 'data.sigma=0.2'
  assert names(found) == [f'{sigma}{seed}' for sigma in sigmas for seed in ('', ',seed=1')]


def test_chosen_members_come_with_what_they_need():
  everything = grid(attack__epsilon=(0.03, 0.1), seed=(0, 1))
  chosen = [given for given in everything if given['seed'] == 1]
  found = planned(*everything)
  part = plan.part(found, chosen)
  assert len(shared(found, 'train_gan')) == 2 and len(shared(part, 'train_gan')) == 1
  assert {name for task in part.members for name in task.needs} | set(names(part)) == set(part.tasks)


def test_what_a_killed_launcher_was_writing_is_no_member(tmp_path):
  found = planned(*grid(seed=(0, 1)))
  plan.save_plan(tmp_path, found)
  half = plan.config_file(tmp_path, '').parent / '.seed=1.json.4711.tmp.json'
  other = plan.plan_file(tmp_path).with_name('.plan.json.4711.tmp.json')
  of_a_job = tmp_path / 'sweep' / 'state' / '.seed=1.json.4712.tmp.json'
  of_a_job.parent.mkdir()
  for file in (half, other, of_a_job):
    file.write_text('{"seed": ')
  assert plan.load_plan(tmp_path).configs.keys() == {'seed=0', 'seed=1'}
  plan.save_plan(tmp_path, found)
  assert [file.exists() for file in (half, other, of_a_job)] == [False, False, True]


def test_a_shared_stage_that_a_sweep_comes_back_to_is_as_it_was(tmp_path):
  first = planned(*grid(train__seed=(0, 1)))
  plan.save_plan(tmp_path, first)
  plan.save_plan(tmp_path, planned({'seed': 5}, before=plan.load_plan(tmp_path)))
  again = planned(*grid(train__seed=(2, 3)), before=plan.load_plan(tmp_path), at__epsilon=0.2)
  (gan,) = shared(again, 'train_gan')
  assert again.configs[gan] == first.configs[gan]


def test_a_shared_stage_keeps_its_folder_when_other_keys_of_its_members_change():
  before = planned(*grid(train__seed=(0, 1)))
  after = planned(*grid(train__seed=(2, 3)), before=before, train__num_epochs=3.0, checkpoint__seconds=9.0)
  (gan,) = shared(after, 'train_gan')
  assert gan in before.tasks
  assert fixed_keys(after.configs[gan]) == fixed_keys(before.configs[gan])
  assert after.configs[gan]['checkpoint']['seconds'] == 9.0


def test_a_shared_stage_of_before_a_key_keeps_its_configuration():
  """Its folder takes no other value of the key, though the stage does not depend on it."""
  before = planned(*grid(train__seed=(0, 1)))
  for config in before.configs.values():
    config['attack'].pop('ramp_steps', None)  # Some are one object.
  after = planned(*grid(train__seed=(2, 3)), before=before, attack__ramp_steps=5)
  (gan,) = shared(after, 'train_gan')
  assert after.configs[gan]['attack']['ramp_steps'] == 0


def test_members_of_before_a_key_keep_folders_and_hashes():
  now = planned(*grid(seed=(0, 1)))
  for config in now.configs.values():
    config['attack'].pop('ramp_steps', None)  # Some are one object.
  assert planned(*grid(seed=(0, 1)), before=now).tasks == now.tasks
  with pytest.raises(BadInputError, match='attack.ramp_steps is 0 there, 5 here; choose another --out'):
    planned(*grid(seed=(0, 1)), before=now, attack__ramp_steps=5)


def test_a_plan_whose_hashes_had_a_key_that_changes_nothing_keeps_its_folders():
  before = planned(*grid(seed=(0, 1)))
  for task in before.members:
    before.tasks[task.name] = task._replace(hash='with the key')
  assert names(planned(*grid(seed=(0, 1)), before=before)) == ['seed=0', 'seed=1']
