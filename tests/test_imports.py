"""Imports run one way, cost nothing, and reach neither the network nor foreign code."""

import ast
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / 'advmix_jax'
SOURCES = {p.relative_to(ROOT).with_suffix('').as_posix().replace('/', '.'): p for p in PACKAGE.rglob('*.py')}
SOURCES = {name.removesuffix('.__init__'): path for name, path in SOURCES.items()}

BASE = ('types', 'ranges')
ALGORITHMS = (*BASE, 'mixing', 'projection', 'attack', 'encoding')
# What a module, or every module of a folder, may import from the package; a folder stands for all within it.
# The first entry that fits counts.
ALLOWED = {
  'types': (),
  'ranges': (),
  'projection': BASE,
  'mixing': (*BASE, 'projection'),
  'attack': (*BASE, 'projection', 'mixing'),
  'encoding': (*BASE, 'projection', 'mixing'),
  'threads': (),
  'models': (*BASE, 'models', 'threads'),
  'micro_batch': BASE,
  'methods': (*ALGORITHMS, 'micro_batch'),
  'slot_queue': BASE,
  'refill': (*BASE, 'projection', 'mixing', 'attack', 'slot_queue'),
  'evaluation': (*BASE, 'refill', 'slot_queue'),
  'attack_trace': (*BASE, 'projection', 'attack', 'refill', 'batched'),
  'curvature': (*BASE, 'mixing', 'encoding'),
  'encode_refill': (*BASE, 'mixing', 'encoding', 'slot_queue'),
  # Beside the column.
  'hosts': (*BASE, 'interruption'),
  'parallel': (*BASE, 'hosts', 'interruption'),
  'batched': (),
  'progress': (*BASE, 'hosts'),
  'interruption': BASE,
  'watchdog': BASE,
  'config_keys': (),
  'process_identity': (),
  'run_lock': (*BASE, 'interruption', 'process_identity'),
  'workdir': (*BASE, 'config_keys', 'hosts', 'parallel', 'run_lock', 'threads'),
  'data': (*BASE, 'data', 'interruption', 'progress', 'workdir'),  # Decoding takes minutes and writes a file.
  'interop': (*BASE, 'interop', 'models', 'workdir'),
  'report': (*BASE, 'report', 'workdir'),
  'network_check': (*BASE, 'interop.generator_folder', 'interop.vgg16_weights', 'models', 'training.growth'),
  'config_check': (
    *ALGORITHMS,
    'config_keys',
    'data',
    'methods',
    'models',
    'network_check',
    'parallel',
    'toy',
    'training.adam',
    'training.gan_losses',
  ),
  # Above it.
  'training.loop': (
    *(*BASE, 'training.checkpoint', 'training.prefetch', 'interruption', 'progress', 'watchdog', 'workdir'),
  ),
  'training.prefetch': (),
  'training.checkpoint': (*BASE, 'hosts', 'run_lock'),
  'training.growth': (),
  'training.adam': (),
  'training.gan_losses': BASE,
  'training.path_length': (*BASE, 'micro_batch'),
  'training.gan_state': (*BASE, 'models', 'training.path_length'),
  'training.style_mixing': (*BASE, 'models', 'training.gan_state'),
  'training.gan': (
    *ALGORITHMS,
    'micro_batch',
    'models',
    'training.gan_losses',
    'training.gan_state',
    'training.path_length',
    'training.style_mixing',
  ),
  'training': (*ALGORITHMS, 'micro_batch', 'models', 'methods'),
  'toy': ('types', 'ranges', 'mixing'),
  'stages': ('',),
  'sweep': (
    *(*BASE, 'sweep', 'config_keys', 'interruption', 'methods', 'process_identity', 'progress', 'report'),
    'workdir',
  ),
  'paper': (
    *(*BASE, 'paper', 'config_keys', 'methods', 'progress', 'report', 'stages.clock', 'sweep', 'workdir'),
  ),
  'latents': (*BASE, 'interop.array_files', 'interop.floats', 'interop.generator_folder'),
  'generate': (
    *(*BASE, 'latents', 'interop.generator_folder', 'models', 'interruption', 'progress', 'report'),
    'workdir',
  ),
  'bench.reference_cases': ('',),
  'bench.equal_quality': ('',),
  'bench.measurement': (*BASE, 'bench', 'torch_reference', 'workdir'),
  'bench': (
    *BASE,
    'attack',
    'bench',
    'config_keys',
    'parallel',
    'report',
    'slot_queue',
    'stages',
    'workdir',
  ),
  'torch_reference.cases': (*BASE, 'bench', 'mixing', 'torch_reference'),
  'torch_reference.process': (*BASE, 'bench', 'torch_reference'),
  'torch_reference': ('torch_reference',),
}


def imported(path: pathlib.Path) -> set[str]:
  """Modules that a file imports, anywhere in it, by their whole names."""
  found = set()
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      found |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, f'{path}: relative import'
      names = {f'{node.module}.{alias.name}' for alias in node.names}
      found |= {name if name in SOURCES else node.module for name in names}
  return found


