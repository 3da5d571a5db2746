#!/usr/bin/env bash
# Checks the Prometheus alerts and runs their tests. Needs promtool (on Debian: in the package prometheus).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../config/prometheus"
command -v promtool >/dev/null || {
  echo 'alerts.sh: no promtool here (on Debian: apt-get install prometheus)' >&2
  exit 1
}
promtool check rules alerts.yml
promtool test rules alerts_test.yml
