"""The kit's one reader of STAR files, for all that RELION of any version and its companions write.

Every block is found by one pass over the file; the rows of a table, a million of them perhaps, are then read by pandas
straight from where they stand. Rows that hold quotation marks or comments, which pandas would take for something else, are
brought to plain columns first. What STAR allows and RELION 2 to 5 write is read: blocks without a name, comments and empty
lines between labels and rows, indentation, CR LF, quoted values, `nan`, blocks after a table, and files packed by gzip.
Text blocks between semicolons are not, and no program of RELION writes them.
"""

from __future__ import annotations

import csv
import gzip
import io
import math
import re
import zlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from kit.core.errors import KitError, plain

if TYPE_CHECKING:
    import pandas as pd

CHUNK = 1 << 17  # bytes; stays in the cache of a core
# A word of STAR: quoted, up to a quotation mark before a space, or up to a space; a comment ends the line.
WORD = re.compile(r"""\s*(?:'(.*?)'(?=\s|$)|"(.*?)"(?=\s|$)|(\#.*)|(\S+))""")
INTEGER = re.compile(r"[+-]?\d+")
FLOAT = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[+-]?(?:nan|inf)", re.IGNORECASE)
MOST_LABELS, MOST_BLOCKS = 2000, 50_000  # more than any program writes; a stranger's file could take hours
SEPARATOR = "\x1f"  # stands in no word
NOT_A_NUMBER = ["nan", "NaN", "NAN", "-nan", "<NA>"]


@dataclass
class Block:
    """A block: its single values, or the labels of its table and where in the file its rows stand."""

    name: str  # particles, of data_particles
    labels: list[str] = field(default_factory=list)
    values: dict[str, str] | None = None  # None: a table
    start: int = 0  # byte of the first row
    end: int = 0
    line: int = 0  # number of the first row's line
    marked: bool = False  # whether quotation marks or comments stand among the rows
    odd: int = 0  # line of the first row that has not one word a label, as long as nothing is marked; 0: there is none
    late: tuple[int, str] | None = None  # line and name of the first label that stands behind rows


def read_star(path: Path, text: Sequence[str] = (), only: str | None = None) -> dict[str, Any]:
    """The blocks of a STAR file by name: a table (pandas.DataFrame) each, or a dict of single values; or `only` one of them.

    Numbers become numbers; columns and values in `text` stay text, whatever they look like. KitError when the file is
    missing or not STAR: a label or block that stands twice, a row of another length.
    """
    with opened(path) as file:
        return {
            block.name: table(path, file, block, text=text)
            if block.values is None
            else {label: value if label in text else number(value) for label, value in block.values.items()}
            for block in index(path, file)
            if only in (None, block.name)
        }


def column(path: Path, block: str, label: str) -> Any:
    """A column (or single value) of a STAR file by block and label; KitError names what is missing."""
    blocks = read_star(path)
    if block not in blocks or label not in blocks[block]:
        raise KitError(f"{path}: no label _{label} in data_{block}")
    return blocks[block][label]


def positive(path: Path, block: str, label: str, values: Any) -> list[float]:
    """A column, or a single value, of numbers above 0; KitError names file, block and label of what is none."""
    found = []
    for value in values if isinstance(values, Iterable) and not isinstance(values, str) else [values]:
        try:
            found.append(float(value))
        except (TypeError, ValueError):
            found.append(math.nan)
        if not 0 < found[-1] < math.inf:
            raise KitError(
                f"{path}: _{label} of data_{plain(block)} is {plain(str(value))}, where a number above 0 is needed"
            )
    return found


