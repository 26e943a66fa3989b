#!/usr/bin/env bash
# Counts instructions and compares them with budget.csv. Needs valgrind; without it the check is skipped.
#
#   tools/instructions/check.sh [--update] [PART OF A CASE'S NAME]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

command -v valgrind >/dev/null || { echo "skipped: instruction counts: valgrind is not installed"; exit 0; }

cargo build --locked --release -p wirebench
cargo build --locked --release -p instructions
exec "${CARGO_TARGET_DIR:-../../target}/release/instructions" "$@"
