#!/usr/bin/env bash
# Runs every target of the fuzzer, one after the other, and prints for each what it did.
#
#   scripts/fuzz.sh                a minute each
#   scripts/fuzz.sh 600            ten minutes each
#   scripts/fuzz.sh 60 json sse    these two
#
# Needs a nightly toolchain and cargo-fuzz (cargo install cargo-fuzz). What the fuzzer finds beyond fuzz/corpus goes to
# $OUTPOST_FUZZ_DIR, by default target/fuzz: new inputs to corpus, those that fail to failed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

seconds=${1:-60}
[[ $# -eq 0 ]] || shift
export CARGO_TARGET_DIR=${OUTPOST_FUZZ_DIR:-${CARGO_TARGET_DIR:-$PWD/target}/fuzz}
[[ $# -gt 0 ]] || set -- $(cd fuzz/fuzz_targets && basename -s .rs -- *.rs)

# No sanitizer: the crate has no unsafe code, and the fuzzer is several times faster without.
cargo +nightly fuzz build --sanitizer none >&2

printf '%-18s %12s %8s %8s %8s\n' target executions edges inputs failures
status=0
for target; do
  corpus=$CARGO_TARGET_DIR/corpus/$target failed=$CARGO_TARGET_DIR/failed/$target
  mkdir -p "$corpus" "$failed"
  "$CARGO_TARGET_DIR"/*/release/"$target" "$corpus" "fuzz/corpus/$target" -dict=fuzz/dictionary -artifact_prefix="$failed/" \
    -max_total_time="$seconds" -max_len=4096 -timeout=60 -print_final_stats=1 >"$failed.log" 2>&1 || status=1
  executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$failed.log")
  # The last line of progress: "#123 DONE cov: 45 ft: 67 corp: 8/9b ...".
  read -r edges inputs < <(sed -n 's/^#.* cov: \([0-9]*\) .* corp: \([0-9]*\).*/\1 \2/p' "$failed.log" | tail -1) || true
  failures=$(find "$failed" -type f | wc -l)
  printf '%-18s %12s %8s %8s %8s\n' "$target" "${executions:--}" "${edges:--}" "${inputs:--}" "$failures"
done
exit "$status"
