#!/usr/bin/env bash
# How well bench udp holds a schedule, and what that costs: a row for each rate.
#
#   [RATES="1k 20k 100k"] [SECONDS_EACH=2] [BENCH=path] tools/peers/pacing.sh [OPTION of bench udp...]
#
# Needs bash, coreutils and python3.
set -euo pipefail

read -ra rates <<<"${RATES:-1k 20k 100k}"
readonly each=${SECONDS_EACH:-2}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly here
bench=${BENCH:-${CARGO_TARGET_DIR:-$here/../../target}/release/bench}
if [[ ! -x $bench ]]; then
    echo "pacing.sh: no program at $bench; run cargo build --release, or set BENCH to one" >&2
    exit 3
fi

for rate in "${rates[@]}"; do
    # The record is one line for the table, whatever way it is laid out.
    timeout --kill-after=2 $((each + 10)) \
        "$bench" udp --pps "$rate" --duration "${each}s" --no-save --quiet --json - "$@" | tr '\n' ' '
    echo
done | python3 "$here/figures.py" pacing
echo "gap error: how far each gap between two datagrams was from the intended one; sender CPU: of one core"
