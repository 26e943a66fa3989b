#!/usr/bin/env bash
# Compares bench udp with iperf3, iperf2, nuttcp and sockperf on loopback, interleaved: every round runs every tool once. Prints
# medians over the rounds. Only ratios within one run are comparable: a setting drifts by a fifth over minutes.
#
#   [ROUNDS=5] [SECONDS_EACH=2] [BENCH=path] [BASE=path] [IPERF3_GSRO=path] tools/peers/udp.sh
#
# BASE is another build of bench, measured beside the first ("base" in the tables).
#
# Needs bash, coreutils, util-linux (taskset) and python3. Peers that are not installed are skipped and named.
set -euo pipefail

readonly rounds=${ROUNDS:-5}
readonly each=${SECONDS_EACH:-2}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly here
# UDP payloads have one length: the peers' headers are part of it, the header of bench is 32 bytes.
readonly header=32
datagram=1000
# Timeout of a run and its server in s.
readonly limit=$((each + 10))

fail() {
    echo "udp.sh: $*" >&2
    exit 3
}

[[ $rounds =~ ^[1-9][0-9]*$ && $each =~ ^[1-9][0-9]*$ ]] ||
    fail "ROUNDS and SECONDS_EACH must be whole numbers of 1 or more"
command -v python3 >/dev/null || fail "python3 is required to read the output of the tools"
figures() { python3 "$here/figures.py" "$@"; }

bench=${BENCH:-${CARGO_TARGET_DIR:-$here/../../target}/release/bench}
[[ -x $bench ]] || fail "no program at $bench; run cargo build --release, or set BENCH to one"
base=${BASE:-}
[[ -z $base || -x $base ]] || fail "no program at $base; set BASE to another build of bench, or leave it unset"

work=$(mktemp -d)
readonly work
# Process ids of the timeout commands around the servers.
servers=()
stop_servers() {
    local signal=${1:-TERM} server
    for server in "${servers[@]}"; do
        kill "-$signal" "$server" 2>/dev/null || true
    done
    for server in "${servers[@]}"; do
        wait "$server" 2>/dev/null || true
    done
    servers=()
}
leave() {
    stop_servers
    rm -rf "$work"
}
trap leave EXIT
trap 'exit 130' INT TERM

# Socket buffer for every tool with such an option: 4 MiB, limited for unprivileged processes.
buffer=$((4 << 20))
for most in /proc/sys/net/core/{r,w}mem_max; do
    if [[ -r $most ]] && (($(<"$most") < buffer)); then
        buffer=$(<"$most")
    fi
done
readonly buffer

# serve COMMAND...: starts a server; its output goes to $work/server.
serve() {
    timeout --kill-after=2 "$limit" "$@" >"$work/server" 2>"$work/server.err" &
    servers+=($!)
}

# ask COMMAND...: runs a client; its output goes to $work/client.
ask() {
    timeout --kill-after=2 "$limit" "$@" >"$work/client" 2>"$work/client.err"
}

# Lets a server that serves one client end by itself for a second, then ends it.
end_server() {
    local looks=100
    while ((looks-- > 0)) && kill -0 "${servers[0]}" 2>/dev/null; do
        sleep 0.01
    done
    stop_servers
}

# run_bench PROGRAM OPTION...
run_bench() {
    local program=$1
    shift
    ask "$program" udp --chunk $((datagram - header)) --duration "${each}s" --no-save --quiet --json - "$@"
}

# run_iperf3 PROGRAM PIN OPTION...: PIN is a list of CPUs, or - for none.
run_iperf3() {
    local program=$1 pin=() port
    [[ $2 == - ]] || pin=(taskset -c "$2")
    shift 2
    port=$(figures ports 1) || return
    serve "${pin[@]}" "$program" -s -1 -p "$port"
    figures listening tcp "$port" || return
    ask "${pin[@]}" "$program" -c 127.0.0.1 -p "$port" -u -b 0 -l "$datagram" -t "$each" -w "$buffer" -J "$@" || return
    end_server
}

