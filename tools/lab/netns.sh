#!/usr/bin/env bash
# Runs bench serve and bench udp --to in two network namespaces, on each engine, and compares the report with the kernel's
# counters: what a rule drops, duplicates or delays must be reported exactly.
#
#   [PACKETS=50000] [BENCH=path] tools/lab/netns.sh
#
# Needs root, iproute2 (ip, tc), nftables and python3. Uses only the two namespaces that it creates, and removes them. Prints a
# PASS, FAIL or SKIP line for each check; exits with 1 if one failed.
set -euo pipefail

readonly packets=${PACKETS:-50000}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly here
readonly from=10.77.0.1 to=10.77.0.2 port=5210
readonly chunk=1000
# The length field of a full data datagram: UDP header, header of bench and chunk. All others are shorter.
readonly full=$((8 + 32 + chunk))

fail() {
    echo "netns.sh: $*" >&2
    exit 3
}

((EUID == 0)) || fail "network namespaces need root; run it with sudo"
for tool in ip nft tc python3; do
    command -v "$tool" >/dev/null || fail "$tool is required: apt-get install iproute2 nftables python3"
done
bench=${BENCH:-${CARGO_TARGET_DIR:-$here/../../target}/release/bench}
[[ -x $bench ]] || fail "no program at $bench; run cargo build --release or set BENCH"

readonly sender=wirebench-tx-$$ receiver=wirebench-rx-$$
readonly near=wbtx far=wbrx
work=$(mktemp -d)
readonly work
server=''
leave() {
    if [[ -n $server ]]; then
        kill "$server" 2>/dev/null || true
        wait "$server" 2>/dev/null || true
    fi
    ip netns del "$sender" 2>/dev/null || true
    ip netns del "$receiver" 2>/dev/null || true
    rm -rf "$work"
}
trap leave EXIT
trap 'exit 130' INT TERM

at_sender() { ip netns exec "$sender" "$@"; }
at_receiver() { ip netns exec "$receiver" "$@"; }

ip netns add "$sender" || fail "this kernel or container allows no network namespaces"
ip netns add "$receiver"
ip link add "$near" netns "$sender" type veth peer name "$far" netns "$receiver"
ip -n "$sender" address add "$from/24" dev "$near"
ip -n "$receiver" address add "$to/24" dev "$far"
for each in "$sender lo" "$sender $near" "$receiver lo" "$receiver $far"; do
    read -r namespace device <<<"$each"
    ip -n "$namespace" link set "$device" up
done

# One server for all sessions.
: >"$work/serve"
timeout --kill-after=5 600 ip netns exec "$receiver" \
    "$bench" serve --bind "$to:$port" --no-save --quiet >"$work/serve" 2>"$work/serve.err" &
server=$!
looks=300
until grep -q listening "$work/serve"; do
    if ((looks-- == 0)) || ! kill -0 "$server" 2>/dev/null; then
        fail "bench serve does not listen: $(<"$work/serve.err")"
    fi
    sleep 0.01
done

failures=0
report() {
    echo "$1"
    if [[ $1 == FAIL* ]]; then failures=$((failures + 1)); fi
}

# Drops of the sender's veth device, because the receiver's input queue was full.
refused() { at_sender cat "/sys/class/net/$near/statistics/tx_dropped"; }

# Drops of the receiver's namespace at full sockets.
overflowed() {
    at_receiver cat /proc/net/snmp | python3 -c '
import sys
names, values = (line.split() for line in sys.stdin if line.startswith("Udp:"))
print(dict(zip(names, values))["RcvbufErrors"])
'
}

# counter NAMESPACE NAME: packets counted by a rule; 0 without rules.
counter() {
    ip netns exec "$1" nft -j list counters 2>/dev/null | python3 -c '
import json, sys
rows = json.load(sys.stdin)["nftables"]
print(sum(row["counter"]["packets"] for row in rows if row.get("counter", {}).get("name") == sys.argv[1]))
' "$2"
}

