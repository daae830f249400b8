"""Published data sets: what they are made of, fetched once, and whole or not at all. An interrupted fetch continues.

A data set is datasets/NAME.toml of a benchmark. Its files lie on servers of HTTP, FTP or S3, or in a folder; fsspec knows
them all, and s3fs is its part for S3. A file comes in one stream from the first byte that is missing: fsspec's own reading
in ranges would ask a server anew for every few megabytes, and break off an FTP transfer as often.
"""

from __future__ import annotations

import contextlib
import fcntl
import fnmatch
import gzip
import os
import re
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from ftplib import error_temp
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

from pydantic import Field, model_validator
from rich.filesize import decimal
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_exponential

from kit.core import paths
from kit.core.checksums import MANIFEST, labelled, manifest, sha256, verify
from kit.core.errors import KitError, unknown
from kit.core.files import read_json, read_toml, write_json
from kit.core.schema import Model, parse

FETCHED = ".fetched.json"  # in a data set that is being fetched: the files that came, with their checksums
UNPACKING = ".unpack"  # begins the name of a folder in it where an archive is taken apart
REMOVE = "remove {} and fetch it again"
PROTOCOLS = ("http", "https", "ftp", "s3", "file")
SILENCE = 60  # seconds after which a server that sends nothing is given up
WAIT = wait_exponential(max=60)  # seconds between attempts: 1, 2, 4, ...
ATTEMPTS = 4
AS_IT_IS = {"Accept-Encoding": "identity"}  # a header of HTTP: nothing is compressed for the way


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
        """The url for plain HTTP, which reads what anybody may read of S3."""
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
    def bytes(self) -> int:
        return round(self.gigabytes * 1e9)

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
        lines.append(f"{entry.full_name}  {entry.title}\n  {decimal(entry.bytes)}, {here}")
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
        raise KitError(f"{name}: after the colon comes the number of files per folder, {whole}:20 for example")
    if not any(source.tree for source in known[whole].sources):
        raise KitError(f"{name}: {whole} consists of archives, which can only be fetched whole")
    return known[whole].model_copy(update={"count": int(count)})


def fetched(data_set: DataSet) -> Path:
    """The folder of a published data set; KitError where it is not here yet, or lacks a file.

    Sizes are compared with the manifest; `kit data verify` hashes it all, which takes its time.
    """
    if not data_set.folder.is_dir():
        raise KitError(
            f"{data_set.folder}: not here; fetch it with kit data get {data_set.full_name} ({decimal(data_set.bytes)})"
        )
    verify(data_set.folder, REMOVE.format(data_set.folder), hashed=False)
    return data_set.folder


def get(data_set: DataSet, mirror: str = "", say: Callable[[str], None] = lambda text: None) -> Path:
    """Fetches a published data set and returns its folder, which appears whole; cut off, it goes on where it was.

    `mirror` is a folder, or a URL of http, https, ftp or file, below which files lie under their own names and trees in the
    folders they go to.
    KitError for too little room before anything is fetched, for a transfer that failed, and for a wrong checksum.
    """
    folder = data_set.folder
    if not folder.is_dir():
        if mirror and "://" not in mirror:
            if not Path(mirror).is_dir():
                raise KitError(f"--mirror {mirror}: no such folder; a folder or a URL is needed")
            mirror = Path(mirror).absolute().as_uri()
        paths.make_cached(folder.parent)
        with alone(folder) as partial:
            if not folder.is_dir():  # another kit may have fetched it since
                paths.make_cached(partial)
                return fetched_into(partial, data_set, mirror, say)
    verify(folder, REMOVE.format(folder))
    return folder


@contextlib.contextmanager
def alone(folder: Path, wait: bool = False) -> Iterator[Path]:
    """The path of the folder in which another is made ready, for one kit; two would destroy each other's files.

    KitError while another kit has it; with `wait`, waits until that one is done. The lock is on a file beside the folder:
    those of folders hold on one node only where a cache is shared by NFS or Lustre.
    """
    partial, path = (folder.with_name(f".{folder.name}.{name}") for name in ("partial", "lock"))
    while True:
        with path.open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                raise KitError(f"{partial}: another kit is fetching it") from None
            except OSError:  # a file system without locks
                pass
            try:
                # Whoever had the lock has removed the file, and another may have made a new one.
                held = os.path.samestat(os.fstat(file.fileno()), path.stat())
            except FileNotFoundError:
                held = False
            if not held:
                continue
            try:
                yield partial
            finally:
                path.unlink(missing_ok=True)
            return


