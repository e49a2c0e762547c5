"""Files that want to run something or to fill the memory: refused in one sentence, at once, nothing run."""

import os
import pickle
import struct
import tracemalloc

import numpy as np
import pytest

from advmix_jax.interop.official import read_official
from advmix_jax.types import BadInputError
from tests import official_files as files
from tests.work import counted_calls

CALLS = 5_000_000  # Less than a second.
BYTES = 1 << 26  # Of memory, for files of at most a few million bytes.


def text(value):
  return b'\x8c' + bytes([len(value)]) + value.encode()


def name(module, attribute):
  return text(module) + text(attribute) + b'\x93'


def raw(instructions, protocol=4):
  return b'\x80' + bytes([protocol]) + instructions + b'.'


def dtype(code='f4'):
  return name('numpy', 'dtype') + text(code) + b'\x89\x88\x87R'


def frombuffer(data, shape):
  """An array as protocol 5 writes it; `data` and `shape` are instructions."""
  return name('numpy._core.numeric', '_frombuffer') + b'(' + data + dtype() + shape + text('C') + b'tR'


def shell(marker):
  return pickle.dumps(files.Call(os.system, f'touch {marker}'), 4)


def torch_file(marker, **forged):
  """The official file whose first tensor's storage is forged."""
  content = files.storage_bytes(np.zeros(4, np.float32), **forged)
  return generator_with(files.tensor(np.zeros(4, np.float32), content=content))


def generator_with(tensor):
  return files.dump(files.ada(files.module('Generator', {'weight': tensor})))


def forged_tensor(**forged):
  return generator_with(files.tensor(np.zeros((2, 3), np.float32), **forged))


def inner(content):
  return generator_with(files.tensor(np.zeros(4, np.float32), content=content))


def record(**changes):
  made = files.network('G', 'G_style', {})
  made.__dict__.update(changes)
  return files.dump((made, made, made))


def nested_tuples(levels):
  """A value of `2 ** levels` leaves in a few bytes for each level."""
  return b')\x94' + b''.join(b'0h' + bytes([i]) + b'h' + bytes([i]) + b'\x86\x94' for i in range(levels))


def many_arrays(count):
  """One array of a million bytes, listed `count` times."""
  once = frombuffer(b'\x8e' + struct.pack('<Q', 1 << 20) + bytes(1 << 20), b'J\x00\x00\x04\x00\x85') + b'\x94'
  return raw(b'](' + once + b'h\x00' * count + b'e', 5)


