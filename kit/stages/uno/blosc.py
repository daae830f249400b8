"""Unpacks what the HDF5 filter Blosc (32001) packed, as far as the published file needs it: HDF5 alone does not know it.

The file is written with pandas' complib "blosc:snappy" (uno_baseline_keras2.py of ECP-CANDLE/Benchmarks). The layouts are
those of c-blosc 1 (README_HEADER.rst) and of Snappy (format_description.txt). Plain Python: some ten megabytes a second.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np

FILTER = 32001  # of HDF5's registered filters
CODECS = ("blosclz", "lz4", "snappy", "zlib", "zstd")
MOST_SPLITS, LEAST_SPLIT = 16, 128  # bytes of an element, and elements of a block, from which a block is one stream


class PackedError(ValueError):
    """What is no such data, or is packed with a codec that is not known here."""


def unpack(data: bytes, most: int) -> bytes:
    """The content of one packed chunk, of `most` bytes at most; PackedError for anything else."""
    if len(data) < 16:
        raise PackedError(f"{len(data)} bytes, where a header has 16")
    _, _, flags, size, total, block, packed = struct.unpack_from("<BBBBIII", data)
    if total > most or packed > len(data):
        raise PackedError(f"says {total} bytes in {packed}, where {most} in {len(data)} are the most")
    if flags & 2:
        if packed < 16 + total:
            raise PackedError(f"has {packed - 16} of {total} bytes")
        return data[16 : 16 + total]
    if not block or not size:
        raise PackedError("its blocks or elements have no bytes")
    codec = CODECS[flags >> 5] if flags >> 5 < len(CODECS) else f"number {flags >> 5}"
    if flags & 4 or codec not in ("snappy", "zlib"):
        raise PackedError(f"packed with {'bits shuffled' if flags & 4 else codec}, and only snappy and zlib are known")
    blocks = -(-total // block)
    try:
        starts = struct.unpack_from(f"<{blocks}I", data, 16)
        found = b"".join(
            one_block(data, start, min(block, total - place * block), block, size, flags, codec)
            for place, start in enumerate(starts)
        )
    except (struct.error, IndexError, zlib.error) as error:
        raise PackedError(f"cut off or damaged ({error})") from None
    return found


def one_block(data: bytes, start: int, length: int, block: int, size: int, flags: int, codec: str) -> bytes:
    """One block of a chunk: one stream, or one for each byte of an element, each with its length before it."""
    split = not flags & 16 and size <= MOST_SPLITS and block // size >= LEAST_SPLIT and length == block
    streams = size if split else 1
    parts = []
    for _ in range(streams):
        (packed,) = struct.unpack_from("<i", data, start)
        start += 4
        if packed < 0 or start + packed > len(data):
            raise PackedError("cut off: a stream is longer than the chunk")
        wanted, stream = length // streams, data[start : start + packed]
        if packed != wanted:  # of that length it is as it was
            stream = snappy(stream, wanted) if codec == "snappy" else zlib.decompress(stream)
        if len(stream) != wanted:
            raise PackedError(f"a stream has {len(stream)} bytes, not {wanted}")
        parts.append(stream)
        start += packed
    found = b"".join(parts)
    if not flags & 1 or size == 1:
        return found
    whole = length // size * size
    shuffled = np.frombuffer(found, np.uint8, whole).reshape(size, -1)
    return shuffled.T.tobytes() + found[whole:]


def snappy(data: bytes, most: int) -> bytes:
    """What Snappy made `data` of: literals, and copies of what stands up to 2^32 bytes before."""
    place = shift = total = 0
    while True:
        byte = data[place]
        place += 1
        total |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            break
        if shift > 28:
            raise PackedError("its length is no number")
    if total > most:
        raise PackedError(f"says {total} bytes, where {most} are the most")
    out = bytearray()
    end = len(data)
    while place < end:
        tag = data[place]
        place += 1
        kind = tag & 3
        if kind == 0:
            length = (tag >> 2) + 1
            if length > 60:
                more = length - 60
                length = int.from_bytes(data[place : place + more], "little") + 1
                place += more
            out += data[place : place + length]
            place += length
            continue
        if kind == 1:
            length = (tag >> 2 & 7) + 4
            back = (tag >> 5) << 8 | data[place]
            place += 1
        else:
            width = 2 if kind == 2 else 4
            length = (tag >> 2) + 1
            back = int.from_bytes(data[place : place + width], "little")
            place += width
        here = len(out)
        if not 0 < back <= here or here + length > total:
            raise PackedError("a copy of what is not there")
        if back >= length:
            out += out[here - back : here - back + length]
        else:  # overlaps what it writes: a pattern again and again
            pattern = out[here - back :]
            out += (pattern * (length // back + 1))[:length]
    if len(out) != total or place != end:
        raise PackedError(f"has {len(out)} of {total} bytes")
    return bytes(out)
