#!/usr/bin/env bash
# Installs Python packages whose files have the hashes that a list of requirements names, and nothing else.
#
#   wheels.sh DIR REQUIREMENTS [pip options]   into DIR/venv; what is there already is kept
#
# Needs Python 3.10 or later with venv as python3 (or as $PYTHON). Nothing is built: only wheels are taken.
set -euo pipefail

die() {
  printf 'wheels.sh: %s\n' "$*" >&2
  exit 1
}

if [[ $# -lt 2 ]]; then
  echo 'usage: wheels.sh DIR REQUIREMENTS [pip options]' >&2
  exit 64
fi
dir=$1 requirements=$2 system=${PYTHON:-python3} python=$1/venv/bin/python
shift 2
# What an interrupted install left behind has no working pip.
if ! "$python" -m pip --version >/dev/null 2>&1; then
  command -v "$system" >/dev/null || die "no $system here: install Python 3.10 or later, or name it in PYTHON"
  "$system" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
    die "$("$system" --version) is too old: 3.10 or later is needed; name another in PYTHON"
  "$system" -c 'import ensurepip, venv' 2>/dev/null ||
    die "$system has no venv: install it (on Debian and Ubuntu: apt-get install python3-venv)"
  mkdir -p "$dir"
  "$system" -m venv --clear "$dir/venv"
fi
"$python" -m pip install --quiet --disable-pip-version-check --no-input --only-binary=:all: --require-hashes \
  --requirement "$requirements" "$@" ||
  die "could not install $requirements on this system ($(uname -sm)): pip says why above"
