#!/bin/sh
# Runs `bench udp --fleet` under Open MPI on this host: mpirun.sh BENCH RANKS [OPTION...]
# With FLEET_COMMAND='proxy load', runs `bench proxy load --fleet`.
# Exits with 77 if mpirun is not installed.
set -eu

bench=$1 ranks=$2
shift 2
if ! command -v mpirun > /dev/null; then
    echo "skipped: mpirun is not installed (Debian: openmpi-bin)" >&2
    exit 77
fi
# A rank that dies must not end the others, which name it. More ranks than CPUs are allowed, and as root too.
exec mpirun --oversubscribe --allow-run-as-root --bind-to none \
    --enable-recovery --mca orte_abort_on_non_zero_status 0 \
    -n "$ranks" "$bench" ${FLEET_COMMAND:-udp} --fleet "$@"
