#!/usr/bin/env bash
# The measurements of tools/nightly/run.sh as one page: the trend, where it changed, and each night. Prints the path of the page.
#
# RESULTS=folder of all measurements (default: $HOME/wirebench-nightly), BENCH=path of bench, NIGHTS=most recent nights (default: 30),
# PAGE=path of the page (default: trend.html in RESULTS).
set -euo pipefail

results=${RESULTS:-${HOME:?}/wirebench-nightly}
bench=${BENCH:-bench}

# Names of folders begin with the time: the last are the most recent.
nights=()
for record in "$results"/*-udp-*/run.json; do
  [ -e "$record" ] && nights+=("${record%/run.json}")
done
[ "${#nights[@]}" -gt 0 ] || { echo "no measurement in $results; run tools/nightly/run.sh first" >&2; exit 3; }
count=${NIGHTS:-30}
[ "${#nights[@]}" -le "$count" ] || nights=("${nights[@]: -$count}")
exec "$bench" report --html "${PAGE:-$results/trend.html}" "${nights[@]}"
