#!/usr/bin/env bash
# bench proxy serve beside HAProxy, nginx stream, socat and dante on loopback, interleaved: every round loads every
# contender once, one at a time, and what is printed are medians over the rounds. Only ratios within one such run mean
# anything: the same setting drifts by a fifth over minutes.
#
#   [ROUNDS=5] [SECONDS_EACH=2] [JOBS="bulk1 bulk4 kept close"] [THREADS="1 2"] [ONLY=regex] [BENCH=path] [BASE=path] \
#       tools/peers/proxy.sh
#
# bulk1 and bulk4 are iperf3 with one stream and four, from client to server; kept and close are wrk with 32 connections
# to an nginx that answers 200, kept open or one for each request. ONLY leaves out whom it does not match. BASE is
# another build of bench, to be seen beside this one.
#
# Needs bash, coreutils, python3, and iperf3 for bulk, nginx and wrk for requests. Debian: haproxy, nginx with
# libnginx-mod-stream, socat, dante-server with proxychains4. A peer that is not installed is left out by name.
set -euo pipefail

readonly rounds=${ROUNDS:-5}
readonly each=${SECONDS_EACH:-2}
read -ra jobs <<<"${JOBS:-bulk1 bulk4 kept close}"
read -ra threads <<<"${THREADS:-1 2}"
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly here
# Debian keeps servers where only root looks.
PATH=$PATH:/usr/sbin:/sbin
# One load may take so long, in s, with what it starts.
readonly limit=$((each + 10))

fail() {
    echo "proxy.sh: $*" >&2
    exit 3
}

[[ $rounds =~ ^[1-9][0-9]*$ && $each =~ ^[1-9][0-9]*$ ]] ||
    fail "ROUNDS and SECONDS_EACH are whole numbers from 1 on"
command -v python3 >/dev/null || fail "python3 is needed to read what the tools print"
figures() { python3 "$here/figures.py" "$@"; }
told() { python3 "$here/proxy.py" "$@"; }

bench=${BENCH:-${CARGO_TARGET_DIR:-$here/../../target}/release/bench}
[[ -x $bench ]] || fail "no program at $bench; run cargo build --release, or set BENCH to one"
base=${BASE:-}
[[ -z $base || -x $base ]] || fail "no program at $base; set BASE to another build of bench, or leave it"

work=$(mktemp -d)
readonly work
# Workers of nginx and dante give up being root.
chmod 755 "$work"
# Process ids of the timeouts around whatever runs.
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

