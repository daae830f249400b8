#!/bin/bash
# A real Slurm of four nodes on this machine, for the tests: one slurmd for each node, with a host name of its own, and
# accounting, so that sacct knows how a job ended. Run as root; does nothing where this cluster already answers, and starts
# what has died of it. `start.sh stop` ends it. Without root it says so and ends 0: the tests that need it are then
# skipped, with that reason.
set -euo pipefail

nodes=(n1 n2 n3 n4)
state=/var/lib/slurm-kittest # of the cluster; goes when it starts anew
socket=$state/mariadb.sock
export MYSQL_UNIX_PORT=$socket # where slurmdbd looks for its database

fail() {
    echo "slurm: $1" >&2
    tail -n 5 /var/log/slurm/*.log >&2 || true
    exit 1
}

# Waits up to a minute for a command to succeed.
until_true() {
    for _ in $(seq 300); do
        "$@" >/dev/null 2>&1 && return
        sleep 0.2
    done
    fail "no success within a minute: $*"
}

# A process that was killed and that nobody has reaped yet keeps its name, and runs no more.
running() { # running FILE_WITH_A_PID NAME
    local pid
    pid=$(cat "$1" 2>/dev/null) && [ -n "$pid" ] &&
        [[ "$(cat "/proc/$pid/stat" 2>/dev/null)" == "$pid ($2) "[!ZX]* ]]
}

# Process ids of the daemons: every Slurm of this machine is of these tests.
daemons() { pgrep -x slurmctld || true; pgrep -x slurmd || true; pgrep -x slurmdbd || true; }

stopped() {
    [ -z "$(daemons)" ] && ! running "$state/mariadb.pid" mariadbd
}

stop() {
    # Jobs first: their processes outlive a slurmd. A controller that does not answer is no reason to stay.
    timeout 5 squeue --noheader --format=%A 2>/dev/null | sort -u | timeout 5 xargs -r scancel --full 2>/dev/null || true
    for _ in $(seq 25); do pgrep -x slurmstepd >/dev/null || break; sleep 0.2; done
    daemons | xargs -r kill
    for _ in $(seq 50); do [ -n "$(daemons)" ] || break; sleep 0.2; done
    { daemons; pgrep -x slurmstepd || true; } | xargs -r kill -KILL
    ! running "$state/mariadb.pid" mariadbd || kill "$(cat "$state/mariadb.pid")"
    until_true stopped
}

idle() {
    [ "$(sinfo --noheader --Node --partition=test --format=%t 2>/dev/null | grep -c -E '^(idle|mix|alloc|comp)$')" -eq ${#nodes[@]} ]
}

nodes_started() {
    for node in "${nodes[@]}"; do
        # A host name of its own, as on a cluster: mpirun looks for itself among the nodes of the job.
        running "$state/slurmd-$node.pid" slurmd ||
            unshare --uts sh -c "hostname $node && exec slurmd -N $node"
    done
}

# A test may have taken a node out of service, and one that has not yet registered again refuses to return.
mended() {
    nodes_started # one that was being killed when it was looked at has gone now
    for node in $(sinfo --noheader --Node --partition=test --states=drain,down --format=%n); do
        scontrol update nodename="$node" state=resume || true
    done
    idle
}

if [ "$(id -u)" -ne 0 ]; then
    if idle; then
        echo "slurm: answers already"
    else
        echo "slurm: not running, and starting it needs root: sudo $0"
    fi
    exit 0
fi
# A Slurm that is not of these tests is left alone.
if grep -qs '^ClusterName=' /etc/slurm/slurm.conf && ! grep -q '^ClusterName=kittest$' /etc/slurm/slurm.conf; then
    echo "slurm: /etc/slurm/slurm.conf is of another cluster; the tests need one of their own" >&2
    exit 1
fi
if [ "${1:-}" = stop ]; then
    stop
    exit 0
fi

missing=()
for pair in slurmctld:slurm-wlm slurmdbd:slurmdbd munged:munge mariadbd:mariadb-server mpirun:openmpi-bin; do
    command -v "${pair%:*}" >/dev/null || missing+=("${pair#*:}")
done
# Slurm opens libpmix.so by the name that only the development package carries.
dpkg-query --show libpmix-dev >/dev/null 2>&1 || missing+=(libpmix-dev)
if [ ${#missing[@]} -gt 0 ]; then
    echo "slurm: installing ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    # RUNLEVEL=1: no service may start while it is installed.
    RUNLEVEL=1 apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi
id kittest >/dev/null 2>&1 || useradd --create-home --shell /bin/bash kittest

# More cores than the machine may have: three ranks must fit on a node; what is tested is the road, not the speed.
# Short times, so that a lost node, a time limit and a forgotten job can be waited for. A job of up to a minute gets its
# warning (--signal=B:USR1@60) at once.
config=$(
    cat <<CONF
ClusterName=kittest
SlurmctldHost=$(hostname)(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=500
ReturnToService=2
SlurmdParameters=config_overrides
StateSaveLocation=$state/slurmctld
SlurmdSpoolDir=$state/slurmd-%n
TmpFS=$state/tmp-%n
SlurmdPidFile=$state/slurmd-%n.pid
SlurmctldPidFile=$state/slurmctld.pid
SlurmctldLogFile=/var/log/slurm/slurmctld.log
SlurmdLogFile=/var/log/slurm/slurmd-%n.log
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=localhost
AccountingStorageEnforce=associations,limits,qos
JobAcctGatherType=jobacct_gather/none
MaxArraySize=1001
MinJobAge=5
KillWait=3
OverTimeLimit=0
SlurmdTimeout=15
NodeName=${nodes[0]} NodeAddr=127.0.0.1 Port=17001 CPUs=4 RealMemory=8000 State=UNKNOWN
NodeName=${nodes[1]} NodeAddr=127.0.0.1 Port=17002 CPUs=4 RealMemory=8000 State=UNKNOWN
NodeName=${nodes[2]} NodeAddr=127.0.0.1 Port=17003 CPUs=4 RealMemory=8000 State=UNKNOWN
NodeName=${nodes[3]} NodeAddr=127.0.0.1 Port=17004 CPUs=4 RealMemory=8000 State=UNKNOWN
PartitionName=test Nodes=ALL Default=YES MaxTime=60 State=UP
PartitionName=short Nodes=ALL MaxTime=1 State=UP
CONF
)

if [ "$config" != "$(cat /etc/slurm/slurm.conf 2>/dev/null)" ]; then
    stop # an earlier cluster of these tests
fi
if stopped; then
    rm -rf "$state" # with the jobs that it had
fi
mkdir -p /etc/slurm /var/log/slurm /run/munge "$state/slurmctld" "$state/mariadb"
for node in "${nodes[@]}"; do install -d -m 1777 "$state/tmp-$node"; install -d "$state/slurmd-$node"; done
echo "$config" >/etc/slurm/slurm.conf
cat >/etc/slurm/slurmdbd.conf <<CONF
AuthType=auth/munge
DbdHost=localhost
SlurmUser=root
StorageType=accounting_storage/mysql
StorageUser=root
LogFile=/var/log/slurm/slurmdbd.log
PidFile=$state/slurmdbd.pid
CONF
chmod 600 /etc/slurm/slurmdbd.conf # or slurmdbd refuses it

chown munge: /run/munge
pgrep -x munged >/dev/null || runuser -u munge -- munged
if ! running "$state/mariadb.pid" mariadbd; then
    [ -d "$state/mariadb/mysql" ] || mariadb-install-db --no-defaults --user=root --datadir="$state/mariadb" \
        --auth-root-authentication-method=socket --auth-root-socket-user=root --skip-test-db >/dev/null
    setsid mariadbd --no-defaults --user=root --datadir="$state/mariadb" --socket="$socket" --skip-networking \
        --pid-file="$state/mariadb.pid" --innodb-buffer-pool-size=16M --innodb-flush-log-at-trx-commit=0 \
        --performance-schema=off >/var/log/slurm/mariadb.log 2>&1 </dev/null &
    until_true mariadb-admin --no-defaults --socket="$socket" ping
fi
if ! running "$state/slurmdbd.pid" slurmdbd; then
    slurmdbd
    until_true sacctmgr --noheader show cluster
fi
if ! sacctmgr --noheader --parsable2 show user kittest | grep -q kittest; then
    {
        sacctmgr --immediate add cluster kittest
        sacctmgr --immediate add qos one set MaxJobsPerUser=1
        sacctmgr --immediate add account tests
        sacctmgr --immediate add user root,kittest account=tests qos=normal,one
        sacctmgr --immediate modify user root set defaultaccount=tests
    } >/dev/null
fi
running "$state/slurmctld.pid" slurmctld || slurmctld
nodes_started
until_true mended
echo "slurm: $(sinfo --version), ${#nodes[@]} nodes"
