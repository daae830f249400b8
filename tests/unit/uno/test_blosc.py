"""Chunks that Blosc packed: those of PyTables, those that Snappy made, and what is none."""

from __future__ import annotations

import struct
from pathlib import Path

import h5py
import numpy as np
import pytest
import tables

from kit.stages.uno.blosc import FILTER, PackedError, snappy, unpack

WORDS = np.rint(np.random.default_rng(3).normal(size=(300, 40)) * 2).astype("<f4").tobytes()


def test_snappy_by_hand() -> None:
    """As its format says: a literal, a copy of one byte of offset that overlaps itself, one of two bytes, one of four."""
    text = bytes([26, 4 << 2]) + b"abcde" + bytes([(8 - 4) << 2 | 1, 2]) + bytes([(6 - 1) << 2 | 2, 13, 0])
    text += bytes([(7 - 1) << 2 | 3, 5, 0, 0, 0])
    assert snappy(text, 26) == b"abcde" + b"dedededE".lower() + b"abcded" + b"bcdedbc"[:0] + snappy(text, 26)[19:]
    assert snappy(text, 26)[19:] == (snappy(text, 26)[14:19] * 2)[:7]
    long = bytes([200, 1, 60 << 2, 199]) + bytes(range(200))
    assert snappy(long, 200) == bytes(range(200))


def test_snappy_reads_what_the_library_writes() -> None:
    pyarrow = pytest.importorskip("pyarrow")
    for content in (b"", b"a", WORDS, b"abc" * 5000, np.random.default_rng(1).bytes(70_000)):
        packed = pyarrow.compress(content, codec="snappy", asbytes=True)
        assert snappy(packed, len(content)) == content


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (bytes([5, 4 << 2]) + b"abc", "has 3 of 5 bytes"),
        (bytes([9, 0]) + b"a" + bytes([5 << 2 | 1, 7]), "a copy of what is not there"),
        (bytes([3, 0]) + b"a" + bytes([5 << 2 | 1, 1]), "a copy of what is not there"),
        (bytes([200, 200, 200, 200, 1]), "are the most"),
        (bytes([255] * 6), "its length is no number"),
    ],
)
def test_what_is_no_snappy_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(PackedError, match=message):
        snappy(data, 10)


def chunk(codec: int, stream: bytes, flags: int = 0, size: int = 1, total: int = len(WORDS)) -> bytes:
    """A chunk of one block that was not split."""
    body = struct.pack("<Ii", 20, len(stream)) + stream
    return struct.pack("<BBBBIII", 2, 1, codec << 5 | 16 | flags, size, total, total, 16 + len(body)) + body


def test_a_chunk_of_snappy_plain_and_shuffled() -> None:
    pyarrow = pytest.importorskip("pyarrow")
    packed = pyarrow.compress(WORDS, codec="snappy", asbytes=True)
    assert unpack(chunk(2, packed), len(WORDS)) == WORDS
    shuffled = np.frombuffer(WORDS, np.uint8).reshape(-1, 4).T.tobytes()
    packed = pyarrow.compress(shuffled, codec="snappy", asbytes=True)
    assert unpack(chunk(2, packed, flags=1, size=4), len(WORDS)) == WORDS
    copied = struct.pack("<BBBBIII", 2, 1, 2, 4, 5, 5, 21) + b"hello"
    assert unpack(copied, 5) == b"hello"


@pytest.mark.parametrize("record", ["<f4", "<i8", "S30"])
@pytest.mark.parametrize("shuffle", [True, False])
def test_chunks_of_pytables(tmp_path: Path, record: str, shuffle: bool) -> None:
    """With split blocks, blocks that are left over, and elements of another size."""
    rng = np.random.default_rng(2)
    values = rng.integers(0, 50, 70_001).astype(record)
    path = tmp_path / "x.h5"
    with tables.open_file(path, "w") as file:
        filters = tables.Filters(complevel=5, complib="blosc:zlib", shuffle=shuffle)
        file.create_carray("/", "x", obj=values, filters=filters, chunkshape=(30_000,))
    with h5py.File(path) as file:
        data = file["x"]
        assert data.id.get_create_plist().get_filter(0)[0] == FILTER
        for start in range(0, len(values), 30_000):
            _, raw = data.id.read_direct_chunk((start,))
            found = np.frombuffer(unpack(raw, 30_000 * data.dtype.itemsize), data.dtype)
            assert np.array_equal(found[: len(values) - start], values[start : start + 30_000])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"short", "where a header has 16"),
        (chunk(4, b"xx"), "packed with zstd, and only snappy and zlib are known"),
        (chunk(1, b"xx"), "packed with lz4"),
        (chunk(3, b"xx"), "cut off or damaged"),
        (chunk(2, b"xx", flags=4), "bits shuffled"),
        (chunk(2, b"xx", total=10**9), "are the most"),
        (chunk(2, b"xx")[:18], "are the most"),
        (struct.pack("<BBBBIII", 2, 1, 2 << 5 | 16, 0, 5, 5, 16), "have no bytes"),
        (struct.pack("<BBBBIIIIi", 2, 1, 2 << 5 | 16, 1, 5, 5, 24, 20, 99), "a stream is longer than the chunk"),
    ],
)
def test_what_is_no_chunk_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(PackedError, match=message):
        unpack(data, len(WORDS))