def read_columns(path: Path, block: str, labels: Sequence[str]) -> pd.DataFrame:
    """Those of `labels` that a table has, read straight from its rows; text is categorical.

    Where there is no block of that name, one of files before RELION 3.1 counts, which have a single table named `images` or
    not at all. For tables of a million rows, of which a few columns are wanted: reading the whole takes three times as long
    and nine times the memory. KitError for a file without the block, or a row of another length.
    """
    if not path.exists():
        raise KitError(f"{path}: cannot be read: No such file or directory")
    with opened(path) as file:
        known = {found.name: found for found in index(path, file) if found.values is None}
        found = next((known[name] for name in (block, "images", "") if name in known), None)
        wanted = [label for label in found.labels if label in labels] if found else []
        if not found or not wanted:
            raise KitError(f"{path}: no data_{block} with any of the labels _{', _'.join(labels)}")
        return table(path, file, found, wanted)


def count_rows(path: Path, label: str) -> int | None:
    """How many rows the table of a STAR file has that has a label; None where none has."""
    with opened(path) as file:
        for block in index(path, file):
            if label in block.labels:
                return 1 if block.values is not None else sum(1 for _ in rows(file, block))
    return None


def opened(path: Path) -> BinaryIO:
    """A STAR file for reading, unpacked where it is packed; KitError where it cannot be read."""
    if not path.is_file():
        raise KitError(f"{path}: missing" if not path.exists() else f"{path}: cannot be read: not a file")
    try:
        if path.suffix != ".gz":
            return path.open("rb")
        with gzip.open(path) as packed:
            return io.BytesIO(packed.read())
    except (OSError, EOFError, zlib.error) as error:
        raise KitError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None


def index(path: Path, file: BinaryIO) -> list[Block]:
    """The blocks of an opened STAR file; KitError for a block or a label that stands twice."""
    blocks: list[Block] = []
    known: set[str] = set()
    looped, pending = False, ""  # whether labels are of a table; a label whose value stands on a line of its own
    number, place = 0, 0
    file.seek(0)
    for line in iter(file.readline, b""):
        number, start, place = number + 1, place, place + len(line)
        bare = line.strip()
        if not bare or bare.startswith(b"#"):
            continue
        words = split(decoded(path, bare, number))
        if not words:  # white space that is none to bytes
            continue
        if words[0].startswith("data_"):
            blocks.append(Block(words[0].removeprefix("data_"), values={}))
            looped, pending = False, ""
            if blocks[-1].name in known:
                raise KitError(f"{path}: line {number}: data_{plain(blocks[-1].name)} stands twice")
            known.add(blocks[-1].name)
            if len(blocks) > MOST_BLOCKS:
                raise KitError(f"{path}: line {number}: more than {MOST_BLOCKS} blocks, which no program writes")
        elif not blocks:
            continue  # what stands before the first block says nothing
        elif words[0] == "loop_":
            if blocks[-1].labels:
                raise KitError(f"{path}: line {number}: data_{plain(blocks[-1].name)} holds more than one table")
            looped, blocks[-1].values = True, None
        elif bare.startswith(b"_"):
            name = words[0][1:]
            if name in blocks[-1].labels:
                raise KitError(f"{path}: line {number}: label _{plain(name)} stands twice in data_{plain(blocks[-1].name)}")
            blocks[-1].labels.append(name)
            if len(blocks[-1].labels) > MOST_LABELS:
                raise KitError(f"{path}: line {number}: more than {MOST_LABELS} labels, which no program writes")
            if not looped:
                if len(words) > 2:
                    what = plain(f"_{name} of data_{blocks[-1].name}")
                    raise KitError(f"{path}: line {number}: {what} has {len(words) - 1} values; text with spaces is quoted")
                values(blocks[-1])[name] = words[1] if len(words) == 2 else ""
                pending = name if len(words) == 1 else ""
        elif looped:
            block = blocks[-1]
            if not block.labels:
                raise KitError(f"{path}: line {number}: data_{plain(block.name)} has rows but no labels")
            block.start, block.line = start, number
            block.end, lines = end_of_rows(file, block)
            if block.odd and not block.marked and (not block.late or block.odd < block.late[0]):
                raise KitError(f"{path}: {fault(file, block)}")
            if block.late:
                late, name = block.late
                what = f"_{plain(name)} stands behind rows of data_{plain(block.name)}"
                raise KitError(
                    f"{path}: line {late}: {what}; labels stand before them, and a value that begins so is quoted"
                )
            number, place = number - 1 + lines, block.end
            file.seek(place)
            looped = False
        elif pending and len(words) == 1:
            values(blocks[-1])[pending], pending = words[0], ""
        else:
            raise KitError(f"{path}: line {number}: not a STAR file: a value of data_{plain(blocks[-1].name)} has no label")
    return blocks


