#!/bin/sh
# The main job on the embedded data: sets up .venv once, then runs every stage. Flags are passed on, for example
#   sh launch/demo.sh --config.seed=1 --workdir=runs/digits-1
set -eu
cd "$(dirname "$0")/.."
extras=''
. launch/setup.sh
exec "$python" -m launch.pipeline --config=configs/digits.py --workdir=runs/digits "$@"
