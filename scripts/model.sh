#!/usr/bin/env bash
# The large model check of sessions (docs/reliability.md, "Model"). It takes the checks' names as arguments; without one it runs
# all of them, one after the other.
set -euo pipefail
cd "$(dirname "$0")/.."
exec cargo test --locked --profile model --lib -- --ignored --nocapture --test-threads 1 "${@:-agents::tests::checks::large}"
