"""What the documentation names is there: functions, keys, commands, flags, files, errors."""

import ast
import functools
import pathlib
import re

import pytest
from ml_collections import ConfigDict

from configs import default, toy
from launch.config_file import ConfigFile

ROOT = pathlib.Path(__file__).parents[1]
PAGES = sorted([ROOT / 'README.md', *(ROOT / 'docs').glob('*.md')])
PROGRAMS = [path for folder in ('advmix_jax', 'launch', 'tests') for path in (ROOT / folder).rglob('*.py')]
EXAMPLES = {'advmix_jax/data/npz.py', 'advmix_jax/models/ink.py', 'configs/shapes.py'}  # Made by the guides.
OTHERS_FLAGS = {  # Of srun, sbatch, pdoc, ruff and XLA.
  'docformat', 'fix', 'gpus', 'gpus-per-node', 'gpus-per-task', 'kill-on-bad-exit', 'nodes',
  'ntasks-per-node', 'requeue', 'time', 'xla_gpu_deterministic_ops',
}  # fmt: skip
FILE = re.compile(r'\.(py|md|json|jsonl|csv|npz|png|html|txt|toml|pkl|sh|zip|safetensors|pth|h5)$')
ARGUMENTS = {'state': 'types.TrainState', 'batch': 'types.Batch'}  # In docs/adding_a_method.md.
each_page = pytest.mark.parametrize('page', PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


def prose(page: pathlib.Path) -> str:
  """A page without its blocks of code."""
  return re.sub(r'^```.*?^```$', '', page.read_text(), flags=re.MULTILINE | re.DOTALL)


def spans(page: pathlib.Path) -> list[str]:
  """What stands in code type within its words."""
  return re.findall(r'`([^`\n]+)`', prose(page))


@functools.cache
def keys() -> set[str]:
  """Keys of the configuration, and their groups."""

  def below(config: ConfigDict, prefix: str) -> set[str]:
    found = {f'{prefix}{key}' for key in config}
    groups = {key: value for key, value in config.items() if isinstance(value, ConfigDict)}
    return found.union(*(below(value, f'{prefix}{key}.') for key, value in groups.items()))

  return below(default.get_config(), '') | below(toy.get_config(), '')


@functools.cache
def programs() -> str:
  """The source of everything."""
  return '\n'.join(path.read_text() for path in PROGRAMS)


@functools.cache
def members(body: tuple[ast.stmt, ...]) -> dict[str, tuple[ast.stmt, ...]]:
  """Names that statements define or import, and what stands within them."""
  found: dict[str, tuple[ast.stmt, ...]] = {}
  for node in body:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
      found[node.name] = tuple(node.body) if isinstance(node, ast.ClassDef) else ()
    elif isinstance(node, ast.Import | ast.ImportFrom):
      found |= dict.fromkeys((alias.asname or alias.name for alias in node.names), ())
    elif isinstance(node, ast.Assign | ast.AnnAssign):
      targets = node.targets if isinstance(node, ast.Assign) else [node.target]
      found |= dict.fromkeys((target.id for target in targets if isinstance(target, ast.Name)), ())
  return found


def resolves(name: str) -> bool:
  """Whether a dotted name is a module or something in one; `advmix_jax.` and `configs.` may be left out.

  Nothing is imported.
  """
  first, _, rest = name.partition('.')
  if first in ARGUMENTS:
    name = f'{ARGUMENTS[first]}.{rest}'
  for place in ('', 'advmix_jax.', 'configs.'):
    parts = f'{place}{name}'.split('.')
    for i in range(len(parts), 0, -1):
      path = ROOT.joinpath(*parts[:i])
      file = path / '__init__.py' if path.is_dir() else path.with_suffix('.py')
      if not file.exists():
        continue
      body = tuple(ast.parse(file.read_text()).body)
      for part in parts[i:]:
        if part not in members(body):
          break
        body = members(body)[part]
      else:
        return True
      break
  return False


@each_page
def test_dotted_names_are_functions_or_keys(page):
  for span in spans(page):
    name = re.sub(r'\(.*\)$|=.*$', '', span)
    if re.fullmatch(r'[a-z_]\w*(\.\w+)+(\.\*)?', name):
      key = name.removeprefix('config.').removesuffix('.*')
      assert FILE.search(name) or key in keys() or resolves(name), f'{name} is neither'


@each_page
def test_flags_exist(page):
  text = page.read_text()
  for key in set(re.findall(r'--config\.([\w.]+)', text)):
    assert key == 'key' or key in keys(), f'--config.{key}'
  for flag in set(re.findall(r'(?<![\w-])--([a-z][\w-]+)', text)) - OTHERS_FLAGS - {'config'}:
    assert f'--{flag}' in programs() or f"'{flag}'" in programs(), f'--{flag}'


@each_page
def test_commands_exist(page):
  for name in set(re.findall(r'\b((?:launch|tests)\.[a-z_]\w*)', page.read_text())):
    assert resolves(name), name


@each_page
def test_files_exist(page):
  text = page.read_text()
  for name in set(re.findall(r'\b(?:advmix_jax|configs|docs|launch|tests)/[\w/]+\.\w+', text)) - EXAMPLES:
    assert (ROOT / name).exists(), name
  for link in set(re.findall(r'\]\(([^)#:]+)\)', prose(page))):
    assert (page.parent / link).resolve().exists(), f'link to {link}'


@each_page
def test_configurations_have_the_variants_named(page):
  for name in set(re.findall(r'\bconfigs/[\w/]+\.py(?::\w+)?', page.read_text())) - EXAMPLES:
    ConfigFile().parse(str(ROOT / name))


def sentences() -> list[str]:
  """The constant parts of everything that the programs may say."""
  trees = [ast.parse(path.read_text()) for path in PROGRAMS if not path.is_relative_to(ROOT / 'tests')]
  nodes = (node for tree in trees for node in ast.walk(tree))
  return [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]


def test_the_errors_explained_are_raised():
  headings = re.findall(r'^### `(.+)`$', (ROOT / 'docs/troubleshooting.md').read_text(), re.MULTILINE)
  assert len(headings) > 10
  said = '\n'.join(sentences())
  for heading in headings:
    for part in filter(None, (part.strip() for part in heading.split('…'))):
      assert part in said, f'{part!r} of {heading!r}'