# check NAME KERNEL CONDITION OPTION...: one run and a condition over its figures, in Python. KERNEL is the namespace and name of a
# counter, or -; `kernel` is its increase during the run. `cable` and `socket` are the increases of `refused` and `overflowed`.
check() {
    local name="$engine, $1" kernel=$2 condition=$3 namespace='' rule='' before=0 after=0 cable socket
    shift 3
    if [[ $kernel != - ]]; then
        read -r namespace rule <<<"$kernel"
        before=$(counter "$namespace" "$rule")
    fi
    cable=$(refused) socket=$(overflowed)
    if ! at_sender timeout --kill-after=5 60 "$bench" udp --to "$to:$port" --chunk "$chunk" --packets "$packets" \
        --engine "$engine" --no-save --quiet --json - "$@" >"$work/run" 2>"$work/run.err"; then
        report "FAIL $name: bench udp $*: $(head -n 1 "$work/run.err")"
        return
    fi
    cable=$(($(refused) - cable)) socket=$(($(overflowed) - socket))
    if [[ $kernel != - ]]; then after=$(counter "$namespace" "$rule"); fi
    report "$(python3 - "$work/run" "$name" "$condition" $((after - before)) "$cable" "$socket" <<'END'
import json, sys

path, name, condition, *witnesses = sys.argv[1:]
kernel, cable, socket = map(int, witnesses)
run = json.load(open(path))["runs"][0]
sent, received, lost = run["sent"]["packets"], run["received"], run["lost"]
failed = [
    text
    for text in (
        "run['complete']",
        "sent == received['unique'] + lost['packets']",
        "received['packets'] == received['unique'] + received['duplicates']",
        "lost['packets'] == lost['not_sent'] + lost['receiver_socket'] + lost['elsewhere']",
        "received['bytes'] == received['unique'] * run['effective']['chunk']",
        "lost['receiver_socket'] == socket",
        "received['late'] == 0 and received['foreign'] == 0",
        *condition.split(" and "),
    )
    if not eval(text)
]
figures = (
    f"sent {sent}, unique {received['unique']}, lost {lost['packets']} (socket {lost['receiver_socket']},"
    f" elsewhere {lost['elsewhere']}), duplicates {received['duplicates']}, reordered {received['reordered']};"
    f" kernel: rule {kernel}, cable {cable}, socket {socket}"
)
print("FAIL" if failed else "PASS", f"{name}: {figures}", *(f"\n     not so: {text}" for text in failed))
END
)"
}

# Options of the modes.
readonly paced=(--pps 25k)
readonly plain=(--gso off)