def fetched_into(partial: Path, data_set: DataSet, mirror: str, say: Callable[[str], None]) -> Path:
    for stale in (*partial.glob(f"{UNPACKING}*"), *partial.glob(f"*/{UNPACKING}*")):  # of a kit that was killed
        shutil.rmtree(stale)
    folder = data_set.folder
    record = partial / FETCHED
    try:
        done: dict[str, str] = read_json(record) if record.is_file() else {}
    except KitError as error:
        raise KitError(f"{error}; {REMOVE.format(partial)}") from None
    left = [source for source in data_set.sources if source.url not in done]
    require_room(partial, [source.part(data_set.count) for source in left])
    for source in left:
        url = f"{mirror.rstrip('/')}/{source.into if source.tree else file_name(source.url)}" if mirror else source.address
        say(f"{url} (about {decimal(round(source.part(data_set.count).gigabytes * 1e9))})")
        # Every file of a tree is recorded, so that none is fetched twice.
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
                raise KitError(f"{url}: has the sha256 {digest}, not {source.sha256}; it was deleted; fetch it again")
            if source.unpack:
                unpack(target, target.parent)
            done[file_url if name else source.url] = labelled(digest)
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

    The folder is one of http with an index, of ftp, of files, or of the S3 server at `endpoint`, asked without keys.
    """
    where = f"{url} at {endpoint}" if endpoint else url
    try:
        system, top = file_system(url, endpoint)
        if url.startswith("file:"):  # links inside a carried folder are followed, which `find` does not
            found = walked(top)
        else:
            found = system.find(top)
        below = [path.removeprefix(top.rstrip("/")).lstrip("/") for path in found]
        names = sorted(unquote(path) if url.startswith("http") else path for path in below)
    except KitError as error:
        raise KitError(f"{where}: {error}") from None
    except Exception as error:  # each protocol has errors of its own
        raise KitError(f"{where}: cannot be listed: {type(error).__name__}: {error}") from None
    depth = pattern.count("/") + 1
    found = [name for name in names if fnmatch.fnmatch("/".join(name.split("/")[-depth:]), pattern)]
    for name in found:  # a server may say anything: %2fetc%2fx, ../x
        if not name.isprintable() or {"", ".", ".."} & set(name.split("/")):
            raise KitError(f"{where}: lists {name!r}, which is no name of a file below it; nothing of it was fetched")
    if not found:
        raise KitError(f"{where}: has no files {pattern}, but {len(names)} others")
    return found


def walked(top: str) -> list[str]:
    """The files below a folder, and below the links in it, but for links that lead back up."""
    found: list[str] = []
    for folder, folders, files in os.walk(top, followlinks=True):
        here = Path(folder).resolve()
        folders[:] = [name for name in folders if not here.is_relative_to((here / name).resolve())]
        found += [f"{folder}/{name}" for name in files]
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


def require_room(folder: Path, sources: Sequence[Source]) -> None:
    """KitError unless there is room for the rest. An archive and its contents exist side by side for a while."""

    def left(source: Source) -> float:
        place = folder / source.into
        came = place.rglob("*") if source.tree else [place / file_name(source.url)]
        here = sum(path.stat().st_size for path in came if path.is_file()) / 1e9
        return max(0.0, source.gigabytes * (2 if source.unpack else 1) - here)

    needed = round(sum(map(left, sources)) * 1e9)
    free = round(shutil.disk_usage(folder).free)
    if free < needed:
        raise KitError(
            f"{folder.parent}: {decimal(needed)} are needed and {decimal(free)} are free; KIT_CACHE can name another folder"
        )


def file_system(url: str, endpoint: str = "") -> tuple[Any, str]:
    """The file system of fsspec that a URL is of, and the path there; KitError for a protocol that is not known.

    Proxies are those of the environment (http_proxy, https_proxy, no_proxy), but for ftp, which goes without.
    """
    from aiohttp import ClientTimeout
    from fsspec.core import url_to_fs

    protocol = url.partition("://")[0]
    if protocol not in PROTOCOLS:
        raise KitError(f"nothing is fetched by {protocol or url}; known are {', '.join(PROTOCOLS)}")
    timeout = ClientTimeout(total=None, sock_connect=SILENCE, sock_read=SILENCE)
    http = {"client_kwargs": {"trust_env": True, "auto_decompress": False, "timeout": timeout}, "headers": AS_IT_IS}
    options: dict[str, dict[str, Any]] = {
        "http": http,
        "https": http,
        "ftp": {"timeout": SILENCE},
        "s3": {"anon": True, "endpoint_url": endpoint, "client_kwargs": {"region_name": "us-east-1"}},
    }
    system, path = url_to_fs(url, **options.get(protocol, {}))
    return system, unquote(path) if protocol in ("ftp", "file") else path


class Stream(NamedTuple):
    """The bytes of a file from `start` on. `size` is that of the whole file, None where the server does not say it."""

    start: int
    size: int | None
    chunks: Iterator[bytes]


def opened(url: str, start: int) -> Stream:
    """What is behind a URL, from a byte on, or from the first one where the server knows no other."""
    system, path = file_system(url)
    if url.startswith("http"):
        return over_http(system, path, start)
    return over_ftp(system, path, start) if url.startswith("ftp:") else from_disk(system, path, start)


def over_http(system: Any, url: str, start: int) -> Stream:
    from aiohttp import ClientResponseError

    asked = {"Range": f"bytes={start}-"} if start else {}
    try:
        # No block is a stream; a size, of any value, spares a request for it.
        file = system.open(url, block_size=0, size=-1, headers=AS_IT_IS | asked)
    except ClientResponseError as error:
        if error.status != 416:
            raise
        said = error.headers.get("Content-Range", "").rpartition("/")[2] if error.headers else ""
        if not said.isdecimal():  # nobody knows whether all of it is here
            return over_http(system, url, 0)
        return Stream(start, int(said), iter(()))  # nothing behind the last byte that is here
    length = file.r.content_length
    if file.r.status == 206:
        came = re.match(r"bytes (\d+)-", file.r.headers.get("Content-Range", ""))
        if not came or int(came[1]) != start:
            file.close()
            if not start:
                raise KitError("the server sends a part of it, where the whole was asked for")
            return over_http(system, url, 0)
    else:
        start = 0

    def chunks() -> Iterator[bytes]:
        with file:
            while chunk := file.read(1 << 20):
                yield chunk

    return Stream(start, None if length is None else start + length, chunks())


def over_ftp(system: Any, path: str, start: int) -> Stream:
    system.ftp.voidcmd("TYPE I")
    size = system.ftp.size(path)

    def chunks() -> Iterator[bytes]:
        with system.ftp.transfercmd(f"RETR {path}", rest=start or None) as line:
            while chunk := line.recv(1 << 20):
                yield chunk
        system.ftp.voidresp()

    return Stream(start, size, iter(()) if size is not None and start >= size else chunks())


def from_disk(system: Any, path: str, start: int) -> Stream:
    if os.path.exists(path) and not os.path.isfile(path):  # a FIFO would keep it waiting, and a device has no end
        raise KitError("is no plain file")

    def chunks() -> Iterator[bytes]:
        with system.open(path, "rb") as file:
            file.seek(start)
            while chunk := file.read(1 << 20):
                yield chunk

    return Stream(start, system.size(path), chunks())


def passes(error: BaseException) -> bool:
    """Whether the same request may go through a little later: a line that broke, a server that is busy."""
    from aiohttp import ClientConnectionError, ClientConnectorError, ClientPayloadError, ClientResponseError

    if isinstance(error, ClientResponseError):
        return error.status in (408, 429, 500, 502, 503, 504)
    broken = (ClientConnectionError, ClientPayloadError, TimeoutError, ConnectionError, EOFError, error_temp)
    return isinstance(error, broken) and not isinstance(error, ClientConnectorError | ConnectionRefusedError)


def download(url: str, target: Path) -> None:
    """Fetches a file, from the byte where an earlier attempt ended. What breaks off is tried three times more."""
    try:
        for attempt in Retrying(
            stop=stop_after_attempt(ATTEMPTS), wait=WAIT, retry=retry_if_exception(passes), reraise=True
        ):
            with attempt:
                fetch(url, target)
    except KitError as error:
        raise KitError(f"{url}: {error}") from None
    except Exception as error:  # each protocol has errors of its own
        kept = (
            f"; the {target.stat().st_size} bytes that came are kept, and it goes on from there"
            f" (if it does not, remove {target})"
            if target.exists()
            else ""
        )
        raise KitError(f"{url}: {said(error)}{kept}") from None


def said(error: Exception) -> str:
    from aiohttp import ClientResponseError

    if isinstance(error, FileNotFoundError):
        return "is not there"
    if isinstance(error, ClientResponseError):
        return f"the server answers {error.status} {error.message}"
    return f"{type(error).__name__}: {error}"


def fetch(url: str, target: Path) -> None:
    """One attempt at a file, with a line on the terminal that shows how far it is."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    console = Console(stderr=True)
    stream = opened(url, target.stat().st_size if target.exists() else 0)
    columns = (TextColumn("  "), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with (
        target.open("r+b" if target.exists() else "wb") as file,
        Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar,
    ):
        task = bar.add_task("", total=stream.size, completed=stream.start)
        file.seek(stream.start)
        file.truncate()
        for chunk in stream.chunks:
            file.write(chunk)
            bar.advance(task, len(chunk))
        here = file.tell()
    if stream.size is not None and here < stream.size:
        raise EOFError(f"the line was closed after {here} of {stream.size} bytes")
    if stream.size is not None and here > stream.size:
        raise KitError(f"is longer here, {here} bytes, than there, {stream.size} bytes: they differ; remove {target}")


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
            raise KitError(f"{archive}: not a whole gzip file: {error}; it was deleted; fetch it again") from None
        except OSError as error:
            plain.unlink(missing_ok=True)
            raise KitError(f"{archive}: cannot be unpacked: {error}; it is kept, and the same command tries again") from None
        archive.unlink()
        return
    with tempfile.TemporaryDirectory(dir=folder, prefix=UNPACKING) as name:
        try:
            with tarfile.open(archive) as tar:
                tar.extractall(name, filter="data")
        except (tarfile.TarError, EOFError, zlib.error) as error:
            archive.unlink()
            raise KitError(f"{archive}: not a whole tar archive: {error}; it was deleted; fetch it again") from None
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
