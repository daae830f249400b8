#!/bin/sh
# Ends 0 when a pretrained picker loads and the commands start; %test of the Singularity image, health check of the Docker one.
set -eu
/opt/venv/bin/python3 -c 'from topaz.model.factory import load_model; load_model("resnet16_u64")'
/opt/venv/bin/python3 -m topaz.commands.preprocess --help >/dev/null
/opt/venv/bin/python3 -m topaz.commands.extract --help >/dev/null
