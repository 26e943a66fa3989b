#!/usr/bin/env bash
# Compares bench proxy serve as a UDP relay with nginx stream, socat, gost and dante on loopback, interleaved: every round measures
# every relay once, in a rotated order. Prints medians over the rounds, a table for senders with GSO and one for senders without.
# Only ratios within one run are comparable.
#
#   [ROUNDS=5] [SECONDS_EACH=1] [SEARCH_LIMIT=20] [PPS=20k] [GSO="on off"] [ONLY=regex] [REFERENCE=bench] [BENCH=path] [BASE=path] \
#       [NGINX_MODULES=folder] tools/peers/relay.sh
#
# ROUNDS         rounds
# SECONDS_EACH   seconds of a run at a fixed rate
# SEARCH_LIMIT   most seconds of a search for the highest rate
# PPS            rate at which latencies are compared, in datagrams a second
# GSO            senders: with GSO, without, or both
# ONLY           bash regex of the relays to measure, such as "direct|bench|nginx"
# REFERENCE      row that the others are compared with
# BENCH, BASE    the bench to measure, which also sends and receives; another build of it to compare with
#
# A relay takes part in three measurements: bench udp search finds the highest rate with at most 0.1 % loss; a run at nine tenths of it
# has the relay's CPU time; a run at PPS has the one-way latency. Datagrams have 1000 message bytes.
#
# Needs bash, coreutils, python3. Debian: nginx with libnginx-mod-stream, socat, dante-server. Relays that are not installed, or that
# forward no UDP, are skipped and named.
set -euo pipefail

readonly rounds=${ROUNDS:-5}
readonly each=${SECONDS_EACH:-1}
readonly search=${SEARCH_LIMIT:-20}
readonly pps=${PPS:-20k}
read -ra senders <<<"${GSO:-on off}"
readonly reference=${REFERENCE:-bench}
# nginx finds its modules there.
readonly modules=${NGINX_MODULES:-/usr/lib/nginx/modules}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly here
# Debian installs servers outside the PATH of other users.
PATH=$PATH:/usr/sbin:/sbin

fail() {
    echo "relay.sh: $*" >&2
    exit 3
}

[[ $rounds =~ ^[1-9][0-9]*$ && $each =~ ^[1-9][0-9]*$ && $search =~ ^[1-9][0-9]*$ ]] ||
    fail "ROUNDS, SECONDS_EACH and SEARCH_LIMIT must be whole numbers of 1 or more"
for gso in "${senders[@]}"; do
    [[ $gso == on || $gso == off ]] || fail "GSO must be on, off or both"
done
command -v python3 >/dev/null || fail "python3 is required to read the output of the tools"
figures() { python3 "$here/figures.py" "$@"; }
relay_py() { python3 "$here/relay.py" "$@"; }

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
# The table has the rounds so far.
trap 'report; exit 130' INT TERM

skip() { echo "skipped: $*"; }

# Relays run until the end of the script.
readonly whole=$((rounds * (search + 2 * each + 20) * 100))

# start NAME COMMAND...: starts a server; its process is $started.
start() {
    local name=$1
    shift
    timeout --kill-after=2 "$whole" "$@" >"$work/$name.out" 2>&1 &
    started=$!
    servers+=("$started")
}

free=$(figures ports 20)
take_port() {
    port=$free
    free=$((free + 1))
}

# Relays: name, value of --via ("-" for none) and process.
names=() urls=() processes=()

# relay NAME PROGRAM PROTOCOL SERVE ARGUMENT...: starts a relay, and tries it. PROTOCOL: udp or socks5.
relay() {
    local name=$1 program=$2 protocol=$3 serve=$4 kind=udp
    shift 4
    [[ $name =~ ${ONLY:-.} ]] || return 0
    if ! command -v "$program" >/dev/null; then
        skip "$name: $program is not installed"
        return
    fi
    take_port
    "serve_$serve" "$port" "$@"
    [[ $protocol == udp ]] || kind=tcp
    if ! figures listening "$kind" "$port" 2>/dev/null; then
        skip "$name does not listen: $(head -c 300 "$work/$port.out")"
        return
    fi
    if ! "$bench" udp --to "$to" --via "$protocol://127.0.0.1:$port" --packets 10 --no-save --quiet 2>"$work/trial"; then
        skip "$name forwards no UDP: $(head -c 300 "$work/trial")"
        return
    fi
    names+=("$name") urls+=("$protocol://127.0.0.1:$port") processes+=("$started")
}

serve_bench() {
    local port=$1 program=$2 engine=${3:-mio}
    start "$port" "$program" proxy serve --listen "127.0.0.1:$port" --forward-udp "$to" --engine "$engine" --quiet
}

serve_socks5() {
    local port=$1 program=$2
    start "$port" "$program" proxy serve --listen "127.0.0.1:$port" --protocol socks5 --quiet
}

serve_nginx() {
    local port=$1
    {
        [[ ! -e $modules/ngx_stream_module.so ]] || echo "load_module $modules/ngx_stream_module.so;"
        echo "worker_processes 1; daemon off; pid $work/$port.pid; error_log stderr crit; events { worker_connections 4096; }"
        echo "stream { server { listen 127.0.0.1:$port udp reuseport; proxy_pass $to; proxy_timeout 60s; } }"
    } >"$work/$port.conf"
    start "$port" nginx -p "$work" -e stderr -c "$work/$port.conf"
}

