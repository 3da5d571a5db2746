#!/usr/bin/env bash
# What clients see when the network between agents, coordinators and clients fails: real processes in network namespaces.
#
#   scripts/network.sh               all scenarios, about 7 minutes
#   scripts/network.sh --list        what they are
#   scripts/network.sh loss rolling  these
#
# Needs Linux, root, iproute2, /dev/net/tun and Python 3.10 or later with venv; the scenario "translation" also nftables and
# conntrack. What can't run here is skipped, and the reason is printed. It builds a release, and installs OpenAI's Python
# package into $OUTPOST_LLAMA_DIR, as scripts/real-model.sh does. $OUTPOST_BINARY names another binary to test.
#
# Exit codes: 0 what ran has held, 1 something has not, 2 the command line is wrong.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

for word in "$@"; do
  case $word in --list | --help | -h) exec python3 scripts/network.py "$@" ;; esac
done
# A wrong name ends it here, before anything is built.
python3 scripts/network.py --list "$@" >/dev/null

dir=${OUTPOST_LLAMA_DIR:-${CARGO_TARGET_DIR:-target}/llama}
scripts/llama.sh clients "$dir"
if [[ -z ${OUTPOST_BINARY:-} ]]; then
  cargo build --locked --release --bin outpost
  export OUTPOST_BINARY=${CARGO_TARGET_DIR:-target}/release/outpost
fi
exec "$dir/venv/bin/python" scripts/network.py "$@"
