"""PyTorch in a process of its own: within one, both sides' threads and allocators got in each other's way."""

import multiprocessing
from multiprocessing.connection import Connection
from typing import Any, Self

from advmix_jax.bench import reference_cases
from advmix_jax.bench.timing import Fastest, Run
from advmix_jax.types import RunError


class TorchProcess:
  """Builds and runs cases in another process; every call waits for its end.

  Args:
    networks: sizes of the reference networks, which that process builds from the same seeds.
  """

  def __init__(self, networks: reference_cases.Networks):
    context = multiprocessing.get_context('spawn')
    self._pipe, theirs = context.Pipe()
    self._process = context.Process(target=_serve, args=(theirs, networks._asdict()), daemon=True)
    self._process.start()
    theirs.close()

  def __enter__(self) -> Self:
    return self

  def __exit__(self, *unused: object) -> None:
    self._process.terminate()
    self._process.join()

  def environment(self) -> dict[str, Any]:
    """Its version and threads."""
    found: dict[str, Any] = self._ask('environment')
    return found

  def matmul(self, size: int) -> Run:
    """A product of two matrices of that side."""
    self._ask('matmul', size)
    return lambda: self._ask('run')

  def fastest(self, name: str) -> Fastest | None:
    """The fastest variant of a case, warm; None if there is no such case in PyTorch."""
    found = self._ask('fastest', name)
    return found and Fastest(lambda: self._ask('run'), *found)

  def _ask(self, request: str, *arguments: Any) -> Any:
    """Raises `RunError`, with what went wrong there."""
    try:
      self._pipe.send((request, arguments))
      answer, error = self._pipe.recv()
    except (EOFError, ConnectionError):
      raise RunError(f'the process of PyTorch ended at {request!r}') from None
    if error:
      raise RunError(f'{request} {" ".join(map(str, arguments))} failed in the process of PyTorch: {error}')
    return answer


class _Requests:
  """What that process does; `run` runs what was built last."""

  def __init__(self, networks: reference_cases.Networks):
    from advmix_jax.torch_reference import cases

    self._cases = cases
    self._reference = reference_cases.Reference(networks)
    self._run: Run | None = None

  def environment(self) -> dict[str, Any]:
    return self._cases.environment()

  def matmul(self, size: int) -> None:
    self._run = self._cases.matmul(size)

  def fastest(self, name: str) -> tuple[str, dict[str, float | str]] | None:
    if name not in self._cases.BUILDERS:
      return None
    case = reference_cases.CASES[name](self._reference)
    self._run, variant, tried = self._cases.fastest(name, case, self._reference.networks)
    return variant, tried

  def run(self) -> None:
    assert self._run is not None
    self._run()


def _serve(pipe: Connection, sizes: dict[str, Any]) -> None:
  """Answers `(request, arguments)` with `(answer, error)`."""
  requests = _Requests(reference_cases.Networks(**sizes))
  while True:
    request, arguments = pipe.recv()
    try:
      pipe.send((getattr(requests, request)(*arguments), ''))
    except Exception as error:  # PyTorch raises many kinds; the other side ends with its text.
      pipe.send((None, f'{type(error).__name__}: {error}'))