serve_socat() {
    local port=$1
    start "$port" socat -b 65536 -T 60 "UDP-LISTEN:$port,bind=127.0.0.1,reuseaddr,fork" "UDP:$to"
}

# One Go thread.
serve_gost() {
    local port=$1
    start "$port" env GOMAXPROCS=1 GOST_LOGGER_LEVEL=error gost -L "udp://127.0.0.1:$port/$to"
}

serve_dante() {
    local port=$1
    cat >"$work/$port.conf" <<END
logoutput: stderr
internal: 127.0.0.1 port = $port
external: 127.0.0.1
clientmethod: none
socksmethod: none
client pass { from: 127.0.0.0/8 to: 0.0.0.0/0 }
socks pass { from: 127.0.0.0/8 to: 0.0.0.0/0 command: udpassociate }
socks pass { from: 0.0.0.0/0 to: 127.0.0.0/8 command: udpreply }
END
    start "$port" danted -f "$work/$port.conf" -p "$work/$port.pid"
}

# udp GSO URL OPTION...: one bench udp to the receiver; its record goes to $work/record.
udp() {
    local gso=$1 url=$2 via=()
    shift 2
    [[ $url == - ]] || via=(--via "$url")
    # A search that its time limit ends has bounds too, and a run with losses has figures.
    timeout --kill-after=2 $((search + each + 20)) "$bench" udp "$@" --to "$to" "${via[@]}" --gso "$gso" --no-save --quiet --json - \
        >"$work/record" 2>"$work/error" || [[ -s $work/record ]]
}

# contend GSO NUMBER: all measurements of one relay, as a line of $work/rows; - where one failed.
contend() {
    local gso=$1 number=$2 before after found load rate=- costs=$'-\t-' latency=-
    local name=${names[number]} url=${urls[number]} process=${processes[number]}
    if udp "$gso" "$url" search --loss 0.1% --width 5% --trial 200ms --trial-sum 600ms --pause 50ms --time-limit "${search}s" &&
        found=$(relay_py rate "$work/record" 2>"$work/error"); then
        rate=$found
        if load=$(relay_py load "$rate") && before=$(relay_py cpu "$process") &&
            udp "$gso" "$url" --pps "$load" --duration "${each}s" && after=$(relay_py cpu "$process") &&
            found=$(relay_py costs "$work/record" "$before" "$after" 2>"$work/error"); then
            costs=$found
        else
            missing "$gso" "$name" "CPU and loss"
        fi
    else
        missing "$gso" "$name" "rate, CPU and loss"
    fi
    if udp "$gso" "$url" --pps "$pps" --duration "${each}s" && found=$(relay_py latency "$work/record" 2>"$work/error"); then
        latency=$found
    else
        missing "$gso" "$name" "latency"
    fi
    [[ $rate$latency == -- ]] ||
        printf '%s\t%s\t%s\t%s\t%s\t%s\n' "$round" "senders with GSO $gso" "$name" "$rate" "$costs" "$latency" >>"$work/rows"
}

# missing GSO NAME FIGURES: names figures that a measurement did not produce, and why.
missing() { echo "round $round: $2 with GSO $1: no $3: $(head -c 300 "$work/error")" >&2; }

report() {
    cat >"$work/notes" <<END
Medians over up to $rounds rounds, interleaved; kernel $(uname -r), $(nproc) CPUs; datagrams of 1000 message bytes.
rate: the highest with at most 0.1 % loss (lower bound of bench udp search, width 5 %). CPU: the relay's, user and system, of all its
processes, for each million datagrams received, at nine tenths of that rate; loss: at that load, so that a relay with bursts of losses
shows them. added p50: one-way latency at $pps datagrams a second minus that of the direct path in the same round.
ratio: $reference to the row, median and range over the rounds; for CPU lower is better.
-: not measured; stderr has the reason. socat and dante choose their number of processes themselves; the others have one thread.
END
    [[ -s $work/rows ]] || fail "no relay produced figures"
    relay_py table "$work/rows" "$reference" "$work/notes"
}

take_port
readonly to=127.0.0.1:$port
start receiver "$bench" serve --bind "$to" --no-save --quiet
figures listening tcp "$port" || fail "the receiver does not listen: $(head -c 300 "$work/receiver.out")"

# The difference of latencies needs the direct path.
names+=(direct) urls+=(-) processes+=(-)
relay bench "$bench" udp bench "$bench"
relay "bench uring" "$bench" udp bench "$bench" uring
[[ -z $base ]] || relay base "$base" udp bench "$base"
relay "nginx stream" nginx udp nginx
relay socat socat udp socat
relay gost gost udp gost
relay "bench, SOCKS5" "$bench" socks5 socks5 "$bench"
relay "dante, SOCKS5" danted socks5 dante
((${#names[@]} > 1)) || fail "ONLY selects no relay"

for ((round = 1; round <= rounds; round++)); do
    echo "round $round of $rounds" >&2
    for gso in "${senders[@]}"; do
        # Rotate the order, so that no relay always has the same predecessor.
        for ((n = 0; n < ${#names[@]}; n++)); do
            number=$(((n * (round % 2 ? 1 : ${#names[@]} - 1) + round - 1) % ${#names[@]}))
            contend "$gso" "$number"
        done
    done
done

report
