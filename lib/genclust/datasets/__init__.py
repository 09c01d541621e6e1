"""Data sets with a known identity: `load`, `fetch`, `add`, `verify`.

`sources` describes every set, `formats` reads the files, `cache` keeps them and `origins` knows where else they may
be; `own` keeps the user's own data. A file counts only if it has the SHA-256 stated in `sources`, whatever its
origin. At every load it is hashed again, or, where reading it is slow, what was read of it. Nothing that is
downloaded is executed or unpickled.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from numbers import Integral
from pathlib import Path

import numpy as np
import scipy

from . import own, sources
from .cache import (
    DataUnavailable, Status, add_files, contents, digest_of, fetch_files, is_present, kept, root_of, root_of_all, sha256,
    verify_files,
)
from .formats import DataCorrupted, drawn, parse_idx
from .origins import logger, unpack
from .sources import DATASETS, File, Package, Source, names

__all__ = [
    "DATASETS", "DataCorrupted", "DataUnavailable", "Dataset", "File", "Package", "Source", "Status", "add", "describe",
    "fetch", "is_cached", "load", "logger", "names", "parse_idx", "unpack", "verify",
]


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set in memory.

    ``X`` is float32 of shape (n, d), dense but for ``rcv1``, whose rows are a scipy CSR array; images are
    flattened row by row, with the three colours of a pixel side by side, and scaled to [0, 1]. ``y`` is int64 of
    shape (n,), an index into ``class_names``, or None if the user's own data have no labels. ``image_shape`` is
    (height, width) in pixels for grey images, (height, width, 3) for coloured ones, or None if the rows are not
    images. ``digest`` is a hexadecimal SHA-256 that identifies the rows: it follows from the digests of the files
    and from what is done to their content, or from the bytes of X and y if they were computed, and for a subset
    also from the rows drawn.
    """

    name: str
    X: np.ndarray | scipy.sparse.csr_array = field(repr=False)
    y: np.ndarray | None = field(repr=False)
    class_names: tuple[str, ...]
    image_shape: tuple[int, ...] | None
    digest: str


def load(
    name: str,
    *,
    cache: str | os.PathLike | None = None,
    n_samples: int | None = None,
    seed: int = 0,
    raw: bool = False,
) -> Dataset:
    """Load a set, fetching it first if the cache does not hold it.

    ``n_samples`` draws that many rows without replacement and keeps them in their order; with the
    same ``seed``, a smaller draw is part of a larger one. ``seed`` (0 to 2**32 - 1) also
    determines the noise of ``three_moons``. ``raw`` leaves out the scaling of the columns that some
    sets' descriptions name; the digest is then another one.

    Data that were added under a name of the user's own load by that name.

    Raises ValueError for an unknown name, an ``n_samples`` outside 1..n or a ``seed`` that is none, DataUnavailable if the
    set cannot be had, and DataCorrupted if a file in the cache was truncated or altered.
    """
    source, mine = describe(name, cache=cache), _is_own(name, cache)
    if n_samples is not None and not (isinstance(n_samples, Integral) and 1 <= n_samples <= source.n):
        raise ValueError(f"n_samples is {n_samples!r}, but {name} gives 1 to {source.n} rows")
    if not (isinstance(seed, Integral) and 0 <= seed < 2**32):
        raise ValueError(f"seed is {seed!r}, but has to be a whole number from 0 to 2**32 - 1")
    if mine:
        X, y, digest = own.read(name, cache=cache)
    elif source.make:
        X, y = source.make(seed)
        X, y = X.astype(np.float32), y.astype(np.int64)
        digest = sha256(X.astype("<f4").tobytes(), y.astype("<i8").tobytes())
    else:
        X, y, digest = _read(source, cache)
        if source.scale and raw:
            digest = sha256(digest.encode(), b"raw")
        elif source.scale:
            X = source.scale(X)
    if n_samples is not None:
        rows = drawn(source.n, n_samples, seed)
        X, y, digest = X[rows], y if y is None else y[rows], sha256(digest.encode(), rows.astype("<i8").tobytes())
    # Pixels become floats after the draw: four times the memory, for no more rows than are wanted.
    X = X / np.float32(255) if X.dtype == np.uint8 else X.astype(np.float32, copy=False)
    return Dataset(name, X, y if y is None else y.astype(np.int64), source.class_names, source.image_shape, digest)


def _read(source: Source, cache: str | os.PathLike | None) -> tuple[np.ndarray, np.ndarray, str]:
    root = root_of(source, cache)
    if not is_present(source, root):
        fetch_files(source.name, cache=cache)
    X, y = kept(source, root) if source.slow else source.read(contents(source, root))
    n = X.shape[0]
    whole = DATASETS[source.part_of].n if source.part_of else source.n  # files that are shared may give more rows
    if n not in (source.n, whole) or n != len(y) or X.shape[1] != source.d or not 0 <= y.min() <= y.max() < source.n_classes:
        raise DataCorrupted(f"{source.name} should have {source.n} rows of {source.d} features in {source.n_classes} classes, "
                            f"but its files gave {X.shape} and {len(y)} labels")
    digest = digest_of(source)
    if n > source.n:
        digest = sha256(digest.encode(), b"first %d" % source.n)
    return X[: source.n], y[: source.n], digest


def _is_own(name: str, cache: str | os.PathLike | None) -> bool:
    return name not in DATASETS and name in own.names(cache)


def describe(name: str, *, cache: str | os.PathLike | None = None) -> Source:
    """The description of a set, or of data of the user's own. Raises ValueError, with near matches, for an unknown name."""
    return own.describe(name, cache=cache) if _is_own(name, cache) else sources.describe(name)


def is_cached(name: str, *, cache: str | os.PathLike | None = None) -> bool:
    """Whether the cache has every file of a set, as it has of the user's own data; whether they are whole is for `verify`."""
    return _is_own(name, cache) or is_present(source := sources.describe(name), root_of(source, cache))


def fetch(name: str, *, cache: str | os.PathLike | None = None) -> Path:
    """See to it that the cache holds a set, as `cache.fetch_files` does; data of the user's own are there already. Returns
    the directory there, and raises what `cache.fetch_files` raises."""
    return root_of_all(cache) / "own" if _is_own(name, cache) else fetch_files(name, cache=cache)


def add(name: str, path: str | os.PathLike, *, cache: str | os.PathLike | None = None) -> Path:
    """Copy a set's files into the cache, as `cache.add_files` does, or data of the user's own under a name that is
    no set's, as `own.add` does. Returns where they are now, and raises what these raise."""
    return (add_files if name in DATASETS else own.add)(name, path, cache=cache)


def verify(names: str | Iterable[str] | None = None, *, cache: str | os.PathLike | None = None) -> list[Status]:
    """Rehash what the cache holds of the named sets, or of all, the user's own among them.

    Raises ValueError for an unknown name; what is wrong with a file is in its set's Status.
    """
    mine = [name for name in own.names(cache) if name not in DATASETS]
    chosen = [*DATASETS, *mine] if names is None else [names] if isinstance(names, str) else list(names)
    for name in chosen:
        if name not in mine:
            sources.describe(name)
    return [own.verify(name, cache=cache) if name in mine else verify_files(name, cache=cache) for name in chosen]
