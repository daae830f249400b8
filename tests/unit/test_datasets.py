"""Published data sets over a real server on loopback: cut off and resumed, damaged, too large; and verified."""

from __future__ import annotations

import errno
import fcntl
import functools
import gzip
import hashlib
import io
import json
import os
import re
import shutil
import tarfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import kit
from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.handlers import FTPHandler
from pyftpdlib.servers import FTPServer
from tenacity import wait_none
from typer.testing import CliRunner

from kit.benchmark import load_benchmark
from kit.cli import app
from kit.core import paths
from kit.core.checksums import MANIFEST
from kit.core.errors import KitError
from kit.core.schema import parse
from kit.data import generated, published
from kit.data.published import FETCHED, DataSet, Source, Stream, get, load_data_set, spread

CONTENT = bytes(range(256)) * 4096  # a megabyte


class Server(BaseHTTPRequestHandler):
    """Serves `files`, from any byte on; `cuts` says after how many bytes the line drops, answer for answer."""

    files: dict[str, bytes] = {}
    cuts: list[int] = []
    busy = 0  # times that it has no time
    whole = False  # whether it knows no ranges
    asked: list[tuple[str, int]] = []

    def do_GET(self) -> None:
        body = self.files.get(self.path.strip("/"))
        if body is None:
            self.send_error(404)
            return
        start = int((self.headers["Range"] or "bytes=0-").removeprefix("bytes=").rstrip("-"))
        self.asked.append((self.path, start))
        if Server.busy:
            Server.busy -= 1
            self.send_error(503)
            return
        start = 0 if self.whole else start
        if start >= len(body) and start:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(body)}")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.end_headers()
        if Server.cuts:
            cut = Server.cuts.pop(0)
            self.wfile.write(body[start : start + cut])
            patience = time.monotonic() + 20
            while cut and kept() <= start and time.monotonic() < patience:
                time.sleep(0.01)  # what lies between the two ends when the connection closes is lost, at worst all of it
            return  # and the connection closes
        self.wfile.write(body[start:])

    def log_message(self, *arguments: object) -> None:
        pass


def kept() -> int:
    """Bytes of unfinished files on disk."""
    return sum(path.stat().st_size for path in paths.cache().rglob(".*.partial/*.mrcs"))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    monkeypatch.setattr(paths, "cache", lambda: tmp_path / "cache")
    monkeypatch.setattr(Server, "files", {"movie.mrcs": CONTENT, "set.tar.gz": archive()})
    monkeypatch.setattr(Server, "asked", [])
    monkeypatch.setattr(Server, "cuts", [])
    monkeypatch.setattr(Server, "busy", 0)
    monkeypatch.setattr(Server, "whole", False)
    monkeypatch.setattr(published, "WAIT", wait_none())
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()
        thread.join()


def archive(name: str = "set/Particles/one.mrcs") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for path in (name, "set/map.mrc"):
            entry = tarfile.TarInfo(path)
            entry.size = len(CONTENT)
            tar.addfile(entry, io.BytesIO(CONTENT))
    return buffer.getvalue()


def data_set(*sources: Source) -> DataSet:
    return DataSet(benchmark="relion", name="test", title="t", origin="o", licence="l", sources=list(sources))


def source(server: str, name: str = "movie.mrcs", **facts: object) -> Source:
    return Source.model_validate({"url": f"{server}/{name}", "gigabytes": 0.001, **facts})


def test_cut_off_and_resumed(server: str) -> None:
    Server.cuts = [900_000, 0, 0, 0]
    wanted = data_set(source(server), source(server, "set.tar.gz", unpack=True))
    with pytest.raises(KitError, match=r"movie.mrcs: ClientPayloadError: .*; the \d+ bytes that came are kept") as error:
        get(wanted)
    assert not wanted.folder.exists()
    kept = int(re.findall(r"the (\d+) bytes", str(error.value))[0])
    assert 0 < kept <= 900_000  # what the line had delivered, but for what was under way within this machine
    assert Server.asked == [("/movie.mrcs", 0), *[("/movie.mrcs", kept)] * 3]
    folder = get(wanted)
    assert Server.asked[4] == ("/movie.mrcs", kept)
    assert (folder / "movie.mrcs").read_bytes() == CONTENT
    assert (folder / "Particles/one.mrcs").read_bytes() == CONTENT
    assert {path.name for path in folder.iterdir()} == {MANIFEST, FETCHED, "movie.mrcs", "Particles", "map.mrc"}
    asked = len(Server.asked)
    assert get(wanted) == folder
    assert len(Server.asked) == asked


