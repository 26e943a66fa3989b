#!/usr/bin/env bash
# Measures how accurately bench udp paces, and its CPU cost: a row for each rate.
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
    # One line a record, for the table.
    timeout --kill-after=2 $((each + 10)) \
        "$bench" udp --pps "$rate" --duration "${each}s" --no-save --quiet --json - "$@" | tr '\n' ' '
    echo
done | python3 "$here/figures.py" pacing
echo "gap error: deviation of each gap between two datagrams from the intended one; sender CPU: share of one core"
