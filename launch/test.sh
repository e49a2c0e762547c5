#!/bin/sh
# The tests: sets up .venv once, then runs pytest. Flags are passed on, for example
#   sh launch/test.sh tests/test_data.py -x
set -eu
cd "$(dirname "$0")/.."
extras='[test]'
. launch/setup.sh
# One file at a time for each of two processes: compiling leaves a second core idle otherwise.
exec "$python" -m pytest -m 'not slow' --numprocesses 2 --dist loadfile --no-loadscope-reorder "$@"
