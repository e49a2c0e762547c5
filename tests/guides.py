"""Follows a guide of docs/ to the letter, in a copy of the repository.

A block of code is used as the last line of words before it says: "New file `PATH`:" or "In `PATH`:". Of an
edit, ```diff, lines that begin with a space or a minus must stand in the file, once; a second block goes to
the same file. Blocks of commands, ```sh, are run in the copy; ```text shows what they print.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]
COPIED = ('advmix_jax', 'configs', 'launch', 'tests', 'pyproject.toml')
FENCE = re.compile(r'^```(\w*)\n(.*?)^```$', re.MULTILINE | re.DOTALL)
PLACE = re.compile(r'^(New file|In) `([^`]+)`:$')


class Guide:
  """A guide, and the copy of the repository in which it is followed.

  Attributes:
    folder: the copy.
    commands: blocks of commands, in order.
  """

  def __init__(self, name: str, folder: pathlib.Path):
    self.folder = folder
    self.commands: list[str] = []
    for part in COPIED:
      source = ROOT / part
      ignore = shutil.ignore_patterns('__pycache__')
      if source.is_dir():
        shutil.copytree(source, folder / part, ignore=ignore)
      else:
        shutil.copy(source, folder / part)
    text, end, place = (ROOT / 'docs' / name).read_text(), 0, ('', '')
    for block in FENCE.finditer(text):
      words = text[end : block.start()].split('\n\n')
      found = [match for line in words if (match := PLACE.match(line.strip()))]
      place = (found[-1][1], found[-1][2]) if found else place
      end = block.end()
      self._follow(block[1], block[2], *place)

  def _follow(self, kind: str, code: str, how: str, path: str) -> None:
    file = self.folder / path
    if kind == 'sh':
      self.commands.append(code)
    elif kind == 'text':
      pass
    elif kind == 'diff':
      assert how == 'In', path
      file.write_text(edited(file.read_text(), code))
    else:
      assert (kind, how) == ('python', 'New file'), f'{kind}: {how} {path}'
      assert not file.exists(), path
      file.write_text(code)

  def run(self, command: str, timeout: float) -> str:
    """Standard output of a block of commands, which must succeed."""
    python = pathlib.Path(sys.executable).parent
    environment = os.environ | {
      'PYTHONPATH': str(self.folder),
      'PATH': f'{python}{os.pathsep}{os.environ["PATH"]}',
    }
    done = subprocess.run(
      ['sh', '-ec', command],
      cwd=self.folder,
      env=environment,
      capture_output=True,
      text=True,
      timeout=timeout,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def edited(text: str, diff: str) -> str:
  """A file after an edit whose old lines stand in it once."""
  lines = [line if line else ' ' for line in diff.splitlines()]
  assert all(line[0] in ' +-' for line in lines), diff
  old = ''.join(f'{line[1:]}\n' for line in lines if line[0] != '+')
  new = ''.join(f'{line[1:]}\n' for line in lines if line[0] != '-')
  assert text.count(old) == 1, f'{text.count(old)} times:\n{old}'
  return text.replace(old, new)
