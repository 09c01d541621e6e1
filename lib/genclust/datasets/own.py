"""The user's own data, under a name of the user's choice: an array, or a folder of images.

They are kept in the cache, in one file a set, with a digest that is checked whenever they are loaded.
"""

from __future__ import annotations

import io
import os
import re
import zipfile
from pathlib import Path

import numpy as np

from .cache import Status, line, locked, root_of_all, sha256, store
from .formats import DataCorrupted, decoded, image_mode
from .sources import DATASETS, Source, near

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
ACCEPTED = ("a .npy file with X, a .npz file with X and, if there are labels, y, or a folder of images "
            f"({', '.join(IMAGES)}), in a subfolder for each class if there are labels")


def names(cache: str | os.PathLike | None = None) -> tuple[str, ...]:
    """The names under which data were added."""
    return tuple(sorted(path.stem for path in (root_of_all(cache) / "own").glob("[!.]*.npz")))


def add(name: str, path: str | os.PathLike, *, cache: str | os.PathLike | None = None) -> Path:
    """Keep data under a name, in place of what it named before; returns their file in the cache.

    ``path`` is a .npy file with X, a .npz file with X and perhaps y, or a folder of images, in one subfolder a class
    or without classes. X is numbers (n, d), grey images (n, h, w) or coloured ones (n, h, w, 3); unsigned
    bytes are pixels, of which 255 becomes 1. y is n whole numbers or words.

    Raises ValueError, and FileNotFoundError where nothing is at ``path``, saying what is expected.
    """
    path = Path(path).expanduser()
    try:
        if not re.fullmatch("[A-Za-z0-9][A-Za-z0-9_-]*", name):
            raise ValueError(f"a name is made of letters, digits, - and _, but this one is {name!r}")
        arrays = _given(path)
    except (FileNotFoundError, ValueError) as error:
        if near(name) and not (root_of_all(cache) / "own" / f"{name}.npz").exists():  # more likely a slip than a name of the user's own
            raise ValueError(f"there is no data set {name!r}. Did you mean {' or '.join(near(name))}? The sets are: "
                             f"{', '.join(DATASETS)}. Nor can it be added: {error}") from error
        raise
    stream = io.BytesIO()
    np.savez(stream, **arrays, digest=_digest(arrays))
    file = root_of_all(cache) / "own" / f"{name}.npz"
    with locked(file.parent):
        store(stream.getvalue(), file)
    return file


def describe(name: str, *, cache: str | os.PathLike | None = None) -> Source:
    """What was added under a name."""
    arrays = _kept(name, cache, "shape", "image_shape", "class_names")  # without reading the rows
    shape, (n, d) = tuple(arrays["image_shape"].tolist()) or None, arrays["shape"].tolist()
    return Source(name=name, title=name, about="Added by hand.", n=n, d=d, class_names=tuple(arrays["class_names"].tolist()),
                  image_shape=shape, licence="your own", citation="")


def read(name: str, *, cache: str | os.PathLike | None = None) -> tuple[np.ndarray, np.ndarray | None, str]:
    """X, y (None without labels) and the digest. Raises DataCorrupted if the file was altered."""
    arrays = _kept(name, cache)
    if _digest(arrays) != (expected := str(arrays["digest"])):
        raise DataCorrupted(f"the data that were added as {name} have been altered: expected SHA-256 {expected}, "
                            f"found {_digest(arrays)}. Add them anew: genclust data add {name} PATH")
    return arrays["X"], arrays.get("y"), expected


def verify(name: str, *, cache: str | os.PathLike | None = None) -> Status:
    """Rehash what was added under a name."""
    try:
        read(name, cache=cache)
    except (DataCorrupted, OSError) as error:
        return Status(name, "corrupt", (line(error),))
    return Status(name, "ok")


def _kept(name: str, cache: str | os.PathLike | None, *only: str) -> dict[str, np.ndarray]:
    path = root_of_all(cache) / "own" / f"{name}.npz"
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {key: arrays[key] for key in only or arrays.files}
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DataCorrupted(f"{path} is damaged: {_told(error)}. Add the data anew: genclust data add {name} PATH") from error


def _digest(arrays: dict[str, np.ndarray]) -> str:
    return sha256(*(part for key in sorted(set(arrays) - {"digest"}) for part in (key.encode(), arrays[key].tobytes())))


