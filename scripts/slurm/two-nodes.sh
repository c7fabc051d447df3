#!/bin/bash
# A two-node Slurm on this machine, for trying out: two-nodes.sh start DIR | stop DIR | env DIR
#
# Needs Debian's slurm-wlm and munge, and root, since slurmd runs jobs as their owner. Everything
# lives in DIR: munged with a key of its own, slurmctld, and slurmd -N n1 and -N n2 on ports of
# loopback. `stop` ends the processes that `start` started, by their ids.
set -euo pipefail

action=${1:?usage: two-nodes.sh start|stop|env DIR}
mkdir -p "${2:?name a directory}"
dir=$(cd "$2" && pwd)
host=$(hostname -s)
# Ports follow from the directory, so that two of these do not meet; 17001 is where one begins.
base=$((17001 + $(cksum <<<"$dir" | cut -d' ' -f1) % 2000 * 4))

environment() {
    echo "export SLURM_CONF='$dir/slurm.conf'"
}

configure() {
    cat >"$dir/slurm.conf" <<CONF
ClusterName=duel
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$((base + 2))
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$dir/munge/socket
CryptoType=crypto/munge
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool-%n
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd-%n.pid
SlurmctldLogFile=$dir/slurmctld.log
SlurmdLogFile=$dir/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/builtin
# One machine plays both nodes: what slurmd finds is not what a node of this list has.
SlurmdParameters=config_overrides
NodeName=n1 NodeHostname=$host NodeAddr=127.0.0.1 Port=$base CPUs=$(nproc)
NodeName=n2 NodeHostname=$host NodeAddr=127.0.0.1 Port=$((base + 1)) CPUs=$(nproc)
PartitionName=all Nodes=n1,n2 Default=YES MaxTime=10 State=UP OverSubscribe=YES
CONF
}

start() {
    mkdir -p "$dir/munge" "$dir/state"
    # Munge insists on directories that nobody else can write to, up to the root.
    chmod 755 "$dir" "$dir/munge"
    head -c 128 /dev/urandom >"$dir/munge/key"
    chmod 600 "$dir/munge/key"
    configure
    : >"$dir/pids"
    munged --foreground --key-file="$dir/munge/key" --socket="$dir/munge/socket" \
        --pid-file="$dir/munge/pid" --log-file="$dir/munge/log" --seed-file="$dir/munge/seed" \
        --force >"$dir/munged.out" 2>&1 &
    echo $! >>"$dir/pids"
    export SLURM_CONF="$dir/slurm.conf"
    slurmctld -D -f "$SLURM_CONF" >"$dir/slurmctld.out" 2>&1 &
    echo $! >>"$dir/pids"
    for node in n1 n2; do
        slurmd -D -N "$node" -f "$SLURM_CONF" >"$dir/slurmd-$node.out" 2>&1 &
        echo $! >>"$dir/pids"
    done
    for _ in $(seq 300); do
        [ "$(sinfo -h -N -t idle -o %N 2>/dev/null | wc -l)" -eq 2 ] && return 0
        sleep 0.1
    done
    echo "two-nodes.sh: the nodes did not become idle; see $dir/*.log" >&2
    tail -n 5 "$dir"/*.out "$dir"/*.log >&2 || true
    stop
    return 1
}

# Ends processes by id, and waits for them.
end() {
    kill "$@" 2>/dev/null || true
    for _ in $(seq 200); do
        kill -0 "$@" 2>/dev/null || return 0
        sleep 0.05
    done
    kill -9 "$@" 2>/dev/null || true
}

stop() {
    [ -s "$dir/pids" ] || return 0
    mapfile -t pids <"$dir/pids"
    # munged last: the others speak through it until they end.
    for pid in "${pids[@]:1}"; do end "$pid" & done
    wait
    end "${pids[0]}"
    rm -f "$dir/pids"
}

case "$action" in
    start) start ;;
    stop) stop ;;
    env) environment ;;
    *) echo "two-nodes.sh: start, stop or env" >&2; exit 2 ;;
esac
