"""The files that RELION's iterative jobs leave, by the names that RELION gives them."""

from __future__ import annotations

from pathlib import Path

import pytest

from kit.benchmarks.relion.results import data_beside, expectation, last, results
from kit.core.errors import KitError


def leave(folder: Path, *stems: str, kinds: tuple[str, ...] = ("optimiser", "model", "data"), note: str = "") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for stem in stems:
        for kind in kinds:
            (folder / f"{stem}_{kind}.star").write_text("")
    if note:
        (folder / "note.txt").write_text(note)
    return folder


def names(folder: Path) -> list[str]:
    return [result.stem.name for result in results(folder)]


def test_iterations_are_in_their_order(tmp_path: Path) -> None:
    leave(tmp_path, "run_it000", "run_it002", "run_it010", "run_it100", "run_it009")
    (tmp_path / "run_it010_half1_class001.mrc").touch()
    (tmp_path / "default_pipeline.star").touch()
    assert names(tmp_path) == ["run_it000", "run_it002", "run_it009", "run_it010", "run_it100"]
    assert [result.number for result in results(tmp_path)] == [0, 2, 9, 10, 100]
    assert last(tmp_path, "model", "data").files["data"].name == "run_it100_data.star"
    assert results(tmp_path / "nowhere") == []
    with pytest.raises(KitError, match=r"no run_it\*_model.star or run_model.star: no iteration left its model"):
        last(tmp_path / "nowhere", "model")


def test_the_converged_result_is_the_last(tmp_path: Path) -> None:
    """RELION 3.1 leaves no optimiser file of it, and counts its iteration in the log."""
    leave(tmp_path, "run_it012", "run_it013", kinds=("optimiser", "data", "half1_model", "half2_model"))
    leave(tmp_path, "run", kinds=("model", "data"))
    (tmp_path / "run.out").write_text(" Expectation iteration 13\n Maximization\n Expectation iteration 14\n Maximization\n")
    found = results(tmp_path)
    assert [(result.number, result.final) for result in found] == [(12, False), (13, False), (14, True)]
    assert [result.files["model"].name for result in found[1:]] == ["run_it013_half1_model.star", "run_model.star"]
    assert found[-1].beside("class001.mrc") == tmp_path / "run_class001.mrc"
    (tmp_path / "run_optimiser.star").write_text("data_optimiser_general\n\n_rlnCurrentIteration 15\n")
    assert results(tmp_path)[-1].number == 15


def test_a_job_that_was_cleaned(tmp_path: Path) -> None:
    leave(tmp_path, "run", kinds=("model", "data"))
    (found,) = results(tmp_path)
    assert (found.stem.name, found.number, found.final) == ("run", None, True)


def test_a_result_that_an_earlier_attempt_left(tmp_path: Path) -> None:
    leave(tmp_path, "run_it020", "run")
    (tmp_path / "run_optimiser.star").write_text("data_optimiser_general\n\n_rlnCurrentIteration 14\n")
    assert names(tmp_path) == ["run_it020"]


def test_continued_jobs(tmp_path: Path) -> None:
    """Iterations after the one a job was continued from are those of the later run."""
    leave(tmp_path, *(f"run_it{n:03d}" for n in range(8)), *(f"run_ct5_it{n:03d}" for n in range(6, 9)), "run_ct5")
    found = ["run_it000", "run_it001", "run_it002", "run_it003", "run_it004", "run_it005"]
    assert names(tmp_path) == [*found, "run_ct5_it006", "run_ct5_it007", "run_ct5_it008", "run_ct5"]
    leave(tmp_path, "run_ct7_it008", "run_ct7_it009")
    found = [*found, "run_ct5_it006", "run_ct5_it007"]
    assert names(tmp_path) == [*found, "run_ct7_it008", "run_ct7_it009"]  # what converged was an earlier run


def test_which_run_is_the_later_stands_in_the_note(tmp_path: Path) -> None:
    commands = [f"`which relion_refine` --o Class3D/job008/{run} --iter 25\n" for run in ("run", "run_ct7", "run_ct3")]
    leave(tmp_path, "run_it003", "run_it007", "run_ct7_it008", "run_ct3_it004", note="".join(commands))
    assert names(tmp_path) == ["run_it003", "run_ct3_it004"]
    leave(tmp_path, note="".join([*commands, commands[1]]))
    assert names(tmp_path) == ["run_it003", "run_ct3_it004", "run_ct7_it008"]


def test_other_names_than_run(tmp_path: Path) -> None:
    leave(tmp_path, "first_try_it001", "first_try_it002")
    assert names(tmp_path) == ["first_try_it001", "first_try_it002"]
    leave(tmp_path, "run_it001", "particles", kinds=("model", "data"))
    (tmp_path / "particles_model.star").unlink()  # which leaves a file of particles that is of no iteration
    assert names(tmp_path) == ["run_it001"]
    leave(tmp_path, note="relion_refine --o x/run \nrelion_refine --o Class3D/first_try \n")
    assert names(tmp_path) == ["first_try_it001", "first_try_it002"]


def test_the_particles_beside_a_model(tmp_path: Path) -> None:
    for name, data in (
        ("run_it025_optimiser.star", "run_it025_data.star"),
        ("run_ct5_it012_half1_model.star", "run_ct5_it012_data.star"),
        ("run_model.star", "run_data.star"),
        ("particles.star", "particles.star"),
    ):
        assert data_beside(tmp_path / name) == tmp_path / data


BAR = '\r   0/  40 sec ~~(,_,">\r   {0}/   {0} {1} ............~~(,_,">\n'


@pytest.mark.parametrize(
    "header",
    [
        " Expectation iteration {} of 25\n",
        " Expectation iteration {}\n",
        " Stochastic Gradient Descent iteration {} of 25\n",
        " Gradient optimisation iteration {} of 200 with 1000 particles (Step size 0.9)\n",
    ],
)
def test_seconds_of_expectation(tmp_path: Path, header: str) -> None:
    end = ' Maximization ...\n\r   7/   7 sec ..~~(,_,">\n'
    log = header.format(1) + BAR.format("40", "sec") + end + header.format(2) + BAR.format("1.50", "min") + end
    log += header.format(3) + BAR.format("0.50", "hrs") + end + header.format(4)  # cut off
    log += header.format(2) + BAR.format("90", "sec") + end  # repeated after a restart
    (tmp_path / "run.out").write_text(log.replace("0/  40 sec", "0/  40 sec"))
    assert expectation(tmp_path) == {1: 40, 2: 90, 3: 1800, 4: None}
    assert expectation(tmp_path / "nowhere") == {}


@pytest.mark.parametrize(
    "text", ["", "data_x\n_rlnCurrentIteration nan\n", "data_x\nloop_\n_rlnCurrentIteration\n1\n2\n", "\xff"]
)
def test_a_damaged_optimiser_file_costs_its_number_alone(tmp_path: Path, text: str) -> None:
    leave(tmp_path, "run", kinds=("model", "data"))
    (tmp_path / "run_optimiser.star").write_bytes(text.encode("latin-1"))
    (found,) = results(tmp_path)
    assert (found.number, found.final) == (None, True)


def test_a_number_that_is_none_in_a_log(tmp_path: Path) -> None:
    (tmp_path / "run.out").write_text(" Expectation iteration 1\n 1/ 1..2.3 sec\n Maximization\n")
    assert expectation(tmp_path) == {1: None}
