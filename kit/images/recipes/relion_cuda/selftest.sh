#!/bin/sh
# Ends 0 when the programs of this image run; used as %test of the Singularity image and health check of the Docker one.
# It needs no GPU: without one, RELION runs its plain code.
set -eu
version=$(relion_refine --version)
echo "$version" | grep -q '^RELION version: 3\.1\.3'
echo "$version" | grep -q 'BASE=double, CUDA-ACC=single'
ctffind </dev/null 2>&1 | grep -q 'Version : 4\.1\.14'
test "$(mpirun --oversubscribe --bind-to none -n 2 sh -c 'echo "$OMPI_COMM_WORLD_SIZE"' | tr -d '\n')" = 22
mpirun --oversubscribe --bind-to none -n 1 kit-ranks --ranks 1 >/dev/null
