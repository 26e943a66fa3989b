#!/usr/bin/env bash
# Makes an artificial week in RESULTS: seven real measurements, dated to consecutive nights, the last three at a lower rate. The
# change is known: between the nights of 2026-01-04 and 2026-01-05.
#
# BENCH=path of bench, RATES="of each night".
set -euo pipefail
cd "$(dirname "$0")"

export RESULTS=${RESULTS:?name a new folder} BENCH=${BENCH:-bench} REPEAT=${REPEAT:-5}
[ ! -e "$RESULTS" ] || { echo "$RESULTS exists; name a new folder with RESULTS" >&2; exit 2; }
night=0
for rate in ${RATES:-20M 20M 20M 20M 16M 16M 16M}; do
  night=$((night + 1))
  ./run.sh --rate "$rate" --duration "${DURATION:-100ms}"
  for folder in "$RESULTS"/2*-udp-*/; do
    # Folders of earlier nights have their date already.
    case $folder in "$RESULTS"/202601*) continue ;; esac
    date=$(printf '2026-01-%02dT02:10:00.000000000Z' "$night")
    sed -i "s/\"started_at\": \"[^\"]*\"/\"started_at\": \"$date\"/" "$folder/run.json"
    mv "$folder" "$RESULTS/$(printf '202601%02dT021000Z' "$night")-udp-night$night"
  done
done
