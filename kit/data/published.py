"""Published data sets: what they are made of, fetched once, and whole or not at all. A set that was cut off goes on.

curl carries files, fsspec lists the trees that they lie in; a data set is datasets/NAME.toml of a benchmark.
"""

from __future__ import annotations

import fnmatch
import gzip
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlparse

from pydantic import Field, model_validator

from kit.core import paths
from kit.core.checksums import MANIFEST, manifest, sha256, verify
from kit.core.errors import KitError, unknown
from kit.core.files import read_json, read_toml, write_json
from kit.core.schema import Model, parse

FETCHED = ".fetched.json"  # in a data set that is being fetched: the files that came, with their checksums
REMOVE = "remove {} and fetch it again"


class Source(Model):
    """A file of a published data set, or a tree of them. Its size is about; the checksum is that of the file as fetched."""

    url: str
    gigabytes: float = Field(gt=0)
    sha256: str = ""  # where the publisher gives one; otherwise that of the first fetch is recorded
    unpack: bool = False  # a tar archive, whose files are wanted, or a compressed file
    # The url is a folder: its files of this pattern (*.tif), in its folders too, are wanted. A pattern with a folder
    # (*.SEN3/*.nc) is of folders that are whole with these files, and a part of the data set has whole ones.
    tree: str = Field("", pattern=r"^([^/]+/)?[^/]*$")
    files: int = Field(0, ge=0)  # how many files, or such folders, these are, about; 0 where nobody knows
    endpoint: str = ""  # of a url s3://BUCKET/FOLDER: the server, which is asked as anybody may
    into: str = Field("", pattern=r"^([\w.-]+)?$")  # the folder of the data set that they go to; its top when empty

    @model_validator(mode="after")
    def one_kind(self) -> Source:
        if self.tree and (self.sha256 or self.unpack):
            raise ValueError("a tree has no sha256 and is not unpacked")
        if self.tree and not self.into:
            raise ValueError("a tree needs a folder of its own, into")
        if self.url.startswith("s3://") != bool(self.endpoint):
            raise ValueError("a url s3://BUCKET/FOLDER and an endpoint go together")
        return self

    @property
    def address(self) -> str:
        """The url as curl fetches from below it."""
        return f"{self.endpoint.rstrip('/')}/{self.url.removeprefix('s3://')}" if self.endpoint else self.url

    def part(self, count: int) -> Source:
        """The source with `count` files, or whole folders, of its tree alone."""
        if not self.tree or not count or not self.files:
            return self
        return self.model_copy(update={"gigabytes": self.gigabytes * min(count / self.files, 1.0)})


class DataSet(Model):
    """A published data set: datasets/{name}.toml of a benchmark."""

    benchmark: str
    name: str
    title: str
    origin: str
    licence: str
    sources: list[Source] = Field(min_length=1)
    count: int = Field(0, ge=0)  # files, or whole folders, of each tree that are wanted; 0: all

    @model_validator(mode="after")
    def told_apart(self) -> DataSet:
        if len({source.url for source in self.sources}) < len(self.sources):
            raise ValueError("two sources have one url, by which what came is known")
        return self

    @property
    def gigabytes(self) -> float:
        return sum(source.part(self.count).gigabytes for source in self.sources)

    @property
    def full_name(self) -> str:
        return f"{self.benchmark}/{self.name}" + (f":{self.count}" if self.count else "")

    @property
    def folder(self) -> Path:
        part = f"-part-{self.count}" if self.count else ""
        return paths.cache() / "data" / f"{self.benchmark}-{self.name}{part}"


def data_sets() -> list[DataSet]:
    """Every published data set that a benchmark can run on."""
    files = sorted((paths.PACKAGE / "benchmarks").glob("*/datasets/*.toml"))
    return [
        parse(DataSet, {"benchmark": file.parents[1].name, "name": file.stem, **read_toml(file)}, file) for file in files
    ]


def row(data_set: DataSet) -> dict[str, Any]:
    """A data set as JSON holds it, and whether it is here."""
    return {**data_set.model_dump(), "here": data_set.folder.is_dir()}


def report(found: Sequence[DataSet]) -> str:
    """Data sets as text: title, size, origin and licence, and where they are."""
    lines = []
    for entry in found:
        here = f"here: {entry.folder}" if entry.folder.is_dir() else "not here"
        lines.append(f"{entry.full_name}  {entry.title}\n  {entry.gigabytes:g} GB, {here}")
        lines.append(f"  from {entry.origin}\n  licence: {entry.licence}")
    return "\n".join(lines)


