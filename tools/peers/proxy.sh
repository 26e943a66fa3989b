#!/usr/bin/env bash
# Compares bench proxy serve with HAProxy, nginx stream, socat, dante and others on loopback, interleaved: every round runs every
# job on every proxy once, one at a time. Prints medians over the rounds, a table for each protocol. Only ratios within one run
# are comparable: a setting drifts by a fifth over minutes.
#
#   [ROUNDS=5] [SECONDS_EACH=1] [THREADS=1] [JOBS=...] [ONLY=regex] [REFERENCE='bench mio'] [BENCH=path] [BASE=path] \
#       [NGINX_MODULES=folder] tools/peers/proxy.sh
#
# ROUNDS         rounds
# SECONDS_EACH   seconds of a job; bench proxy load takes twice as long, because it also measures the direct path
# THREADS        numbers of threads, such as "1 2"; a peer without a threads option takes part with 1 only
# JOBS           load and generator; by default "request-response connect bulk bulk-4 beside-4 wrk-kept wrk-close iperf3-4", which
#                take a quarter of an hour with ROUNDS=5 and all peers on an idle machine
#     request-response, connect        bench proxy load, 32 connections: kept, or one request each
#     bulk, bulk-N                     bench proxy load, one stream or N of data to the server
#     beside-N                         bench proxy load, 500 requests a second over 4 connections, beside N such streams
#     wrk-kept, wrk-close              wrk, 32 connections to nginx: kept, or one request each
#     iperf3-N                         iperf3, N streams to the server
# ONLY           bash regex of the PROTOCOL/NAME to run, such as "socks5/|bench mio"
# REFERENCE      row that the others are compared with, in each table
# BENCH, BASE    the bench to measure, which also generates load; another build of it to compare with
# NGINX_MODULES  folder of ngx_stream_module.so
#
# wrk and iperf3 support neither SOCKS nor CONNECT, so they load forwarding proxies only.
#
# Needs bash, coreutils, python3; iperf3, and nginx with wrk, for their jobs. Debian: haproxy, nginx with libnginx-mod-stream,
# socat, dante-server, microsocks, tinyproxy. Peers that are not installed are skipped and named.
set -euo pipefail

readonly rounds=${ROUNDS:-5}
readonly each=${SECONDS_EACH:-1}
read -ra jobs <<<"${JOBS:-request-response connect bulk bulk-4 beside-4 wrk-kept wrk-close iperf3-4}"
read -ra threads <<<"${THREADS:-1}"
readonly reference=${REFERENCE:-bench mio}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly here
# Debian installs servers outside the PATH of other users.
PATH=$PATH:/usr/sbin:/sbin
# Timeout of one job in s.
readonly limit=$((2 * each + 15))

fail() {
    echo "proxy.sh: $*" >&2
    exit 3
}

[[ $rounds =~ ^[1-9][0-9]*$ && $each =~ ^[1-9][0-9]*$ && ${threads[*]} =~ ^[1-9][0-9]*(' '[1-9][0-9]*)*$ ]] ||
    fail "ROUNDS, SECONDS_EACH and THREADS must be whole numbers of 1 or more"
command -v python3 >/dev/null || fail "python3 is required to read the output of the tools"
figures() { python3 "$here/figures.py" "$@"; }
proxy_py() { python3 "$here/proxy.py" "$@"; }
# cpu_of PROCESS: prints its CPU time.
cpu_of() { if [[ $1 == - ]]; then echo -; else proxy_py cpu "$1"; fi; }

bench=${BENCH:-${CARGO_TARGET_DIR:-$here/../../target}/release/bench}
[[ -x $bench ]] || fail "no program at $bench; run cargo build --release or set BENCH"
base=${BASE:-}
[[ -z $base || -x $base ]] || fail "no program at $base; set BASE to another build of bench or unset it"

work=$(mktemp -d)
readonly work
# Workers of nginx and dante drop root privileges.
chmod 755 "$work"
# Process ids of the timeout commands around running processes.
servers=()
leave() {
    local server
    for server in "${servers[@]}"; do
        kill "$server" 2>/dev/null || true
    done
    for server in "${servers[@]}"; do
        wait "$server" 2>/dev/null || true
    done
    rm -rf "$work"
}
trap leave EXIT
trap 'exit 130' INT TERM

skip_peer() { echo "skipped: $*"; }

# have PROGRAM [NAME]
have() {
    command -v "$1" >/dev/null && return
    skip_peer "${2:-$1} is not installed"
    return 1
}

