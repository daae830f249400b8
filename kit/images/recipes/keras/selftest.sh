#!/bin/sh
# Ends 0 when the network of the benchmark takes a step; %test of the Singularity image, health check of the Docker one.
set -eu
/opt/venv/bin/python3 -c '
import numpy as np, tensorflow as tf
from kit.stages.cloudmask.network import PARAMETERS, unet
assert tf.keras.version().startswith("3."), tf.keras.version()
model = unet()
assert model.count_params() == PARAMETERS, model.count_params()
assert np.isfinite(model(np.zeros((1, 32, 32, 9), np.float32)).numpy()).all()
'
