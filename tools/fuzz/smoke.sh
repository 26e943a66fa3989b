#!/usr/bin/env bash
# Fuzzes every target for a share of SECONDS, from its seeds, and fails at the first crash. A stable toolchain is enough: coverage
# counters come from LLVM's pass, and no sanitizer is used. The code is safe Rust with overflow checks, so faults are panics.
#
#   tools/fuzz/smoke.sh [SECONDS]          60 by default, of all targets together
#   tools/fuzz/smoke.sh --build            builds them and fuzzes none
#
# Needs a C++ compiler, for libFuzzer. The dependencies of a test build in CARGO_TARGET_DIR (target by default) are used again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

seconds=${1:-60}
[[ $seconds == --build || $seconds =~ ^[1-9][0-9]*$ ]] || { echo "smoke.sh: $seconds: expected a number of seconds from 1 on" >&2; exit 2; }
command -v c++ >/dev/null || { echo "skipped: fuzzing: no C++ compiler builds libFuzzer here"; exit 0; }

export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-../../target}
RUSTC_WRAPPER=$PWD/rustc-with-coverage cargo build --locked --bins
[[ $seconds != --build ]] || exit 0

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
targets=(fuzz_targets/*.rs)
jobs=$(nproc)
each=$((seconds * jobs / ${#targets[@]}))
((each > 0)) || each=1

# fuzz TARGET: prints its last line; leaves its output in $work where it crashed.
fuzz() {
    local target=$1 dictionary=()
    mkdir -p "$work/$target"
    case $target in
        control) dictionary=(-dict=control.dict) ;;
        front | handshake) dictionary=(-dict=front.dict) ;;
    esac
    if "$CARGO_TARGET_DIR/debug/$target" -max_total_time="$each" -timeout=10 -rss_limit_mb=2048 \
        -artifact_prefix="$work/$target-" "${dictionary[@]}" "$work/$target" "seeds/$target" >"$work/$target.log" 2>&1; then
        echo "$target: $(grep -E '^Done ' "$work/$target.log")"
    else
        tail -40 "$work/$target.log"
        for input in "$work/$target-"*; do
            [[ ! -f $input ]] || echo "input of $target (base64): $(base64 -w0 "$input")"
        done
        echo "FAILED: $target"
        return 1
    fi
}

running=0 failed=0
for target in "${targets[@]}"; do
    target=$(basename "$target" .rs)
    fuzz "$target" &
    if ((++running == jobs)); then
        wait -n || failed=1
        ((running--)) || true
    fi
done
while ((running-- > 0)); do wait -n || failed=1; done
exit "$failed"
