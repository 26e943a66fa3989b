#!/bin/sh
# Runs `bench udp --fleet` under a Slurm of its own, with four nodes on this host: slurm.sh BENCH RANKS [OPTION...]
# With FLEET_COMMAND='proxy load', runs `bench proxy load --fleet`.
# Exits with 77 if Slurm or munge is not installed. Needs root. Everything is in a temporary folder, which is removed.
set -eu

bench=$1 ranks=$2
shift 2
for program in slurmctld slurmd srun munged; do
    if ! PATH="$PATH:/usr/sbin" command -v $program > /dev/null; then
        echo "skipped: $program is not installed (Debian: slurm-wlm munge)" >&2
        exit 77
    fi
done
if [ "$(id -u)" != 0 ]; then
    echo "skipped: slurmd needs root" >&2
    exit 77
fi
PATH=$PATH:/usr/sbin
host=$(uname -n)
folder=$(mktemp -d)
# Munge requires folders that only their owner writes to.
chmod 755 "$folder"
pids=
end() {
    for pid in $pids; do kill "$pid" 2> /dev/null || true; done
    for pid in $pids; do wait "$pid" 2> /dev/null || true; done
    rm -rf "$folder"
}
trap end EXIT
trap 'exit 130' INT TERM

mkdir -p "$folder/state" "$folder/munge"
chmod 711 "$folder/munge"
head -c 1024 /dev/urandom > "$folder/munge/key"
chmod 600 "$folder/munge/key"
munged --foreground --force --key-file="$folder/munge/key" --socket="$folder/munge/socket" \
    --pid-file="$folder/munge/pid" --log-file="$folder/munge/log" --seed-file="$folder/munge/seed" \
    > "$folder/munged.log" 2>&1 &
pids="$pids $!"

# Ports that no other Slurm here is likely to have, below those that the kernel chooses for connections (32768).
port=$((20000 + $$ % 1500 * 8))
cpus=$(((ranks + 3) / 4))
cat > "$folder/slurm.conf" << END
ClusterName=wirebench
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge/socket
CryptoType=crypto/munge
SlurmctldPort=$port
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd-%n.pid
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool-%n
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd-%n.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
MpiDefault=none
ReturnToService=2
KillOnBadExit=0
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
NodeName=node[1-4] NodeHostname=$host NodeAddr=127.0.0.1 Port=[$((port + 1))-$((port + 4))] CPUs=$cpus
PartitionName=all Nodes=ALL Default=YES State=UP
END
export SLURM_CONF="$folder/slurm.conf"
slurmctld -D > "$folder/slurmctld.out" 2>&1 &
pids="$pids $!"
for node in node1 node2 node3 node4; do
    slurmd -D -N $node > "$folder/$node.out" 2>&1 &
    pids="$pids $!"
done
tries=0
until [ "$(sinfo -h -t idle -o %D 2> /dev/null)" = 4 ]; do
    tries=$((tries + 1))
    if [ $tries -gt 100 ]; then
        echo "Slurm did not start:" >&2
        tail -n 5 "$folder"/*.out "$folder"/*.log >&2
        exit 1
    fi
    sleep 0.2
done
# All nodes are this host. Without --kill-on-bad-exit, a rank that dies does not end the others.
srun --kill-on-bad-exit=0 -N 4 -n "$ranks" "$bench" ${FLEET_COMMAND:-udp} --fleet --rendezvous 127.0.0.1 "$@"
