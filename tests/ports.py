"""Ports for servers that a test starts."""

import random
import socket

SERVERS = range(20000, 32768)  # Below those that Linux gives to whatever connects somewhere in the meantime.


def free_ports(number: int) -> list[int]:
  """Different ports of 127.0.0.1 that nobody listens at."""
  found: list[int] = []
  for port in random.sample(SERVERS, len(SERVERS)):
    try:
      with socket.create_server(('127.0.0.1', port)):
        found.append(port)
    except OSError:
      continue
    if len(found) == number:
      return found
  raise AssertionError(f'{number} free ports: found {len(found)} in {SERVERS}')