def values(block: Block) -> dict[str, str]:
    assert block.values is not None
    return block.values


def end_of_rows(file: BinaryIO, block: Block) -> tuple[int, int]:
    """Where the rows of a table end (byte), and how many lines they take; notes what is to be known of them in `block`.

    They end before a line that begins with a word of STAR. Whole chunks are searched, for a line of Python a row takes long.
    """
    file.seek(block.start)
    place, lines = block.start, 0
    while chunk := file.read(CHUNK) + file.readline():
        stop = at_line_start(chunk, b"data_")
        chunk = chunk if stop is None else chunk[:stop]
        label = None if block.late else first_label(chunk)
        if label is not None:
            name = chunk[label:].split(maxsplit=1)[0][1:].decode(errors="replace")
            block.late = block.line + lines + chunk.count(b"\n", 0, label), name
        block.marked = block.marked or b"#" in chunk or b'"' in chunk or b"'" in chunk
        if not block.marked and not block.odd:
            wrong = uneven(chunk, len(block.labels))
            block.odd = block.line + lines + wrong if wrong is not None else 0
        place += len(chunk)
        lines += chunk.count(b"\n")
        if stop is not None:
            break
    return place, lines


def uneven(chunk: bytes, count: int) -> int | None:
    """Which line (from 0) of some is the first that has words, but not `count` of them."""
    import numpy as np

    if not chunk.endswith(b"\n"):  # the last line of a file
        chunk += b"\n"
    if len(chunk) < 2:
        return None
    letters = np.frombuffer(chunk, dtype=np.uint8)
    solid = letters > 32  # neither space nor end of line
    begins = solid[1:] > solid[:-1]
    ends = np.flatnonzero(letters == 10)
    words = np.add.reduceat(begins.view(np.uint8), np.concatenate([[0], ends[:-1]]), dtype=np.int32)
    words[0] += solid[0]
    wrong = np.flatnonzero((words != 0) & (words != count))
    return int(wrong[0]) if len(wrong) else None


def at_line_start(chunk: bytes, word: bytes) -> int | None:
    """The start of the first line of `chunk` that begins with `word`, spaces before it or not."""
    at = chunk.find(word)
    while at >= 0:
        begin = chunk.rfind(b"\n", 0, at) + 1
        if not chunk[begin:at].strip():
            return begin
        at = chunk.find(word, at + 1)
    return None


def first_label(chunk: bytes) -> int | None:
    """Where the first line of `chunk` that begins with an underscore, spaces before it or not, has it.

    Not by a pattern that looks at every line: of a million rows that takes as long as all else.
    """
    found = [0] if chunk.startswith(b"_") else []
    for word in (b"\n_", b" _", b"\t_"):
        at = chunk.find(word)
        while at >= 0 and chunk[chunk.rfind(b"\n", 0, at + 1) + 1 : at + 1].strip():
            at = chunk.find(word, at + 1)
        found += [at + 1] if at >= 0 else []
    return min(found, default=None)


class Part(io.RawIOBase):
    """The bytes of a file from `start` to `end`."""

    def __init__(self, file: BinaryIO, start: int, end: int) -> None:
        self.file, self.left = file, end - start
        file.seek(start)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self.file.read(min(len(buffer), self.left))
        buffer[: len(data)] = data
        self.left -= len(data)
        return len(data)


def rows(file: BinaryIO, block: Block) -> Iterator[tuple[int, bytes]]:
    """The rows of a table, each with the number of its line."""
    for number, line in enumerate(io.BufferedReader(Part(file, block.start, block.end), CHUNK), start=block.line):
        bare = line.strip()
        if bare and not bare.startswith(b"#"):
            yield number, bare


