"""What should not leave a machine: credentials, the names of people in paths, and addresses, in any text of a submission.

Files are read in blocks. Every pattern begins with a mark, a fixed text that is quick to find, and no part of it runs
on without end: a log of any content is searched in a time that grows with its length alone.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from kit.runs.record import SBOM
from kit.submissions.rules import Finding
from kit.submissions.submitter import SUBMITTER
from kit.submissions.survey import Submission

BLOCK = 1 << 20  # bytes that are read at once
LONGEST = 4096  # bytes of a match: one that begins later in a block is looked for again in the next
MOST_HITS = 100  # of a pattern in a block
NO_TEXT = (".pdf", ".png", ".npz", ".npy", ".mrc", ".bin")
CONTACTS = ("run/site.json", SUBMITTER)  # where people say how to reach them

START = rb"(?<![A-Za-z0-9_-])"  # a token is a word of its own
VALUE = rb"(?=[^\s\"']{0,100}[0-9])(?=[^\s\"']{0,100}[A-Za-z])[A-Za-z0-9+/=_.!@#%^&~-]{8,200}"
ASSIGNED = rb"[\"']?[ \t]{0,3}[:=][ \t]{0,3}[\"']?" + VALUE


@dataclass(frozen=True)
class Pattern:
    """What is looked for: a text is searched with `regex` only where it holds `mark`."""

    kind: str
    mark: bytes
    expression: bytes

    @functools.cached_property
    def regex(self) -> re.Pattern[bytes]:
        """Compiled when it is needed, which takes longer than all else here, and most texts hold no mark."""
        return re.compile(self.expression)


def pattern(kind: str, mark: str, rest: bytes, before: bytes = START) -> Pattern:
    return Pattern(kind, mark.encode(), before + re.escape(mark.encode()) + rest)


# The forms of tokens are those that their makers publish: AWS "IAM identifiers", GitHub "About authentication to GitHub",
# GitLab "Token overview", Slack "Token types", RFC 7519 (JWT), RFC 7468 (PEM).
SECRETS = (
    pattern("an AWS access key", "AKIA", rb"[A-Z0-9]{16}(?![A-Z0-9])"),
    pattern("an AWS access key", "ASIA", rb"[A-Z0-9]{16}(?![A-Z0-9])"),
    *(pattern("a GitHub token", f"gh{kind}_", rb"[A-Za-z0-9]{36,255}") for kind in "pousr"),
    pattern("a GitHub token", "github_pat_", rb"[A-Za-z0-9_]{22,255}"),
    pattern("a GitLab token", "glpat-", rb"[A-Za-z0-9_-]{20,255}"),
    pattern("a Slack token", "xox", rb"[abeprs]-[A-Za-z0-9-]{10,255}"),
    pattern("a Hugging Face token", "hf_", rb"[A-Za-z0-9]{34,255}"),
    pattern("a private key", "-----BEGIN ", rb"(?:[A-Z0-9]{1,10} ){0,3}PRIVATE KEY", before=b""),
    pattern("a JSON web token", "eyJ", rb"[A-Za-z0-9_-]{10,2000}\.eyJ[A-Za-z0-9_-]{10,2000}\.[A-Za-z0-9_-]{10,2000}"),
    pattern("a password in a URL", "://", rb"[^/\s:@]{1,100}:[^/\s:@]{3,100}@", before=b""),
)
# Of any case: they are searched where their mark is in the text in small letters.
WORDS = tuple(
    Pattern("a password or token", word, rb"(?i)" + word + ASSIGNED)
    for word in (b"password", b"passwd", b"secret", b"token", b"api_key", b"apikey")
)
HOMES = (
    pattern("home", "/home/", rb"[A-Za-z0-9._-]{1,64}", before=rb"(?<![A-Za-z0-9._-])"),
    pattern("home", "/Users/", rb"[A-Za-z0-9._-]{1,64}", before=rb"(?<![A-Za-z0-9._-])"),
)
MARKED = (*SECRETS, *HOMES)
DOMAIN = rb"@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){0,5}\.[A-Za-z]{2,24}(?![A-Za-z0-9-])"
ADDRESS = Pattern("address", b"@", DOMAIN)
LOCAL_PART = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._%+-]{0,63}\Z")


@dataclass(frozen=True)
class Hit:
    kind: str
    text: str
    line: int


def leaks(sub: Submission) -> Iterator[Finding]:
    """No text holds a credential (an error), a person's folder, or an address that is no contact (warnings).

    What looks like a credential is not repeated: findings are published.
    """
    texts = [name for name in sorted(sub.files) if not name.endswith(NO_TEXT)]
    hits = {name: list(found(f"{sub.path}/{name}")) for name in texts}
    for name, here in hits.items():
        for hit in here:
            if hit.kind not in ("home", "address"):
                yield Finding("secret", name, f"line {hit.line} holds what looks like {hit.kind}: {hit.text[:4]}...")
    yield from gathered(hits, "home", "personal-path", "names a person's folder")
    known = {hit.text for name in CONTACTS for hit in hits.get(name, ()) if hit.kind == "address"}
    others = {
        name: [hit for hit in here if hit.text not in known] for name, here in hits.items() if not name.endswith(f"/{SBOM}")
    }
    yield from gathered(others, "address", "address", "holds an e-mail address that is no contact of the site")


def hidden(text: str) -> str:
    """A text of ours that may quote a stranger's, without what looks like a credential."""
    data = text.encode(errors="backslashreplace")
    lower = data.lower()
    for wanted in (*SECRETS, *WORDS):
        if wanted.mark.lower() in lower:
            data = wanted.regex.sub(lambda match: match[0][:4] + b"...", data)
    return data.decode()