# start SECONDS NAME COMMAND...: starts a server; its process is $started.
start() {
    local seconds=$1 name=$2
    shift 2
    timeout --kill-after=2 "$seconds" "$@" >"$work/$name.out" 2>&1 &
    started=$!
    servers+=("$started")
}

# Servers and proxies run until the end of the script.
readonly whole=$((rounds * limit * 1000))
free=$(figures ports 200)
take_port() {
    port=$free
    free=$((free + 1))
}

# target_of JOB: sets $target to the server of the job.
target_of() {
    case $1 in
        iperf3-[1-9] | iperf3-[1-9][0-9]) target=iperf3 ;;
        wrk-kept | wrk-close) target=nginx ;;
        request-response | connect | bulk | bulk-[1-9] | bulk-[1-9][0-9] | beside-[1-9] | beside-[1-9][0-9]) target=origin ;;
        *) fail "JOBS are request-response, connect, bulk, bulk-N, beside-N, wrk-kept, wrk-close and iperf3-N, not $1" ;;
    esac
}

# Ports of the servers. iperf3 is started for each job.
declare -A targets=()
open_targets() {
    local job
    for job in "${jobs[@]}"; do
        target_of "$job"
        [[ -z ${targets[$target]:-} ]] || continue
        take_port
        case $target in
            iperf3) have iperf3 || continue ;;
            nginx)
                if ! have wrk || ! have nginx; then continue; fi
                run_nginx_origin
                ;;
            origin) start "$whole" origin "$bench" proxy origin --listen "127.0.0.1:$port" --quiet ;;
        esac
        [[ $target == iperf3 ]] || figures listening tcp "$port" ||
            fail "the server does not listen: $(head -c 300 "$work/$target.out")"
        targets[$target]=$port
    done
}

# contender NAME PROTOCOL THREADS JOBS SERVE ARGUMENT...: starts a proxy once for each server. Its port and process are stored
# under its index in names and the server. JOBS: all, requests or bulk.
names=() protocols=() counts=() kinds=()
declare -A ports=() processes=()
contender() {
    local name=$1 protocol=$2 count=$3 kind=$4 serve=$5 target key place=${#names[@]}
    shift 5
    [[ " ${threads[*]} " == *" $count "* && $protocol/$name =~ ${ONLY:-.} ]] || return 0
    names+=("$name") protocols+=("$protocol") counts+=("$count") kinds+=("$kind")
    for target in "${!targets[@]}"; do
        [[ $protocol == forward || $target == origin ]] || continue
        key=$place-$target
        take_port
        "serve_$serve" "$key" "$protocol" "${targets[$target]}" "$count" "$@"
        if ! figures listening tcp "$port" 2>/dev/null; then
            skip_peer "$name ($protocol) does not listen: $(head -c 300 "$work/$key.out")"
            kinds[place]=none
            return
        fi
        ports[$key]=$port
        processes[$key]=$started
    done
}

# bench proxy load measures the direct path by itself; for the other generators it is an entry of its own.
enter_direct() {
    local count target
    for count in "${threads[@]}"; do
        for target in iperf3 nginx; do
            [[ -n ${targets[$target]:-} && forward/direct =~ ${ONLY:-.} ]] || continue
            ports[${#names[@]}-$target]=${targets[$target]}
        done
        names+=(direct) protocols+=(forward) counts+=("$count") kinds+=(all)
    done
}

# ask COMMAND...: writes its output to $work/output.
ask() { timeout --kill-after=2 "$limit" "$@" >"$work/output" 2>"$work/output.err"; }

# load JOB PLACE KEY: one job; its output is in $work/output.
load() {
    local job=$1 protocol=${protocols[$2]} to=127.0.0.1:${ports[$3]} process=${processes[$3]:-} streams=1 bulk failed=''
    if [[ $job == *-[1-9]* ]]; then streams=${job##*-}; fi
    case $job in
        iperf3-*)
            start "$limit" sink iperf3 -s -1 -p "${targets[iperf3]}"
            figures listening tcp "${targets[iperf3]}" 2>"$work/output.err" || return
            ask iperf3 -c 127.0.0.1 -p "${to#*:}" -l 1M -P "$streams" -t "$each" -J
            ;;
        wrk-kept) ask wrk -t1 -c32 "-d$each" --latency "http://$to/" ;;
        wrk-close) ask wrk -t1 -c32 "-d$each" --latency -H 'Connection: close' "http://$to/" ;;
        beside-*)
            "$bench" proxy load --via "$to" --protocol "$protocol" --origin "127.0.0.1:${targets[origin]}" --no-direct --scenario bulk \
                --streams "$streams" --duration "$((each + 5))s" --repeat 1 --no-save --quiet >/dev/null 2>&1 &
            bulk=$!
            ask "$bench" proxy load --via "$to" --protocol "$protocol" --origin "127.0.0.1:${targets[origin]}" --no-direct \
                --scenario request-response --connections 4 --rate 500 --duration "${each}s" --repeat 1 --no-save --quiet --json - ||
                [[ -s $work/output ]] || failed=yes
            kill -INT "$bulk" 2>/dev/null || true
            wait "$bulk" || true
            [[ -z $failed ]]
            ;;
        *)
            # The record has the errors, if there is one.
            ask "$bench" proxy load --via "$to" --protocol "$protocol" --origin "127.0.0.1:${targets[origin]}" --server-pid "$process" \
                --scenario "${job%-[1-9]*}" --streams "$streams" --duration "${each}s" --repeat 1 --no-save --quiet --json - ||
                [[ -s $work/output ]]
            ;;
    esac
}