def test_a_line_that_drops_once_is_taken_up_again(server: str) -> None:
    """And a server that has no time is asked again, one that knows no ranges for the whole of it."""
    Server.cuts = [900_000]
    Server.busy = 2
    folder = get(data_set(source(server)))
    assert (folder / "movie.mrcs").read_bytes() == CONTENT
    starts = [start for _, start in Server.asked]
    assert starts[:3] == [0, 0, 0]
    assert 0 < starts[3] <= 900_000  # what had come, not the whole again
    Server.asked.clear()
    Server.whole, Server.cuts = True, [900_000]
    again = get(data_set(source(server)).model_copy(update={"name": "again"}))
    assert (again / "movie.mrcs").read_bytes() == CONTENT
    assert len(Server.asked) == 2


def test_what_is_refused_is_not_asked_for_again(server: str) -> None:
    Server.busy = 99
    with pytest.raises(KitError, match=r"movie\.mrcs: the server answers 503 Service Unavailable"):
        get(data_set(source(server)))
    assert len(Server.asked) == published.ATTEMPTS
    Server.busy = 0
    with pytest.raises(KitError, match=r"nothing\.mrcs: is not there"):
        get(data_set(source(server, "nothing.mrcs")))
    assert len(Server.asked) == published.ATTEMPTS  # the server notes what it has
    with pytest.raises(KitError, match=r"gopher://x/movie.mrcs: nothing is fetched by gopher; known are http, https, ftp"):
        get(data_set(source("gopher://x")))


def test_a_file_that_is_longer_here_is_another_one(server: str) -> None:
    wanted = data_set(source(server))
    partial = wanted.folder.with_name(".relion-test.partial")
    partial.mkdir(parents=True)
    (partial / "movie.mrcs").write_bytes(CONTENT + b"more")
    with pytest.raises(KitError, match=rf"movie.mrcs: is longer here, 1048580 bytes, than there.*; remove {partial}"):
        get(wanted)


