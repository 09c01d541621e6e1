"""The published formats: what the parsers read, and that damaged input is refused.

Fixtures are small, in the layout in which the sets are distributed. Where a copy of a set itself is at hand
(GENCLUST_DATA names a directory with it, or it is in the cache), it is compared with what is known of it.
"""

import io
import os
from pathlib import Path

import numpy as np
import pooch
import pytest

from genclust.datasets import DATASETS, DataCorrupted, DataUnavailable, add, describe, formats, load
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
