"""The whole road on the accelerated image, beside the one of `make submission` on the plain code."""

from __future__ import annotations

from pathlib import Path

from conftest import kit

from kit.runs.compare import compare


def test_the_whole_road_on_the_accelerated_image(made_runs: Path, tmp_path: Path) -> None:
    """From movies to the polished map: it passes every gate, and stands beside the plain code's.

    Picks, classes and initial model are each image's own, so one pair may differ by more than the repeats do.
    """
    (basic_run,) = (made_runs / "relion").iterdir()
    words = ["run", "relion", "--size", "tiny", "--image", "relion-accelerated", "--wait"]
    run = kit(*words, env={"KIT_RUNS": str(tmp_path)}).stdout.strip()
    kit("collect", run)  # fails unless it is valid
    rows = compare(basic_run, Path(run)).rows
    assert {"map_fsc", "class_agreement"} <= {row.name for row in rows}
    assert all(row.difference < 3 * row.allowed for row in rows)
