#!/bin/bash
# Gives the Docker engine the Debian base image of a suite: base.sh trixie|bookworm|sid
# Pulled where a container registry can be reached; made with mmdebstrap from this machine's own Debian mirror otherwise.
# Run as root (mmdebstrap unpacks packages as root); does nothing where the image is there.
set -euo pipefail
suite=${1:?usage: base.sh SUITE}
image=debian:$suite-slim

# One at a time: two images that are built at once may need one base. (Some shared file systems lock nothing.)
exec 9<"$0"
flock 9 || true
if docker image inspect "$image" >/dev/null 2>&1; then
    echo "base: $image is there"
    exit 0
fi
if timeout 120 docker pull -q "$image" 2>/dev/null; then
    exit 0
fi
if [ "$(id -u)" -ne 0 ]; then
    echo "base: $image cannot be pulled here, and making it needs root: sudo $0 $suite" >&2
    exit 1
fi
echo "base: no registry can be reached; making $image from this machine's Debian mirror (about 30 s)"
apt-get update -qq
command -v mmdebstrap >/dev/null ||
    DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=600 install -y -qq --no-install-recommends mmdebstrap >/dev/null
# The machine's mirror, as apt itself resolves it: the first repository that carries Debian's main section.
# shellcheck disable=SC2016
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Component: main' 'Origin: Debian' | head -n 1)
[ -n "$mirror" ] || { echo "base: apt knows no Debian mirror (run apt-get update)" >&2; exit 1; }
tar=$(mktemp --suffix=.tar)
trap 'rm -f "$tar"' EXIT
# A suite of the past keeps its Release file beyond the date in it.
mmdebstrap --quiet --mode=root --variant=minbase --include=ca-certificates \
    --aptopt='Acquire::Check-Valid-Until "false"' "$suite" "$tar" "$mirror"
docker import "$tar" "$image" >/dev/null
echo "base: made $image"