# note ROUND JOB PLACE NAME FIGURES: adds a line to $work/rows.
note() { printf '%s\t%s\t%s\t%s\t%s\t%s\n' "$1" "$2" "${protocols[$3]}" "${counts[$3]}" "$4" "$5" >>"$work/rows"; }

# run ROUND JOB PLACE: one job on one proxy; a second attempt if there are no figures.
run() {
    local round=$1 job=$2 place=$3 key=$3-$target process=- before after rows failed=0
    # bench proxy load reports the CPU time itself.
    if [[ $target != origin ]]; then process=${processes[$key]:--}; fi
    while ((failed < 2)); do
        before=$(cpu_of "$process")
        if load "$job" "$place" "$key" && after=$(cpu_of "$process") &&
            rows=$(proxy_py read "$target" "$work/output" "$before" "$after" "$failed" 2>>"$work/output.err"); then
            note "$round" "$job" "$place" "${names[place]}" "${rows%%$'\n'*}"
            [[ $rows != *$'\n'* ]] || note "$round" "$job" "$place" direct "${rows#*$'\n'}"
            return
        fi
        failed=$((failed + 1))
        echo "round $round: $job through ${names[place]} (${protocols[place]}) failed: $(cat "$work/output.err" "$work/output" | head -c 300)" >&2
    done
    note "$round" "$job" "$place" "${names[place]}" "$(printf -- '-\t-\t-\tfailed %s' "$failed")"
}

# takes_part JOB PLACE
takes_part() {
    local kind=requests
    case $1 in bulk* | iperf3-*) kind=bulk ;; esac
    [[ -n ${ports[$2-$target]:-} && ${kinds[$2]} =~ ^(all|$kind)$ ]]
}

# shellcheck source=tools/peers/contenders.sh
. "$here/contenders.sh"
proxy_py blocklist 100000 >"$work/blocklist"
open_targets
enter_direct
enter_all
((${#ports[@]} > 0)) || fail "JOBS and ONLY select nothing"

for ((round = 1; round <= rounds; round++)); do
    echo "round $round of $rounds" >&2
    for job in "${jobs[@]}"; do
        target_of "$job"
        # Rotate the order, so that no proxy always has the same predecessor.
        for ((n = 0; n < ${#names[@]}; n++)); do
            place=$(((n * (round % 2 ? 1 : ${#names[@]} - 1) + round - 1) % ${#names[@]}))
            if takes_part "$job" "$place"; then run "$round" "$job" "$place"; fi
        done
    done
done

cat >"$work/notes" <<END
Medians over ROUNDS=$rounds of $each s each, interleaved; kernel $(uname -r), $(nproc) CPUs.
Ratio: $reference to the row, median and range over the rounds; for CPU and p99 lower is better.
CPU is the proxy's, user and system, of all its processes: s per GB, µs per request. Bulk is counted where it arrives.
bench listed enforces a blocklist of 100,000 addresses. socat, dante, microsocks, 3proxy and tinyproxy choose their number of processes or threads themselves.
bench proxy load waits for the end of the connection; wrk closes it after the answer.
errors: over all rounds; a failed job was repeated and counts as failed.
END
[[ -s $work/rows ]] || fail "no job produced figures"
proxy_py table "$work/rows" "$reference" "$work/notes"
