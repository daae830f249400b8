#!/bin/sh
# Ends 0 when two Horovod ranks of this image form one job; %test of the Singularity image, health check of the Docker one.
set -eu
# By its path: mpirun puts its own folder, /usr/bin, first, and with it Debian's python3.
mpirun --oversubscribe --bind-to none -n 2 /opt/venv/bin/python3 -c '
import horovod.tensorflow as hvd, tensorflow as tf
hvd.init()
assert hvd.size() == 2, hvd.size()
total = hvd.allreduce(tf.constant(float(hvd.rank() + 1)), op=hvd.Sum)
assert float(total) == 3.0, total
'
/opt/venv/bin/python3 -c 'import kit.stages.cloudmask, kit.stages.stemdl, kit.stages.tevolop, kit.stages.uno'
mpirun --oversubscribe --bind-to none -n 1 kit-ranks --ranks 1 >/dev/null