# --- What the user gives ------------------------------------------------------------------------


def _given(path: Path) -> dict[str, np.ndarray]:
    """X (n, d), y (n,) if there are labels, class_names and image_shape, all checked."""
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist. Expected {ACCEPTED}")
    if path.is_dir():
        X, y = _images(path)
    elif path.suffix in (".npy", ".npz"):
        X, y = _arrays(path)
    else:
        raise ValueError(f"{path} is not of a known kind. Expected {ACCEPTED}")
    image_shape = X.shape[1:] if X.ndim > 2 else ()
    classes = np.array([], "U1")
    rows = _rows(X, path)
    arrays = {"X": rows, "shape": np.array(rows.shape, np.int64)}
    if y is not None:
        if y.shape != X.shape[:1] or y.dtype.kind not in "iubU":
            raise ValueError(f"y in {path} is {y.dtype} of shape {y.shape}, but labels are whole numbers or words, "
                             f"one for each of the {len(X)} rows")
        classes, y = np.unique(y, return_inverse=True)
        arrays["y"] = y.astype("<i8")
    return arrays | {"class_names": classes.astype(str), "image_shape": np.array(image_shape, np.int64)}


def _rows(X: np.ndarray, path: Path) -> np.ndarray:
    if X.dtype.kind not in "iufb" or not (X.ndim in (2, 3) or X.ndim == 4 and X.shape[3] == 3) or len(X) < 2 or not X[0].size:
        raise ValueError(f"X in {path} is {X.dtype} of shape {X.shape}, but has to be numbers: (n, d), or images (n, h, w) or "
                         "(n, h, w, 3), with n at least 2")
    with np.errstate(over="ignore"):
        X = np.ascontiguousarray(X.reshape(len(X), -1), "u1" if X.dtype == np.uint8 else "<f4")
    if not np.isfinite(X).all():
        raise ValueError(f"X in {path} has numbers that are not finite in single precision, the first in row "
                         f"{np.flatnonzero(~np.isfinite(X).all(axis=1))[0]}: replace them")
    return X


def _arrays(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    try:
        found = np.load(path, allow_pickle=False)
        if isinstance(found, np.ndarray):
            return found, None
        with found:
            if "X" not in found.files:
                raise ValueError(f"it has no array X, but {', '.join(found.files) or 'none'}")
            return found["X"], found["y"] if "y" in found.files else None
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} cannot be taken: {_told(error)}. Expected {ACCEPTED}") from error


def _told(error: Exception) -> str:
    """An error of ``np.load``, but for its advice to unpickle, which nothing here does."""
    return "it is not in NumPy's format, or holds Python objects, which are not read" if "allow_pickle" in str(error) else str(error)


def _images(folder: Path) -> tuple[np.ndarray, np.ndarray | None]:
    flat = _images_in(folder)
    classes = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if bool(flat) == bool(classes):
        raise ValueError(f"{folder} holds {'images beside folders' if flat else 'no images'}. Expected {ACCEPTED}")
    if empty := [path.name for path in classes if not _images_in(path)]:
        raise ValueError(f"{folder} has folders without images: {', '.join(empty)}. Expected {ACCEPTED}")
    paths = flat or [image for path in classes for image in _images_in(path)]
    contents = {path: path.read_bytes() for path in paths}
    modes = {path: image_mode(str(path), data) for path, data in contents.items()}
    for path, mode in modes.items():
        if mode.startswith(("I", "F")):  # whole numbers of 16 or 32 bits, or fractions: Pillow would cut them off at 255
            raise ValueError(f"{path} has mode {mode}, which is not a byte a pixel: convert the images to 8 bits, or give their pixels as "
                             "a .npy file")
    colour = not set(modes.values()) <= {"1", "L"}
    images = [decoded(str(path), data, colour=colour) for path, data in contents.items()]
    for path, image in zip(paths, images):
        if image.shape != images[0].shape:
            raise ValueError(f"images differ in size: {paths[0]} is {images[0].shape[1]} by {images[0].shape[0]}, {path} is "
                             f"{image.shape[1]} by {image.shape[0]}. Resize them first")
    return np.stack(images), None if flat else np.array([path.parent.name for path in paths])


def _images_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGES and not path.name.startswith("."))
