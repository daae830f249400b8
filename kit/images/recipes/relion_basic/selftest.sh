#!/bin/sh
# Ends 0 when the programs of this image run; used as %test of the Singularity image and health check of the Docker one.
set -eu
relion_refine --version | grep -q '^RELION version: 3\.1\.3'
# CTFFIND has no --version; asked for nothing, it greets and waits for input.
ctffind </dev/null 2>&1 | grep -q 'Version : 4\.1\.14'
# Two ranks must form one job, or every later run is a set of strangers.
test "$(mpirun --oversubscribe --bind-to none -n 2 sh -c 'echo "$OMPI_COMM_WORLD_SIZE"' | tr -d '\n')" = 22
mpirun --oversubscribe --bind-to none -n 1 kit-ranks --ranks 1 >/dev/null
