"""What a job script would look like that fetched something: a compute node has no network."""

from __future__ import annotations

import re

FETCHES = re.compile(
    r"\b(pip3?|conda|mamba|apt|apt-get|dnf|yum|spack|npm|git|rsync|scp|ssh|ftp|wget|curl|aria2c|skopeo)\s+[a-z-]"
    r"|\b(docker|podman|podman-hpc|apptainer|singularity|shifterimg) (pull|build|run (?!.*--pull=never)docker://)"
    r"|\b(docker|library|oras|shub|https?|ftp|s3)://"
)
