#!/usr/bin/env bash
# The simulation with many seeds (docs/reliability.md, "Simulation"), each in a process of its own, so that a seed that fails fails
# again.
#
#   scripts/simulation.sh               1,000 seeds of 1,000 jobs
#   scripts/simulation.sh 7 120         seed 7 with 120 jobs
#   scripts/simulation.sh 0..50 1000    50 seeds with 1,000 jobs each
#
# Random numbers and the steps of the wall clock come from scripts/lab/seeded.c, so it needs Linux and a C compiler.
set -euo pipefail
cd "$(dirname "$0")/.."