run_iperf2() {
    local port
    port=$(figures ports 1) || return
    serve iperf -s -u -e -l "$datagram" -w "$buffer" -p "$port" -P 1
    figures listening udp "$port" || return
    ask iperf -c 127.0.0.1 -p "$port" -u -b 100g -l "$datagram" -w "$buffer" -t "$each" -e || return
    end_server
}

run_nuttcp() {
    local port
    port=$(figures ports 2) || return
    serve nuttcp -1 --nofork -P "$port"
    figures listening tcp "$port" || return
    ask nuttcp -u -Ru "-l$datagram" "-T$each" -P "$port" -p $((port + 1)) "-w$((buffer >> 10))" -fparse 127.0.0.1 || return
    end_server
}

run_sockperf() {
    local port
    port=$(figures ports 1) || return
    serve sockperf server -i 127.0.0.1 -p "$port" --buffer-size "$buffer"
    figures listening udp "$port" || return
    ask sockperf throughput -i 127.0.0.1 -p "$port" -m "$datagram" -t "$each" --buffer-size "$buffer" || return
    # Its server reports only when it is interrupted.
    sleep 0.2
    stop_servers INT
}

# contend ROUND SECTION BASELINE NAME TOOL RUN...: one run; a second attempt on other ports if it fails.
contend() {
    local round=$1 section=$2 baseline=$3 name=$4 tool=$5 try figures_line
    shift 5
    for try in 1 2; do
        rm -f "$work"/{client,server}{,.err}
        if "$@" && figures_line=$(figures read "$tool" "$work" 2>"$work/read.err"); then
            printf '%s\t%s\t%s\t%s\t%s\n' "$round" "$section" "$name" "$baseline" "$figures_line" >>"$work/rows"
            return
        fi
        stop_servers
    done
    echo "round $round: $name failed $try times: $(cat "$work"/{client,server,read}.err 2>/dev/null | head -c 300)" >&2
}

have() {
    command -v "$1" >/dev/null && return
    echo "skipped: $2 is not installed"
    return 1
}

has_gsro() {
    # The help is read to its end: a reader that stops early would end the writer with SIGPIPE.
    local help
    help=$("$1" --help 2>&1) || true
    [[ $help == *--gsro* ]]
}

gsro=${IPERF3_GSRO:-}
if [[ -n $gsro ]]; then
    has_gsro "$gsro" || fail "IPERF3_GSRO=$gsro is not an iperf3 with --gsro"
else
    gsro=$(command -v iperf3 || true)
    if [[ -n $gsro ]] && ! has_gsro "$gsro"; then gsro=''; fi
fi
[[ -n $gsro ]] || echo "skipped: iperf3 --gsro: no iperf3 supports it (set IPERF3_GSRO)"
iperf3='' iperf2='' nuttcp='' sockperf=''
have iperf3 iperf3 && iperf3=$(command -v iperf3)
have iperf iperf2 && iperf2=yes
have nuttcp nuttcp && nuttcp=yes
have sockperf sockperf && sockperf=yes
cpus=$(taskset -cp $$ | sed 's/.*: //')
case $cpus in
    0-[1-9]* | 0,1*) pairs=yes ;;
    *)
        pairs=''
        echo "skipped: bench on CPUs 0 and 1: this process may run on $cpus only"
        ;;
esac

# The default of nPerf: datagrams that fit an Ethernet frame.
readonly ethernet=1472
readonly with="GSO on, $datagram B datagrams" without="GSO off, $datagram B datagrams"
readonly framed="GSO on, $ethernet B datagrams" framed_without="GSO off, $ethernet B datagrams"
# io_uring may be disabled in a kernel or container.
uring=yes
"$bench" udp --engine uring --packets 1 --no-save --quiet 2>"$work/uring" || {
    uring=''
    echo "skipped: bench, uring: $(cat "$work/uring")"
}
# The name of an iperf3 with its version, the second word of its output.
name() {
    local version
    read -r _ version _ < <("$1" --version)
    echo "iperf3 $version"
}
plain=''
[[ -z $iperf3 ]] || plain=$(name "$iperf3")
base_on=${plain:-bench}
segmenting=''
if [[ -n $gsro ]]; then
    segmenting="$(name "$gsro") --gsro"
    base_on=$segmenting