def load_data_set(name: str) -> DataSet:
    """The data set called BENCHMARK/NAME, or with BENCHMARK/NAME:20 as many scenes or files of each of its trees."""
    known = {found.full_name: found for found in data_sets()}
    whole, mark, count = name.partition(":")
    if whole not in known:
        raise unknown("data set", name, known)
    if not mark:
        return known[whole]
    if not count.isdecimal() or int(count) == 0:
        raise KitError(f"{name}: behind the colon stands how many of each folder are wanted, {whole}:20 for example")
    if not any(source.tree for source in known[whole].sources):
        raise KitError(f"{name}: {whole} is of archives, which come whole")
    return known[whole].model_copy(update={"count": int(count)})


def fetched(data_set: DataSet) -> Path:
    """The folder of a published data set; KitError where it is not here yet, or lacks a file.

    Sizes are compared with the manifest; `kit data verify` hashes it all, which takes its time.
    """
    if not data_set.folder.is_dir():
        raise KitError(
            f"{data_set.folder}: not here; fetch it with kit data get {data_set.full_name} ({data_set.gigabytes:.3g} GB)"
        )
    verify(data_set.folder, REMOVE.format(data_set.folder), hashed=False)
    return data_set.folder


def get(data_set: DataSet, mirror: str = "", say: Callable[[str], None] = lambda text: None) -> Path:
    """Fetches a published data set and returns its folder, which appears whole; cut off, it goes on where it was.

    `mirror` is a folder, or a URL, below which files lie under their own names and trees in the folders they go to. curl
    carries them: http, https (S3 too), ftp and file.
    KitError for too little room before anything is fetched, for a transfer that failed, and for a wrong checksum.
    """
    folder = data_set.folder
    if folder.is_dir():
        verify(folder, REMOVE.format(folder))
        return folder
    partial = folder.with_name(f".{folder.name}.partial")
    if mirror and "://" not in mirror:
        if not Path(mirror).is_dir():
            raise KitError(f"--mirror {mirror}: no such folder; a folder or a URL is needed")
        mirror = Path(mirror).absolute().as_uri()
    paths.make_cached(partial)
    record = partial / FETCHED
    try:
        done: dict[str, str] = read_json(record) if record.is_file() else {}
    except KitError as error:
        raise KitError(f"{error}; {REMOVE.format(partial)}") from None
    left = [source for source in data_set.sources if source.url not in done]
    require_room(partial, [source.part(data_set.count) for source in left])
    for source in left:
        url = f"{mirror.rstrip('/')}/{source.into if source.tree else file_name(source.url)}" if mirror else source.address
        say(f"{url} (about {source.part(data_set.count).gigabytes:.3g} GB)")
        # Of a tree every file counts for itself, so that what came is not fetched again.
        names = [""]
        if source.tree:
            found = listed(url if mirror else source.url, source.tree, "" if mirror else source.endpoint)
            names = spread(found, source.tree, data_set.count)
        for name in names:
            file_url = f"{url.rstrip('/')}/{quote(name)}" if name else url
            if file_url in done:
                continue
            target = partial / source.into / (name or file_name(source.url))
            target.parent.mkdir(parents=True, exist_ok=True)
            download(file_url, target)
            digest = sha256(target)
            if source.sha256 and digest != source.sha256:
                target.unlink()
                raise KitError(f"{url}: has the sha256 {digest}, not {source.sha256}; it was thrown away, fetch it again")
            if source.unpack:
                unpack(target, target.parent)
            done[file_url if name else source.url] = f"sha256:{digest}"
            write_json(record, done)
        done[source.url] = done.get(source.url, "tree")
        write_json(record, done)
    write_json(partial / MANIFEST, manifest(partial))
    partial.rename(folder)
    return folder


def file_name(url: str) -> str:
    return url.rpartition("/")[2]


def listed(url: str, pattern: str, endpoint: str = "") -> list[str]:
    """The files of a pattern in a folder, by their paths below it; KitError for none.

    The folder is one of http with an index, of ftp, of files, or of the S3 server at `endpoint`.
    """
    if endpoint:
        names = bucket_keys(url, endpoint)
    elif url.startswith("file:"):  # links that people make in a folder they carry are followed
        root = Path(unquote(urlparse(url).path))
        if not root.is_dir():
            raise KitError(f"{root}: no such folder")
        walked = os.walk(root, followlinks=True)
        names = sorted(Path(top, name).relative_to(root).as_posix() for top, _, files in walked for name in files)
    else:
        from fsspec.core import url_to_fs

        try:
            system, top = url_to_fs(url)
            below = [path.removeprefix(top.rstrip("/")).lstrip("/") for path in system.find(top)]
            names = sorted(unquote(path) if url.startswith("http") else path for path in below)
        except Exception as error:  # each protocol has errors of its own
            raise KitError(f"{url}: cannot be listed: {type(error).__name__}: {error}") from None
    depth = pattern.count("/") + 1
    found = [
        name
        for name in names
        if fnmatch.fnmatch("/".join(name.split("/")[-depth:]), pattern) and ".." not in name.split("/")
    ]
    if not found:
        raise KitError(f"{url}: has no files {pattern}, but {len(names)} others")
    return found


