#!/usr/bin/env bash
# The simulation (docs/reliability.md, "Simulation") with many seeds. A seed that fails fails again in the same way.
#
#   scripts/simulation.sh                  1,000 seeds of 1,000 jobs
#   scripts/simulation.sh 50 100           seeds 0 to 49, of 100 jobs
#   SEED=7 scripts/simulation.sh 1 100     seed 7, of 100 jobs
#
# Each seed is a process of its own, whose random numbers and wall clock follow from the seed by scripts/lab/seeded.c. So it needs
# Linux and a C compiler.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

first=${SEED:-0} seeds=${1:-1000} jobs=${2:-1000}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cc -O2 -shared -fPIC -o "$folder/seeded.so" scripts/lab/seeded.c
built=$(cargo test --locked --profile model --test simulation --no-run 2>&1 | tee /dev/stderr)
binary=$(sed -n 's/.*Executable.*(\(.*\))$/\1/p' <<<"$built")

one() {
  if ! SEED=$1 JOBS=$jobs LD_PRELOAD=$folder/seeded.so "$binary" --ignored --nocapture seed >"$folder/$1.log" 2>&1; then
    printf '\nseed %s failed:\n' "$1" && cat "$folder/$1.log"
    return 255
  fi
  grep '^seed=' "$folder/$1.log"
  rm "$folder/$1.log"
}
export -f one
export folder jobs binary

seq "$first" $((first + seeds - 1)) | xargs -P "$(nproc)" -I{} bash -c 'one {}' | tee "$folder/all" | awk '
  /^seed=/ { for (n = 2; n <= NF; n++) { split($n, pair, "="); sum[pair[1]] += pair[2] }; done++
             if (done % 20 == 0) { printf "%d seeds, %d jobs\n", done, sum["whole"] + sum["left"] + sum["failed"]; fflush() }; next }
  { print; fflush() }
  END { printf "%d seeds, %d jobs in %.0f virtual hours: %d whole, %d left by their clients, %d failed by a backend or a kill, %d retries, %d after three lost agents\n",
               done, sum["whole"] + sum["left"] + sum["failed"], sum["seconds"] / 3600, sum["whole"], sum["left"], sum["failed"], sum["retries"], sum["given_up"]
        printf "%d cuts, %d silences, %d handovers, %d restarts of agents, %d kills\n",
               sum["cuts"], sum["silences"], sum["handovers"], sum["restarts"], sum["kills"] }'
grep -c '^seed=' "$folder/all" | grep -qx "$seeds"
echo "0 lost, 0 doubled, every byte right"