fi
base_off=${plain:-bench}

a() { contend "$round" "$with" "$base_on" "$@"; }
b() { contend "$round" "$without" "$base_off" "$@"; }
c() { contend "$round" "$framed" "$base_framed" "$@"; }
d() { contend "$round" "$framed_without" bench "$@"; }
base_framed=${segmenting:-bench}
# ours TABLE SUFFIX OPTION...: bench with these options, then the other build of it where BASE names one.
ours() {
    local table=$1 suffix=$2
    shift 2
    "$table" "bench$suffix" bench run_bench "$bench" "$@"
    [[ -z $base ]] || "$table" "base$suffix" bench run_bench "$base" "$@"
}

for ((round = 1; round <= rounds; round++)); do
    echo "round $round of $rounds" >&2
    datagram=1000
    ours a "" --gso on
    ours a ", splice" --gso on --zerocopy splice
    [[ -z $uring ]] || ours a ", uring" --gso on --engine uring
    ours a ", one core" --gso on --cpus 0
    ours a ", splice, one core" --gso on --zerocopy splice --cpus 0
    [[ -z $uring ]] || ours a ", uring, one core" --gso on --engine uring --cpus 0
    if [[ -n $pairs ]]; then
        ours a ", 2 streams on a core each" --gso on --streams 2 --cpus 0,0,1,1
        ours a ", splice, 2 streams on a core each" --gso on --zerocopy splice --streams 2 --cpus 0,0,1,1
        [[ -z $uring ]] ||
            ours a ", uring, 2 streams on a core each" --gso on --engine uring --streams 2 --cpus 0,0,1,1
    fi
    [[ -z $gsro ]] || a "$segmenting" iperf3 run_iperf3 "$gsro" - --gsro
    [[ -z $gsro ]] || a "$segmenting, one core" iperf3 run_iperf3 "$gsro" 0 --gsro
    [[ -z $gsro ]] || a "$segmenting -P 2" iperf3 run_iperf3 "$gsro" - --gsro -P 2
    [[ -z $iperf3 ]] || a "$plain" iperf3 run_iperf3 "$iperf3" -
    ours b "" --gso off
    [[ -z $uring ]] || ours b ", uring" --gso off --engine uring
    ours b ", one core" --gso off --cpus 0
    [[ -z $uring ]] || ours b ", uring, one core" --gso off --engine uring --cpus 0
    ours b ", 2 streams" --gso off --streams 2
    [[ -z $iperf3 ]] || b "$plain" iperf3 run_iperf3 "$iperf3" -
    [[ -z $nuttcp ]] || b "nuttcp" nuttcp run_nuttcp
    [[ -z $sockperf ]] || b "sockperf" sockperf run_sockperf
    [[ -z $iperf2 ]] || b "iperf2" iperf2 run_iperf2
    datagram=$ethernet
    ours c "" --gso on
    ours c ", splice" --gso on --zerocopy splice
    [[ -z $uring ]] || ours c ", uring" --gso on --engine uring
    [[ -z $gsro ]] || c "$segmenting" iperf3 run_iperf3 "$gsro" - --gsro
    ours d "" --gso off
    [[ -z $uring ]] || ours d ", uring" --gso off --engine uring
done

cat >"$work/notes" <<END
Medians of $rounds rounds of $each s each, interleaved; kernel $(uname -r), $(nproc) CPUs.
Delivered is what the receiver got: bench received.unique, iperf3 packets less lost, nuttcp pkt less drop, iperf2 the
server's own line, sockperf the server's count at its end over the client's seconds (its client reports what it sent).
bench is lossless by default: its receiver grants credit. The peers are open loop and send as fast as possible.
bench places its threads on CPUs by default; the kernel places the peers, unless a row says one core.
Socket buffers: every tool requests $buffer bytes.
CPU s/M: CPU seconds of both sides per million delivered; bench counts its sending and receiving threads, iperf3
and nuttcp their processes. iperf2 and sockperf do not report it.
END
[[ -s $work/rows ]] || fail "no run produced figures"
figures table "$work/rows" "$work/notes"