def spread(names: list[str], pattern: str, count: int) -> list[str]:
    """All names, or where `count` is not 0 those of so many files; of whole folders where the pattern names folders.

    They are spread evenly over the order of the names, which is often that of time: a part is of all times.
    """
    if not count:
        return names
    wholes = [name.rpartition("/")[0] if "/" in pattern else name for name in names]
    order = sorted(set(wholes))
    wanted = {order[place * len(order) // count] for place in range(count)} if count < len(order) else set(order)
    return [name for name, whole in zip(names, wholes, strict=True) if whole in wanted]


def bucket_keys(url: str, endpoint: str) -> list[str]:
    """The objects below s3://BUCKET/FOLDER, by their names below it: asked as anybody may, without keys."""
    import boto3
    from botocore import UNSIGNED
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    bucket, _, folder = url.removeprefix("s3://").partition("/")
    prefix = folder.rstrip("/") + "/"
    client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", config=Config(signature_version=UNSIGNED))
    try:
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        return sorted(entry["Key"].removeprefix(prefix).lstrip("/") for page in pages for entry in page.get("Contents", []))
    except (BotoCoreError, ClientError) as error:
        raise KitError(f"{url} at {endpoint}: cannot be listed: {error}") from None


def require_room(folder: Path, sources: Sequence[Source]) -> None:
    """KitError unless what is still to come has room: an archive and what is in it lie side by side for a while."""

    def left(source: Source) -> float:
        place = folder / source.into
        came = place.rglob("*") if source.tree else [place / file_name(source.url)]
        here = sum(path.stat().st_size for path in came if path.is_file()) / 1e9
        return max(0.0, source.gigabytes * (2 if source.unpack else 1) - here)

    needed = sum(map(left, sources))
    free = shutil.disk_usage(folder).free / 1e9
    if free < needed:
        raise KitError(
            f"{folder.parent}: {needed:.3g} GB are needed and {free:.3g} GB are free; KIT_CACHE can name another folder"
        )


def download(url: str, target: Path) -> None:
    """Fetches a file with curl, from the byte where an earlier attempt ended."""
    curl = shutil.which("curl")
    if curl is None:
        raise KitError("curl is not on the PATH; install it with the packages of your system")
    words = ["--fail", "--location", "--retry", "3", "--speed-limit", "1", "--speed-time", "60", "--show-error"]
    words += ["--progress-bar"] if sys.stderr.isatty() else ["--silent"]
    words += ["--continue-at", "-", "--write-out", "%{http_code}", "--output", str(target), url]
    result = subprocess.run([curl, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    # 416: the server has nothing behind the last byte that is here.
    if result.returncode and not (result.stdout.endswith("416") and target.exists()):
        kept = (
            f"; the {target.stat().st_size} bytes that came are kept, and it goes on from there"
            f" (if it does not, remove {target})"
            if target.exists()
            else ""
        )
        raise KitError(f"{url}: curl ended with {result.returncode}{kept}")


def unpack(archive: Path, folder: Path) -> None:
    """Takes the files of a tar archive out of it and into `folder`, without the one folder that may be around them all.

    What is compressed and no archive is one file, which loses its `.gz`.
    """
    if archive.suffix == ".gz" and not archive.name.endswith(".tar.gz"):
        plain = archive.with_suffix("")
        try:
            if archive.stat().st_size == 0:
                raise EOFError("it is empty")
            with gzip.open(archive) as source, plain.open("wb") as target:
                shutil.copyfileobj(source, target)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            archive.unlink()
            plain.unlink(missing_ok=True)
            raise KitError(f"{archive}: not a whole gzip file: {error}; it was thrown away, fetch it again") from None
        except OSError as error:
            plain.unlink(missing_ok=True)
            raise KitError(f"{archive}: cannot be unpacked: {error}; it is kept, and the same command tries again") from None
        archive.unlink()
        return
    with tempfile.TemporaryDirectory(dir=folder, prefix=".unpack") as name:
        try:
            with tarfile.open(archive) as tar:
                tar.extractall(name, filter="data")
        except (tarfile.TarError, EOFError, zlib.error) as error:
            archive.unlink()
            raise KitError(f"{archive}: not a whole tar archive: {error}; it was thrown away, fetch it again") from None
        except OSError as error:  # the disk is full, or a name is too long for it
            raise KitError(f"{archive}: cannot be unpacked: {error}; it is kept, and the same command tries again") from None
        top = list(Path(name).iterdir())
        root = top[0] if len(top) == 1 and top[0].is_dir() else Path(name)
        # File by file: another archive, or an attempt that was cut off here, may have left the same folders.
        for path in [path for path in root.rglob("*") if path.is_symlink() or not path.is_dir()]:
            place = folder / path.relative_to(root)
            place.parent.mkdir(parents=True, exist_ok=True)
            path.replace(place)
    archive.unlink()
