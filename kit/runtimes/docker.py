"""Docker: for a workstation with an engine; files are written as the user who started the job."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from kit.image import Image


def command(
    image: Image, binds: Sequence[str], environment: Mapping[str, str], args: Sequence[str], workdir: str
) -> list[str]:
    # MPI ranks exchange through shared memory, of which a container has 64 MB unless told otherwise.
    words = ["docker", "run", "--rm", "--shm-size=2g", "--user", f"{os.getuid()}:{os.getgid()}", "--workdir", workdir]
    for bind in binds:
        words += ["--volume", f"{bind}:{bind}"]
    for key, value in {"HOME": workdir, **environment}.items():
        words += ["--env", f"{key}={value}"]
    return [*words, *args, image.tag]
