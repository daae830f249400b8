"""Tables of a real run of the kit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from conftest import kit

from kit.benchmarks.relion import tables
from kit.runs.record import read_stages


def test_a_run_of_the_kit(made_runs: Path, tmp_path: Path) -> None:
    (run,) = (made_runs / "relion").iterdir()
    found = json.loads(kit("relion", "project", str(run), "--json").stdout)
    seconds = {row["job"]: row["seconds"] for row in found["jobs"]}
    stages = {stage.name: stage.end - stage.start for stage in read_stages(run) if stage.end}
    folders = json.loads((run / "workflow.json").read_text())["jobs"]
    assert seconds == {folders[name]: spent for name, spent in stages.items() if name in folders}
    assert {row["status"] for row in found["jobs"]} == {"Succeeded"}
    text = kit("relion", "project", str(run), "--job", folders["refine3d"]).stdout
    assert "expectation (s)" in text
    copy = tmp_path / "copy"
    shutil.copytree(run, copy, symlinks=True)
    text = (copy / "run.json").read_text()
    (copy / "run.json").write_text(text.replace('"name": "valid"', '"name": "finished"'))
    assert (
        "collect it first, which needs what a clean takes away"
        in kit("relion", "project", str(copy), "--gentle-clean", code=1).stderr
    )
    (copy / "run.json").write_text(text)
    rows = {row["folder"]: row for row in json.loads(kit("relion", "project", str(copy), "--gentle-clean", "--json").stdout)}
    assert rows["all jobs"]["after"] < 0.8 * rows["all jobs"]["before"]
    assert not list((copy / folders["class3d"]).glob("run_it001*"))
    assert list((copy / "Trash" / folders["class3d"]).glob("run_it001*"))
    assert (copy / folders["refine3d_polished"] / "run_class001.mrc").is_file()
    again = kit("relion", "project", str(copy), "--gentle-clean").stdout
    assert again.splitlines()[0].split() == ["folder", "before", "after"]
    assert again.strip().endswith("Trash holds the rest; remove it to free the space")
    (copy / "stages.jsonl").unlink()
    assert all(row["seconds"] is None for row in tables.jobs(tmp_path / "copy"))  # scheduled by note.txt, never said to run