def test_a_proxy_of_the_environment_is_asked(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that nothing but the proxy knows; the proxy is the server, which sees the whole URL."""
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", server)
    Server.files["http://nowhere.invalid/movie.mrcs"] = CONTENT
    assert (get(data_set(source("http://nowhere.invalid"))) / "movie.mrcs").read_bytes() == CONTENT


def test_bytes_come_as_they_lie_there(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that calls a compressed file's compression an encoding of its way does not have it unpacked."""
    packed = gzip.compress(CONTENT)
    Server.files["movie.mrcs"] = packed
    real = Server.end_headers
    monkeypatch.setattr(Server, "end_headers", lambda self: (self.send_header("Content-Encoding", "gzip"), real(self)))
    assert (get(data_set(source(server))) / "movie.mrcs").read_bytes() == packed


def test_what_came_whole_is_not_fetched_again(server: str) -> None:
    """Cut off between the last byte of a file and the note that it came."""
    wanted = data_set(source(server), source(server, "nothing.mrcs"))
    with pytest.raises(KitError, match=r"nothing.mrcs: is not there"):
        get(wanted)
    partial = wanted.folder.with_name(".relion-test.partial")
    (partial / FETCHED).unlink()
    Server.files["nothing.mrcs"] = b"now it is there"
    folder = get(wanted)
    assert (folder / "movie.mrcs").read_bytes() == CONTENT


def test_a_wrong_checksum_is_thrown_away(server: str) -> None:
    digest = hashlib.sha256(CONTENT).hexdigest()
    wanted = data_set(source(server, sha256=digest))
    Server.files["movie.mrcs"] = CONTENT[:-1] + b"x"
    with pytest.raises(KitError, match=f"not {digest}; it was deleted"):
        get(wanted)
    Server.files["movie.mrcs"] = CONTENT
    assert (get(wanted) / "movie.mrcs").read_bytes() == CONTENT


def test_bad_archives(server: str) -> None:
    whole = Server.files["set.tar.gz"]
    wanted = data_set(source(server, "set.tar.gz", unpack=True))
    Server.files["set.tar.gz"] = whole[: len(whole) // 2]
    with pytest.raises(KitError, match="not a whole tar archive"):
        get(wanted)
    Server.files["set.tar.gz"] = archive("../../outside.mrcs")
    with pytest.raises(KitError, match=r"not a whole tar archive: .*outside"):
        get(wanted)
    Server.files["set.tar.gz"] = whole
    assert (get(wanted) / "map.mrc").is_file()


@pytest.fixture(params=["http", "ftp", "file"])
def tree(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A folder of files, one of them in a folder of its own and with a blank in its name, over three protocols."""
    monkeypatch.setattr(paths, "cache", lambda: tmp_path / "cache")
    served = tmp_path / "served/data"
    (served / "grid two").mkdir(parents=True)
    for name in ("a.tif", "grid two/b 1.tif", "notes.txt"):
        (served / name).write_bytes(CONTENT + name.encode())
    if request.param == "file":
        yield f"file://{served}"
        return
    running: Any
    if request.param == "http":
        handler = functools.partial(SimpleHTTPRequestHandler, directory=str(served.parent))
        running = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        address, stop = running.server_address, running.shutdown
    else:
        authorizer = DummyAuthorizer()
        authorizer.add_anonymous(str(served.parent))
        kind = type("Handler", (FTPHandler,), {"authorizer": authorizer})
        running = FTPServer(("127.0.0.1", 0), kind)
        address, stop = running.address, running.close_all
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    yield f"{request.param}://127.0.0.1:{address[1]}/data"
    stop()


def test_a_tree_of_files(tree: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = data_set(Source.model_validate({"url": tree, "gigabytes": 0.003, "tree": "*.tif", "into": "Movies"}))
    fetched_files: list[str] = []
    real = published.download

    def download(url: str, target: Path) -> None:
        if len(fetched_files) == 1:
            fetched_files.append("cut")
            raise KitError(f"{url}: cut off")
        fetched_files.append(url)
        real(url, target)

    monkeypatch.setattr(published, "download", download)
    with pytest.raises(KitError, match="cut off"):
        get(wanted)
    folder = get(wanted)
    assert (folder / "Movies/a.tif").read_bytes() == CONTENT + b"a.tif"
    assert (folder / "Movies/grid two/b 1.tif").read_bytes() == CONTENT + b"grid two/b 1.tif"
    assert not list(folder.rglob("notes.txt"))
    assert fetched_files == [f"{tree}/a.tif", "cut", f"{tree}/grid%20two/b%201.tif"]


def test_each_protocol_goes_on_from_the_byte_where_it_was(tree: str, tmp_path: Path) -> None:
    """What is here already is not looked at: a server that knows ranges is asked for the rest alone."""
    target = tmp_path / "b 1.tif"
    target.write_bytes(b"?" * 1000)
    published.download(f"{tree}/grid%20two/b%201.tif", target)
    whole = CONTENT + b"grid two/b 1.tif"
    # The simple server of HTTP knows none, and gives the whole file.
    assert target.read_bytes() == (whole if tree.startswith("http") else b"?" * 1000 + whole[1000:])
    target.write_bytes(whole)
    published.download(f"{tree}/grid%20two/b%201.tif", target)
    assert target.read_bytes() == whole


def test_a_tree_that_is_not_there(tree: str) -> None:
    nothing = Source.model_validate({"url": tree, "gigabytes": 0.003, "tree": "*.mrc", "into": "x"})
    with pytest.raises(KitError, match=r"/data: has no files \*.mrc, but 3 others"):
        get(data_set(nothing))
    lost = Source.model_validate({"url": f"{tree}/lost", "gigabytes": 0.003, "tree": "*", "into": "x"})
    with pytest.raises(KitError, match=r"/data/lost: (cannot be listed|has no files \*, but 0 others|no such folder)"):
        get(data_set(lost))
    with pytest.raises(KitError, match="a tree has no sha256 and is not unpacked"):
        parse(Source, {"url": tree, "gigabytes": 1, "tree": "*", "unpack": True}, "here.toml")
    with pytest.raises(KitError, match="a tree needs a folder of its own, into"):
        parse(Source, {"url": tree, "gigabytes": 1, "tree": "*"}, "here.toml")


def test_a_carried_folder_may_be_made_of_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given as a folder, with blanks in its path; what a link leads to is part of it."""
    monkeypatch.setattr(paths, "cache", lambda: tmp_path / "cache")
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk/b 50%20.tif").write_bytes(CONTENT)
    (tmp_path / "to carry/Movies").mkdir(parents=True)
    (tmp_path / "to carry/Movies/other").symlink_to(tmp_path / "disk")
    wanted = data_set(
        Source.model_validate({"url": "ftp://localhost/x", "gigabytes": 0.001, "tree": "*.tif", "into": "Movies"})
    )
    with pytest.raises(KitError, match=r"--mirror .*nowhere: no such folder; a folder or a URL is needed"):
        get(wanted, mirror=str(tmp_path / "nowhere"))
    folder = get(wanted, mirror=str(tmp_path / "to carry"))
    assert (folder / "Movies/other/b 50%20.tif").read_bytes() == CONTENT


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An S3 server with five scenes in two folders; its endpoint."""
    import boto3
    from moto.server import ThreadedMotoServer

    monkeypatch.setattr(paths, "cache", lambda: tmp_path / "cache")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "publisher")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    running = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    running.start()
    endpoint = "http://{}:{}".format(*running.get_host_and_port())
    client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1")
    client.create_bucket(Bucket="scenes", ACL="public-read")
    for name in ("a/training/S3A_1.hdf", "a/training/day/S3A_2.hdf", "a/training/S3B_3.hdf", "a/inference/S3A_4.hdf"):
        client.put_object(Bucket="scenes", Key=name, Body=CONTENT + name.encode(), ACL="public-read")
    client.put_object(Bucket="scenes", Key="a/training/README.txt", Body=b"words", ACL="public-read")
    yield endpoint
    running.stop()


def scenes_of(endpoint: str, **facts: Any) -> DataSet:
    sources = [
        Source.model_validate(
            {"url": f"s3://scenes/a/{name}", "endpoint": endpoint, "gigabytes": 0.003, "tree": "S3*.hdf", "into": name}
            | facts
        )
        for name in ("training", "inference")
    ]
    return data_set(*sources)


def test_a_bucket_cut_off_in_the_middle_of_a_file(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As anybody, without keys: listed, fetched, cut off inside of a file, and gone on with from that byte."""
    monkeypatch.setattr(published, "WAIT", wait_none())
    real, starts = published.opened, []

    def opened(url: str, start: int) -> Stream:
        stream = real(url, start)
        if not url.endswith("S3B_3.hdf") or len(starts) >= published.ATTEMPTS:
            return stream
        starts.append(start)

        def broken() -> Iterator[bytes]:
            if not start:
                yield next(stream.chunks)[:300_000]
            raise ConnectionResetError("the line broke")

        return stream._replace(chunks=broken())

    wanted = scenes_of(bucket)
    monkeypatch.setattr(published, "opened", opened)
    with pytest.raises(KitError, match=r"S3B_3\.hdf: .*the line broke; the \d+ bytes that came are kept") as error:
        get(wanted)
    kept = int(re.findall(r"the (\d+) bytes", str(error.value))[0])
    assert starts == [0, kept, kept, kept]
    assert 0 < kept < len(CONTENT)
    assert not wanted.folder.exists()
    folder = get(wanted)
    for name in ("training/S3A_1.hdf", "training/day/S3A_2.hdf", "training/S3B_3.hdf", "inference/S3A_4.hdf"):
        assert (folder / name).read_bytes() == CONTENT + f"a/{name}".encode()
    assert not list(folder.rglob("README.txt"))
    assert get(wanted) == folder


def test_a_part_of_a_bucket(bucket: str) -> None:
    """So many files of each folder, in a folder of their own, with the room that they need."""
    wanted = scenes_of(bucket, files=3).model_copy(update={"count": 1})
    assert wanted.full_name == "relion/test:1"
    assert wanted.gigabytes == pytest.approx(0.002)
    folder = get(wanted)
    assert folder.name == "relion-test-part-1"
    assert sorted(path.name for path in folder.rglob("*.hdf")) == ["S3A_1.hdf", "S3A_4.hdf"]


def test_a_part_of_products_has_whole_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of products, which are folders of files, a part of the data set is of folders."""
    monkeypatch.setattr(paths, "cache", lambda: tmp_path / "cache")
    for name in ("day/S3A_2.SEN3/a.nc", "day/S3A_2.SEN3/b.nc", "S3A_1.SEN3/a.nc", "S3A_1.SEN3/manifest.xml", "x/readme.nc"):
        (tmp_path / "one-day" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "one-day" / name).write_text(name)
    url = (tmp_path / "one-day").as_uri()
    facts = {"url": url, "gigabytes": 0.002, "files": 2, "tree": "*.SEN3/*.nc", "into": "training"}
    wanted = data_set(Source.model_validate(facts))
    whole = sorted(path.relative_to(get(wanted)).as_posix() for path in get(wanted).rglob("*.nc"))
    assert whole == ["training/S3A_1.SEN3/a.nc", "training/day/S3A_2.SEN3/a.nc", "training/day/S3A_2.SEN3/b.nc"]
    part = wanted.model_copy(update={"count": 1})
    assert part.gigabytes == pytest.approx(0.001)
    assert [path.relative_to(get(part)).as_posix() for path in get(part).rglob("*.nc")] == ["training/S3A_1.SEN3/a.nc"]
    with pytest.raises(ValueError, match="tree"):
        Source.model_validate({**facts, "tree": "a/b/*.nc"})


def test_a_bucket_that_is_not_there(bucket: str) -> None:
    with pytest.raises(KitError, match=r"s3://scenes/b at .*: has no files|s3://scenes/b: has no files"):
        get(data_set(scenes_of(bucket).sources[0].model_copy(update={"url": "s3://scenes/b"})))
    with pytest.raises(KitError, match=r"s3://nobody/b at http://.*: cannot be listed: .*bucket does not exist"):
        get(data_set(scenes_of(bucket).sources[0].model_copy(update={"url": "s3://nobody/b"})))
    with pytest.raises(KitError, match="a url s3://BUCKET/FOLDER and an endpoint go together"):
        parse(Source, {"url": "s3://scenes/a", "gigabytes": 1, "tree": "*", "into": "x"}, "test.toml")


def test_parts_of_data_sets_by_name() -> None:
    assert load_data_set("cloudmask/ds1:20").gigabytes == pytest.approx(163 * 20 / 970 + 17 * 20 / 100)
    for name, message in (
        ("cloudmask/ds1:all", "cloudmask/ds1:20 for example"),
        ("cloudmask/ds1:0", "cloudmask/ds1:20 for example"),
        ("relion/tutorial:3", "consists of archives, which can only be fetched whole"),
    ):
        with pytest.raises(KitError, match=message):
            load_data_set(name)


def test_generated_data_are_made_by_the_command(toy: Path, tmp_path: Path) -> None:
    """On a login node, before a job is prepared; a second call finds them, and published data are not made."""
    runner = CliRunner()
    folders = [Path(runner.invoke(app, ["data", "make", "toy"]).stdout.strip()) for _ in range(2)]
    assert folders[0] == folders[1]
    assert folders[0].parent == tmp_path / "cache/data"
    assert (folders[0] / "input.txt").is_file()
    said = kit("data", "make", "cloudmask", "--size", "ds1", env={"KIT_CACHE": str(tmp_path)}, code=1).stderr
    assert "not here; fetch it with kit data get cloudmask/ds1 (180.0 GB)" in said


def test_a_part_is_spread_over_the_names() -> None:
    """The first scenes by name are one hour of one orbit, of which no split by orbits can be made."""
    names = [f"{number:02d}" for number in range(10)]
    assert spread(names, "*", 3) == ["00", "03", "06"]
    assert spread(names, "*", 10) == spread(names, "*", 99) == spread(names, "*", 0) == names
    assert load_data_set("cloudmask/ds2:20").gigabytes < 10


def test_archives_that_share_a_folder(server: str) -> None:
    """The second adds to what the first left."""
    Server.files["more.tar.gz"] = archive("set/Particles/two.mrcs")
    folder = get(data_set(source(server, "set.tar.gz", unpack=True), source(server, "more.tar.gz", unpack=True)))
    assert {path.name for path in (folder / "Particles").iterdir()} == {"one.mrcs", "two.mrcs"}
    with pytest.raises(KitError, match="two sources have one url"):
        parse(DataSet, {**data_set(source(server)).model_dump(), "sources": [source(server), source(server)]}, "x.toml")


def test_damaged_records(server: str, tmp_path: Path) -> None:
    wanted = data_set(source(server))
    folder = get(wanted)
    (folder / MANIFEST).write_text("[]")
    with pytest.raises(KitError, match=rf"manifest.json: not a manifest; remove {folder} and fetch it again"):
        get(wanted)
    partial = folder.with_name(".relion-other.partial")
    partial.mkdir()
    (partial / FETCHED).write_text("{")
    with pytest.raises(KitError, match=rf"not JSON: .*; remove {partial} and fetch it again"):
        get(wanted.model_copy(update={"name": "other"}))


def test_a_cache_that_can_not_be(server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(paths, "cache", lambda: tmp_path / "file")
    with pytest.raises(KitError, match=r"cannot be made: .*; KIT_CACHE can name another folder"):
        get(data_set(source(server)))
    with pytest.raises(KitError, match=r"cannot be made: .*; KIT_CACHE can name another folder"):
        generated.make(load_benchmark("relion"), "particles")


def test_a_disk_that_is_full_leaves_no_data(toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    benchmark = load_benchmark("toy")

    def generate(folder: Path, parameters: dict[str, object]) -> None:
        (folder / "input.txt").write_text("half of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(benchmark.code, "generate", generate)
    with pytest.raises(KitError, match=r"cannot be written: .*No space left on device; KIT_CACHE can name another"):
        generated.make(benchmark, "tiny")
    assert not list((tmp_path / "cache/data").iterdir())


def test_two_kits_that_make_the_same_data_make_them_once(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second waits for the first, and takes what it made; of a first one that failed, it makes them itself."""
    benchmark = load_benchmark("toy")
    begun, go_on, made = threading.Event(), threading.Event(), []

    def generate(folder: Path, parameters: dict[str, object]) -> None:
        made.append(folder)
        begun.set()
        assert go_on.wait(60)
        if len(made) == 1 and fails:
            raise OSError(errno.ENOSPC, "No space left on device")
        (folder / "input.txt").write_text("whole")

    monkeypatch.setattr(benchmark.code, "generate", generate)
    for fails in (True, False):
        made.clear()
        begun.clear()
        go_on.clear()
        shutil.rmtree(paths.cache(), ignore_errors=True)
        folder = generated.folder_of(benchmark, "tiny")
        (folder.with_name(f".{folder.name}.partial") / "half").mkdir(parents=True)  # of a kit that was killed
        with ThreadPoolExecutor(2) as pool:
            first = pool.submit(generated.make, benchmark, "tiny")
            assert begun.wait(60)
            second = pool.submit(generated.make, benchmark, "tiny")
            time.sleep(0.2)  # for it to come to where it waits
            go_on.set()
            assert (second.result() / "input.txt").read_text() == "whole"
            assert (first.exception() is not None) == fails
        assert len(made) == (2 if fails else 1)
        assert [path.name for path in (paths.cache() / "data").iterdir()] == [folder.name]
        assert sorted(path.name for path in folder.iterdir()) == ["input.txt", MANIFEST]


def test_a_compressed_file(server: str) -> None:
    whole = gzip.compress(CONTENT)
    wanted = data_set(source(server, "map.map.gz", unpack=True))
    for damaged in (whole[:-100], b""):
        Server.files["map.map.gz"] = damaged
        with pytest.raises(KitError, match="not a whole gzip file"):
            get(wanted)
    Server.files["map.map.gz"] = whole
    folder = get(wanted)
    assert (folder / "map.map").read_bytes() == CONTENT
    assert not (folder / "map.map.gz").exists()


def test_too_little_room_is_said_before_anything_is_fetched(server: str) -> None:
    wanted = data_set(source(server, gigabytes=1e6, unpack=True))
    with pytest.raises(KitError, match=r"2\.0 PB are needed and .*B are free; KIT_CACHE can name another folder"):
        get(wanted)
    assert Server.asked == []


def test_room_is_counted_for_what_is_still_to_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What came of other sources leaves no room for this one; what came of itself need not come again."""
    left = Source.model_validate({"url": "https://localhost/left.tar", "gigabytes": 2.0})
    tree = Source.model_validate({"url": "https://localhost/t", "gigabytes": 3.0, "tree": "*", "into": "Movies"})
    sizes = {"other.mrcs": 5, "left.tar": 1, "Movies/a.tif": 2}
    for name, gigabytes in sizes.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        with (tmp_path / name).open("wb") as file:
            file.truncate(gigabytes * 10**9)  # holes, which take no room
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=1.5e9))
    with pytest.raises(KitError, match=r": 2\.0 GB are needed and 1\.5 GB are free"):
        published.require_room(tmp_path, [left, tree])
    published.require_room(tmp_path, [left])


def test_from_a_mirror_by_the_command(server: str, tmp_path: Path) -> None:
    """A folder that was carried to a machine without network is a mirror, too."""
    files = {Path(entry.url).name for entry in load_data_set("relion/tutorial").sources}
    (tmp_path / "carried").mkdir()
    for name in files:
        (tmp_path / "carried" / name).write_bytes(archive("set/Movies/one.mrcs"))
    env = {"KIT_CACHE": str(tmp_path / "cache")}
    assert "relion/tutorial" in kit("data", "list", env=env).stdout
    got = kit("data", "get", "relion/tutorial", "--mirror", f"file://{tmp_path}/carried", env=env).stdout.strip()
    assert (Path(got) / "Movies/one.mrcs").read_bytes() == CONTENT
    assert "every file is as it was fetched" in kit("data", "verify", "relion/tutorial", env=env).stdout
    listed = {entry["name"]: entry["here"] for entry in json.loads(kit("data", "list", "--json", env=env).stdout)}
    assert listed["tutorial"]
    assert not listed["plasmodium"]
    (Path(got) / "Movies/one.mrcs").write_bytes(CONTENT[:-1] + b"x")
    said = kit("data", "verify", "relion/tutorial", env=env, code=1).stderr
    assert f"{got}/Movies/one.mrcs: differs from the manifest of the data set; remove {got} and fetch it again" in said
    assert "did you mean relion/tutorial" in kit("data", "get", "relion/tutoria", env=env, code=1).stderr


def test_a_size_says_what_it_needs(server: str, tmp_path: Path) -> None:
    with pytest.raises(KitError, match=r"not here; fetch it with kit data get relion/plasmodium \(50\.0 GB\)"):
        generated.make(load_benchmark("relion"), "plasmodium")
    folder = tmp_path / "cache/data/relion-plasmodium"
    (folder / "Particles").mkdir(parents=True)
    (folder / MANIFEST).write_text("{}")
    with pytest.raises(KitError, match=r"emd_2660.map: not in the data set, but workflow plasmodium needs it"):
        generated.make(load_benchmark("relion"), "plasmodium")


@pytest.mark.parametrize(
    "link", ["%2fetc%2fevil.nc", "%2e%2e%2fevil.nc", "a/%2e%2e/%2e%2e/evil.nc", "a%00.nc", "a%0a.nc", "a%2f%2fb.nc"]
)
def test_an_index_that_names_what_lies_elsewhere(server: str, tmp_path: Path, link: str) -> None:
    """A server says what files are called, and none of them may be written outside of the data set."""
    Server.files = {"index": f'<a href="good.nc">x</a> <a href="{link}">x</a>'.encode(), "index/good.nc": b"x"}
    wanted = data_set(source(server, "index", tree="*.nc", into="tree"))
    with pytest.raises(KitError, match="which is no name of a file below it; nothing of it was fetched"):
        get(wanted)
    assert not [path for path in tmp_path.rglob("*.nc")]
    assert not Path("/etc/evil.nc").exists()


@pytest.mark.parametrize("said", ["bytes 0-1048575/1048576", "", "garbage"])
def test_a_server_that_sends_another_part_than_asked(server: str, monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    """It is asked for the whole; another server says of no range how long the file is."""
    plain = Server.do_GET

    def answer(self: Server) -> None:
        if self.headers["Range"] is None:
            return plain(self)
        self.send_response(206 if said else 416)
        self.send_header("Content-Range", said)
        self.send_header("Content-Length", str(len(CONTENT) if said else 0))
        self.end_headers()
        self.wfile.write(CONTENT if said else b"")

    monkeypatch.setattr(Server, "do_GET", answer)
    wanted = data_set(source(server))
    partial = wanted.folder.with_name(f".{wanted.folder.name}.partial")
    partial.mkdir(parents=True)
    (partial / "movie.mrcs").write_bytes(b"0" * 1000)
    assert (get(wanted) / "movie.mrcs").read_bytes() == CONTENT


@pytest.mark.parametrize("what", ["fifo", "device"])
def test_a_mirror_with_what_is_no_file_keeps_nobody_waiting(server: str, tmp_path: Path, what: str) -> None:
    mirror = tmp_path / "mirror"
    (mirror / "tree").mkdir(parents=True)
    for path in (mirror / "tree/a.nc", mirror / "movie.mrcs"):
        os.mkfifo(path) if what == "fifo" else path.symlink_to("/dev/zero")
    for one in (source(server), source(server, "index", tree="*.nc", into="tree")):
        with pytest.raises(KitError, match="is no plain file"):
            get(data_set(one), str(mirror))


def test_a_mirror_with_a_link_to_itself(server: str, tmp_path: Path) -> None:
    (tmp_path / "mirror/tree/deep").mkdir(parents=True)
    (tmp_path / "mirror/tree/deep/a.nc").write_bytes(b"x")
    (tmp_path / "mirror/tree/deep/up").symlink_to("..")
    folder = get(data_set(source(server, "index", tree="*.nc", into="tree")), str(tmp_path / "mirror"))
    assert [path.name for path in folder.rglob("*.nc")] == ["a.nc"]
    (tmp_path / "mirror/tree" / os.fsdecode(b"\xff.nc")).write_bytes(b"x")
    with pytest.raises(KitError, match=r"lists '\\udcff\.nc', which is no name"):
        published.listed((tmp_path / "mirror/tree").as_uri(), "*.nc")


def test_two_kits_that_fetch_the_same(server: str) -> None:
    wanted = data_set(source(server), source(server, "set.tar.gz", unpack=True))
    partial = wanted.folder.with_name(f".{wanted.folder.name}.partial")
    partial.mkdir(parents=True)
    with published.alone(wanted.folder), pytest.raises(KitError, match="another kit is fetching it"):
        get(wanted)
    assert list(partial.iterdir()) == []
    assert [path.name for path in partial.parent.iterdir()] == [partial.name]
    (partial / ".unpack_killed").mkdir()
    (partial / ".unpack_killed/half.mrc").write_bytes(b"x")
    assert not [path for path in get(wanted).rglob("half.mrc")]


def test_what_another_kit_fetched_meanwhile_is_not_fetched_again(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = data_set(source(server))
    fetched, lock, into = [], fcntl.flock, published.fetched_into

    def locked(file: Any, how: int) -> None:
        monkeypatch.setattr(fcntl, "flock", lock)
        get(wanted)  # another kit is there first, by a hair
        lock(file, how)

    def noted(*given: Any) -> Path:
        fetched.append(given)
        return into(*given)

    monkeypatch.setattr(fcntl, "flock", locked)
    monkeypatch.setattr(published, "fetched_into", noted)
    folder = get(wanted)
    assert len(fetched) == 1
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
