#!/usr/bin/env bash
# Measures the examples in results/examples again: one comparison of `bench udp` and one of `bench proxy`, each with its record,
# page and picture. Needs a quiet machine and about three minutes after the build.
#
# ROUNDS (default 10) and SECONDS_EACH (default 1) make it longer or shorter; BENCH selects another `bench` than the release build.
set -euo pipefail
cd "$(dirname "$0")/../.."

rounds=${ROUNDS:-10}
seconds=${SECONDS_EACH:-1}
examples=results/examples

if [ -z "${BENCH:-}" ]; then
  cargo build --release --locked
  BENCH=target/release/bench
fi
bench=$(realpath "$BENCH")

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# The record has the command line: `bench`, whatever the path of the program is.
ln -s "$bench" "$work/bench"
export PATH="$work:$PATH"

# Replaces the example $1 by a run with the further arguments.
example() {
  local name=$1 folder
  shift
  printf '%s\n' "$*"
  (cd "$work" && "$@" --repeat "$rounds" >/dev/null)
  folder=$(find "$work/results" -mindepth 1 -maxdepth 1 -type d -name "*-$name-*")
  rm -rf "${examples:?}/$name" "$examples/$name.svg"
  mkdir -p "$examples"
  cp -r "$folder" "$examples/$name"
  bench report "$examples/$name" --html "$examples/$name/report.html" --svg "$examples/$name.svg"
}

example udp bench udp --engine mio,uring --gso on,off --duration "${seconds}s" --interval 100ms
example proxy bench proxy --engine mio,uring --duration "${seconds}s"

largest=1500
size=$(du -sk "$examples" | cut -f1)
[ "$size" -lt "$largest" ] || { printf 'results/examples has %s KB, more than %s\n' "$size" "$largest" >&2; exit 1; }
