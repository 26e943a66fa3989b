#!/usr/bin/env bash
# Compares the round trips of bench udp --round-trip with sockperf ping-pong, interleaved: every round runs every tool once, in a
# random order. Prints medians over the rounds. Only ratios within one run are comparable.
#
#   [ROUNDS=15] [SECONDS_EACH=1] [CPUS=0,1] [WAITS="sleeping spinning"] [BENCH=path] [BASE=path] tools/peers/round_trip.sh
#
# CPUS are the CPU of the client and the CPU of the server, of every tool. BASE is another build of bench, measured beside the first
# ("base" in the tables).
#
# Needs bash, coreutils, util-linux (taskset), python3 and sockperf.
set -euo pipefail

readonly rounds=${ROUNDS:-15}
readonly each=${SECONDS_EACH:-1}
cpus=${CPUS:-0,1}
read -ra waits <<<"${WAITS:-sleeping spinning}"
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly here cpus waits
# UDP payload of every tool in bytes; the header of bench is 32 bytes of it.
readonly datagram=64 header=32
# Timeout of a run and its server in s.
readonly limit=$((each + 10))

fail() {
    echo "round_trip.sh: $*" >&2
    exit 3
}

[[ $rounds =~ ^[1-9][0-9]*$ && $each =~ ^[1-9][0-9]*$ ]] ||
    fail "ROUNDS and SECONDS_EACH must be whole numbers of 1 or more"
for wait in "${waits[@]}"; do
    [[ $wait == sleeping || $wait == spinning ]] || fail "WAITS must be sleeping, spinning or both"
done
[[ $cpus =~ ^([0-9]+),([0-9]+)$ ]] || fail "CPUS must be two CPUs, like 0,1"
readonly near=${BASH_REMATCH[1]} far=${BASH_REMATCH[2]}
command -v python3 >/dev/null || fail "python3 is required to read the output of the tools"
command -v sockperf >/dev/null || fail "sockperf is required"
figures() { python3 "$here/figures.py" "$@"; }

bench=${BENCH:-${CARGO_TARGET_DIR:-$here/../../target}/release/bench}
[[ -x $bench ]] || fail "no program at $bench; run cargo build --release, or set BENCH to one"
base=${BASE:-}
[[ -z $base || -x $base ]] || fail "no program at $base; set BASE to another build of bench, or leave it unset"

work=$(mktemp -d)
readonly work
server=
stop_server() {
    [[ -n $server ]] || return 0
    kill "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
    server=
}
leave() {
    stop_server
    rm -rf "$work"
}
trap leave EXIT
# The table has the rounds so far.
trap 'report; exit 130' INT TERM

# serve COMMAND...: starts a server on its CPU.
serve() {
    timeout --kill-after=2 "$limit" taskset -c "$far" "$@" >"$work/server" 2>"$work/server.err" &
    server=$!
}

# ask COMMAND...: runs a client on its CPU; its output goes to $work/client.
ask() {
    timeout --kill-after=2 "$limit" taskset -c "$near" "$@" >"$work/client" 2>"$work/client.err"
}

# run_bench PROGRAM OPTION...
run_bench() {
    local program=$1 port
    shift
    port=$(figures ports 1) || return
    serve "$program" serve --bind "127.0.0.1:$port" --no-save --quiet
    figures listening tcp "$port" || return
    ask "$program" udp --round-trip --to "127.0.0.1:$port" --chunk $((datagram - header)) --duration "${each}s" \
        --no-save --quiet --json - "$@" || return
    stop_server
}

# run_sockperf OPTION...: with one socket it receives with recvfrom(2), blocking unless --nonblocked.
run_sockperf() {
    local port
    port=$(figures ports 1) || return
    serve sockperf server -i 127.0.0.1 -p "$port" "$@"
    figures listening udp "$port" || return
    ask sockperf ping-pong -i 127.0.0.1 -p "$port" -t "$each" --msg-size "$datagram" --full-rtt "$@" || return
    stop_server
}

# contend SECTION NAME TOOL RUN...: one run; a second attempt on other ports if it fails.
contend() {
    local section=$1 name=$2 tool=$3 try line
    shift 3
    for try in 1 2; do
        rm -f "$work"/{client,server}{,.err}
        if "$@" && line=$(figures read "trips_$tool" "$work" 2>"$work/read.err"); then
            printf '%s\t%s\t%s\t%s\n' "$round" "$section" "$name" "$line" >>"$work/rows"
            return
        fi
        stop_server
    done
    echo "round $round: $name failed $try times: $(cat "$work"/{client,server,read}.err 2>/dev/null | head -c 300)" >&2
}

# io_uring may be disabled in a kernel or container, or unknown to BASE.
has_uring() {
    "$1" udp --round-trip --engine uring --packets 1 --no-save --quiet 2>"$work/uring" && return
    echo "skipped: $2 over io_uring: $(head -c 200 "$work/uring")"
    return 1
}
uring='' base_uring=''
has_uring "$bench" bench && uring=yes
[[ -z $base ]] || { has_uring "$base" base && base_uring=yes; }

# measure NAME: one run of the tool that the name stands for, as section:tool:engine.
measure() {
    local section=${1%%:*} tool=${1#*:} ours=() theirs=()
    [[ $section == sleeping ]] || { ours=(--busy-poll) theirs=(--nonblocked); }
    case $tool in
        bench) contend "$section" bench bench run_bench "$bench" "${ours[@]}" ;;
        bench-uring) contend "$section" "bench, uring" bench run_bench "$bench" --engine uring "${ours[@]}" ;;
        base) contend "$section" base bench run_bench "$base" "${ours[@]}" ;;
        base-uring) contend "$section" "base, uring" bench run_bench "$base" --engine uring "${ours[@]}" ;;
        sockperf) contend "$section" sockperf sockperf run_sockperf "${theirs[@]}" ;;
    esac
}

report() {
    cat >"$work/notes" <<END
Medians of up to $rounds rounds of $each s each, in a random order; kernel $(uname -r), client on CPU $near, server on CPU $far.
UDP payload of every tool: $datagram bytes. Closed loop: one exchange in flight. Ratio: median of the ratios to sockperf in the same
round, with its 95 % interval by rank.
bench subtracts the server's time between receive and send; sockperf does not, and reports the whole round trip (--full-rtt).
sleeping: blocking receives at both ends. spinning: bench --busy-poll, sockperf --nonblocked, at both ends.
END
    [[ -s $work/rows ]] || fail "no run produced figures"
    figures trips "$work/rows" "$work/notes"
}

runs=()
for section in "${waits[@]}"; do
    runs+=("$section:bench" "$section:sockperf")
    [[ -z $uring ]] || runs+=("$section:bench-uring")
    [[ -z $base ]] || runs+=("$section:base")
    [[ -z $base_uring ]] || runs+=("$section:base-uring")
done
for ((round = 1; round <= rounds; round++)); do
    echo "round $round of $rounds" >&2
    while read -r run; do
        # Its input is the list of runs.
        measure "$run" </dev/null
    done < <(printf '%s\n' "${runs[@]}" | shuf)
done

report
