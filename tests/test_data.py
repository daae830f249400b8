"""Published data sets over a real server on loopback: cut off and resumed, damaged, too large; and verified."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from conftest import kit

from kit import data, paths
from kit.benchmark import load_benchmark
from kit.data import DataSet, Source, get, load_data_set
from kit.errors import KitError

CONTENT = bytes(range(256)) * 4096  # a megabyte


class Server(BaseHTTPRequestHandler):
    """Serves `files`, from any byte on; `cut` says after how many bytes the line drops once."""

    files: dict[str, bytes] = {}
    cut = 0
    asked: list[tuple[str, int]] = []

    def do_GET(self) -> None:
        body = self.files.get(self.path.strip("/"))
        if body is None:
            self.send_error(404)
            return
        start = int((self.headers["Range"] or "bytes=0-").removeprefix("bytes=").rstrip("-"))
        self.asked.append((self.path, start))
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
        if Server.cut:
            self.wfile.write(body[start : start + Server.cut])
            Server.cut = 0
            return  # and the connection closes
        self.wfile.write(body[start:])

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    monkeypatch.setattr(paths, "cache", lambda: tmp_path / "cache")
    monkeypatch.setattr(Server, "files", {"movie.mrcs": CONTENT, "set.tar.gz": archive()})
    monkeypatch.setattr(Server, "asked", [])
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
    Server.cut = 300_000
    wanted = data_set(source(server), source(server, "set.tar.gz", unpack=True))
    with pytest.raises(KitError, match=r"movie.mrcs: curl ended with 18; the 300000 bytes that came are kept"):
        get(wanted)
    assert not wanted.folder.exists()
    folder = get(wanted)
    assert ("/movie.mrcs", 300_000) in Server.asked
    assert (folder / "movie.mrcs").read_bytes() == CONTENT
    assert (folder / "Particles/one.mrcs").read_bytes() == CONTENT
    assert {path.name for path in folder.iterdir()} == {data.MANIFEST, data.FETCHED, "movie.mrcs", "Particles", "map.mrc"}
    asked = len(Server.asked)
    assert get(wanted) == folder
    assert len(Server.asked) == asked


def test_what_came_whole_is_not_fetched_again(server: str) -> None:
    """Cut off between the last byte of a file and the note that it came."""
    wanted = data_set(source(server), source(server, "nothing.mrcs"))
    with pytest.raises(KitError, match=r"nothing.mrcs: curl ended with 22"):
        get(wanted)
    partial = wanted.folder.with_name(".relion-test.partial")
    (partial / data.FETCHED).unlink()
    Server.files["nothing.mrcs"] = b"now it is there"
    folder = get(wanted)
    assert (folder / "movie.mrcs").read_bytes() == CONTENT


def test_a_wrong_checksum_is_thrown_away(server: str) -> None:
    digest = hashlib.sha256(CONTENT).hexdigest()
    wanted = data_set(source(server, sha256=digest))
    Server.files["movie.mrcs"] = CONTENT[:-1] + b"x"
    with pytest.raises(KitError, match=f"not {digest}; it was thrown away"):
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


def test_too_little_room_is_said_before_anything_is_fetched(server: str) -> None:
    wanted = data_set(source(server, gigabytes=1e6, unpack=True))
    with pytest.raises(KitError, match=r"2e\+06 GB are needed and .* GB are free; KIT_CACHE can name another folder"):
        get(wanted)
    assert Server.asked == []


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


def test_a_size_says_what_it_needs(server: str) -> None:
    with pytest.raises(KitError, match=r"not here; fetch it with kit data get relion/plasmodium \(50 GB\)"):
        data.make(load_benchmark("relion"), "plasmodium")
