"""The cache of the sets' files: the ``cache`` argument, else ``GENCLUST_CACHE``, else the user's cache directory.

Every file in it is whole at any moment, and hashed whenever it is read (0.05 s for MNIST). Processes that
write to one set's directory wait for each other.
"""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pooch
import scipy

from ..files import acquire, clear_half_written, replacing
from .formats import DataCorrupted
from .origins import find, found_below, is_archive, line, logger, origins, unpack_files
from .sources import DATASETS, Arrays, File, Source, describe


CSR = ("data", "indices", "indptr")  # the arrays that make a sparse matrix


class DataUnavailable(OSError):
    """No source gave a set, or the cache cannot be written; the message says how to go on."""


@dataclass(frozen=True)
class Status:
    """The state of a set in the cache, and one line for each file that is not as it should be."""

    name: str
    state: Literal["ok", "absent", "incomplete", "corrupt", "built in"]
    problems: tuple[str, ...] = ()


def fetch_files(name: str, *, cache: str | os.PathLike | None = None) -> Path:
    """See to it that the cache holds a set, and return the set's directory there.

    Absent files are sought in the sources, one after another, and damaged ones are replaced.
    Processes that fetch the same set wait for each other. A set without files needs nothing.

    Raises ValueError for an unknown name, and DataUnavailable if a file is in no source or the
    cache cannot be written.
    """
    source = describe(name)
    root = root_of(source, cache)
    if _problems(source, root):
        with locked(root):
            if wanted := _problems(source, root):  # another process may have been faster
                _gather(source, root, wanted)
    return root


def _gather(source: Source, root: Path, wanted: dict[File, Exception]) -> None:
    """Fill the cache from the sources in turn; the caller holds the lock."""
    tried = [f"cache {root}: {_some(map(line, wanted.values()))}"]
    left = list(wanted)
    with tempfile.TemporaryDirectory(prefix="genclust-") as scratch:
        for label, get in origins(source, Path(scratch)):
            reasons = []
            for file in list(left):
                logger.info("%s: looking for %s in %s", source.name, file.name, label)
                try:
                    data = _checked(source, file, get(file))
                except (FileNotFoundError, DataCorrupted) as error:
                    reasons.append(line(error))  # this source may yet have the other files
                except OSError as error:
                    reasons.append(line(error))
                    break
                else:
                    store(data, root / file.name)
                    left.remove(file)
            if not left:
                return
            tried.append(f"{label}: {_some(reasons)}")
            logger.info("%s", tried[-1])
    raise DataUnavailable(
        "\n  ".join([f"{source.name} could not be had. Tried, in this order:", *tried])
        + f"\nTo add the files by hand, run `genclust data add {source.name} "
        + f"{'FILE' if len(source.files) == 1 else 'DIRECTORY'}`, or set "
        f"GENCLUST_DATA to the directory. {_expected(source)}"
    )


def add_files(name: str, path: str | os.PathLike, *, cache: str | os.PathLike | None = None) -> Path:
    """Copy files of a set into the cache, and return the set's directory there.

    ``path`` is one file of the set, an archive (tar or zip) that holds its files, or a directory with
    them, as they are or as ``.gz``, either directly or in a subdirectory named after the set. The only
    file of a set may have any name. All are verified before any is copied.

    Raises ValueError for an unknown name or a set without files, FileNotFoundError if an expected
    file is neither at ``path`` nor in the cache, DataCorrupted if one is not the set's, and
    DataUnavailable if the cache cannot be written.
    """
    source, path = describe(name), Path(path).expanduser()
    root = root_of(source, cache)
    if not source.files:
        raise ValueError(f"{name} is computed: it has no files to add")
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist. {_expected(source)}")
    with tempfile.TemporaryDirectory(prefix="genclust-") as scratch:
        given = _given(source, path, Path(scratch))
        lacking = [file.name for file in _problems(source, root) if file not in given]
        if lacking and path.is_dir():
            raise FileNotFoundError(f"{path} lacks {_some(lacking, ', ')}. {_expected(source)}")
        if not given:
            raise FileNotFoundError(f"{path} is no file of {name} by name. {_expected(source)}")
        contents = {file: _checked(source, file, p) for file, p in given.items()}
    with locked(root):
        for file, data in contents.items():
            store(data, root / file.name)
    return root


def _given(source: Source, path: Path, scratch: Path) -> dict[File, Path]:
    """The files of a set that are at ``path``."""
    if path.is_dir():
        return {file: p for file in source.files if (p := find(source, file, path))}
    if named := {f: path for f in source.files if path.name in (f.name, f"{f.name}.gz")}:
        return named
    if is_archive(path):
        inside = unpack_files(source, path, scratch)
        found = {}
        for file in source.files:
            try:
                found[file] = found_below(inside, file)
            except FileNotFoundError:
                pass
        if found:
            return found
    return {source.files[0]: path} if len(source.files) == 1 else {}


def verify_files(name: str, *, cache: str | os.PathLike | None = None) -> Status:
    """Rehash what the cache holds of a set. Raises ValueError for an unknown name."""
    source = describe(name)
    problems = _problems(source, root_of(source, cache))
    absent = sum(isinstance(problem, FileNotFoundError) for problem in problems.values())
    if not source.files:
        state = "built in"
    elif absent < len(problems):
        state = "corrupt"
    else:
        state = {0: "ok", len(source.files): "absent"}.get(absent, "incomplete")
    return Status(name, state, tuple(map(line, problems.values())))


# --- For `load` ---------------------------------------------------------------------------------


