#!/usr/bin/env bash
# One measurement for cron, saved in a folder of its own:
#
#   10 2 * * *  /opt/wirebench/tools/nightly/run.sh --to 192.0.2.7 --rate 1G --duration 30s && /opt/wirebench/tools/nightly/page.sh
#
# RESULTS=folder of all measurements (default: $HOME/wirebench-nightly), BENCH=path of bench, REPEAT=runs a night (default: 5, the
# fewest with a 95 % interval). The arguments are options of `bench udp`; keep them the same every night.
set -euo pipefail

results=${RESULTS:-${HOME:?}/wirebench-nightly}
bench=${BENCH:-bench}
mkdir -p "$results"

# Of two measurements at once, each would disturb the other.
exec 9>"$results/.lock"
flock -n 9 || { echo "a measurement is running already in $results" >&2; exit 3; }
exec "$bench" udp --quiet --repeat "${REPEAT:-5}" --out "$results" "$@"