# The file's content given the path of a file that must not appear, and some words of the refusal.
HOSTILE = {
  'a call of os.system': (shell, 'system, which is not allowed'),
  'a call of eval': (
    lambda m: raw(name('builtins', 'eval') + text(f'open("{m}", "w")') + b'\x85R'),
    'builtins.eval, which is not allowed',
  ),
  'eval by the old spelling': (
    lambda m: raw(b'c__builtin__\neval\n' + text(f'open("{m}", "w")') + b'\x85R', 2),
    '__builtin__.eval, which is not allowed',
  ),
  'getattr': (lambda m: raw(name('builtins', 'getattr')), 'builtins.getattr, which is not allowed'),
  'a dotted name': (
    lambda m: raw(name('numpy', 'ndarray.__init__.__globals__')),
    'numpy.ndarray.__init__.__globals__, which is not allowed',
  ),
  'a name of numpy that loads files': (lambda m: raw(name('numpy', 'load')), 'numpy.load, which is not'),
  'a name with line breaks': (lambda m: raw(name('os', 'x\n\x1b[2J')), r'os.x\\n\\x1b'),
  'an old instruction for objects': (lambda m: raw(b'(' + text('ls') + b'ios\nsystem\n'), "b'i'"),
  'the other old one': (lambda m: raw(b'(' + text('ls') + b'o'), "instruction b'o'"),
  'an extension': (lambda m: raw(b'\x82\x01'), 'instruction'),
  'an extension of four bytes': (lambda m: raw(b'\x84\x01\x00\x00\x00'), 'instruction'),
  'a persistent id': (lambda m: raw(text('x') + b'Q'), 'persistent id'),
  'a persistent id in text': (lambda m: raw(b'Px\n'), 'instruction'),
  'a buffer from outside': (lambda m: raw(b'\x97', 5), 'instruction'),
  'protocol 0': (lambda m: b'cos\nsystem\n(S"ls"\ntR.', 'does not begin like a pickle'),
  'an unknown protocol': (lambda m: raw(b'N', 9), 'protocol 9'),
  'a state for a dictionary': (lambda m: raw(b'}}b'), 'a state to a value of type dict'),
  'a state for an array': (
    lambda m: raw(frombuffer(b'C\x04abcd', b'K\x01\x85') + b'}b', 5),
    'a state to a value of type ndarray',
  ),
  'a state for a class': (lambda m: raw(name('dnnlib.util', 'EasyDict') + b'}b'), 'a state to a value of'),
  'a state for a function': (lambda m: raw(name('numpy', 'dtype') + b'}b'), 'a state is given to a function'),
  'a new object with arguments': (
    lambda m: raw(name('dnnlib.util', 'EasyDict') + b'}\x85\x81'),
    'arguments to a new',
  ),
  'a call of text': (lambda m: raw(text('os.system') + b')R'), 'no allowed function'),
  'a dtype of objects': (lambda m: raw(dtype('O8')), "'O8', which is not numeric"),
  'an array of objects': (lambda m: pickle.dumps(np.array([{}], object), 4), 'not numeric'),
  'too few bytes': (
    lambda m: raw(frombuffer(b'C\x04abcd', b'K\x02\x85'), 5), '4 bytes where 8 are needed',
  ),
  'a negative shape': (
    lambda m: raw(frombuffer(b'C\x04abcd', b'J\xff\xff\xff\xffJ\xff\xff\xff\xff\x86'), 5), 'the shape',
  ),
  'an enormous shape': (
    lambda m: raw(frombuffer(b'C\x00', b'K\x00\x8a\x08' + b'\xff' * 7 + b'\x7f\x86'), 5), 'the shape',
  ),
  'bytes that are announced only': (lambda m: raw(b'\x8e' + struct.pack('<Q', 1 << 40)), 'inside of a value'),
  'text that is announced only': (lambda m: raw(b'\x8d' + struct.pack('<Q', 1 << 23)), 'inside of a value'),
  'a frame that is announced only': (lambda m: raw(b'\x95' + struct.pack('<Q', 1 << 50)), 'announces'),
  'an enormous number': (lambda m: raw(b'\x8b' + struct.pack('<i', 1 << 30)), 'a whole number'),
  'a far place in the memo': (lambda m: raw(b'Nr\xff\xff\xff\x7fj\xff\xff\xff\x70'), 'which is not there'),
  'values doubled thirty times': (lambda m: raw(nested_tuples(30)), 'holds itself'),
  'doubled values as a key': (lambda m: raw(b'}' + nested_tuples(60) + b'Ns'), 'a key that is no text'),
  'doubled values in a set': (lambda m: raw(b'\x8f(' + nested_tuples(60) + b'\x90'), 'that is no text'),
  'a hundred thousand nested lists': (lambda m: raw(b']' * 100_000 + b'a' * 99_999), 'nested too deeply'),
  'a list that holds itself': (lambda m: raw(b']\x94h\x00a'), 'holds itself'),
  'millions of instructions': (lambda m: raw(b'N0' * 3_000_000), 'instructions'),
  'an array listed a hundred times': (lambda m: many_arrays(100), 'far more than the file'),
  'one text made bytes again and again': (
    lambda m: raw(
      b'X' + struct.pack('<I', 1 << 20) + bytes(1 << 20) + b'\x940'
      + (name('_codecs', 'encode') + b'h\x00' + text('latin1') + b'\x86R') * 1000
    ),
    'far larger than the file',
  ),
  'an empty file': (lambda m: b'', 'it is empty'),
  'a cut-off file': (lambda m: record()[:-40], 'announces'),
  'a web page': (lambda m: b'\n<!DOCTYPE html><html></html>', 'a web page'),
  'a zip archive': (lambda m: b'PK\x03\x04' + bytes(99), 'a zip archive'),
  'other networks': (lambda m: record(build_func_name='G_paper'), 'the architecture G_paper'),
  'a network without variables': (lambda m: record(variables={}), 'as variables, expected list'),
  'a network within itself': (
    lambda m: record(components={'a': files.network('a', 'a', {}, {'b': files.network('b', 'b', {})})}),
    'nested components',
  ),
  'a network of a later version': (lambda m: record(version=5), 'found version 5'),
  'a network that is a number': (lambda m: pickle.dumps((1, 2, 3), 4), 'found 1, expected a network'),
  'a dictionary': (lambda m: pickle.dumps({'a': 1}, 4), 'a dictionary of a'),
  'a call within a torch storage': (lambda m: inner(shell(m)), 'system, which is not allowed'),
  'a call behind the magic number of torch': (
    lambda m: inner(pickle.dumps(files.LEGACY_MAGIC, 2) + shell(m)), 'system, which is not allowed',
  ),
  'a torch storage within a torch storage': (
    lambda m: inner(files.dump(files.Call(files.load_from_bytes, b''))), '_load_from_bytes, which is not',
  ),
  'another magic number of torch': (lambda m: torch_file(m, magic=7), 'that torch.save did not write'),
  'a torch storage of a big-endian machine': (
    lambda m: torch_file(m, system=files.SYSTEM | {'little_endian': False}), 'a big-endian machine',
  ),
  'a torch storage of another class': (
    lambda m: torch_file(m, kind=files.global_of('torch', 'QInt8Storage')), 'QInt8Storage, which is not',
  ),
  'a torch storage that announces more': (lambda m: torch_file(m, numel=1 << 40), '16 bytes left where'),
  'a cut-off torch storage': (
    lambda m: inner(files.storage_bytes(np.zeros(4, np.float32))[:-3]), '13 bytes left where 16 are needed',
  ),
  'doubled values as a key within a torch storage': (
    lambda m: inner(raw(b'}' + nested_tuples(60) + b'Ns', 2)), 'a key that is no text',
  ),
  'a tensor beyond its storage': (lambda m: forged_tensor(offset=1), 'outside its storage'),
  'a tensor before its storage': (lambda m: forged_tensor(offset=-1), 'no whole numbers from 0'),
  'a tensor of negative strides': (lambda m: forged_tensor(stride=(-3, 1)), 'no whole numbers from 0'),
  'a tensor of zero strides': (
    lambda m: forged_tensor(size=(1 << 20, 1 << 20), stride=(0, 0)), 'outside its storage',
  ),
  'a tensor of far strides': (lambda m: forged_tensor(stride=(1 << 30, 1)), 'outside its storage'),
  'a tensor of unequal axes': (lambda m: forged_tensor(stride=(1,)), '2 sizes and 1 strides'),
  'a module of another version': (
    lambda m: files.dump(files.Call(files.reconstruct, {'type': 'class', 'version': 7})), 'version 7',
  ),
  'a module that is none': (
    lambda m: files.dump(files.ada(files.module('Generator', modules={'synthesis': 3}))),
    'synthesis. is 3, expected a module',
  ),
}  # fmt: skip


