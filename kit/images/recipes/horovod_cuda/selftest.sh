#!/bin/sh
# Ends 0 when Horovod was built with NCCL, TensorFlow with CUDA, NVIDIA's libraries load, and two ranks of this image form
# one job. It needs no GPU.
# %test of the Singularity image, health check of the Docker one.
set -eu
mpirun --oversubscribe --bind-to none -n 2 /opt/venv/bin/python3 -c '
import horovod.tensorflow as hvd, tensorflow as tf
assert tf.test.is_built_with_cuda()
assert hvd.nccl_built()
hvd.init()
assert hvd.size() == 2, hvd.size()
'
# TensorFlow loads each of them when it first needs it, in the middle of a training.
/opt/venv/bin/python3 -c '
import ctypes, glob
found = glob.glob("/opt/venv/lib/python3*/site-packages/nvidia/*/lib/*.so*")
assert any("libcudnn" in name for name in found), found
for name in found:
    ctypes.CDLL(name)
'
/opt/venv/bin/python3 -c 'import kit.stages.cloudmask, kit.stages.stemdl, kit.stages.tevolop, kit.stages.uno'
mpirun --oversubscribe --bind-to none -n 1 kit-ranks --ranks 1 >/dev/null
