"""From the bytes of distributed files to rows and labels. Nothing here unpickles or runs what it reads.

Readers take the contents of a set's files, in their order, and return X (n, d) and y (n,) with classes from 0.
Unsigned bytes in X are pixels of 0 to 255. What is not as it was published raises DataCorrupted.
"""

from __future__ import annotations

import gzip
import html
import io
import lzma
import math
import re
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath

import numpy as np
import scipy


class DataCorrupted(ValueError):
    """A file is not the one that its set is made of."""


def drawn(n: int, n_samples: int, seed: int) -> np.ndarray:
    """``n_samples`` of the rows 0..n-1, in their order; with the same seed, a smaller draw is part of a larger one."""
    # RandomState, because its streams are the same in every version of NumPy.
    return np.sort(np.random.RandomState([seed, 1]).permutation(n)[:n_samples])


# --- IDX ----------------------------------------------------------------------------------------


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


def read_idx(contents: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """IDX files, by turns of images and of their labels."""
    parts = [parse_idx(data) for data in contents]
    X, y = np.concatenate(parts[0::2]), np.concatenate(parts[1::2])
    return X.reshape(len(X), -1), y


# --- Images -------------------------------------------------------------------------------------

CIFAR_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CIFAR_BATCHES = (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin")


def tar_members(data: bytes) -> Iterator[tuple[PurePosixPath, bytes]]:
    """Path and content of every regular file in a tar archive, compressed or not. Raises DataCorrupted."""
    try:
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            for member in tar:
                if member.isfile():
                    yield PurePosixPath(member.name), tar.extractfile(member).read()
    except (tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OSError) as error:
        raise DataCorrupted(f"not a whole tar archive: {error}") from error


def read_cifar(contents: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """CIFAR-10's binary archive: five training batches, then the test batch.

    A record is a byte with the class and 3072 bytes of pixels, colour by colour; a row of X has the three
    colours of a pixel side by side.
    """
    batches = {path.name: data for path, data in tar_members(contents[0]) if path.name in CIFAR_BATCHES}
    if len(batches) < len(CIFAR_BATCHES):
        raise DataCorrupted(f"the archive lacks {', '.join(name for name in CIFAR_BATCHES if name not in batches)}")
    parts = []
    for name in CIFAR_BATCHES:
        if len(batches[name]) % 3073:
            raise DataCorrupted(f"{name} has {len(batches[name])} bytes, which are no whole number of records of 3073")
        parts.append(np.frombuffer(batches[name], np.uint8).reshape(-1, 3073))
    records = np.concatenate(parts)
    if len(records) and records[:, 0].max() > 9:
        raise DataCorrupted(f"classes are 0 to 9, but a record has {records[:, 0].max()}")
    pixels = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return pixels.reshape(len(records), -1), records[:, 0].astype(np.int64)


def read_cifar_jpeg(contents: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """A tar archive of ``train/CLASS/NAME.jpg`` and ``test/CLASS/NAME.jpg``: training part first, then by class and name."""
    found = {}
    for path, data in tar_members(contents[0]):
        if path.suffix != ".jpg":
            continue
        part, name = path.parts[-3:-2], path.parent.name
        if part not in (("train",), ("test",)) or name not in CIFAR_CLASSES:
            raise DataCorrupted(f"{path} is not train/CLASS/NAME.jpg or test/CLASS/NAME.jpg with a class of CIFAR-10")
        found[part == ("test",), CIFAR_CLASSES.index(name), path.name] = data
    if not found:
        raise DataCorrupted("an archive without images")
    keys = sorted(found)
    images = [decoded(name, found[part, label, name], colour=True) for part, label, name in keys]
    if len({image.shape for image in images}) > 1:
        raise DataCorrupted(f"images of different sizes: {', '.join(map(str, sorted({image.shape for image in images})))}")
    return np.stack(images).reshape(len(keys), -1), np.array([label for _, label, _ in keys], np.int64)


def decoded(name: str, data: bytes, *, colour: bool) -> np.ndarray:
    """The pixels of an image file: uint8 (height, width, 3), or (height, width) in grey. Raises DataCorrupted."""
    with _opened(name, data) as image:
        return np.asarray(image.convert("RGB" if colour else "L"))


def image_mode(name: str, data: bytes) -> str:
    """How an image file stores a pixel, in Pillow's words: "1" and "L" are grey. Raises DataCorrupted."""
    with _opened(name, data) as image:
        return image.mode


@contextmanager
def _opened(name: str, data: bytes) -> Iterator:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as image:
            yield image
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataCorrupted(f"{name} is no image that could be read: {error}") from error


# --- Tables of numbers --------------------------------------------------------------------------


def read_keel(contents: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """A table of KEEL without its header: a row a line, separated by commas, the class from 1 at the end."""
    try:
        table = np.array([[float(cell) for cell in line.split(b",")] for line in contents[0].splitlines()])
    except ValueError as error:
        raise DataCorrupted(f"not a table of numbers: {error}") from error
    if table.ndim != 2 or table.shape[1] < 2 or not np.isfinite(table).all():
        raise DataCorrupted(f"not a table of finite numbers with a class in the last column: shape {table.shape}")
    X, y = table[:, :-1], table[:, -1]
    if (y != np.rint(y)).any() or y.min() < 1:
        raise DataCorrupted(f"the last column holds classes, which are whole numbers from 1, but has {np.unique(y)[:9]}")
    return X, y.astype(np.int64) - 1


def read_npz(contents: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """NumPy's archive with ``x_raw`` (n, d) and ``y`` (n,)."""
    try:
        with np.load(io.BytesIO(contents[0]), allow_pickle=False) as arrays:
            X, y = arrays["x_raw"], arrays["y"]
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise DataCorrupted(f"not an archive of the arrays x_raw and y: {error}") from error
    if X.ndim != 2 or y.shape != X.shape[:1] or X.dtype.kind != "f" or y.dtype.kind not in "iu":
        raise DataCorrupted(f"x_raw is {X.dtype} of {X.shape} and y is {y.dtype} of {y.shape}")
    return X, y


CHARACTERS = tuple("ACDEFGHLPR")
SEGMENTS = 8  # at most, in one letter


def read_letters(contents: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """The same rows (x1, y1, x2, y2, length, diagonal), put together to letters: (letters, 5 * SEGMENTS + 1).

    The segments of a letter follow each other. A letter begins where the class or the diagonal changes. Two letters in
    a row may have both in common, so a letter also begins where a segment is like the first of its class: a C rises
    from y = 0, the others from the origin, E and L along the y axis; a G follows the level stroke that ends each G.
    """
    X, y = read_npz(contents)
    x1, y1, x2, y2, _, diagonal = X.T
    changes = np.r_[True, (np.diff(y) != 0) | (np.diff(diagonal) != 0)]
    of, rises = np.array(CHARACTERS)[y], (y1 == 0) & (y2 > 0)
    alike = np.select([of == "G", of == "C", np.isin(of, ("E", "L"))],
                      [np.r_[False, (y1 == y2)[:-1]], rises, rises & (x1 == 0) & (x2 == 0)], rises & (x1 == 0))
    first = np.flatnonzero(changes | alike)
    letter = np.cumsum(changes | alike) - 1
    place = np.arange(len(X)) - first[letter]
    if place.max() >= SEGMENTS:
        raise DataCorrupted(f"a letter with {place.max() + 1} segments, where {SEGMENTS} are the most")
    segments = np.zeros((len(first), SEGMENTS, 5))
    segments[letter, place] = X[:, :5]
    return np.column_stack([segments.reshape(len(first), -1), diagonal[first]]), y[first]


# --- Human Activity Recognition -----------------------------------------------------------------

HAR_CLASSES = ("walking", "walking upstairs", "walking downstairs", "sitting", "standing", "laying")


def read_har(contents: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """UCI's archive: ``X_train.txt`` and ``X_test.txt`` with a row a line, classes from 1 in ``y_train.txt``, ``y_test.txt``."""
    parts = []
    try:
        with zipfile.ZipFile(io.BytesIO(contents[0])) as archive:
            for part in ("train", "test"):
                for what, kind in (("X", np.float32), ("y", np.int64)):
                    with archive.open(f"UCI HAR Dataset/{part}/{what}_{part}.txt") as table:
                        parts.append(np.loadtxt(table, dtype=kind, ndmin=2))
        X, y = np.concatenate(parts[0::2]), np.concatenate(parts[1::2])
    except (zipfile.BadZipFile, zlib.error, KeyError, ValueError, EOFError) as error:
        raise DataCorrupted(f"not UCI's archive of Human Activity Recognition: {error}") from error
    if y.shape != (len(X), 1) or not np.isfinite(X).all() or not 1 <= y.min() <= y.max() <= len(HAR_CLASSES):
        raise DataCorrupted(f"{X.shape[0]} rows and {len(y)} classes, from {y.min()} to {y.max()}")
    return X, y[:, 0] - 1


# --- RCV1 ---------------------------------------------------------------------------------------

RCV1_ROOTS = ("CCAT", "ECAT", "GCAT", "MCAT")
RCV1_TERMS = 47_236


def read_rcv1(contents: list[bytes]) -> tuple[scipy.sparse.csr_array, np.ndarray]:
    """The compressed vectors (SVMlight, with the story's number in place of a label), then the stories' topics."""
    from sklearn.datasets import load_svmlight_files

    try:
        vectors = load_svmlight_files([gzip.GzipFile(fileobj=io.BytesIO(data)) for data in contents[:-1]],
                                      n_features=RCV1_TERMS, zero_based=False, dtype=np.float32)
        topics = [line.split() for line in gzip.decompress(contents[-1]).splitlines()]  # TOPIC STORY 1
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise DataCorrupted(f"not the vectors and topics of RCV1: {error}") from error
    stories = np.concatenate(vectors[1::2]).astype(np.int64)
    row_of, names = {int(story): row for row, story in enumerate(stories)}, [name.encode() for name in RCV1_ROOTS]
    target = np.zeros((len(stories), len(RCV1_ROOTS)), np.uint8)
    for entry in topics:
        if len(entry) != 3 or not entry[1].isdigit() or int(entry[1]) not in row_of:
            raise DataCorrupted(f"{b' '.join(entry)!r} is not the topic of a story")
        if entry[0] in names:
            target[row_of[int(entry[1])], names.index(entry[0])] = 1
    return select_rcv1(scipy.sparse.vstack(vectors[0::2], format="csr"), target, RCV1_ROOTS)


def read_rcv1_10k(contents: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """Ten thousand of the rows that `read_rcv1` gives, dense; those that a draw of so many with seed 0 gives."""
    X, y = read_rcv1(contents)
    rows = drawn(X.shape[0], 10_000, seed=0)
    return X[rows].toarray(), y[rows]


def select_rcv1(X, target, target_names) -> tuple[scipy.sparse.csr_array, np.ndarray]:
    """The rows with a single root topic, on the N_WORDS terms that are in most of these rows.

    ``X`` (n, terms) and ``target`` (n, topics), 1 where a row has a topic, may be sparse, as in
    `sklearn.datasets.fetch_rcv1`; ``target_names`` are the topics. Weights stay as published, but rows are scaled
    to norm sqrt(N_WORDS). Raises DataCorrupted if a root is no topic.
    """
    if lacking := [root for root in RCV1_ROOTS if root not in list(target_names)]:
        raise DataCorrupted(f"no topic {', '.join(lacking)} among {len(target_names)}")
    roots = scipy.sparse.csr_array(target)[:, [list(target_names).index(root) for root in RCV1_ROOTS]].toarray() > 0
    single = np.flatnonzero(roots.sum(axis=1) == 1)
    X = scipy.sparse.csr_array(X)[single]
    in_rows = np.bincount(X.indices[X.data != 0], minlength=X.shape[1])
    X = X[:, _most(in_rows)].astype(np.float32)
    norm = np.sqrt(X.multiply(X).sum(axis=1))
    X.data *= np.repeat(np.sqrt(np.float32(N_WORDS)) / np.where(norm > 0, norm, 1), np.diff(X.indptr)).astype(np.float32)
    return X, roots[single].argmax(axis=1)


# --- Reuters ------------------------------------------------------------------------------------

REUTERS_TOPICS = ("earn", "acq", "crude", "trade")  # by size
N_WORDS = 2000


def parse_reuters(data: bytes) -> list[tuple[list[str], str]]:
    """The topics and the text of every story in an SGML file of Reuters-21578.

    The text is all between the TEXT tags but the AUTHOR and the DATELINE: title and body, one of the two, or
    neither where the story was not taken apart.
    """
    text = data.decode("latin-1")  # a few bytes are not ASCII, and the collection doesn't say what they are
    stories = re.findall(r"<REUTERS (?:.*?)>(.*?)</REUTERS>", text, re.DOTALL)
    if not text.startswith("<!DOCTYPE lewis") or not len(stories) == text.count("<REUTERS ") == text.count("</REUTERS>"):
        raise DataCorrupted("not an SGML file of Reuters-21578, or cut short")
    found = []
    for story in stories:
        topics = re.findall(r"<TOPICS>(.*?)</TOPICS>", story, re.DOTALL)
        body = re.findall(r"<TEXT.*?>(.*?)</TEXT>", story, re.DOTALL)
        if len(topics) != 1 or len(body) != 1:
            raise DataCorrupted(f"a story with {len(topics)} lists of topics and {len(body)} texts")
        plain = re.sub(r"<(AUTHOR|DATELINE)>.*?</\1>|<[^>]+>", " ", body[0], flags=re.DOTALL)
        found.append((re.findall(r"<D>(.*?)</D>", topics[0]), html.unescape(plain)))
    return found


def read_reuters(contents: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """The SGML files: stories with one of REUTERS_TOPICS as their only topic, as weights of N_WORDS words."""
    stories = [story for data in contents for story in parse_reuters(data)]
    chosen = [(topics[0], text) for topics, text in stories if len(topics) == 1 and topics[0] in REUTERS_TOPICS]
    y = np.array([REUTERS_TOPICS.index(topic) for topic, _ in chosen], np.int64)
    return word_weights(text for _, text in chosen), y


def word_weights(texts: Iterable[str]) -> np.ndarray:
    """Tf-idf of the words with the highest counts, float32 (n, N_WORDS), rows of norm sqrt(N_WORDS).

    Of words with equal counts the first ones in the alphabet. scikit-learn's ``max_features`` leaves such ties to
    numpy's sort, which settles them otherwise with AVX-512 than with AVX2.
    """
    from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer

    counts = CountVectorizer(token_pattern=r"\b[a-z]{2,}\b", stop_words="english").fit_transform(texts)  # A to Z
    weights = TfidfTransformer(sublinear_tf=True, norm="l2").fit_transform(counts[:, _most(np.asarray(counts.sum(axis=0)).ravel())])
    return (weights.toarray() * np.sqrt(N_WORDS)).astype(np.float32)


def _most(counts: np.ndarray) -> np.ndarray:
    """The N_WORDS columns with the highest counts, in their own order; of equal counts the first ones."""
    return np.sort(np.argsort(-counts, kind="stable")[:N_WORDS])
