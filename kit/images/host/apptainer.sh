#!/bin/bash
# Gives a Debian machine Apptainer. Run as root; does nothing where apptainer or singularity already works.
#
# Debian 12 and 13 have no apptainer package. Where apt offers one (sid, a site's own repository) it is installed.
# Elsewhere the one in sid is unpacked, with the libraries it was built against, in a root of its own and pointed at
# them, so that the libc of the machine stays as it is.
set -euo pipefail
root=/opt/apptainer-root
libs=$root/usr/lib/x86_64-linux-gnu

works() { "$1" --version >/dev/null 2>&1; }

for name in apptainer singularity; do
    if works "$name"; then
        echo "apptainer: $("$name" --version) is there"
        exit 0
    fi
done
if [ "$(id -u)" -ne 0 ]; then
    echo "apptainer: not installed, and installing it needs root: sudo $0" >&2
    exit 1
fi
export DEBIAN_FRONTEND=noninteractive
# Somebody else may be installing something, which takes minutes and not for ever.
debian() { apt-get -o DPkg::Lock::Timeout=600 install -y -qq --no-install-recommends "$@" >/dev/null; }
echo "apptainer: installing (about 1 minute)"
apt-get update -qq
# squashfuse and fuse2fs let an ordinary user mount an image instead of unpacking it on every start.
debian squashfs-tools squashfuse fuse2fs uidmap mmdebstrap patchelf
if ! debian apptainer 2>/dev/null; then
    # shellcheck disable=SC2016
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Component: main' 'Origin: Debian' | head -n 1)
    rm -rf "$root"
    mmdebstrap --quiet --mode=root --variant=minbase --include=apptainer \
        --aptopt='Acquire::Check-Valid-Until "false"' sid "$root" "$mirror"
    install -D "$root/usr/bin/apptainer" /usr/bin/apptainer
    # The package would make the folder that images are mounted below.
    mkdir -p /usr/lib/x86_64-linux-gnu /etc /var/lib/apptainer/mnt/session
    cp -a "$libs/apptainer" /usr/lib/x86_64-linux-gnu/
    cp -a "$root/etc/apptainer" /etc/
    for program in /usr/bin/apptainer /usr/lib/x86_64-linux-gnu/apptainer/bin/starter; do
        patchelf --set-interpreter "$libs/ld-linux-x86-64.so.2" --force-rpath --set-rpath "$libs" "$program"
    done
    ln -sf apptainer /usr/bin/singularity
    # Some machines withhold capabilities from root itself; asking for all of them would fail every start.
    sed -i 's/^root default capabilities.*/root default capabilities = no/' /etc/apptainer/apptainer.conf
fi
# udev would open FUSE to everyone, which is how an ordinary user mounts an image; not every machine runs udev.
[ ! -e /dev/fuse ] || chmod 666 /dev/fuse
# A build from a definition file maps the users of the image to this range (apptainer build --fakeroot).
for file in /etc/subuid /etc/subgid; do
    grep -q '^root:' "$file" 2>/dev/null || echo "root:300000:65536" >>"$file"
done
works apptainer || { echo "apptainer: installed, but it does not start:" >&2; apptainer --version >&2; exit 1; }
echo "apptainer: installed $(apptainer --version)"
