"""The published formats: what the parsers read, and that damaged input is refused.

Fixtures are small, in the layout in which the sets are distributed. Where a copy of a set itself is at hand
(GENCLUST_DATA names a directory with it, or it is in the cache), it is compared with what is known of it.
"""

import gzip
import hashlib
import io
import os
import string
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pooch
import pytest
from PIL import Image
from scipy import sparse

from genclust.datasets import DATASETS, DataCorrupted, DataUnavailable, File, add, describe, formats, load, origins
from genclust.datasets.sources import centre_and_divide

OWN_DATA, OWN_CACHE = os.environ.get("GENCLUST_DATA"), os.environ.get("GENCLUST_CACHE") or pooch.os_cache("genclust")


@pytest.fixture(autouse=True)
def isolated(tmp_path, monkeypatch):
    """Each test has a cache of its own, and no data directory."""
    monkeypatch.setenv("GENCLUST_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("GENCLUST_DATA", raising=False)


def copy_of(name, archive=""):
    """A set itself, from the copies that this machine has; nothing is downloaded."""
    for folder in (Path(OWN_CACHE) / name, *([Path(OWN_DATA), Path(OWN_DATA) / archive] if OWN_DATA else [])):
        try:
            add(name, folder)
        except FileNotFoundError:
            continue
        return load(name)
    pytest.skip(f"no copy of {name} here: set GENCLUST_DATA to a directory with one")


# --- CIFAR-10 -------------------------------------------------------------------------------------


def tar_of(members):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def cifar_batches():
    """Two records in each batch, with known pixels."""
    rng = np.random.RandomState(1)
    labels, images = rng.randint(0, 10, (6, 2)), rng.randint(0, 256, (6, 2, 3, 32, 32)).astype(np.uint8)
    batches = {f"cifar-10-batches-bin/{name}": b"".join(bytes([label]) + image.tobytes() for label, image in zip(*batch))
               for name, *batch in zip(formats.CIFAR_BATCHES, labels, images)}
    return batches, labels.ravel(), images.reshape(12, 3, 32, 32)


def test_cifar_pixels_lie_side_by_side():
    batches, labels, images = cifar_batches()
    shuffled = dict(sorted(batches.items(), reverse=True)) | {"cifar-10-batches-bin/batches.meta.txt": b"airplane\n"}
    X, y = formats.read_cifar([tar_of(shuffled)])
    assert X.shape == (12, 3072) and X.dtype == np.uint8 and y.tolist() == labels.tolist()
    rows = X.reshape(12, *describe("cifar10").image_shape)
    for colour in range(3):
        assert np.array_equal(rows[:, :, :, colour], images[:, colour])


def cifar_damage():
    batches, _, _ = cifar_batches()
    first = "cifar-10-batches-bin/data_batch_1.bin"
    whole = tar_of(batches)
    return [b"", whole[: len(whole) // 2], tar_of({name: data for name, data in batches.items() if name != first}),
            tar_of(batches | {first: batches[first][:-1]}), tar_of(batches | {first: b"\x0a" + batches[first][1:]})]


@pytest.mark.parametrize("damage", cifar_damage())
def test_cifar_damaged(damage):
    with pytest.raises(DataCorrupted):
        formats.read_cifar([damage])


def test_a_part_of_an_archive_has_a_digest_of_its_own(tmp_path, monkeypatch):
    archive, (_, labels, _) = tar_of(cifar_batches()[0]), cifar_batches()
    file = File("cifar-10-binary.tar.gz", len(archive), hashlib.sha256(archive).hexdigest())
    for name, n in (("cifar10", 12), ("cifar10_train", 10)):
        monkeypatch.setitem(DATASETS, name, replace(DATASETS[name], files=(file,), n=n))
    (tmp_path / "any.name").write_bytes(archive)
    add("cifar10", tmp_path / "any.name")  # the only file of a set may have any name
    whole, part = load("cifar10"), load("cifar10_train")
    assert whole.X.shape == (12, 3072) and part.X.shape == (10, 3072) and whole.y.tolist() == labels.tolist()
    assert np.array_equal(part.X, whole.X[:10]) and part.digest != whole.digest
    assert whole.X.dtype == np.float32 and 0 <= whole.X.min() and whole.X.max() == 1
    monkeypatch.setitem(DATASETS, "cifar10", replace(DATASETS["cifar10"], n=13))
    with pytest.raises(DataCorrupted, match="13 rows of 3072 features.*12"):
        load("cifar10")


def jpeg(colour, size=32, kind="JPEG"):
    stream = io.BytesIO()
    Image.new("RGB", (size, size), colour).save(stream, kind, quality=100)
    return stream.getvalue()


RED, BLUE, GREY = (250, 0, 0), (0, 0, 250), (9, 9, 9)
FOLDER = {"test/airplane/0000.jpg": jpeg(GREY), "train/truck/0000.jpg": jpeg(RED), "train/bird/0001.jpg": jpeg(RED),
          "train/bird/0000.jpg": jpeg(BLUE), "README.md": b"# of no concern"}


def test_cifar_in_jpeg_is_ordered_by_part_class_and_name():
    X, y = formats.read_cifar_jpeg([tar_of(FOLDER)])
    assert X.shape == (4, 3072) and X.dtype == np.uint8 and y.tolist() == [2, 2, 9, 0]
    for row, colour in zip(X.reshape(4, 1024, 3), (BLUE, RED, RED, GREY)):
        assert np.abs(row.astype(int) - colour).max() <= 3  # JPEG, even of one colour


@pytest.mark.parametrize("damage", [
    b"", tar_of(FOLDER)[:300], tar_of({}), tar_of(FOLDER | {"train/bird/0002.jpg": jpeg(RED)[:300]}),
    tar_of(FOLDER | {"train/bird/0002.jpg": b"GIF"}), tar_of(FOLDER | {"train/zebra/0002.jpg": jpeg(RED)}),
    tar_of(FOLDER | {"valid/bird/0002.jpg": jpeg(RED)}), tar_of(FOLDER | {"train/bird/0002.jpg": jpeg(RED, 31)}),
])
def test_cifar_in_jpeg_damaged(damage):
    with pytest.raises(DataCorrupted):
        formats.read_cifar_jpeg([damage])


def test_cifar_in_jpeg_is_no_cifar():
    assert "not those of CIFAR-10" in describe("cifar10_jpeg").about + describe("cifar10_jpeg_train").about
    assert not {f.sha256 for f in describe("cifar10").files} & {f.sha256 for f in describe("cifar10_jpeg").files}


def test_cifar_in_jpeg_itself():
    """Only from a cache that has read it before: to decode 60 000 images takes a while."""
    if not list((Path(OWN_CACHE) / "cifar10_jpeg").glob("read-*.npz")):
        pytest.skip("cifar10_jpeg was never read from this cache")
    data = load("cifar10_jpeg", cache=OWN_CACHE, n_samples=2000)
    assert data.X.shape == (2000, 3072) and data.image_shape == (32, 32, 3)
    means = data.X.reshape(-1, 3).mean(axis=0, dtype=np.float64)
    assert means == pytest.approx([0.4914, 0.4822, 0.4465], abs=0.01)  # of CIFAR-10: colours in their order


# --- Scaling --------------------------------------------------------------------------------------


def test_columns_are_centred_and_divided_by_their_largest_value():
    X = np.array([[0.0, 5.0, 1.0], [2.0, 5.0, 2.0], [7.0, 5.0, 6.0]])  # means 3, 5, 3
    assert np.allclose(centre_and_divide(X), [[-3 / 4, 0, -2 / 3], [-1 / 4, 0, -1 / 3], [1, 0, 1]], atol=1e-15)


# --- Image Segmentation ---------------------------------------------------------------------------

KEEL = b"1.5, -2.0, 9.0, 3\n0.25, 4e-3, 9.0, 1\n-7.0, 0.0, 9.0, 2\n"


def test_keel():
    X, y = formats.read_keel([KEEL])
    assert np.array_equal(X, [[1.5, -2, 9], [0.25, 0.004, 9], [-7, 0, 9]]) and y.tolist() == [2, 0, 1]


@pytest.mark.parametrize("damage", [
    b"", b"\n", KEEL[:-8], KEEL.replace(b", 3", b", 3.5"), KEEL.replace(b", 1", b", 0"), KEEL.replace(b"9.0", b"nan"),
    KEEL.replace(b"-7.0", b"<null>"), b"@relation segment\n" + KEEL, b"1\n2\n",
])
def test_keel_damaged(damage):
    with pytest.raises(DataCorrupted):
        formats.read_keel([damage])


def authors(name):
    """The rows as the authors of GANMM had them."""
    if OWN_DATA is None or not (path := Path(OWN_DATA) / f"{name}.npz").exists():
        pytest.skip(f"no {name}.npz: set GENCLUST_DATA to a directory with one")
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)


def in_order(*columns):
    table = np.column_stack(columns)
    return table[np.lexsort(table.T)]


@pytest.mark.parametrize("name", ["image_segmentation", "artificial_characters"])
def test_ganmm_sets_are_the_authors_rows(name):
    data, theirs = copy_of(name), authors(name)
    assert data.X.shape == theirs["x_raw"].shape == (describe(name).n, describe(name).d)
    where = {str(c).upper(): i for i, c in enumerate(data.class_names)}
    y = [where[c] for c in theirs["class_names"][theirs["y"]]]
    # As sets of rows with their classes, since the two files have the rows in another order.
    assert np.array_equal(in_order(load(name, raw=True).X, data.y), in_order(theirs["x_raw"].astype(np.float32), y))
    assert np.allclose(in_order(data.X, data.y), in_order(theirs["x_authors"].astype(np.float32), y), atol=1e-6)
    assert load(name, raw=True).digest != data.digest


# --- Artificial Characters ------------------------------------------------------------------------


def npz(**arrays):
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


ROWS, LABELS = np.arange(12.0).reshape(4, 3), np.array([0, 1, 1, 0])


def test_npz():
    X, y = formats.read_npz([npz(x_raw=ROWS, x_authors=ROWS, y=LABELS)])
    assert np.array_equal(X, ROWS) and np.array_equal(y, LABELS)


@pytest.mark.parametrize("damage", [
    b"", npz(x_raw=ROWS, y=LABELS)[:-30], npz(x_raw=ROWS), npz(x_raw=ROWS[0], y=LABELS), npz(x_raw=ROWS, y=LABELS[:3]),
    npz(x_raw=ROWS, y=LABELS.astype(float)), npz(x_raw=ROWS.astype(int), y=LABELS),
    npz(x_raw=np.array([[None] * 3] * 4), y=LABELS),  # which only a pickle could hold
])
def test_npz_damaged(damage):
    with pytest.raises(DataCorrupted):
        formats.read_npz([damage])


LETTERS = np.array([  # x1 y1 x2 y2 length diagonal: two Ls and an E of one diagonal, two Cs of one, two Gs of one
    [0, 0, 0, 9, 9, 15.0], [0, 0, 9, 0, 9, 15], [0, 9, 1, 9, 1, 15],
    [0, 0, 0, 8, 8, 15], [0, 0, 8, 0, 8, 15], [0, 8, 1, 8, 1, 15],
    [0, 0, 0, 9, 9, 15], [0, 0, 5, 0, 5, 15],
    [7, 0, 2, 3, 6, 12], [2, 3, 2, 9, 6, 12],
    [8, 0, 2, 4, 7, 12],
    [8, 0, 2, 4, 7, 13], [8, 0, 9, 4, 4, 13], [9, 4, 6, 4, 3, 13],
    [9, 0, 2, 4, 8, 13],
])
OF = np.array([7, 7, 7, 7, 7, 7, 3, 3, 1, 1, 1, 5, 5, 5, 5])


def test_letters():
    X, y = formats.read_letters([npz(x_raw=LETTERS, y=OF)])
    assert X.shape == (7, 41) and y.tolist() == [7, 7, 3, 1, 1, 5, 5]
    assert X[:, -1].tolist() == [15, 15, 15, 12, 12, 13, 13]
    for row, (a, b) in zip(X, ((0, 3), (3, 6), (6, 8), (8, 10), (10, 11), (11, 14), (14, 15))):
        assert np.array_equal(row[: 5 * (b - a)], LETTERS[a:b, :5].ravel()) and not row[5 * (b - a):-1].any()
    with pytest.raises(DataCorrupted, match="9 segments"):
        formats.read_letters([npz(x_raw=LETTERS[[0] + [1] * 8], y=OF[[0] + [1] * 8])])


def test_artificial_characters_are_600_letters_a_class():
    copy_of("artificial_characters")
    letters = load("artificial_characters_instances", raw=True)
    assert letters.X.shape == (6000, 41) and np.bincount(letters.y).tolist() == [600] * 10
    segments = letters.X[:, :40].reshape(6000, 8, 5)
    used = segments[:, :, 4] > 0  # lengths
    assert used.sum() == 30_654 and (np.diff(used.astype(int)) <= 0).all()
    counts = {letter: set(used.sum(axis=1)[letters.y == i].tolist()) for i, letter in enumerate(letters.class_names)}
    assert counts == {"A": {5, 6, 7}, "C": {3, 4, 5}, "D": {4, 5, 6}, "E": {5}, "F": {4}, "G": {5, 6, 7}, "H": {5}, "L": {3},
                      "P": {5, 6, 7}, "R": {6, 7, 8}}
    assert load("artificial_characters_instances").digest != load("artificial_characters").digest


def test_what_nobody_serves_is_asked_for(tmp_path):
    with pytest.raises(DataUnavailable, match=r"(?s)absent.*GENCLUST_DATA: not set\n"
                                              "To add.*genclust data add artificial_characters FILE.*artificial_characters.npz"):
        load("artificial_characters")
    (tmp_path / "artificial_characters.npz").write_bytes(npz(x_raw=ROWS, y=LABELS))
    with pytest.raises(DataCorrupted, match="expected SHA-256 a02300"):
        add("artificial_characters", tmp_path / "artificial_characters.npz")


# --- Reuters --------------------------------------------------------------------------------------

STORY = """<REUTERS TOPICS="YES" LEWISSPLIT="TRAIN" CGISPLIT="TRAINING-SET" OLDID="5544" NEWID="{id}">
<DATE>26-FEB-1987 15:01:01.79</DATE>
<TOPICS>{topics}</TOPICS>
<PLACES><D>usa</D></PLACES>
<PEOPLE></PEOPLE>
<UNKNOWN> 
&#5;&#5;&#5;C T</UNKNOWN>
<TEXT{kind}>&#2;
{text}
</TEXT>
</REUTERS>
"""
NEWS = "<TITLE>{}</TITLE>\n<AUTHOR>    By Nobody, Reuters</AUTHOR><DATELINE>    SALVADOR, Feb 26 - </DATELINE><BODY>{}&#3;</BODY>"


def sgml(*stories):
    text = '<!DOCTYPE lewis SYSTEM "lewis.dtd">\n'
    for i, (topics, kind, body) in enumerate(stories):
        text += STORY.format(id=i, topics="".join(f"<D>{t}</D>" for t in topics), kind=kind, text=body)
    return text.encode("latin-1")


STORIES = [
    (["earn"], "", NEWS.format("PROFIT ROSE", "Profit of the bank rose.\nA caf\xe9 &lt;CAFE.O> sold oil 5 times.")),
    (["crude", "trade"], "", NEWS.format("OIL", "Oil, and trade.")),
    (["crude"], ' TYPE="BRIEF"', "<TITLE>OIL OIL OIL PRICES</TITLE>"),
    ([], "", NEWS.format("NOTHING", "On no topic.")),
    (["cocoa"], "", NEWS.format("COCOA", "Cocoa.")),
    (["acq"], ' TYPE="UNPROC"', "bank to buy bank"),
]
SGML = sgml(*STORIES)


def test_reuters_stories():
    stories = formats.parse_reuters(SGML)
    assert [topics for topics, _ in stories] == [topics for topics, _, _ in STORIES]
    words = [text.split() for _, text in stories]
    assert words[0] == "PROFIT ROSE Profit of the bank rose. A caf\xe9 <CAFE.O> sold oil 5 times.".split()
    assert words[2][-4:] == ["OIL", "OIL", "OIL", "PRICES"] and words[5][-4:] == ["bank", "to", "buy", "bank"]


def test_reuters_rows_are_weights_of_words():
    X, y = formats.read_reuters([SGML, sgml((["trade"], "", NEWS.format("TRADE", "The trade of the bank")))])
    assert y.tolist() == [0, 2, 1, 3] and X.dtype == np.float32
    idf = lambda n: 1 + np.log(5 / (1 + n))  # noqa: E731, of a word that n of the four stories have
    prices, oils = idf(1), (1 + np.log(3)) * idf(2)
    row = np.sort(X[1][X[1] > 0]) / np.sqrt(formats.N_WORDS)
    assert np.allclose(row, np.array([prices, oils]) / np.hypot(prices, oils), atol=1e-6)
    assert np.allclose(np.linalg.norm(X, axis=1), np.sqrt(formats.N_WORDS), rtol=1e-6)


def test_of_words_with_equal_counts_the_first_in_the_alphabet_are_taken():
    rare = [a + b + c for a in "bcd" for b in "aeiou" for c in "fghjklmnp"]  # 135 words, once each
    often = [f"{a}{b}zz" for a in string.ascii_lowercase for b in string.ascii_lowercase]
    often = [*often, *(word + "z" for word in often), *(word + "zz" for word in often)][: formats.N_WORDS - 5]
    shuffled = np.random.default_rng(0).permutation(rare)
    X = formats.word_weights([*shuffled, " ".join(often), " ".join(often)])
    assert X.shape == (len(rare) + 2, formats.N_WORDS)
    assert sorted(shuffled[X[: len(rare)].any(axis=1)]) == sorted(rare)[:5]


@pytest.mark.parametrize("damage", [
    b"", b"no DOCTYPE" + SGML, SGML[:-20], SGML[:900], SGML.replace(b"<TOPICS>", b"<TOPIX>", 1),
    SGML.replace(b"</TEXT>", b"", 1), SGML.replace(b"</REUTERS>", b"", 1),
])
def test_reuters_damaged(damage):
    with pytest.raises(DataCorrupted):
        formats.parse_reuters(damage)


def test_reuters_is_added_from_its_archive_and_read_once(monkeypatch):
    data = copy_of("reuters21578", "reuters21578-sgml.tar.gz")
    assert data.X.shape == (7076, 2000) and np.bincount(data.y).tolist() == [3945, 2362, 408, 361]
    assert data.X.dtype == np.float32 and np.mean(data.X**2) == pytest.approx(1) and data.X.any(axis=1).all()
    monkeypatch.setattr(formats, "parse_reuters", None)
    again = load("reuters21578")
    assert np.array_equal(data.X, again.X) and data.digest == again.digest


# --- Human Activity Recognition -------------------------------------------------------------------

HAR_TABLES = {  # numbers as in UCI's files: sixteen characters a cell, a space before each
    "train/X_train.txt": b"  2.8858451e-001 -2.0294171e-002\n  2.7841883e-001 -1.6410568e-002\n",
    "train/y_train.txt": b"5\n5\n",
    "test/X_test.txt": b"  2.5717778e-001 -2.3285230e-002\n",
    "test/y_test.txt": b"6\n",
}


def har(tables):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("UCI HAR Dataset/README.txt", b"of no concern")
        for name, table in tables.items():
            archive.writestr(f"UCI HAR Dataset/{name}", table)
            archive.writestr(f"__MACOSX/UCI HAR Dataset/._{name}", b"of no concern")
    return stream.getvalue()


def test_har():
    X, y = formats.read_har([har(HAR_TABLES)])
    expected = np.array([[0.28858451, -0.020294171], [0.27841883, -0.016410568], [0.25717778, -0.02328523]], np.float32)
    assert np.array_equal(X, expected) and X.dtype == np.float32 and y.tolist() == [4, 4, 5]


@pytest.mark.parametrize("damage", [
    b"", har(HAR_TABLES)[:-30], har({k: v for k, v in HAR_TABLES.items() if k != "test/y_test.txt"}),
    har(HAR_TABLES | {"test/y_test.txt": b"7\n"}), har(HAR_TABLES | {"test/y_test.txt": b"0\n"}),
    har(HAR_TABLES | {"train/y_train.txt": b"5\n"}), har(HAR_TABLES | {"train/y_train.txt": b"5 5\n5 5\n"}),
    har(HAR_TABLES | {"test/X_test.txt": HAR_TABLES["test/X_test.txt"][:18]}), har(HAR_TABLES | {"test/X_test.txt": b"1 x\n"}),
    har(HAR_TABLES | {"test/X_test.txt": b"1 nan\n"}),
])
def test_har_damaged(damage):
    with pytest.raises(DataCorrupted):
        formats.read_har([damage])


def test_har_is_added_from_the_archive_within_ucis_archive(tmp_path, monkeypatch):
    inner, outer = har(HAR_TABLES), io.BytesIO()
    with zipfile.ZipFile(outer, "w") as archive:
        archive.writestr("UCI HAR Dataset.zip", inner)
        archive.writestr("UCI HAR Dataset.names", b"of no concern")
    (tmp_path / "har.zip").write_bytes(outer.getvalue())
    file = File("UCI HAR Dataset.zip", len(inner), hashlib.sha256(inner).hexdigest())
    monkeypatch.setitem(DATASETS, "hhar", replace(describe("hhar"), files=(file,), n=3, d=2))
    add("hhar", tmp_path / "har.zip")
    assert load("hhar").y.tolist() == [4, 4, 5] and load("hhar").X.shape == (3, 2)


# --- RCV1 -----------------------------------------------------------------------------------------

TOPICS = ["C11", "CCAT", "E12", "ECAT", "GCAT", "M11", "MCAT"]  # roots among the others, in the order of the alphabet
VECTORS = np.zeros((7, formats.RCV1_TERMS), np.float32)
VECTORS[:, [3, 8, 47_235]] = [[0.6, 0.8, 0], [0, 0.1, 0], [0.5, 0, 0], [0, 0.2, 0.3], [0, 0, 0.4], [0.7, 0.7, 0.7], [0, 0, 0]]
TARGET = np.array([[1, 1, 0, 0, 0, 0, 0], [0, 0, 1, 1, 0, 0, 0], [0, 1, 0, 0, 1, 0, 0], [0, 0, 0, 0, 0, 1, 1],
                   [0, 0, 0, 0, 1, 0, 0], [0, 1, 0, 0, 0, 0, 0], [0, 0, 0, 1, 0, 0, 0]], np.uint8)
SINGLE = [0, 1, 3, 4, 5, 6]  # the third story has two roots


@pytest.fixture
def two_words(monkeypatch):
    monkeypatch.setattr(formats, "N_WORDS", 2)


@pytest.mark.parametrize("layout", [np.asarray, sparse.csr_matrix, sparse.csr_array])
def test_rcv1_selection(layout, two_words):
    X, y = formats.select_rcv1(layout(VECTORS.astype(float)), layout(TARGET), np.array(TOPICS, dtype=object))
    assert sparse.issparse(X) and X.dtype == np.float32 and y.tolist() == [0, 1, 3, 2, 0, 1]
    # Of the three terms, 8 is in four of the six stories, 47 235 in three and 3 in two.
    assert np.allclose(X.toarray(), np.sqrt(2) * np.array(
        [[1, 0], [1, 0], [0.2 / 0.13**0.5, 0.3 / 0.13**0.5], [0, 1], [0.5**0.5, 0.5**0.5], [0, 0]]), atol=1e-6)


def test_rcv1_selection_needs_the_root_topics(two_words):
    with pytest.raises(DataCorrupted, match="no topic GCAT, MCAT"):
        formats.select_rcv1(sparse.csr_matrix(VECTORS), sparse.csr_matrix(TARGET[:, :4]), TOPICS[:4])


def rcv1_files():
    """The layout of the published files: the training part and four test parts, then topics by story."""
    stories = np.array([2286, 2290, 26151, 26160, 300000, 500000, 810000])
    parts = [(0, 2), (2, 3), (3, 4), (4, 6), (6, 7)]
    vectors = ["".join(f"{stories[i]}  " + " ".join(f"{t + 1}:{VECTORS[i, t]:.17g}" for t in np.flatnonzero(VECTORS[i])) + "\n"
                       for i in range(*part)) for part in parts]
    topics = "".join(f"{TOPICS[t]} {stories[i]} 1\n" for i in range(7) for t in np.flatnonzero(TARGET[i]))
    return [gzip.compress(text.encode()) for text in (*vectors, topics)]


def test_rcv1_files(two_words):
    X, y = formats.read_rcv1(rcv1_files())
    expected, labels = formats.select_rcv1(VECTORS, TARGET, TOPICS)
    assert np.allclose(X.toarray(), expected.toarray(), atol=1e-6) and y.tolist() == labels.tolist()


@pytest.mark.parametrize("damage", [
    lambda files: [files[0][:-9], *files[1:]], lambda files: [b"text", *files[1:]], lambda files: [*files[:-1], files[-1][:-9]],
    lambda files: [gzip.compress(b"2286 1:a\n"), *files[1:]], lambda files: [gzip.compress(b"2286 0:1\n"), *files[1:]],
    lambda files: [*files[:-1], gzip.compress(b"CCAT 2286\n")], lambda files: [*files[:-1], gzip.compress(b"CCAT 17 1\n")],
])
def test_rcv1_files_damaged(damage, two_words):
    with pytest.raises(DataCorrupted):
        formats.read_rcv1(damage(rcv1_files()))


def test_rcv1_is_sparse_and_its_part_is_dense(two_words, tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "drawn", lambda n, n_samples, seed: np.array([1, 4]))
    contents = rcv1_files()
    files = tuple(replace(file, sha256=hashlib.sha256(data).hexdigest()) for file, data in zip(describe("rcv1").files, contents))
    for name, n in (("rcv1", 6), ("rcv1_10k", 2)):
        monkeypatch.setitem(DATASETS, name, replace(describe(name), files=files, n=n, d=2))
    for file, data in zip(files, contents):
        (tmp_path / file.name).write_bytes(data)
    add("rcv1", tmp_path)
    for _ in range(2):  # read, then kept
        whole, part = load("rcv1"), load("rcv1_10k")
        assert sparse.issparse(whole.X) and whole.X.dtype == np.float32 and whole.X.shape == (6, 2)
        assert isinstance(part.X, np.ndarray) and np.array_equal(part.X, whole.X[[1, 4]].toarray())
        assert part.y.tolist() == whole.y[[1, 4]].tolist() and part.digest != whole.digest
        monkeypatch.setattr(formats, "select_rcv1", None)
    drawn = load("rcv1", n_samples=3)
    assert sparse.issparse(drawn.X) and drawn.X.shape == (3, 2) and drawn.y.shape == (3,)


def test_files_with_addresses_of_their_own(tmp_path, monkeypatch):
    asked = []

    def get(address, path):
        asked.append(address)
        raise OSError("no network")

    monkeypatch.setattr(origins, "_get", get)
    with pytest.raises(DataUnavailable, match="the addresses of its files: no network\n"):
        load("rcv1")
    assert asked == [describe("rcv1").files[0].address]
