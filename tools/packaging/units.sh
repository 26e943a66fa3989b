#!/usr/bin/env bash
# Checks the systemd units: systemd-analyze verify, and the exposure of systemd-analyze security, which is at most EXPOSURE
# (tenths: 20 is 2.0). BENCH selects the program in place of /usr/bin/bench. Nothing is started or installed.
set -euo pipefail
cd "$(dirname "$0")/../.."

EXPOSURE=${EXPOSURE:-20}
fail() { printf 'FAILED: %s\n' "$*" >&2; exit 1; }

if ! command -v systemd-analyze >/dev/null; then
  echo "skipped: systemd-analyze is missing (apt-get install systemd)"
  exit 0
fi
bench=${BENCH:-}
for path in target/release/bench target/debug/bench /bin/true; do
  [ -n "$bench" ] || { [ ! -x "$path" ] || bench=$path; }
done
bench=$(realpath "$bench")

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
# verify requires that the program exists.
for unit in tools/packaging/systemd/*.service tools/packaging/systemd/*.socket; do
  sed "s|/usr/bin/bench|$bench|" "$unit" >"$folder/${unit##*/}"
done

for unit in "$folder"/*.service "$folder"/*.socket; do
  # The pages in Documentation= are installed by the package only.
  said=$(systemd-analyze verify --man=no "$unit" 2>&1) || fail "${unit##*/}: $said"
  # verify also reports problems of units that it loads besides.
  if grep -F "${unit##*/}" <<<"$said"; then fail "${unit##*/} has warnings"; fi
  echo "${unit##*/}: verified"
done
for unit in "$folder"/*.service; do
  said=$(systemd-analyze security --offline=true --threshold="$EXPOSURE" --no-pager "$unit" 2>&1) ||
    fail "${unit##*/}: ${said##*$'\n'} (at most $EXPOSURE tenths)"
  echo "${said##*$'\n'}"
done
