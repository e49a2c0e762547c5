"""The API reference: built from the docstrings without a warning, and the docstrings say what is there."""

import ast
import pathlib
import re
import shlex
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
SOURCES = sorted((ROOT / 'advmix_jax').rglob('*.py'))
Function = ast.FunctionDef | ast.AsyncFunctionDef


def test_it_is_built_without_warnings(tmp_path):
  """By the command that docs/README.md gives."""
  pytest.importorskip('pdoc', reason="needs the extra 'docs'")
  (command,) = re.findall(r'^python .*-m pdoc .*$', (ROOT / 'docs/README.md').read_text(), re.MULTILINE)
  program, *arguments = shlex.split(command)
  assert program == 'python'
  arguments[arguments.index('site/api')] = str(tmp_path)
  done = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  page = (tmp_path / 'advmix_jax' / 'attack.html').read_text()
  assert 'latent_attack' in page and 'num_restarts' in page
  written = {path.relative_to(tmp_path).with_suffix('').as_posix() for path in tmp_path.rglob('*.html')}
  named = {path.relative_to(ROOT).with_suffix('').as_posix().removesuffix('/__init__') for path in SOURCES}
  left_out = {name for name in named if name.startswith('advmix_jax/torch_reference')}  # Needs another extra.
  assert named - left_out <= written


def public(body: list[ast.stmt], prefix: str = '') -> list[tuple[str, ast.ClassDef | Function]]:
  """Classes and functions that are not private, and their methods, with their names."""
  found: list[tuple[str, ast.ClassDef | Function]] = []
  for node in body:
    if isinstance(node, ast.ClassDef | Function) and not node.name.startswith('_'):
      found.append((prefix + node.name, node))
      if isinstance(node, ast.ClassDef):
        found += public(node.body, f'{prefix}{node.name}.')
  return found


@pytest.mark.parametrize('path', SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_modules_and_classes_say_what_they_are_and_arguments_described_exist(path):
  tree = ast.parse(path.read_text())
  if tree.body:
    assert ast.get_docstring(tree), 'the module says nothing'
  for name, node in public(tree.body):
    text = ast.get_docstring(node)
    if isinstance(node, ast.ClassDef):
      assert text, f'{name} says nothing'
      continue
    arguments = node.args
    given = {a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)}
    given |= {a.arg for a in (arguments.vararg, arguments.kwarg) if a}
    assert not described(text or '') - given, name


def described(docstring: str) -> set[str]:
  """Names of the arguments under `Args:` in Google's style, several at once as `a, b: ...`."""
  section = re.search(r'^Args:\n((?:(?:  .*)?\n)*(?:  .*)?)', docstring, re.MULTILINE)
  if not section:
    return set()
  names = re.findall(r'^  (\w+(?:, \w+)*):', section[1], re.MULTILINE)
  return {name for group in names for name in group.split(', ')}
