"""Headless Chromium, driven through its own protocol over two pipes: no packages, no ports, no network.

with browser.start(browser.find()) as page:
  page.open(path_of_a_file)
  page.press('ArrowRight')
  assert page.value('document.title') == 'AdvMix on digits'
  assert not page.complaints
"""

import base64
import contextlib
import json
import os
import pathlib
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

NAMES = ('chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable')
PATIENCE = 60  # Seconds for one answer; on an idle machine it takes milliseconds.
FLAGS = (
  *('--headless', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--no-first-run'),
  *(
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
    '--disable-extensions',
  ),
  *('--host-resolver-rules=MAP * ~NOTFOUND', '--remote-debugging-pipe', 'about:blank'),
)
# Chromium reads commands from file descriptor 3 and answers on 4.
LAUNCHER = """
import fcntl, os, sys
read, write = (fcntl.fcntl(int(number), fcntl.F_DUPFD, 10) for number in sys.argv[1:3])
os.dup2(read, 3), os.dup2(write, 4)
os.execvp(sys.argv[3], sys.argv[3:])
"""
KEYS = {
  **{'ArrowLeft': 37, 'ArrowUp': 38, 'ArrowRight': 39, 'ArrowDown': 40},
  **{'Home': 36, 'End': 35, 'Tab': 9, 'Enter': 13, ' ': 32},
}


def find() -> str | None:
  """The program, if there is one."""
  return next((found for name in NAMES if (found := shutil.which(name))), None)


class Page:
  """The one page of a browser.

  Attributes:
    complaints: what it wrote to its console, errors that no script caught, and requests for anything but
      files and data.
  """

  def __init__(self, commands: int, answers: int):
    self.complaints: list[str] = []
    self._commands, self._answers = commands, answers
    self._buffer, self._number, self._loaded, self._session = b'', 0, False, ''
    (target,) = [t for t in self._call('Target.getTargets')['targetInfos'] if t['type'] == 'page']
    attached = self._call('Target.attachToTarget', targetId=target['targetId'], flatten=True)
    self._session = attached['sessionId']
    for domain in ('Page', 'Runtime', 'Log', 'Network'):
      self._call(f'{domain}.enable')

  def open(self, path: pathlib.Path, width: int = 1280, height: int = 900, **media: str) -> None:
    """Loads a file and waits until it and its explorer, if it has one, stand.

    Args:
      path: of the file.
      width, height: of the window, in pixels.
      media: features, such as `prefers_color_scheme='dark'`.
    """
    size = {'width': width, 'height': height, 'deviceScaleFactor': 1, 'mobile': False}
    self._call('Emulation.setDeviceMetricsOverride', **size)
    features = [{'name': name.replace('_', '-'), 'value': value} for name, value in media.items()]
    self._call('Emulation.setEmulatedMedia', features=features)
    self._loaded = False
    self._call('Page.navigate', url=path.absolute().as_uri())
    deadline = time.monotonic() + PATIENCE
    while not self._loaded and time.monotonic() < deadline:
      self._receive(deadline)
    self.wait("!document.getElementById('explorer')?.hidden")

  def value(self, expression: str) -> Any:
    """What an expression of JavaScript gives."""
    found = self._call('Runtime.evaluate', expression=expression, returnByValue=True, awaitPromise=True)
    assert 'exceptionDetails' not in found, found
    return found['result'].get('value')

  def wait(self, condition: str) -> None:
    """Until an expression holds."""
    deadline = time.monotonic() + PATIENCE
    while not self.value(f'Boolean({condition})'):
      assert time.monotonic() < deadline, f'{condition} does not come true'
      time.sleep(0.02)

  def click(self, selector: str) -> None:
    """Presses the mouse in the middle of an element, whatever lies there."""
    element = f'document.querySelector({json.dumps(selector)})'
    self.value(f"{element}.scrollIntoView({{block: 'center'}})")
    box = self.value(
      f'(({{x, y, width, height}}) => [x + width / 2, y + height / 2])({element}.getBoundingClientRect())'
    )
    for kind in ('mousePressed', 'mouseReleased'):
      self._call('Input.dispatchMouseEvent', type=kind, x=box[0], y=box[1], button='left', clickCount=1)

  def press(self, key: str) -> None:
    """Presses a key where the focus is."""
    for kind in ('rawKeyDown', 'keyUp'):
      self._call('Input.dispatchKeyEvent', type=kind, key=key, code=key, windowsVirtualKeyCode=KEYS[key])

  def choose(self, selector: str, words: str) -> None:
    """Chooses the option of a select that begins with these words."""
    self.value(
      f"""(() => {{
        const select = document.querySelector({json.dumps(selector)});
        const option = [...select.options].find((o) => o.textContent.startsWith({json.dumps(words)}));
        select.value = option.value;
        select.dispatchEvent(new Event('change', {{ bubbles: true }}));
      }})()"""
    )

  def screenshot(self, *, whole: bool = True) -> bytes:
    """A PNG of the window, or of the whole page."""
    found = self._call('Page.captureScreenshot', captureBeyondViewport=whole, **self._clip(whole))
    return base64.b64decode(found['data'])

  def show_as(self, medium: str) -> None:
    """Applies the styles of a medium, 'print' or 'screen'."""
    self._call('Emulation.setEmulatedMedia', media=medium)

  def print(self) -> bytes:
    """A PDF of the page as it is printed."""
    return base64.b64decode(self._call('Page.printToPDF', printBackground=False)['data'])

  def _clip(self, whole: bool) -> dict[str, Any]:
    if not whole:
      return {}
    size = self._call('Page.getLayoutMetrics')['cssContentSize']
    return {'clip': {'x': 0, 'y': 0, 'width': size['width'], 'height': size['height'], 'scale': 1}}

  def _call(self, method: str, **given: Any) -> dict[str, Any]:
    self._number += 1
    message = {'id': self._number, 'method': method, 'params': given}
    message |= {'sessionId': self._session} if self._session else {}
    text = json.dumps(message).encode() + b'\0'
    while text:
      text = text[os.write(self._commands, text) :]
    deadline = time.monotonic() + PATIENCE
    while True:
      answer = self._receive(deadline)
      if answer.get('id') == self._number:
        assert 'error' not in answer, (method, answer)
        return answer['result']

  def _receive(self, deadline: float) -> dict[str, Any]:
    """The next message; events are noted."""
    while b'\0' not in self._buffer:
      ready, _, _ = select.select([self._answers], [], [], max(0.0, deadline - time.monotonic()))
      part = os.read(self._answers, 1 << 20) if ready else b''
      assert part, 'the browser does not answer'
      self._buffer += part
    text, self._buffer = self._buffer.split(b'\0', 1)
    message = json.loads(text)
    self._note(message.get('method', ''), message.get('params', {}))
    return message

  def _note(self, event: str, given: dict[str, Any]) -> None:
    if event == 'Page.loadEventFired':
      self._loaded = True
    elif event in ('Runtime.exceptionThrown', 'Runtime.consoleAPICalled', 'Log.entryAdded'):
      self.complaints.append(json.dumps(given))
    elif event == 'Network.requestWillBeSent' and not given['request']['url'].startswith(('file:', 'data:')):
      self.complaints.append(f'request for {given["request"]["url"]}')


@contextlib.contextmanager
def start(program: str) -> Iterator[Page]:
  """A browser with an empty page, gone at the end."""
  with contextlib.ExitStack() as stack:
    profile = stack.enter_context(tempfile.TemporaryDirectory(prefix='chromium', ignore_cleanup_errors=True))
    (command_end, commands), (answers, answer_end) = os.pipe(), os.pipe()
    launcher = [sys.executable, '-c', LAUNCHER, str(command_end), str(answer_end)]
    process = subprocess.Popen(
      [*launcher, program, f'--user-data-dir={profile}', *FLAGS],
      pass_fds=(command_end, answer_end),
      stdout=subprocess.DEVNULL,
      stderr=subprocess.DEVNULL,
      start_new_session=True,
    )
    os.close(command_end), os.close(answer_end)
    try:
      yield Page(commands, answers)
    finally:
      os.close(commands)  # Chromium ends with its pipe.
      try:
        process.wait(10)
      except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
      os.close(answers)