@pytest.mark.parametrize('kind', HOSTILE)
def test_hostile_files_are_refused_in_one_sentence_at_once_and_nothing_is_run(kind, tmp_path):
  make, words = HOSTILE[kind]
  marker, path = tmp_path / 'marker', tmp_path / 'file.pkl'
  path.write_bytes(make(marker))
  with counted_calls() as calls, pytest.raises(BadInputError, match=words) as caught:
    read_official(path)
  assert calls.number < CALLS
  sentence = str(caught.value)
  assert sentence.startswith(f'{path}: ') and sentence.isprintable() and len(sentence) < 600
  assert not marker.exists()


@pytest.mark.parametrize('kind', [k for k in HOSTILE if k != 'millions of instructions'])
def test_hostile_files_take_no_memory(kind, tmp_path):
  path = tmp_path / 'file.pkl'
  path.write_bytes(HOSTILE[kind][0](tmp_path / 'marker'))
  tracemalloc.start()
  try:
    with pytest.raises(BadInputError):
      read_official(path)
    assert tracemalloc.get_traced_memory()[1] < BYTES
  finally:
    tracemalloc.stop()


def test_the_files_that_would_run_something_do_so_when_read_carelessly(tmp_path):
  for kind in ('a call of os.system', 'a call of eval'):
    marker = tmp_path / 'marker'
    pickle.loads(HOSTILE[kind][0](marker))
    assert marker.exists()
    marker.unlink()


def test_every_cut_and_many_changed_bytes_of_an_official_file_are_refused_or_harmless(tmp_path):
  content = files.dump(files.ada(files.module_of({'a.weight': np.ones((2, 2), np.float32)}, 'Generator')))
  path = tmp_path / 'file.pkl'
  for length in range(0, len(content), 7):
    path.write_bytes(content[:length])
    with pytest.raises(BadInputError, match=r'file\.pkl'):
      read_official(path)
  rng = np.random.default_rng(0)
  for _ in range(500):
    changed = bytearray(content)
    changed[rng.integers(len(content))] = rng.integers(256)
    path.write_bytes(bytes(changed))
    with pytest.raises(BadInputError, match=r'file\.pkl'):
      read_official(path)
