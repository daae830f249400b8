#!/bin/bash
# A real Slurm of one node on this machine, for the tests: munged, slurmctld, slurmd. Run as root; does nothing where
# Slurm already answers. Without root it says so and ends 0: the tests that need it are then skipped, with that reason.
set -euo pipefail

if command -v sinfo >/dev/null && sinfo --noheader >/dev/null 2>&1; then
    echo "slurm: answers already"
    exit 0
fi
if [ "$(id -u)" -ne 0 ]; then
    echo "slurm: not running, and starting it needs root: sudo $0"
    exit 0
fi
export DEBIAN_FRONTEND=noninteractive
if ! command -v slurmctld >/dev/null; then
    echo "slurm: installing slurm-wlm and munge"
    apt-get update -qq
    # libpmix-dev: Slurm opens libpmix.so by the name that only the development package carries.
    # No service may start while it is installed: there may be no init system to run it.
    apt-get install -y -qq --no-install-recommends slurm-wlm munge openmpi-bin libpmix-dev >/dev/null
fi
id kittest >/dev/null 2>&1 || useradd --create-home --shell /bin/bash kittest

mkdir -p /etc/slurm /var/spool/slurmctld /var/spool/slurmd /var/log/slurm /run/munge
# More cores than the machine may have: three ranks must fit; what is tested is the road, not the speed.
cat >/etc/slurm/slurm.conf <<CONF
ClusterName=kittest
SlurmctldHost=localhost
SlurmUser=root
AuthType=auth/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
SlurmdParameters=config_overrides
StateSaveLocation=/var/spool/slurmctld
SlurmdSpoolDir=/var/spool/slurmd
SlurmctldLogFile=/var/log/slurm/slurmctld.log
SlurmdLogFile=/var/log/slurm/slurmd.log
MinJobAge=5
KillWait=10
NodeName=localhost CPUs=4 State=UNKNOWN
PartitionName=test Nodes=ALL Default=YES MaxTime=60 State=UP
CONF
chown munge: /run/munge
pgrep -x munged >/dev/null || runuser -u munge -- munged
pgrep -x slurmctld >/dev/null || slurmctld -c # nothing of an earlier start
pgrep -x slurmd >/dev/null || slurmd
for _ in $(seq 30); do
    if sinfo --noheader --format=%t 2>/dev/null | grep -q idle; then
        echo "slurm: $(sinfo --version) started"
        exit 0
    fi
    sleep 1
done
echo "slurm: no idle node within 30 s" >&2
tail -n 10 /var/log/slurm/*.log >&2
exit 1
