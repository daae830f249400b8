"""Files of a run, opened without following a link: only what lies in its directory is ever read, hashed or packed."""

from __future__ import annotations

import hashlib
import os
import stat
from io import BufferedReader
from pathlib import Path

from kit.errors import KitError

KINDS = {
    stat.S_IFLNK: "a link",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}


def kind(mode: int) -> str:
    """What a mode says that is no regular file; empty for one."""
    return "" if stat.S_ISREG(mode) else KINDS.get(stat.S_IFMT(mode), "no file")


def open_plain(folder: Path, name: str) -> BufferedReader:
    """The regular file `name` below `folder`, opened for reading.

    KitError for a name that leads out of the folder, for a link at any step of the way, and for what is no regular file;
    nothing of the kind is opened, so a FIFO cannot make anybody wait.
    """
    parts = Path(name).parts
    if not parts or Path(name).is_absolute() or ".." in parts:
        raise KitError(f"{folder / name}: not a name of a file in {folder}")
    handle = -1
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        for part in parts[:-1]:
            inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=handle)
            os.close(handle)
            handle = inner
        mode = os.lstat(parts[-1], dir_fd=handle).st_mode
        if kind(mode):
            raise KitError(f"{folder / name}: {kind(mode)}, where a file of this run is needed; it is not read")
        return os.fdopen(os.open(parts[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=handle), "rb")
    except NotADirectoryError:
        raise KitError(f"{folder / name}: a link or a file stands where a folder of this run is needed") from None
    except OSError as error:
        raise KitError(f"{folder / name}: cannot be read: {error.strerror}") from None
    finally:
        if handle >= 0:
            os.close(handle)


def plain_file(folder: Path, name: str) -> Path:
    """The path of a file that `open_plain` opens; KitError as there."""
    open_plain(folder, name).close()
    return folder / name


def sha256_plain(folder: Path, name: str) -> str:
    """`sha256:...` of a regular file below a folder; KitError as `open_plain`."""
    with open_plain(folder, name) as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