def table(path: Path, file: BinaryIO, block: Block, wanted: Sequence[str] = (), text: Sequence[str] = ()) -> pd.DataFrame:
    """A table, or its columns `wanted`, in which text is categorical."""
    import pandas as pd

    if block.start == block.end:
        return pd.DataFrame(columns=list(wanted) or block.labels)
    how: dict[str, Any] = {"header": None, "names": block.labels, "usecols": list(wanted) or None, "sep": r"\s+"}
    how |= {"keep_default_na": False, "encoding": "utf-8", "low_memory": bool(wanted)}
    plainly = None
    if block.marked:
        plainly = io.StringIO("\n".join(SEPARATOR.join(words) for words in counted(path, file, block)))
        how |= {"sep": SEPARATOR, "quoting": csv.QUOTE_NONE}

    def parse(kinds: Any, words: Collection[str], nrows: int | None = None) -> pd.DataFrame:
        """The rows; in the columns `words`, `nan` is a word like any other."""
        source: Any = io.BufferedReader(Part(file, block.start, block.end), 1 << 20)
        if plainly is not None:
            source = plainly
            source.seek(0)
        unknown = {name: NOT_A_NUMBER for name in block.labels if name not in words}
        return pd.read_csv(source, dtype=kinds, nrows=nrows, na_values=unknown, **how)

    try:
        if wanted:
            first = parse({}, text, nrows=100)
            real = {name for name in wanted if pd.api.types.is_numeric_dtype(first[name])}
            kinds = {name: float if name in real else "category" for name in wanted}
            return parse(kinds, [name for name in wanted if name not in real])[list(wanted)]
        found = parse(dict.fromkeys(text, str), text)
        other = [name for name in block.labels if not pd.api.types.is_numeric_dtype(found[name]) and name not in text]
        if any(found[name].isna().any() for name in other):
            found = parse(dict.fromkeys((*text, *other), str), [*text, *other])
        return found
    except UnicodeDecodeError:
        raise KitError(f"{path}: not a STAR file: not text (UTF-8)") from None
    except ValueError as error:
        raise KitError(f"{path}: a row of data_{plain(block.name)} cannot be read: {plain(str(error))}") from None


def counted(path: Path, file: BinaryIO, block: Block) -> Iterator[list[str]]:
    """The words of each row; KitError where they are not one a label."""
    for number, row in rows(file, block):
        words = split(decoded(path, row, number))
        if len(words) != len(block.labels):
            raise KitError(f"{path}: {fault(file, block)}")
        yield words


def fault(file: BinaryIO, block: Block) -> str:
    """The first row of a table that has not one value a label, in words; a second table is seen by that, too."""
    for number, row in rows(file, block):
        count = len(split(row.decode(errors="replace")))
        if row.startswith(b"loop_"):
            return f"line {number}: data_{plain(block.name)} holds more than one table"
        if count < len(block.labels):
            return f"line {number}: a value of data_{plain(block.name)} is missing, or no number"
        if count > len(block.labels):
            what = f"{count} values for {len(block.labels)} labels (text with spaces is quoted)"
            return f"a row of data_{plain(block.name)} cannot be read: line {number} has {what}"
    return ""


def split(line: str) -> list[str]:
    """The words of a line, without quotation marks and comments."""
    if not any(mark in line for mark in "#'\""):
        return line.split()
    words = []
    for match in WORD.finditer(line):
        if match[3]:
            break
        words.append(next(word for word in match.groups() if word is not None))
    return words


def decoded(path: Path, line: bytes, number: int) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError:
        raise KitError(f"{path}: line {number}: not a STAR file: not text (UTF-8)") from None


def number(value: str) -> int | float | str:
    """A value as the number that it is, else as it stands."""
    if INTEGER.fullmatch(value):
        return int(value) if len(value) < 20 else float(value)
    return float(value) if FLOAT.fullmatch(value) else value
