#!/bin/bash
# A real Grid Engine of one node on this machine, for the tests: sge_qmaster and sge_execd. Run as root; does nothing where
# its queue already answers. Without root it says so and ends 0: the tests that need it are then skipped, with that reason.
set -euo pipefail

queue_is_up() { # states: u is an execution daemon that does not answer, E and d are a queue in error or disabled
    qstat -f -q all.q 2>/dev/null | awk '/^all\.q@/ && NF == 5 { up = 1 } END { exit !up }'
}

if queue_is_up; then
    echo "gridengine: answers already"
    exit 0
fi
if [ "$(id -u)" -ne 0 ]; then
    echo "gridengine: not running, and starting it needs root: sudo $0"
    exit 0
fi
export DEBIAN_FRONTEND=noninteractive
common=/var/lib/gridengine/default/common
if ! command -v sge_qmaster >/dev/null; then
    echo "gridengine: installing gridengine-master, -exec and -client"
    apt-get update -qq
    debconf-set-selections <<ANSWERS
gridengine-master shared/gridengineconfig boolean true
gridengine-master shared/gridenginecell string default
gridengine-master shared/gridenginemaster string localhost
ANSWERS
    # No daemon may start before its names are settled below, and there may be no init system to start it.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod +x "$policy"
        trap 'rm -f "$policy"' EXIT
    fi
    apt-get install -y -qq --no-install-recommends gridengine-master gridengine-exec gridengine-client >/dev/null
fi
id kittest >/dev/null 2>&1 || useradd --create-home --shell /bin/bash kittest

# The master refuses a client whose address has another name than the client gives itself, as the loopback address has.
getent hosts "$(hostname)" >/dev/null || echo "127.0.0.1 $(hostname)" >>/etc/hosts
echo "localhost $(hostname)" >"$common/host_aliases"
echo localhost >"$common/act_qmaster"

export SGE_ROOT=/var/lib/gridengine
mkdir -p /run/gridengine
chown sgeadmin: /run/gridengine
pgrep -x sge_qmaster >/dev/null || sge_qmaster
for _ in $(seq 50); do
    ! qconf -sh >/dev/null 2>&1 || break
    sleep 0.2
done
folder=$(mktemp -d)
trap 'rm -rf "$folder" ${policy:+"$policy"}' EXIT
configure() { # qconf speaks of every success on stderr
    qconf "$@" >"$folder/said" 2>&1 || { cat "$folder/said" >&2; exit 1; }
}
configure -as localhost
# Each object is what Grid Engine says of it, edited. Root may run jobs; what waits is looked at every second.
qconf -sconf | sed -E 's/^(min_[ug]id +).*/\10/; s/flush_time=[0-9:]+/flush_time=00:00:01/' >"$folder/global"
configure -Mconf "$folder/global"
qconf -ssconf | sed -E 's/^(schedule_interval +).*/\10:0:1/; s/^(flush_(submit|finish)_sec +).*/\11/' >"$folder/scheduler"
configure -Msconf "$folder/scheduler"
if ! qconf -sp mpi >/dev/null 2>&1; then
    cat >"$folder/mpi" <<PARALLEL
pe_name            mpi
slots              4
user_lists         NONE
xuser_lists        NONE
start_proc_args    NONE
stop_proc_args     NONE
allocation_rule    \$fill_up
control_slaves     TRUE
job_is_first_task  FALSE
urgency_slots      min
accounting_summary TRUE
qsort_args         NONE
PARALLEL
    configure -Ap "$folder/mpi"
fi
pgrep -x sge_execd >/dev/null || sge_execd
# More slots than the machine may have cores, and no limit on its load: what is tested is the road, not the speed.
if ! qconf -sq all.q >/dev/null 2>&1; then
    qconf -sq | sed -E 's/^(qname +).*/\1all.q/; s/^(hostlist +).*/\1localhost/; s/^(load_thresholds +).*/\1NONE/
        s/^(pe_list +).*/\1mpi/; s/^(slots +).*/\14/; s/^(notify +).*/\100:00:10/' >"$folder/all.q"
    configure -Aq "$folder/all.q"
fi
# It may have been left in error by a job that could not be started, or disabled by somebody.
qmod -c all.q >/dev/null
qmod -e all.q >/dev/null
for _ in $(seq 60); do
    if queue_is_up; then
        echo "gridengine: $(qstat -help | head -n 1) started"
        exit 0
    fi
    sleep 0.5
done
echo "gridengine: no queue within 30 s" >&2
qstat -f >&2 || true
tail -n 10 /var/spool/gridengine/qmaster/messages >&2
exit 1
