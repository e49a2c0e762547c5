"""Every command says with --help what it does."""

import pathlib
import runpy
import subprocess
import sys

import pytest

from launch import benchmark, check_data, common, convert, generate, summarise
from tests.command_line import PATIENCE, ROOT

ARGPARSE = {'benchmark': benchmark, 'check_data': check_data, 'convert': convert, 'generate': generate}
ARGPARSE |= {'summarise': summarise}
ABSL = ('diagnose', 'encode', 'evaluate', 'memory', 'pipeline', 'report', 'reproduce', 'scaling', 'sweep')
ABSL += ('train', 'train_gan')
NO_COMMANDS = {'__init__', 'allocation', 'attack_on_devices', 'common', 'config_file', 'cores', 'job'}
PROGRAM = """
import runpy, sys
from launch import common
common.end_when_asked = lambda: print('signals are heeded')
sys.argv = [sys.argv[1], sys.argv[2]]
runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)
"""


def test_these_are_all_commands():
  assert {path.stem for path in (ROOT / 'launch').glob('*.py')} - NO_COMMANDS == {*ARGPARSE, *ABSL}


@pytest.mark.parametrize('name', ABSL)
def test_help_is_what_the_module_says_and_its_flags(name):
  """Before jax is imported; a signal ends the command with a sentence from its start on."""
  word = '-h' if name == 'train' else '--help'
  done = subprocess.run(
    [sys.executable, '-c', PROGRAM, f'launch.{name}', word],
    cwd=ROOT,
    capture_output=True,
    text=True,
    timeout=PATIENCE,
  )
  assert done.returncode == 0 and done.stderr == '', done.stderr
  first, title, *lines = done.stdout.splitlines()
  assert first == 'signals are heeded'
  assert title == pathlib.Path(ROOT, 'launch', f'{name}.py').read_text().splitlines()[0].lstrip('"')
  flags = {'memory': '--classes', 'reproduce': '--slots', 'scaling': '--measure', 'sweep': '--seeds'}
  for flag in ('--config', '--workdir', flags.get(name, '--[no]dry_run')):
    assert any(line.strip().startswith(f'{flag}: ') for line in lines), flag


@pytest.mark.parametrize('name', ARGPARSE)
def test_help_of_the_others_is_argparses(name, capsys):
  with pytest.raises(SystemExit) as end:
    ARGPARSE[name].main(['--help'])
  assert end.value.code == 0 and f'launch.{name}' in capsys.readouterr().out


def test_a_signal_ends_summarise_with_a_sentence(monkeypatch, capsys):
  asked = []
  monkeypatch.setattr(common, 'end_when_asked', lambda: asked.append(True))
  monkeypatch.setattr(sys, 'argv', ['summarise', '--help'])
  monkeypatch.delitem(sys.modules, 'launch.summarise')
  with pytest.raises(SystemExit):
    runpy.run_module('launch.summarise', run_name='__main__')
  assert asked