def within(name: str, folder: str) -> bool:
  return not folder or name == folder or name.startswith(f'{folder}.')


@pytest.mark.parametrize('name', sorted(SOURCES))
def test_a_module_imports_only_what_is_below_it(name):
  own = name.removeprefix('advmix_jax').removeprefix('.')
  ours = {
    i.removeprefix('advmix_jax.')
    for i in imported(SOURCES[name])
    if within(i, 'advmix_jax') and i != 'advmix_jax'
  }
  rule = next((rule for rule in ALLOWED if within(own, rule)), None)
  if not own:
    assert not ours
    return
  assert rule is not None, f'{name} has no entry in ALLOWED'
  wrong = {i for i in ours if not any(within(i, allowed) for allowed in ALLOWED[rule])}
  assert not wrong, f'{name} imports {sorted(wrong)}'


@pytest.mark.parametrize('name', sorted(SOURCES))
def test_nothing_below_the_commands_knows_commands_or_configurations(name):
  assert not {
    i for i in imported(SOURCES[name]) if within(i, 'launch') or within(i, 'configs') or within(i, 'tests')
  }


def test_the_rules_have_no_dead_entries():
  names = {name.removeprefix('advmix_jax.') for name in SOURCES}
  assert not {rule for rule in ALLOWED if not any(within(name, rule) for name in names)}


NETWORK = ('socket', 'ssl', 'http', 'urllib', 'ftplib', 'smtplib', 'requests', 'urllib3', 'aiohttp', 'httpx')
DOWNLOADS = {'advmix_jax.data.mnist'}  # Only when asked to.


@pytest.mark.parametrize('name', sorted(SOURCES.keys() - DOWNLOADS))
def test_no_module_reaches_for_the_network(name):
  found = {i for i in imported(SOURCES[name]) if any(within(i, module) for module in NETWORK)}
  assert not found - {'urllib.parse'}


def called(path: pathlib.Path) -> set[str]:
  """Functions that a file calls, by their dotted names, and the arguments `allow_pickle=True` among them."""
  found = set()
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Call):
      found.add(ast.unparse(node.func))
      found |= {ast.unparse(k) for k in node.keywords if k.arg == 'allow_pickle'}
  return found


@pytest.mark.parametrize('name', sorted(SOURCES))
def test_no_module_runs_what_it_reads(name):
  forbidden = {
    'eval', 'exec', 'compile', '__import__', 'os.system', 'allow_pickle=True',
    'pickle.load', 'pickle.loads', 'pickle.Unpickler', 'marshal.loads', 'torch.load',
  }  # fmt: skip
  assert not called(SOURCES[name]) & forbidden


LAUNCH = {f'launch.{path.stem}': path for path in (ROOT / 'launch').glob('*.py')}
KNOW_DEVICES = {'advmix_jax.parallel', 'advmix_jax.hosts', 'advmix_jax.threads'}  # The last counts them.


@pytest.mark.parametrize('name', sorted((SOURCES | LAUNCH).keys() - KNOW_DEVICES))
def test_one_module_knows_devices_and_one_processes(name):
  own = {'devices', 'local_devices', 'device_count', 'local_device_count', 'pmap', 'shard_map', 'make_mesh'}
  own |= {'process_index', 'process_count', 'distributed.initialize', 'sharding.Mesh'}
  path = (SOURCES | LAUNCH)[name]
  assert not called(path) & {f'jax.{function}' for function in own}
  places = ('jax.sharding', 'jax.distributed', 'jax.experimental', 'jax._src')
  assert not {i for i in imported(path) if any(within(i, place) for place in places)}


TORCH = 'advmix_jax.torch_reference'  # Needs an extra; imported only when asked for.


@pytest.mark.parametrize('name', sorted(SOURCES))
def test_only_the_comparison_imports_torch(name):
  assert within(name, TORCH) or not {i for i in imported(SOURCES[name]) if within(i, 'torch')}


def test_importing_everything_does_no_work():
  """No jax backend is started: none of this name exists. Large libraries wait until they are needed."""
  modules = [name for name in sorted(SOURCES) if not within(name, TORCH)]
  program = f'import importlib\nfor name in {modules!r}: importlib.import_module(name)\nprint("imported")\n'
  late = {'sklearn', 'scipy', 'tensorboardX', 'torch', 'tensorflow'}
  program += f'import sys\nassert not {late} & set(sys.modules)'
  environment = os.environ | {'JAX_PLATFORMS': 'no_such_platform', 'PYTHONPATH': str(ROOT)}
  done = subprocess.run(
    [sys.executable, '-c', program], capture_output=True, text=True, env=environment, cwd=ROOT
  )
  assert done.returncode == 0, done.stderr
  assert done.stdout == 'imported\n'  # And nothing is printed.
