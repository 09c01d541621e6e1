"""Where things lie in a checkout, and small files."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from ..files import replacing


def project_root(start: Path | None = None) -> Path:
    """The checkout that contains ``start`` (the working directory): the folder with ``_toc.yml``.

    ``GENCLUST_PROJECT`` overrides it. FileNotFoundError outside a checkout.
    """
    named = os.environ.get("GENCLUST_PROJECT")
    start = Path(named) if named else (start or Path.cwd())
    for folder in (start.resolve(), *start.resolve().parents):
        if (folder / "_toc.yml").exists() and (folder / "notebooks").is_dir():
            return folder
    raise FileNotFoundError(f"{start} is not inside a checkout of the book (no _toc.yml above it): "
                            "change into one, or set GENCLUST_PROJECT to it")


def work_folder() -> Path:
    """Where checkpoints of unfinished runs lie: ``GENCLUST_WORK``, else ``build/runs`` in the checkout, else
    the user's cache. Workers that share it take up each other's runs."""
    if named := os.environ.get("GENCLUST_WORK"):
        return Path(named)
    try:
        return project_root() / "build" / "runs"
    except FileNotFoundError:
        import pooch
        return Path(pooch.os_cache("genclust")) / "runs"


def write_atomic(path: Path, data: bytes | str) -> None:
    """Writes ``data`` so that a reader finds the old file or the whole new one, even after a crash."""
    with replacing(path) as temporary:
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)


def sha256(data: bytes | str | Path) -> str:
    """Hex SHA-256 of bytes, of text, or of a file's contents."""
    if isinstance(data, Path):
        data = data.read_bytes()
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()
