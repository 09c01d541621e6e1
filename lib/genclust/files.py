"""Files that are written whole or not at all."""

from __future__ import annotations

import errno
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import AcquireReturnProxy, FileLock

MEND = {
    errno.ENOSPC: "the disk is full: free some space, and give the same command again",
    errno.EDQUOT: "your quota is used up: free some space, and give the same command again",
    errno.EROFS: "the file system is read-only: name a folder that can be written",
    errno.EACCES: "permission is denied: name a folder that can be written",
    errno.ENOENT: "its folder can't be made there: name a folder that can be written",
    errno.ENOTDIR: "what should be a folder on the way to it is a file: name another",
    errno.EEXIST: "what should be its folder is a file: name another",
    errno.EISDIR: "it is a folder: name a file in it",
}


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file beside ``path`` to write to; it takes its place once the block has ended well.

    A reader finds the old file or the whole new one, even after a crash. OSError that says what to do
    where it can't be written; the old file is then still there.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with open(temporary, "r+b") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        try:
            temporary.unlink(missing_ok=True)
        except OSError:  # nothing was written there either
            pass


def check_writable(path: Path) -> None:
    """Makes the folder of a file that is to be written later, and tries it: OSError that says what to do, before the work."""
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise unwritable(path, error) from error


def acquire(lock: Path) -> AcquireReturnProxy:
    """Waits for a lock file, making its folder; for a ``with`` block. OSError that says what to do where it can't."""
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(lock).acquire()
    except OSError as error:
        raise unwritable(lock.parent, error) from error


def clear_half_written(path: Path) -> None:
    """Removes what killed writers of ``path`` left beside it. The caller holds the lock of those who write there."""
    for temporary in path.parent.glob(f".{path.name}.*"):
        temporary.unlink(missing_ok=True)


def unwritable(path: Path, error: OSError) -> OSError:
    """An error that names the path and what to do about it."""
    return type(error)(error.errno, f"could not write {path}: {MEND.get(error.errno, error.strerror or error)}")
