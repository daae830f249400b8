#!/bin/sh
# Ends 0 when Horovod was built with NCCL, TensorFlow with CUDA, and two ranks of this image form one job. It needs no GPU.
# %test of the Singularity image, health check of the Docker one.
set -eu
mpirun --oversubscribe --bind-to none -n 2 /opt/venv/bin/python3 -c '
import horovod.tensorflow as hvd, tensorflow as tf
assert tf.test.is_built_with_cuda()
assert hvd.nccl_built()
hvd.init()
assert hvd.size() == 2, hvd.size()
'
/opt/venv/bin/python3 -c 'import kit.stages.cloudmask, kit.stages.stemdl, kit.stages.tevolop, kit.stages.uno'
mpirun --oversubscribe --bind-to none -n 1 kit-ranks --ranks 1 >/dev/null