# All checks of one engine.
checks() {
    local clean exact refused twice swapped
    clean="lost['packets'] == 0 and received['duplicates'] == 0 and received['reordered'] == 0"
    check "clean, lossless" - "$clean" "${plain[@]}"
    check "clean, lossless, GSO" - "$clean" --gso auto
    if [[ $engine == mio ]]; then
        check "clean, lossless, splice" - "$clean" "${plain[@]}" --zerocopy splice
        check "clean, lossless, GSO, splice" - "$clean" --gso auto --zerocopy splice
    fi
    check "clean, lossless, GSO, zero-copy sends" - "$clean" --gso auto --zerocopy msg
    check "clean, paced" - "$clean" "${plain[@]}" "${paced[@]}"
    check "clean, 3 streams" - "$clean" "${plain[@]}" --streams 3
    check "clean, blast" - "lost['elsewhere'] == cable and received['duplicates'] == 0" "${plain[@]}" --unpaced
    check "blast into a small buffer" - "lost['elsewhere'] == cable and socket > 0" "${plain[@]}" --unpaced --rcvbuf 8192

    # One in a hundred is dropped at the receiver, before any socket. Clock exchanges and path tests too; they are counted separately.
    at_receiver nft -f - <<END
table inet wirebench {
    counter data {}
    counter other {}
    chain input {
        type filter hook input priority filter
        udp length $full numgen random mod 100 < 1 counter name data drop
        meta l4proto udp udp length != $full numgen random mod 100 < 1 counter name other drop
    }
}
END
    exact="lost['packets'] == kernel and kernel > 0 and lost['elsewhere'] == kernel and received['duplicates'] == 0"
    check "1 % dropped, lossless" "$receiver data" "$exact" "${plain[@]}"
    check "1 % dropped, lossless, 3 streams" "$receiver data" "$exact" "${plain[@]}" --streams 3
    [[ $engine != mio ]] ||
        check "1 % dropped, lossless, splice" "$receiver data" "$exact" "${plain[@]}" --zerocopy splice
    check "1 % dropped, paced" "$receiver data" "$exact" "${plain[@]}" "${paced[@]}"
    check "1 % dropped, blast" "$receiver data" "lost['elsewhere'] == kernel + cable and kernel > 0" "${plain[@]}" --unpaced
    at_receiver nft delete table inet wirebench

    # One in a hundred is rejected while it is sent. sendmmsg hides some errors, and those are retried; zero-copy sends continue too.
    at_sender nft -f - <<END
table inet wirebench {
    counter data {}
    chain output {
        type filter hook output priority filter
        udp length $full numgen inc mod 100 50 counter name data drop
    }
}
END
    refused="lost['not_sent'] <= kernel and kernel > 0 and lost['elsewhere'] == cable"
    [[ $engine != uring ]] || refused="lost['not_sent'] == kernel and kernel > 0 and lost['elsewhere'] == cable"
    check "1 % refused at the sender, blast" "$sender data" "$refused" "${plain[@]}" --unpaced
    check "1 % refused at the sender, zero-copy sends" "$sender data" "$refused" "${plain[@]}" --zerocopy msg
    at_sender nft delete table inet wirebench

    # One in fifty is sent twice. The mark keeps the copy from matching again.
    if at_sender nft -f - 2>/dev/null <<END; then
table ip wirebench {
    counter data {}
    chain output {
        type filter hook output priority filter
        meta mark 1 accept
        udp length $full numgen random mod 100 < 2 counter name data meta mark set 1 dup to $to device "$near"
    }
}
END
        twice="received['duplicates'] == kernel and kernel > 0 and lost['packets'] == 0"
        check "2 % sent twice, lossless" "$sender data" "$twice" "${plain[@]}"
        check "2 % sent twice, paced" "$sender data" "$twice" "${plain[@]}" "${paced[@]}"
        at_sender nft delete table ip wirebench
    else
        report "SKIP duplicates: this kernel's nftables cannot send twice (CONFIG_NFT_DUP_IPV4)"
    fi

    # One in twenty is delayed by a narrow htb class, so that others overtake it.
    if at_sender tc qdisc add dev "$near" root handle 1: htb default 10 r2q 10000 2>/dev/null; then
        at_sender tc class add dev "$near" parent 1: classid 1:10 htb rate 40gbit burst 1m cburst 1m quantum 60000
        at_sender tc class add dev "$near" parent 1: classid 1:20 htb rate 20mbit burst 1500 cburst 1500 quantum 1500
        at_sender tc qdisc add dev "$near" parent 1:20 pfifo limit 10000
        at_sender nft -f - <<END
table ip wirebench {
    counter data {}
    chain output {
        type filter hook output priority filter
        udp length $full numgen random mod 100 < 5 counter name data meta priority set 1:20
    }
}
END
        swapped="received['reordered'] > 0 and received['reordered'] <= kernel and lost['packets'] == 0 and received['duplicates'] == 0"
        check "5 % delayed, paced" "$sender data" "$swapped" "${plain[@]}" "${paced[@]}"
        at_sender nft delete table ip wirebench
        at_sender tc qdisc del dev "$near" root
    else
        report "SKIP reordering: this kernel has no htb (CONFIG_NET_SCH_HTB)"
    fi
}

for engine in mio uring; do
    if ! reason=$("$bench" udp --engine "$engine" --packets 1 --no-save --quiet 2>&1); then
        report "SKIP $engine: $reason"
        continue
    fi
    checks
done

echo "$failures failed"
((failures == 0))
