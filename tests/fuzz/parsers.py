"""Coverage-guided fuzzing of the readers of a stranger's files, with atheris.

`python tests/fuzz/parsers.py SECONDS [INPUTS]`; with a number of inputs they are the same ones each time, as far as the
readers are the same. Each input goes to one reader, chosen by its first byte. Anything but a KitError ends the program
with the input that did it.
"""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import atheris

with atheris.instrument_imports(include=["kit"]):
    from kit.benchmarks.relion.star import read_star
    from kit.core.checksums import read_sums
    from kit.core.errors import KitError, plain
    from kit.core.files import read_json
    from kit.core.schema import parse
    from kit.doctor.outcome import Outcome
    from kit.runs.plausibility import ranks_seen, stated_digest
    from kit.runs.record import Run, read_stages
    from kit.site import Site
    from kit.submissions.leaks import found, hidden
    from kit.submissions.submitter import Submitter


def as_model(model: Any) -> Callable[[Path], Any]:
    return lambda path: parse(model, read_json(path), path.name)


READERS: list[tuple[str, Callable[[Path], Any]]] = [
    ("stages.jsonl", lambda path: read_stages(path.parent)),
    ("ranks.jsonl", lambda path: ranks_seen(path.parent, 2)),
    ("sha256sums.txt", lambda path: read_sums(path.parent)),
    ("run.json", as_model(Run)),
    ("site.json", as_model(Site)),
    ("doctor.json", as_model(Outcome)),
    ("submitter.json", as_model(Submitter)),
    ("sbom.cdx.json", lambda path: stated_digest(read_json(path))),
    ("x.star", lambda path: read_star(path)),
    ("x.txt", lambda path: [hidden(hit.text) for hit in found(path)]),
    ("plain", lambda path: plain(path.read_bytes().decode(errors="surrogateescape")).encode()),
]
SEEDS = (
    *(b'{"stage": "a", "event": "start", "time": 1, "host": "h", "command": "c"}\n', b'{"rank": 0, "size": 2}\n'),
    *(b"data_general\n\nloop_\n_rlnA #1\n_rlnB #2\n1 'a b'\n\n", b"0" * 64 + b"  README.md\n", b"password=hunter2x a@b.de"),
    json.dumps({"metadata": {"component": {"name": "x", "properties": [{"name": "kit:digest", "value": "y"}]}}}).encode(),
)


def main(seconds: int, inputs_tried: int = 0) -> None:
    folder = Path(tempfile.mkdtemp())
    inputs = folder / "inputs"
    inputs.mkdir()
    for number, content in enumerate(seed for seed in SEEDS for _ in READERS):
        (inputs / str(number)).write_bytes(bytes([number % len(READERS)]) + content)

    def one(data: bytes) -> None:
        name, read = READERS[data[0] % len(READERS) if data else 0]
        (folder / name).write_bytes(data[1:])
        with contextlib.suppress(KitError):
            read(folder / name)

    options = [f"-max_total_time={seconds}", "-max_len=4096", "-timeout=20", "-verbosity=0", "-print_final_stats=1"]
    if inputs_tried:
        options += ["-seed=1", f"-runs={inputs_tried}"]
    atheris.Setup([sys.argv[0], *options, f"-artifact_prefix={folder}/", str(inputs)], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:] or ("60",)))
