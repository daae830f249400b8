#!/bin/bash
# Gives a Debian machine a running Docker engine, and skopeo, which writes OCI archives. Run as root; does nothing where
# both are there.
set -euo pipefail

# Somebody else may be installing something, which takes minutes and not for ever.
export DEBIAN_FRONTEND=noninteractive
debian() { apt-get -o DPkg::Lock::Timeout=600 install -y -qq --no-install-recommends "$@" >/dev/null; }

# A docker command may be on the PATH without an engine behind it, so the engine is asked, not the PATH.
engine_answers() { docker version --format '{{.Server.Version}}' >/dev/null 2>&1; }

if [ "$(id -u)" -eq 0 ] && ! command -v skopeo >/dev/null; then
    echo "docker: installing skopeo"
    apt-get update -qq
    debian skopeo
fi
if engine_answers; then
    echo "docker: engine $(docker version --format '{{.Server.Version}}') is running"
    exit 0
fi
if [ "$(id -u)" -ne 0 ]; then
    echo "docker: no engine answers, and starting one needs root: sudo $0" >&2
    exit 1
fi
if ! command -v dockerd >/dev/null; then
    echo "docker: installing docker.io (about 1 minute)"
    apt-get update -qq
    debian docker.io iptables
fi
log=/var/log/dockerd.log
if [ -d /run/systemd/system ]; then
    systemctl start docker
elif ! pgrep -x dockerd >/dev/null; then
    rm -f /var/run/docker.pid
    setsid dockerd >"$log" 2>&1 </dev/null &
fi
for _ in $(seq 60); do
    if engine_answers; then
        echo "docker: engine $(docker version --format '{{.Server.Version}}') started"
        exit 0
    fi
    sleep 1
done
echo "docker: the engine did not answer within 60 s; its last lines ($log):" >&2
tail -n 20 "$log" >&2 || true
exit 1
