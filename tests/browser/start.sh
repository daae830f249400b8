#!/bin/bash
# A real Chromium for the tests of pages (tests/browser). Run as root; does nothing where it is installed. Without root it
# says so and ends 0: the tests that need it are then skipped, with that reason.
set -euo pipefail

if [ -x /usr/bin/chromium ]; then
    exit 0
elif [ "$(id -u)" != 0 ]; then
    echo "browser: chromium is missing, and only root can install it; tests/browser will be skipped" >&2
    exit 0
fi
echo "Installing Chromium (about 1 minute)"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core >/dev/null
