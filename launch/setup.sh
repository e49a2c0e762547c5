# Sourced by demo.sh and test.sh: makes the virtual environment once and sets $python to its interpreter.
#
# Wants $extras: '' or '[test]'. The environment is .venv in the repository, or $ADVMIX_VENV.
# Packages are installed again only when requirements.txt or pyproject.toml have changed; the stamp that says so is
# written last, so that an interrupted installation is done again.

venv=${ADVMIX_VENV:-.venv}

# Prints "VERSION USABLE" of an interpreter, USABLE being 1 when it can make virtual environments with pip in them.
# A file of that name proves nothing: a version manager may have left a wrapper with no Python behind it.
describe_python() {
  "$1" -c '
import importlib.util, sys
usable = all(importlib.util.find_spec(name) for name in ("venv", "ensurepip"))
if sys.version_info >= (3, 11):
  print("%d.%d" % sys.version_info[:2], int(usable))
' 2>/dev/null
}

# Sets $base to the first Python from 3.11 on PATH that has venv, or ends the script.
find_python() {
  base='' without_venv='' without_venv_version=''
  old_ifs=$IFS
  for name in python3 python python3.14 python3.13 python3.12 python3.11; do
    IFS=:
    for folder in $PATH; do
      IFS=$old_ifs
      candidate=${folder:-.}/$name
      [ -x "$candidate" ] || continue
      found=$(describe_python "$candidate") || continue
      case $found in
        *' 1') base=$candidate; break 2 ;;
        *' 0') [ -n "$without_venv" ] || { without_venv=$candidate; without_venv_version=${found% 0}; } ;;
      esac
    done
  done
  IFS=$old_ifs
  [ -z "$base" ] || return 0
  if [ -n "$without_venv" ]; then
    echo "error: $without_venv (Python $without_venv_version) has no venv module with pip;" \
      "on Debian or Ubuntu: apt install python$without_venv_version-venv" >&2
  else
    echo 'error: no Python 3.11 or later found on PATH;' \
      'on Debian or Ubuntu: apt install python3 python3-venv' >&2
  fi
  exit 2
}

python=$venv/bin/python
if ! "$python" -m pip --version >/dev/null 2>&1; then
  find_python
  echo "making the virtual environment $venv with $base"
  "$base" -m venv --clear "$venv" || {
    echo "error: $base could not make the virtual environment $venv;" \
      'on Debian or Ubuntu: apt install python3-venv; or name another folder in $ADVMIX_VENV' >&2
    exit 2
  }
fi

stamp=$venv/installed$extras
wanted=$(cat requirements.txt pyproject.toml | cksum)
if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
  echo "installing packages into $venv, some minutes the first time"
  rm -f "$stamp"
  "$python" -m pip install --quiet --disable-pip-version-check --editable ".$extras" || {
    echo 'error: the packages could not be installed; is the network reachable?' >&2
    exit 1
  }
  echo "$wanted" >"$stamp"
fi