have() {
    command -v "$1" >/dev/null && return
    echo "left out: $2 is not installed"
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

free=$(figures ports 40)
take_port() {
    port=$free
    free=$((free + 1))
}

# Everything but the loads lives as long as the whole run.
readonly whole=$((rounds * limit * 100))
take_port && readonly sink=$port
take_port && readonly origin=$port

modules=${NGINX_MODULES:-/usr/lib/nginx/modules}
run_nginx() {
    local name=$1 workers=$2 settings=$3
    {
        [[ ! -e $modules/ngx_stream_module.so ]] || echo "load_module $modules/ngx_stream_module.so;"
        echo "worker_processes $workers; daemon off; pid $work/$name.pid; error_log stderr crit;"
        echo "events { worker_connections 4096; }"
        echo "$settings"
    } >"$work/$name.conf"
    start "$whole" "$name" nginx -p "$work" -e stderr -c "$work/$name.conf"
}

serve_bench() { start "$whole" "$1" "$5" proxy serve --listen "127.0.0.1:$port" --forward "127.0.0.1:$2" --threads "$3" --forwarding "$4"; }

serve_haproxy() {
    local name=$1 to=$2 threads=$3 option
    shift 3
    {
        printf '%s\n' global "nbthread $threads" 'maxconn 4096' defaults 'mode tcp' \
            'timeout connect 5s' 'timeout client 60s' 'timeout server 60s'
        for option; do echo "option $option"; done
        printf '%s\n' 'listen proxy' "bind 127.0.0.1:$port" "server target 127.0.0.1:$to"
    } >"$work/$name.conf"
    start "$whole" "$name" haproxy -db -f "$work/$name.conf"
}

serve_nginx() {
    run_nginx "$1" "$3" "stream { server { listen 127.0.0.1:$port backlog=1024 reuseport; proxy_pass 127.0.0.1:$2; proxy_buffer_size $4; } }"
}

serve_socat() {
    start "$whole" "$1" socat -b 65536 \
        "TCP-LISTEN:$port,bind=127.0.0.1,reuseaddr,fork,backlog=1024,nodelay" "TCP:127.0.0.1:$2,nodelay"
}

# It speaks SOCKS, so clients reach it through proxychains4.
serve_dante() {
    cat >"$work/$1.conf" <<END
logoutput: stderr
internal: 127.0.0.1 port = $port
external: 127.0.0.1
clientmethod: none
socksmethod: none
client pass { from: 127.0.0.0/8 to: 0.0.0.0/0 }
socks pass { from: 127.0.0.0/8 to: 0.0.0.0/0 }
END
    printf '%s\n' strict_chain quiet_mode '[ProxyList]' "socks5 127.0.0.1 $port" >"$work/$1.chain"
    start "$whole" "$1" danted -f "$work/$1.conf" -p "$work/$1.pid"
}

# contender NAME THREADS SERVE ARGUMENT...: starts it twice, before the sink and before the origin.
names=() of_threads=() ports=() processes=()
contender() {
    local name=$1 count=$2 serve=$3 to
    shift 3
    [[ " ${threads[*]} " == *" $count "* && $name =~ ${ONLY:-.} ]] || return 0
    names+=("$name")
    of_threads+=("$count")
    for to in "$sink" "$origin"; do
        if [[ $serve == direct ]]; then
            ports+=("$to")
            processes+=(-)
            continue
        fi
        take_port
        ports+=("$port")
        "serve_$serve" "${#ports[@]}" "$to" "$count" "$@"
        processes+=("$started")
        figures listening tcp "$port" || fail "$name does not listen: $(head -c 300 "$work/${#ports[@]}.out")"
    done
}

iperf3='' wrk=''
have iperf3 'iperf3, and so bulk' && iperf3=yes
have wrk 'wrk, and so requests' && have nginx 'nginx, and so requests' && wrk=yes
if [[ -n $wrk ]]; then
    port=$origin
    run_nginx origin 1 "http { access_log off; keepalive_requests 1000000000; client_body_temp_path $work/t1;
        proxy_temp_path $work/t2; fastcgi_temp_path $work/t3; uwsgi_temp_path $work/t4; scgi_temp_path $work/t5;
        server { listen 127.0.0.1:$origin backlog=1024; location / { default_type text/plain; return 200 hello; } } }"
    figures listening tcp "$origin" || fail "the origin does not listen: $(head -c 300 "$work/origin.out")"
fi

for count in "${threads[@]}"; do
    contender direct "$count" direct
    for forwarding in auto copy splice; do
        contender "bench $forwarding" "$count" bench "$forwarding" "$bench"
        [[ -z $base ]] || contender "base $forwarding" "$count" bench "$forwarding" "$base"
    done
done
if have haproxy haproxy; then
    for count in "${threads[@]}"; do
        contender 'haproxy splice-auto' "$count" haproxy splice-auto
        contender 'haproxy splice both' "$count" haproxy splice-request splice-response
    done
fi
if have nginx 'nginx stream'; then
    if [[ -e $modules/ngx_stream_module.so || $(nginx -V 2>&1) == *--with-stream' '* ]]; then
        for count in "${threads[@]}"; do
            contender 'nginx 16k' "$count" nginx 16k
            contender 'nginx 65483' "$count" nginx 65483
        done
    else
        echo "left out: nginx stream: no ngx_stream_module.so in $modules (set NGINX_MODULES)"
    fi
fi
have socat socat && contender socat 1 socat
if have danted dante && have proxychains4 'proxychains4, and so dante'; then contender dante 1 dante; fi
((${#names[@]} > 0)) || fail "ONLY=${ONLY:-} leaves nobody"

# through NUMBER COMMAND...: as it is, or by SOCKS. What it prints is in $work/told.
through() {
    local chain=()
    if [[ -e $work/$1.chain ]]; then chain=(proxychains4 -f "$work/$1.chain"); fi
    shift
    timeout --kill-after=2 "$limit" "${chain[@]}" "$@" >"$work/told" 2>"$work/told.err"
}

# load JOB PLACE PORT-OF-A-SOCKS-PROXY'S-TARGET: one run; its figures on stdout.
load() {
    local job=$1 number=$2 to=$3 streams
    case $job in
        bulk*)
            streams=${job#bulk}
            start "$limit" sink iperf3 -s -1 -p "$sink"
            figures listening tcp "$sink" || return
            through "$number" iperf3 -c 127.0.0.1 -p "$to" -l 1M -P "$streams" -t "$each" -J
            ;;
        kept) through "$number" wrk -t1 -c32 "-d$each" --latency "http://127.0.0.1:$to/" ;;
        close) through "$number" wrk -t1 -c32 "-d$each" --latency -H 'Connection: close' "http://127.0.0.1:$to/" ;;
    esac
}

# run ROUND JOB INDEX: one contender once, tried again once should it fail.
run() {
    local round=$1 job=$2 index=$3 place to before after kind=bulk row
    place=$((2 * index))
    if [[ $job != bulk* ]]; then
        kind=requests
        place=$((place + 1))
    fi
    to=${ports[place]}
    if [[ -e $work/$((place + 1)).chain ]]; then
        # Every connection of a client behind proxychains waits for the one before: that would measure proxychains.
        [[ $job != close ]] || return 0
        if [[ $kind == bulk ]]; then to=$sink; else to=$origin; fi
    fi
    for _ in 1 2; do
        before=$(told cpu "${processes[place]}")
        if load "$job" "$((place + 1))" "$to" && after=$(told cpu "${processes[place]}") &&
            row=$(told "$kind" "$work/told" "$before" "$after" 2>"$work/told.err"); then
            printf '%s\t%s\t%s\t%s\t%s\n' "$round" "$job" "${of_threads[index]}" "${names[index]}" "$row" >>"$work/rows"
            return
        fi
    done
    echo "round $round: $job through ${names[index]} failed twice: $(cat "$work/told.err" "$work/told" | head -c 300)" >&2
}

for ((round = 1; round <= rounds; round++)); do
    echo "round $round of $rounds" >&2
    for job in "${jobs[@]}"; do
        case $job in
            bulk[1-9]*) [[ -n $iperf3 ]] || continue ;;
            kept | close) [[ -n $wrk ]] || continue ;;
            *) fail "JOBS are bulk1, bulk4, kept and close, not $job" ;;
        esac
        # Nobody is always behind the same neighbour.
        for ((n = 0; n < ${#names[@]}; n++)); do
            run "$round" "$job" $(((n * (round % 2 ? 1 : ${#names[@]} - 1) + round - 1) % ${#names[@]}))
        done
    done
done

cat >"$work/notes" <<END
Medians of $rounds rounds of $each s each, interleaved; kernel $(uname -r), $(nproc) CPUs.
Bulk: iperf3 writes 1 MiB at a time, counted where it arrives. Requests: wrk with one thread and 32 connections.
CPU is the proxy's, user and system, of all its processes: s per GB, µs per request.
ours / it: bench auto against that row, the median of each round's ratio and its range; for CPU and p99 less is better.
dante speaks SOCKS: its clients run within proxychains4, and its connections are not counted.
END
[[ -s $work/rows ]] || fail "no contender could be run"
told table "$work/rows" "$work/notes"
