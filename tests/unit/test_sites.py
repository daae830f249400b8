"""The sites that the kit ships, and the pages on them: numbers that a node can have, their sources, every key explained."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from conftest import ROOT, kit

from kit.core.schema import parse
from kit.schedulers import OPTIONAL, SCHEDULERS
from kit.script.render import DROPPED
from kit.site import Container, Partition, Site

FILES = sorted((ROOT / "kit/sites").glob("*.toml"))
MACHINES = [path for path in FILES if path.stem not in ("local", "example-slurm")]  # that belong to somebody
PAGE = (ROOT / "docs/site.md").read_text()


def load(text: str) -> Site:
    return parse(Site, {"name": "x", **tomllib.loads(text)}, "x.toml")


def doubts(text: str) -> list[str]:
    """What should not stand in the file of a machine that somebody else will use."""
    site, found = load(text), []
    head = text[: text.index("\ndescription")]
    if bool(site.verified) == bool(re.search(r"not tried\s+(# )?with this kit", head)):
        found.append("does not say either who tried it or that nobody did")
    # Who ran it knows; who did not has read it somewhere.
    sources = re.findall(r"^# - (.*(?:\n#   .*)*)", head.partition("# Sources:\n")[2], re.MULTILINE)
    said = re.compile(r'"|github\.com|job scripts|guide|data sheet|documentation \(\d')
    if not site.verified and not (sources and all(map(said.search, sources))):
        found.append("names no sources")
    if not site.verified and site.container.binds:
        found.append("binds folders")
    if not re.match(r"https?://|\S+@\S+\.", site.contact) or not re.match("https?://", site.url):
        found.append("has nobody to ask")
    if not site.organisation:
        found.append("has no organisation")
    for name, partition in site.partitions.items():
        if partition.account or partition.mail or partition.reservation:
            found.append(f"{name}: has what belongs to a user")
        if site.container.mpi == "inside" and partition.max_nodes != 1:
            found.append(f"{name}: has more nodes than the MPI of an image reaches")
        if partition.scheduler != "local":
            found += [f"{name}: {doubt}" for doubt in numbers(partition)]
    return found


def numbers(partition: Partition) -> list[str]:
    """Which numbers of a partition no node, or no queue, has."""
    found = []
    if not 16 <= partition.cores <= 256:
        found.append(f"{partition.cores} cores")
    if not 16 <= partition.memory_gb <= 4096:
        found.append(f"{partition.memory_gb} GB")
    if not 30 <= partition.max_minutes <= 7 * 1440:
        found.append(f"{partition.max_minutes} minutes")
    if partition.gpus not in (0, 4, 6, 8, 16):
        found.append(f"{partition.gpus} GPUs")
    if partition.min_nodes > partition.max_nodes:
        found.append("fewer nodes than it needs")
    nodes = [limit.nodes for limit in partition.limits]
    if partition.limits and (nodes != sorted(set(nodes)) or nodes[-1] != partition.max_nodes):
        found.append("limits that do not lead up to max_nodes")
    if partition.limits and max(limit.minutes for limit in partition.limits) != partition.max_minutes:
        found.append("no limit of max_minutes")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_is_a_site(path: Path) -> None:
    assert load(path.read_text()).contact


@pytest.mark.parametrize("path", MACHINES, ids=lambda path: path.stem)
def test_its_numbers_are_plausible_and_have_a_source(path: Path) -> None:
    assert not doubts(path.read_text())


GOOD = """\
# A machine: written from what is published, and not tried with this kit.
# Sources:
# - documentation, "Nodes"
description = "A machine"
contact = "a@example.org"
url = "https://example.org"
organisation = "O"
[partitions.cpu]
scheduler = "slurm"
cores = 64
memory_gb = 256
"""


@pytest.mark.parametrize(
    ("old", "new", "doubt"),
    [
        ("", "", ""),
        ('# - documentation, "Nodes"\n', "", "sources"),
        ('# - documentation, "Nodes"\n', '# - documentation, "Nodes"\n# - memory\n', "sources"),
        ("not tried", "tried", "who tried"),
        ("organisation", 'verified = "me"\norganisation', "who tried"),
        ("a@example.org", "somebody", "ask"),
        ("https://example.org", "example.org", "ask"),
        ('organisation = "O"\n', "", "organisation"),
        ("[partitions", '[container]\nbinds = ["/x"]\n[partitions', "binds"),
        ("[partitions", '[container]\nmpi = "inside"\n[partitions', ""),
        ("[partitions", 'max_nodes = 2\n[container]\nmpi = "inside"\n[partitions', "reaches"),
        ("cores = 64", 'cores = 64\naccount = "p"', "user"),
        ("cores = 64\n", "", "cores"),
        ("cores = 64", "cores = 640", "cores"),
        ("256", "25600", "GB"),
        ("memory_gb = 256\n", "", "GB"),
        ("cores", "max_minutes = 24\ncores", "minutes"),
        ("cores", "gpus = 5\ncores", "GPUs"),
        ("cores", "min_nodes = 2\ncores", "fewer"),
        ("cores", "max_nodes = 3\nlimits = [{ nodes = 2, minutes = 1440 }]\ncores", "lead up"),
        ("cores", "max_nodes = 3\nlimits = [{ nodes = 3, minutes = 144 }]\ncores", "no limit"),
        ("cores", "max_nodes = 3\nlimits = [{ nodes = 3, minutes = 1440 }, { nodes = 3, minutes = 9 }]\ncores", "lead up"),
    ],
)
def test_what_is_doubtful_is_found(old: str, new: str, doubt: str) -> None:
    found = doubts(GOOD.replace(old, new, 1))
    assert len(found) == bool(doubt)
    assert not doubt or doubt in found[0]


def test_who_ran_it_need_not_have_read_of_it() -> None:
    rest = GOOD[GOOD.index("description") :]
    ran = "# A machine.\n" + rest.replace("organisation", 'verified = "me, today"\norganisation')
    assert not doubts(ran.replace("[part", '[container]\nbinds = ["/x"]\n[part'))


def test_they_are_listed() -> None:
    listed = kit("list").stdout
    for path in FILES:
        assert re.search(rf"\b{re.escape(path.stem)}\b", listed), path.stem


def test_the_page_on_machines_has_each_as_its_file_says() -> None:
    rows = {}
    for line in (ROOT / "docs/sites.md").read_text().splitlines():
        if match := re.match(r"\| `([\w-]+)` \|", line):
            rows[match[1]] = line
    assert rows.keys() == {path.stem for path in FILES}
    spoken = {"slurm": "Slurm", "pbs": "PBS", "lsf": "LSF", "gridengine": "Grid Engine", "flux": "Flux"}
    spoken |= {"pjm": "PJM", "cobalt": "Cobalt", "local": "none"}
    for path in MACHINES:
        site = load(path.read_text())
        cells = [cell.strip() for cell in rows[path.stem].split("|")]
        for partition in site.partitions.values():
            assert spoken[partition.scheduler] in cells[3]
            assert bool(cells[6]) == any(one.gpus for one in site.partitions.values())
        # A machine of the kit that uses the launcher of the site says which, and the others say that they do not.
        assert ("image" in cells[4]) == (site.container.mpi == "inside")
        assert cells[7] == ("verified" if site.verified else "unverified")


def test_every_key_is_explained_and_no_other() -> None:
    explained = set()
    for table in re.findall(r"^\| key \|.*\n\|[-|]+\n((?:\|.*\n)+)", PAGE, re.MULTILINE):
        explained |= set(re.findall(r"^\| `(\w+)`", table, re.MULTILINE))
    assert explained == {*Site.model_fields, *Partition.model_fields, *Container.model_fields} - {"name"}


def test_the_page_says_which_words_a_scheduler_lacks() -> None:
    table = PAGE.partition("| scheduler | has no word for |")[2].partition("\n\n")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", table, re.MULTILINE))
    assert rows.keys() == SCHEDULERS.keys()
    for name, text in rows.items():
        keys = set(re.findall(r"`(\w+)`", text))
        if text.startswith("any of them"):
            keys = set(OPTIONAL)
        elif text.startswith("anything but"):
            keys = set(OPTIONAL) - keys
        assert keys == OPTIONAL - SCHEDULERS[name].WORDS, name


@pytest.mark.parametrize("block", re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL))
def test_every_piece_of_a_file_on_the_page_is_one(block: str) -> None:
    rest = {"name": "x", "description": "x", "contact": "x", "url": "x", "partitions": {"x": {}}}
    parse(Site, {**rest, **tomllib.loads(block)}, "docs/site.md")


def test_the_page_says_which_variables_are_dropped() -> None:
    section = PAGE.partition("### What reaches a rank")[2].partition("| runtime")[0]
    names = set(re.findall(r"`([A-Z_]+)`", section))
    assert names == {pattern.removesuffix("*") for pattern in DROPPED}
