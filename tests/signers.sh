#!/bin/bash
# The programs that sign and verify, for tests/unit/test_sign.py: ssh-keygen, minisign and gpg. Run as root; does nothing
# where they are there. Without root it says so and ends 0: the tests that need one are then skipped, with that reason.
set -euo pipefail
missing=()
command -v ssh-keygen >/dev/null || missing+=(openssh-client)
command -v minisign >/dev/null || missing+=(minisign)
command -v gpg >/dev/null || missing+=(gnupg)
[ "${#missing[@]}" -gt 0 ] || exit 0
if [ "$(id -u)" -ne 0 ]; then
    echo "signers: without ${missing[*]}, whose tests are skipped: sudo $0"
    exit 0
fi
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