def gathered(hits: dict[str, list[Hit]], kind: str, rule: str, problem: str) -> Iterator[Finding]:
    """One finding for each text of a kind, at the first file that holds it."""
    places: dict[str, list[tuple[str, int]]] = {}
    for name, here in hits.items():
        for hit in here:
            if hit.kind == kind:
                places.setdefault(hit.text, []).append((name, hit.line))
    for text, ((name, line), *others) in places.items():
        more = f", and {len(others)} more file(s)" if others else ""
        yield Finding(rule, name, f"line {line} {problem}: {text}{more}")


def found(path: str | Path) -> Iterator[Hit]:
    """What one file holds, each text once. It is read in blocks, of which the last bytes are read again with the next."""
    seen: set[tuple[str, str]] = set()
    line, kept = 1, b""
    with open(path, "rb") as file:
        while True:
            block = file.read(BLOCK)
            text = kept + block
            end = len(text) if len(block) < BLOCK else len(text) - LONGEST
            for kind, match, start in matches(text):
                if start < end and (kind, match) not in seen:
                    seen.add((kind, match))
                    yield Hit(kind, match, line + text.count(b"\n", 0, start))
            if len(block) < BLOCK or len(seen) > 10 * MOST_HITS:
                return
            line += text.count(b"\n", 0, end)
            kept = text[end:]


def matches(text: bytes) -> Iterator[tuple[str, str, int]]:
    """(kind, text, where it starts) of all that is looked for."""
    lower = text.lower()
    here = [wanted for wanted in MARKED if wanted.mark in text] + [wanted for wanted in WORDS if wanted.mark in lower]
    for wanted in here:
        for match in islice(wanted.regex.finditer(text), MOST_HITS):
            yield wanted.kind, match[0].decode(errors="replace"), match.start()
    if ADDRESS.mark in text:
        for match in islice(ADDRESS.regex.finditer(text), MOST_HITS):
            before = LOCAL_PART.search(text, max(0, match.start() - 64), match.start())
            if before and before[0] != b"git":
                yield ADDRESS.kind, (before[0] + match[0]).decode(), before.start()
