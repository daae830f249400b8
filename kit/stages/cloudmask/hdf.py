"""Opening HDF5 and NetCDF files so that what the file system does is not taken for a property of the data.

HDF5 locks the files it opens. Nothing here is written while it is read, and on Lustre and NFS locks may be refused, or held
by a client that is gone: files are opened without (`HDF5_USE_FILE_LOCKING` in the environment, if set, still decides).
An error of the system that passes is tried again; one that stays is an OSError with its number, which ends a stage. What is
wrong with the content of a file (cut off, not HDF5, a checksum) HDF5 gives as an OSError without a number.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

Found = TypeVar("Found")
# What servers of files answer when they are busy, restart or lose a lease; all of it may be over in a moment.
TRANSIENT = frozenset(
    {
        *(errno.EAGAIN, errno.EBUSY, errno.EINTR, errno.EIO, errno.ENOLCK, errno.ESTALE, errno.EREMOTEIO),
        *(errno.ETIMEDOUT, errno.ECONNRESET, errno.ECONNREFUSED, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETUNREACH),
        *(errno.ENOTCONN, errno.ESHUTDOWN),
    }
)
WAITS = (0.5, 1.0, 2.0, 4.0)  # seconds before each further attempt


def of_the_system(error: OSError) -> bool:
    """Whether an error is of the file system (it has a number), and not of the content of a file."""
    return error.errno is not None


def steadily(path: Path, action: Callable[[], Found]) -> Found:
    """What `action` returns, tried again after `WAITS` while it fails for a reason that may pass.

    OSError that names the file for a reason that stays; what `action` raises otherwise.
    """
    for wait in (*WAITS, None):
        try:
            return action()
        except OSError as error:
            if error.errno not in TRANSIENT:
                raise
            if wait is None:
                said = f"{path}: the file system failed {len(WAITS) + 1} times, which says nothing of the data: {error}"
                raise OSError(error.errno, said) from error
            time.sleep(wait)
    raise AssertionError("the last attempt returns or raises")


def read_hdf(path: Path, action: Callable[[Any], Found]) -> Found:
    """What `action` makes of an open HDF5 file, which is read without a lock; errors as of `steadily`."""
    import h5py

    def read() -> Found:
        with h5py.File(path, "r", locking=False) as file:
            return action(file)

    return steadily(path, read)


def read_netcdf(path: Path, action: Callable[[Any], Found], **options: Any) -> Found:
    """The same of a NetCDF file, opened by xarray with `options`."""
    import xarray as xr

    def read() -> Found:
        with xr.open_dataset(path, engine="h5netcdf", driver_kwds={"locking": False}, **options) as dataset:
            return action(dataset)

    return steadily(path, read)