def root_of(source: Source, cache: str | os.PathLike | None) -> Path:
    """The directory of a set."""
    return root_of_all(cache) / source.folder


def root_of_all(cache: str | os.PathLike | None) -> Path:
    return Path(cache or os.environ.get("GENCLUST_CACHE") or pooch.os_cache("genclust")).expanduser()


def is_present(source: Source, root: Path) -> bool:
    return all((root / file.name).is_file() for file in source.files)


def contents(source: Source, root: Path) -> list[bytes]:
    """What is in the files of a set, uncompressed. Raises DataCorrupted."""
    return [_checked(source, file, root / file.name, cached=True) for file in source.files]


def digest_of(source: Source) -> str:
    """The digest of the rows that a set's files give."""
    lines = [f"{file.sha256}  {file.name}\n" for file in source.files]
    return sha256(*(text.encode() for text in [*lines, source.recipe]))


def kept(source: Source, root: Path) -> Arrays:
    """What a set's files give, which are read only once: the arrays are kept beside the files they come from.

    The name of what is kept holds the digest of the set and that of the content, so that neither the rows of an
    older recipe nor an altered file are ever taken. A cache that can't be written does no harm.
    """
    prefix = f"read-{digest_of(source)[:16]}-"
    for path in root.glob(f"{prefix}*.npz"):
        try:
            data = path.read_bytes()
        except FileNotFoundError:  # another process has just put its own there
            continue
        if path.stem == prefix + sha256(data)[:32]:
            with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                if "X" in arrays:
                    return arrays["X"], arrays["y"]
                return scipy.sparse.csr_array(tuple(arrays[part] for part in CSR), shape=arrays["shape"]), arrays["y"]
    X, y = source.read(contents(source, root))
    stream = io.BytesIO()
    if scipy.sparse.issparse(X):
        np.savez(stream, y=y, shape=X.shape, **{part: getattr(X, part) for part in CSR})
    else:
        np.savez(stream, y=y, X=X)
    try:
        mine = root / f"{prefix}{sha256(stream.getvalue())[:32]}.npz"
        with locked(root):
            for old in set(root.glob(f"{prefix}*.npz")) - {mine}:
                old.unlink()
            store(stream.getvalue(), mine)
    except OSError as error:
        logger.info("%s", error)
    return X, y


# --- Files --------------------------------------------------------------------------------------


def _problems(source: Source, root: Path) -> dict[File, Exception]:
    """The files that the cache cannot give, each with the reason."""
    problems: dict[File, Exception] = {}
    for file in source.files:
        try:
            _checked(source, file, root / file.name, cached=True)
        except FileNotFoundError:
            problems[file] = FileNotFoundError(f"{file.name} is absent")
        except (OSError, DataCorrupted) as error:
            problems[file] = error
    return problems


def _checked(source: Source, file: File, path: Path, *, cached: bool = False) -> bytes:
    """The content of the copy of ``file`` at ``path``, uncompressed unless it is an archive, if it has the right digest."""
    raw = path.read_bytes()
    data = _gunzip(raw, file.size) if raw.startswith(b"\x1f\x8b") and not file.is_archive else raw
    if (found := sha256(data)) == file.sha256:
        return data
    of = [s.name for s in DATASETS.values() for f in s.files if f.sha256 == found and s.folder != source.folder]
    raise DataCorrupted(
        f"{path} is not the {file.name} of {source.name}: expected SHA-256 {file.sha256}"
        f"{f' ({file.size} bytes)' if file.size else ''}, found {found} ({len(data)} bytes). "
        + (f"It is a file of {of[0]}. " if of else "")
        + (f"To replace it, run `genclust data fetch {source.name}`." if cached
           else "Obtain the file anew.")
    )


def _gunzip(raw: bytes, size: int) -> bytes:
    """The content of a gzip stream, or ``raw`` itself if that is damaged or too large."""
    stream = zlib.decompressobj(wbits=31)
    try:
        data = stream.decompress(raw, size + 1)
    except zlib.error:
        return raw
    return data if stream.eof else raw


def store(data: bytes, target: Path) -> None:
    """Write a file such that, at any moment, it is either absent (or the old one) or whole. For who holds the lock."""
    clear_half_written(target)
    try:
        with replacing(target) as part:
            part.write_bytes(data)
    except OSError as error:
        raise _unwritable(target.parent, error) from error
    logger.info("%s: added to the cache", target)


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """For whoever writes to a directory of the cache. Raises DataUnavailable where that can't be."""
    try:
        held = acquire(root / ".lock")
    except OSError as error:
        raise _unwritable(root, error) from error
    with held:
        yield


def _unwritable(root: Path, error: OSError) -> DataUnavailable:
    return DataUnavailable(
        f"cannot write to the cache directory {root}: {getattr(error.__cause__, 'strerror', None) or error.strerror or error}. "
        "Set GENCLUST_CACHE to a directory that can be written."
    )


def _expected(source: Source) -> str:
    how = "" if all(file.is_archive for file in source.files) else ", as they are or as .gz"
    return f"Expected{how}: {_some([file.name for file in source.files], ', ')}."


def _some(things: Iterable[str], separator: str = "; ") -> str:
    """What an error message lists: all, or the first ones and how many more there are."""
    things = list(things)
    return separator.join(things if len(things) <= 5 else [*things[:4], f"and {len(things) - 4} more"])


def sha256(*parts: bytes) -> str:
    """The hexadecimal digest of the parts in a row."""
    whole = hashlib.sha256()
    for part in parts:
        whole.update(part)
    return whole.hexdigest()
