"""The guides of docs/, followed to the letter with something new: a method, a decoder, a data set."""

import pytest

from tests.guides import Guide, edited

GUIDES = ('adding_a_method.md', 'adding_a_decoder.md', 'adding_a_data_set.md')
SAYS = {
  'adding_a_method.md': ('2 passed',),
  'adding_a_decoder.md': ('misled: 0% of the images', 'wrote mixes.png'),
  'adding_a_data_set.md': ('npz: 64 training, 60 validation, 40 test images',),
}


@pytest.mark.parametrize('name', GUIDES)
def test_the_quick_commands_of_a_guide_work(name, tmp_path):
  """All but the runs."""
  guide = Guide(name, tmp_path)
  quick = [c for c in guide.commands if 'launch.pipeline' not in c or '--dry_run' in c]
  for command, says in zip(quick, SAYS[name], strict=True):
    assert says in guide.run(command, timeout=300)


@pytest.mark.slow
@pytest.mark.parametrize('name', GUIDES)
def test_all_commands_of_a_guide_work(name, tmp_path):
  """Those of minutes; a run on digits is one of smoke with other sizes."""
  guide = Guide(name, tmp_path)
  said = [guide.run(command, timeout=900) for command in guide.commands if 'digits.py' not in command]
  measured = 'swapmix' if name == 'adding_a_method.md' else 'advmix'
  assert measured in said[-1] and 'report/index.html' in said[-1]


def test_an_edit_must_fit_its_file_once():
  assert edited('a\nb\nc\n', ' a\n-b\n+x\n+y\n c\n') == 'a\nx\ny\nc\n'
  with pytest.raises(AssertionError, match='0 times'):
    edited('a\nb\n', ' a\n-c\n')
  with pytest.raises(AssertionError, match='2 times'):
    edited('a\na\n', '-a\n+b\n')
