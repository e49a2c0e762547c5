"""Runs the tests on CPU with two simulated devices, strict broadcasting and no network."""

import functools
import importlib.metadata
import os
import pathlib
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator

os.environ.setdefault('JAX_PLATFORMS', 'cpu')
# Most of the time is compiling, here and in commands that tests start. With 0 they run the programs of users.
quick = os.environ.setdefault('JAX_DISABLE_MOST_OPTIMIZATIONS', '1') == '1'
if quick and importlib.metadata.version('jax').startswith('0.10.'):  # Later ones do not know these flags.
  flags = '--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1'
  os.environ['XLA_FLAGS'] = f'{os.environ.get("XLA_FLAGS", "")} {flags}'

import jax
import pytest
from absl.testing import flagsaver
from jax.experimental.compilation_cache import compilation_cache

from advmix_jax import parallel
from tests import command_line, pictures, slurm_cluster

# A file is tested by one process; these come first.
LONGEST = {'test_devices.py', 'test_pipeline.py', 'test_slurm_sweep.py', 'test_torch_reference.py'}

jax.config.update('jax_num_cpu_devices', 2)
jax.config.update('jax_numpy_rank_promotion', 'raise')


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
  """Of several processes none is left alone with minutes of work at the end."""
  items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
  """Refuses connections to other machines; this one's own addresses and sockets stay open."""
  connect = socket.socket.connect

  def guarded(self: socket.socket, address: object) -> None:
    is_local = self.family == socket.AF_UNIX or (
      isinstance(address, tuple) and address[0] in ('127.0.0.1', '::1', 'localhost')
    )
    if not is_local:
      raise OSError(f'tests do not use the network: {address}')
    connect(self, address)  # type: ignore[arg-type]

  def no_lookup(*unused_args: object, **unused_kwargs: object) -> None:
    raise OSError('tests do not use the network')

  lookup = socket.getaddrinfo
  monkeypatch.setattr(socket.socket, 'connect', guarded)
  monkeypatch.setattr(
    socket,
    'getaddrinfo',
    lambda host, *args, **kwargs: (
      lookup(host, *args, **kwargs) if host in ('127.0.0.1', '::1', 'localhost', None) else no_lookup()
    ),
  )


@pytest.fixture
def fresh_flags() -> Iterator[None]:
  """Flags that a call of the command sets are forgotten after the test."""
  with flagsaver.flagsaver():
    yield


@pytest.fixture(scope='module', autouse=True)
def programs_are_dropped() -> Iterator[None]:
  """A compiled program takes maps of memory; with those of all tests the system's limit would be reached.

  All devices are used again.
  """
  yield
  jax.clear_caches()
  parallel.use(0)


@pytest.fixture(scope='module')
def one_torch_thread() -> Iterator[None]:
  """PyTorch's threads spin while they wait for each other, which is slow beside other tests.

  Its own process is told by the environment.
  """
  torch = pytest.importorskip('torch', reason='the extra bench (PyTorch) is not installed')
  before = torch.get_num_threads()
  torch.set_num_threads(1)
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv('OMP_NUM_THREADS', '1')
    yield
  torch.set_num_threads(before)


@pytest.fixture(scope='module')
def double_precision() -> Iterator[None]:
  """For modules that compare programs which round differently, where Adam makes much of rounding.

  How they round depends on the processor.
  """
  jax.config.update('jax_enable_x64', True)
  yield
  jax.config.update('jax_enable_x64', False)


def _folder(variable: str) -> pathlib.Path:
  value = os.environ.get(variable, '')
  if not value:
    pytest.skip(f'${variable} is unset')
  path = pathlib.Path(value)
  if not path.is_dir():
    pytest.skip(f'${variable}: {value} is no folder')
  return path


@pytest.fixture(scope='session')
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
  """Of commands: all tests share a folder of compiled programs, and nothing else does."""
  folder = tmp_path_factory.getbasetemp()
  if 'PYTEST_XDIST_WORKER' in os.environ:
    folder = folder.parent  # Each worker has a folder in there.
  return os.environ | {'JAX_COMPILATION_CACHE_DIR': str(folder / 'compiled')}


@pytest.fixture(scope='module')
def compiled_once(environment: dict[str, str]) -> Iterator[None]:
  """For modules that make the same run several times: jax takes its programs from that folder as well."""
  jax.config.update('jax_compilation_cache_dir', environment['JAX_COMPILATION_CACHE_DIR'])
  compilation_cache.reset_cache()
  yield
  jax.config.update('jax_compilation_cache_dir', None)
  compilation_cache.reset_cache()


@pytest.fixture(scope='module')
def launch(environment: dict[str, str]) -> Callable[..., subprocess.CompletedProcess[str]]:
  """`launch(program, *flags)` runs `python -m launch.PROGRAM` to its end."""
  return functools.partial(command_line.run, environment)


@pytest.fixture(scope='session')
def cluster() -> Iterator[slurm_cluster.Cluster]:
  """A Slurm of two nodes on this machine; all that it starts is gone at the end."""
  with (
    tempfile.TemporaryDirectory(prefix='slurm') as folder,
    slurm_cluster.start(pathlib.Path(folder)) as running,
  ):
    yield running


@pytest.fixture
def split_folder(tmp_path: pathlib.Path) -> pathlib.Path:
  """Pictures of discs and crosses in folders: six of each to train with, three to test with."""
  return pictures.write_split(tmp_path / 'data', train=6, test=3)


@pytest.fixture
def cache_dir(tmp_path: pathlib.Path) -> pathlib.Path:
  """Where decoded pictures are kept; not there yet."""
  return tmp_path / 'cache'


@pytest.fixture(scope='session')
def data_dir() -> pathlib.Path:
  """Folder with the real data sets (`mnist/`, ...)."""
  return _folder('ADVMIX_DATA_DIR')


@pytest.fixture(scope='session')
def reference_dir() -> pathlib.Path:
  """Folder with the reference files of the official networks."""
  return _folder('ADVMIX_REFERENCE_DIR')


@pytest.fixture(scope='session')
def weights_dir() -> pathlib.Path:
  """Folder with weights of ImageNet networks."""
  return _folder('ADVMIX_WEIGHTS_DIR')
