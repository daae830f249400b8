"""What of the submitter's shell reaches a stage: not what would change results unseen, and all else."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from kit.plan import Request, make_plan
from kit.runs import launch
from kit.script.render import DROPPED, INSIDE, PMIX, variables
from kit.site import Site, load_site

STRAY = {name.replace("*", "STRAY"): "stray" for name in DROPPED}


def test_stray_variables_reach_no_stage(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of the list, by the script itself: as a rank in a container, which the launcher's variables have to reach."""
    here = Path(toy.parent / "package/sites/here.toml")
    here.write_text(
        here.read_text()
        .replace("[container]", '[container]\ndrop_environment = ["MY_STRAY"]')
        .replace("cores = 2", 'cores = 2\nenvironment = { OMPI_MCA_btl = "the site\'s" }')
    )
    for name, value in {**STRAY, "MY_STRAY": "stray", "SLURM_PROCID": "3", "TOY": "env >env.txt"}.items():
        if name not in ("LD_PRELOAD", "LD_AUDIT"):  # no program of this test would start with them
            monkeypatch.setenv(name, value)
    directory = launch.prepare(make_plan(Request("toy", site="here")), toy)
    launch.submit(directory)
    launch.wait(directory, lambda state: None)
    seen = dict(line.split("=", 1) for line in (directory / "env.txt").read_text().splitlines() if "=" in line)
    assert [name for name in (*STRAY, "MY_STRAY") if name in seen] == []
    assert (seen["SLURM_PROCID"], seen["OMPI_MCA_btl"], seen["OMP_NUM_THREADS"]) == ("3", "the site's", "1")


def test_libraries_of_the_submitter_are_dropped_first(tmp_path: Path) -> None:
    text = launch.script(make_plan(Request("relion", "particles", "example-slurm")), Path("/run"), Path("/data"))
    start = text.index("for name in $(compgen -e)")
    loop = text[start : text.index("done\n", start) + 5]
    shell = f"export LD_PRELOAD= LD_AUDIT=\n{loop}\ncompgen -e"
    left = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=True).stdout.split()
    assert not {"LD_PRELOAD", "LD_AUDIT"} & set(left)


@pytest.mark.parametrize(
    ("runtime", "mpi", "pmi", "expected"),
    [
        ("apptainer", "outside", "", {}),
        ("apptainer", "outside", "pmix_v4", PMIX),
        ("apptainer", "inside", "", INSIDE),
        ("docker", "inside", "", {**INSIDE, "A": "b c"}),  # Docker lets nothing through, so that the site's has to be said
        ("podman-hpc", "outside", "pmix", {**PMIX, "A": "b c"}),
    ],
)
def test_what_a_container_is_given(runtime: str, mpi: str, pmi: str, expected: dict[str, str]) -> None:
    table = load_site("example-slurm").model_dump()
    table["partitions"]["cpu"] |= {"pmi": pmi, "environment": {"A": "b c"}}
    table["container"] |= {"runtime": runtime, "mpi": mpi}
    plan = make_plan(Request("relion", "particles", "example-slurm"), Site.model_validate(table))
    assert variables(plan) == {"OMP_NUM_THREADS": "1", **expected}


def test_the_word_of_a_site_counts_for_more() -> None:
    table = load_site("example-slurm").model_dump()
    table["partitions"]["cpu"]["environment"] = {"PMIX_MCA_gds": "ds21"}
    plan = make_plan(Request("relion", "particles", "example-slurm"), Site.model_validate(table))
    assert "PMIX_MCA_gds" not in variables(plan)  # the script exports it, and Apptainer hands it on
