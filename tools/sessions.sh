#!/usr/bin/env bash
# Many sessions on one `bench serve`: refusals, losses, and the server's memory, threads and CPU.
#
#   tools/sessions.sh [SESSIONS [PPS [SECONDS]]]      1000 sessions of 100 datagrams a second for 10 s by default
#   ENGINE=uring tools/sessions.sh                    the engine that the sessions request
#   DIRECTION=reverse tools/sessions.sh               the server sends
#
# Exit code 1 if a session was refused or a datagram was lost.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

sessions=${1:-1000} pps=${2:-100} seconds=${3:-10}
target=${CARGO_TARGET_DIR:-target}
bench=${BENCH:-$target/release/bench}
[ -x "$bench" ] || cargo build --locked --release
cargo build --quiet --locked --release -p sessions

ulimit -n "$(ulimit -H -n)"
out=$(mktemp)
"$bench" serve --bind 127.0.0.1:0 --no-save --quiet --max-sessions "$sessions" >"$out" &
server=$!
trap 'kill "$server" 2>/dev/null; wait "$server" 2>/dev/null; rm -f "$out"' EXIT
until address=$(sed -n 's/^listening on //p' "$out"); [ -n "$address" ]; do
    kill -0 "$server"
    sleep 0.05
done
"$target/release/sessions" "$address" "$server" "$sessions" "$pps" "$seconds" "${ENGINE:-mio}" "${DIRECTION:-forward}"
