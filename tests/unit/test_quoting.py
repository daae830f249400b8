"""Whatever a site, a path or a command line holds: it is refused, or bash reads it back from the script as it was given."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kit.core.errors import KitError
from kit.core.schema import parse
from kit.plan import Request, make_plan
from kit.runs import launch
from kit.runs.record import Rendering
from kit.schedulers import SCHEDULERS
from kit.script.quoting import words
from kit.script.render import rendered
from kit.site import Site

MARK = "# stages.jsonl is the record"
# Functions in place of all that the head of a script calls; each says its words, and nothing else can be run.
HARNESS = r"""
show() { printf '%s\n' "$#" >&3; printf '%s\0' "$@" >&3; }
for name in cd module apptainer mpirun srun mpiexec jsrun aprun flux [; do eval "$name() { show $name \"\$@\"; }"; done
exec 3>&1 1>&2
PATH=/nowhere
"""
REQUEST = Request("cloudmask")
# How the directives of each scheduler begin, and a launcher that is at home there.
DIALECTS = {
    "slurm": ("#SBATCH ", "srun"),
    "pbs": ("#PBS ", "pals"),
    "lsf": ("#BSUB ", "jsrun"),
    "gridengine": ("#$ ", "mpirun"),
    "flux": ("# flux: ", "flux"),
    "pjm": ("#PJM ", "mpiexec"),
    "cobalt": ("#COBALT ", "aprun"),
}
HOSTILE = [
    "x\ntouch PWNED #",
    "x\rtouch PWNED",
    "$(touch PWNED)",
    "`touch PWNED`",
    '"; touch PWNED; "',
    "'; touch PWNED; '",
    "{{ 7 * 7 }}",
    "{% raw %}",
    "x\u2028touch PWNED",
    "x\x1b[2Jy",
    "a\\",
    "#",
    "",
    "!",
    "~",
    "*",
    "\u202ex",
]
TEXT = st.one_of(st.sampled_from(HOSTILE), st.text(max_size=20))
PLAIN = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,10}", fullmatch=True)
ANY = st.one_of(PLAIN, TEXT)
VARIABLE = st.from_regex(r"KIT_TEST_[A-Z0-9_]{0,10}", fullmatch=True)


def read_back(script: bytes, tail: str, folder: Path) -> list[list[str]]:
    """The words of every command that the head of a script calls, as bash reads them; `tail` is called behind it."""
    head, mark, _ = script.partition(MARK.encode())
    assert mark
    head = head.replace(b"\nexec >>", b"\nshow out ")  # the words of a line that would write there
    result = subprocess.run(
        ["bash"], input=HARNESS.encode() + head + tail.encode(), cwd=folder, capture_output=True, check=False
    )
    assert result.returncode == 0, result.stderr.decode(errors="replace")
    assert not (folder / "PWNED").exists()
    found, rest = [], result.stdout
    while rest:
        count, _, rest = rest.partition(b"\n")
        *ours, rest = rest.split(b"\0", int(count))
        found.append([os.fsdecode(word) for word in ours])
    return found


SITES = st.fixed_dictionaries(
    {
        "scheduler": st.sampled_from([name for name in SCHEDULERS if name != "local"]),
        "name": ANY,
        "description": ANY,
        "organisation": ANY,
        "modules": st.lists(ANY, max_size=2),
        "environment": st.dictionaries(st.one_of(VARIABLE, ANY), ANY, max_size=2),
        "directives": st.lists(ANY, max_size=2),
        "binds": st.lists(ANY.map(lambda text: f"/{text}"), max_size=2),
        "args": st.lists(ANY, max_size=2),
        "launcher_args": st.lists(ANY, max_size=2),
        "partition": ANY,
        "queue": ANY,
        "account": ANY,
    }
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(site=SITES, directory=ANY.map(lambda text: f"/{text}"), command=ANY)
def test_any_site(tmp_path_factory: pytest.TempPathFactory, site: dict[str, Any], directory: str, command: str) -> None:
    hostile_site(tmp_path_factory.mktemp("site"), site, directory, command)


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize(
    ("scheduler", "key"),
    [
        (scheduler, key)
        for scheduler in SCHEDULERS
        for key in ("queue", "directives", "name", "description", "modules", "args", "launcher_args", "partition")
        if scheduler == "slurm" or (scheduler != "local" and key in ("queue", "directives", "partition"))
    ],
)
def test_hostile_site(tmp_path: Path, scheduler: str, key: str, text: str) -> None:
    """Each hostile text in each key, whatever hypothesis draws."""
    plain: dict[str, Any] = {
        "scheduler": scheduler,
        "name": "a",
        "description": "a",
        "organisation": "a",
        "environment": {},
        "binds": [],
    }
    plain |= {"modules": [], "directives": [], "args": [], "launcher_args": [], "partition": "a", "queue": "", "account": ""}
    hostile_site(tmp_path, {**plain, key: [text] if isinstance(plain[key], list) else text}, "/run", "kit run")
    hostile_site(tmp_path, {**plain, "environment": {"KIT_TEST_A": text}}, "/run", "kit run")
    hostile_site(tmp_path, {**plain, "environment": {text: "a"}, "account": text}, f"/{text}", "kit run")


def hostile_site(folder: Path, given: dict[str, Any], directory: str, command: str) -> None:
    mark, launcher = DIALECTS[given["scheduler"]]
    partition = {
        "scheduler": given["scheduler"],
        "launcher": launcher,
        "cores": 4,
        "memory_gb": 8,
        "launcher_args": given["launcher_args"],
    }
    table = {
        **{key: given[key] for key in ("name", "description", "organisation", "modules", "environment", "directives")},
        "contact": "x",
        "url": "x",
        "partitions": {given["partition"]: {**partition, "queue": given["queue"], "account": given["account"]}},
        "container": {"binds": given["binds"], "args": given["args"]},
    }
    machine = {"program": "apptainer", "options": "", "sif": "/images/x.sif"}
    try:
        site = parse(Site, table, "site.toml")
        source = Rendering(
            command=words([command]), directory=directory, data="/data", cores=1, memory_gb=1, machine=machine
        )
        text = rendered(make_plan(REQUEST, site), source, folder)[1]
    except KitError:
        return  # a sentence that names the key is as good as a script
    (partition_of,) = site.partitions.values()
    program = {"pals": "mpiexec"}.get(launcher, launcher)
    modules, environ = partition_of.modules, partition_of.environment
    probes = "\nin_image probe\nlaunch probe\n" + "".join(f'show env {key} "${key}"\n' for key in environ)
    heads = ["cd", *["module"] * len(modules), *["["] * len(site.container.binds), "apptainer", program]
    said = read_back(text.encode(), probes, folder)
    written = [words for words in said if words[0] == "out"]
    assert written in ([], [["out", f"{directory}/job.out"]])
    said = [words for words in said if words[0] != "out"]
    assert [words[0] for words in said] == [*heads, *["env"] * len(environ)]
    assert said[0] == ["cd", directory]
    assert [words[1:] for words in said if words[0] == "["] == [
        ["-e", bind.split(":")[0], "]"] for bind in site.container.binds
    ]
    assert [words[1:] for words in said if words[0] == "module"] == [["load", module] for module in modules]
    assert [words[1:] for words in said if words[0] == "env"] == [list(pair) for pair in environ.items()]
    (container,) = [words for words in said if words[0] == "apptainer"]
    own = [*site.container.args, "/images/x.sif", "probe"]
    assert container[-len(own) :] == own
    binds = [container[place + 1] for place, word in enumerate(container[: -len(own)]) if word == "--bind"]
    assert binds == [directory, "/data", *site.container.binds]
    (launched,) = [words for words in said if words[0] == program]
    assert launched[-len(container) :] == container
    assert (
        launched[len(launched) - len(container) - len(site.partitions[given["partition"]].launcher_args) :][
            : -len(container)
        ]
        == given["launcher_args"]
    )
    directives = [line.removeprefix(mark) for line in text.split("\n") if line.startswith(mark)]
    own = partition_of.directives
    assert directives[len(directives) - len(own) :] == own
    # Two sites that differ in nothing a directive says have as many of them: no text made a line of its own.
    twin = {
        **table,
        "name": "a",
        "description": "a",
        "partitions": {"a": {**partition, "queue": "a" * bool(given["queue"])}},
    }
    twin["partitions"]["a"]["account"] = given["account"]
    again = rendered(make_plan(REQUEST, parse(Site, twin, "twin")), source.model_copy(update={"command": "kit"}), folder)[1]
    assert len([line for line in again.split("\n") if line.startswith(mark)]) == len(directives)


@settings(max_examples=200, deadline=None)
@given(
    given=st.lists(
        st.one_of(
            TEXT.filter(lambda text: "\0" not in text),
            st.binary(max_size=8).filter(lambda b: b"\0" not in b).map(os.fsdecode),
        ),
        max_size=4,
    )
)
def test_any_words(given: list[str]) -> None:
    """A command line is one line of a comment, and can be copied from there into a shell."""
    text = words(given)
    assert "\n" not in text
    answer = subprocess.run(["bash"], input=os.fsencode(f"printf '%s\\0' {text}"), capture_output=True, check=True).stdout
    assert [os.fsdecode(word) for word in answer.split(b"\0")[:-1]] == (given or [""])


def test_command_line_stays_in_its_comment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["kit", "run", "cloudmask", "--runs", "x\ntouch PWNED #", "--dry-run"])
    text = launch.script(make_plan(REQUEST), *launch.DRY)
    assert "touch PWNED" in text.split("\n")[2]
    read_back(text.encode(), "", tmp_path)


@pytest.mark.parametrize("name", ["UID", "SHELLOPTS", "A B", "1A", "", "A=B", "A;touch PWNED;B"])
def test_variable_that_no_shell_takes(name: str) -> None:
    table = {"name": "x", "description": "x", "contact": "x", "url": "x", "partitions": {"a": {"scheduler": "local"}}}
    with pytest.raises(KitError, match="environment"):
        parse(Site, {**table, "environment": {name: "x"}}, "site.toml")
