#!/usr/bin/env bash
# Tests the page of an agent in a real Chromium: real processes of the binary, and the page as a person sees it.
#
#   scripts/page.sh                       all tests, about a minute
#   scripts/page.sh --screenshots DIR     also the page in light, dark and narrow, as PNG files in DIR
#   scripts/page.sh --screenshots DIR --real llamacpp=http://127.0.0.1:8080
#                                         only these pictures, of an agent with a real server that runs already
#
# Needs Linux, Chromium with its driver (on Debian: chromium and chromium-driver), and Python 3.10 or later with venv. It installs
# Selenium and axe-core into $OUTPOST_PAGE_DIR, by default target/page. It builds the binary; $OUTPOST_BINARY names another one.
#
# Exit codes: 0 the page is as it should be, 1 it is not, 2 the command line is wrong.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

for program in chromium chromedriver; do
  command -v "$program" >/dev/null || {
    echo "page.sh: no $program here (on Debian: apt-get install chromium chromium-driver)" >&2
    exit 1
  }
done
dir=${OUTPOST_PAGE_DIR:-${CARGO_TARGET_DIR:-target}/page}
scripts/wheels.sh "$dir" scripts/wheels/page.txt --no-deps
if [[ -z ${OUTPOST_BINARY:-} ]]; then
  cargo build --locked --bin outpost
  export OUTPOST_BINARY=${CARGO_TARGET_DIR:-target}/debug/outpost
fi
exec "$dir/venv/bin/python" scripts/page.py "$@"
