#!/usr/bin/env bash
# Tests the outpost binary against a real llama.cpp server with a real model: installs the server, starts it on a free
# port, runs tests/real_llama, and stops the server whatever happens.
#
#   scripts/real-model.sh                  all of it
#   scripts/real-model.sh --release        what comes before -- goes to cargo test
#   scripts/real-model.sh -- cancel        what comes after it to the tests: here, only those with "cancel" in their name
#
# The server goes to $OUTPOST_LLAMA_DIR, by default target/llama. scripts/llama.sh says what that needs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

dir=${OUTPOST_LLAMA_DIR:-${CARGO_TARGET_DIR:-target}/llama}
pid=

say() {
  printf 'real-model: %s\n' "$*"
}

stop_server() {
  [[ -n $pid ]] || return 0
  say "stopping the server, pid $pid"
  scripts/llama.sh stop "$pid"
  pid=
}

# A port that is free now. It may be gone when the server wants it; then another one is tried.
free_port() {
  "$dir/venv/bin/python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

for_cargo=()
while [[ $# -gt 0 && $1 != -- ]]; do
  for_cargo+=("$1")
  shift
done
[[ $# -eq 0 ]] || shift

say "installing llama.cpp and a model into $dir (about 130 MB the first time)"
scripts/llama.sh install "$dir"
scripts/llama.sh clients "$dir"
dir=$(cd "$dir" && pwd)

say 'building outpost and its tests'
cargo test ${for_cargo[@]+"${for_cargo[@]}"} --test real_llama --no-run

trap stop_server EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
for try in 1 2 3; do
  port=$(free_port)
  say "starting the server on 127.0.0.1:$port"
  # Bound to this process, should this be killed in a way that no trap sees.
  pid=$(scripts/llama.sh start "$dir" "$port" --temperature 0 --while-pid $$) && break
  [[ $try -lt 3 ]] || exit 1
done

say "running the tests against pid $pid"
begin=$SECONDS
OUTPOST_TEST_LLAMA_URL=http://127.0.0.1:$port OUTPOST_TEST_LLAMA_DIR=$dir \
  cargo test ${for_cargo[@]+"${for_cargo[@]}"} --test real_llama -- --ignored --test-threads=1 --show-output "$@"
say "all passed in $((SECONDS - begin)) s"
