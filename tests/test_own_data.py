"""The user's own data: arrays and folders of images, under a name of the user's choice."""

import io
import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from genclust import datasets
from genclust.datasets import DataCorrupted, add, load, names, verify
from genclust.lab.chapters import execute_chapter
from genclust.lab.data_cli import app

RNG = np.random.default_rng(0)
X = RNG.normal(size=(6, 4))
WORDS = np.array(["b", "a", "b", "c", "a", "a"])


@pytest.fixture(autouse=True)
def isolated(tmp_path, monkeypatch):
    monkeypatch.setenv("GENCLUST_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def npz(tmp_path):
    def write(**arrays):
        np.savez(tmp_path / "given.npz", **arrays)
        return tmp_path / "given.npz"

    return write


def picture(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


def test_an_array_without_labels(tmp_path):
    np.save(tmp_path / "given.npy", X)
    add("mine", tmp_path / "given.npy")
    data = load("mine")
    assert data.X.dtype == np.float32 and np.array_equal(data.X, X.astype(np.float32))
    described = datasets.describe("mine")
    assert (described.n, described.d, described.n_classes) == (6, 4, 0) and datasets.is_cached("mine")
    for call in (datasets.describe, datasets.is_cached, datasets.fetch):  # in another cache
        with pytest.raises(ValueError, match="there is no data set 'mine'"):
            call("mine", cache=tmp_path / "other")
    assert data.name == "mine" and data.y is None and data.class_names == () and data.image_shape is None
    few = load("mine", n_samples=2, seed=3)
    assert few.X.shape == (2, 4) and few.y is None and few.digest != data.digest
    with pytest.raises(ValueError, match="gives 1 to 6 rows"):
        load("mine", n_samples=7)


@pytest.mark.parametrize(("y", "classes", "labels"), [
    (WORDS, ("a", "b", "c"), [1, 0, 1, 2, 0, 0]), (np.array([7, 3, 7, 7, 3, 9]), ("3", "7", "9"), [1, 0, 1, 1, 0, 2])])
def test_labels_are_numbered_by_class(y, classes, labels, npz):
    add("mine-2_b", npz(X=X, y=y))
    data = load("mine-2_b")
    assert data.class_names == classes and data.y.tolist() == labels and data.y.dtype == np.int64
    drawn = load("mine-2_b", n_samples=3)
    assert np.array_equal(drawn.y, [data.y[(data.X == row).all(axis=1)][0] for row in drawn.X])


@pytest.mark.parametrize("shape", [(3, 4, 5), (3, 4, 5, 3)])
def test_arrays_of_images(shape, npz):
    pixels = RNG.integers(0, 256, shape).astype(np.uint8)
    add("mine", npz(X=pixels))
    data = load("mine")
    assert data.image_shape == shape[1:] and data.X.dtype == np.float32
    assert np.array_equal(data.X.reshape(shape), pixels / np.float32(255))


def test_a_folder_of_classes_in_colour(tmp_path):
    pixels = RNG.integers(0, 256, (3, 4, 5, 3)).astype(np.uint8)
    for name, image in zip(("dog/1.png", "cat/2.png", "cat/1.png"), pixels):
        picture(tmp_path / "given" / name, image)
    (tmp_path / "given" / ".hidden").mkdir()
    add("mine", tmp_path / "given")
    data = load("mine")
    assert data.class_names == ("cat", "dog") and data.y.tolist() == [0, 0, 1] and data.image_shape == (4, 5, 3)
    assert np.array_equal(np.rint(data.X * 255).astype(np.uint8).reshape(3, 4, 5, 3), pixels[[2, 1, 0]])


def test_a_flat_folder_in_grey(tmp_path):
    pixels = RNG.integers(0, 256, (2, 4, 5)).astype(np.uint8)
    for name, image in zip("ab", pixels):
        picture(tmp_path / "given" / f"{name}.png", image)
    add("mine", tmp_path / "given")
    data = load("mine")
    assert data.y is None and data.image_shape == (4, 5)
    assert np.array_equal(np.rint(data.X * 255).astype(np.uint8).reshape(2, 4, 5), pixels)
    picture(tmp_path / "given" / "c.png", RNG.integers(0, 256, (4, 5, 3)).astype(np.uint8))  # one in colour: then all
    add("mine", tmp_path / "given")
    assert load("mine").image_shape == (4, 5, 3) and load("mine").X.shape == (3, 60)  # in place of what was there
    grey = load("mine").X[0].reshape(4, 5, 3)
    assert np.array_equal(grey, np.repeat(pixels[0][..., None] / np.float32(255), 3, axis=2))


@pytest.mark.parametrize(("arrays", "words"), [
    (dict(Y=X), "no array X, but Y"),
    (dict(X=X[0]), r"float64 of shape \(4,\)"),
    (dict(X=X[:1]), "n at least 2"),
    (dict(X=X[:, :0]), r"shape \(6, 0\)"),
    (dict(X=WORDS[:, None]), "has to be numbers"),
    (dict(X=X * 1j), "has to be numbers"),
    (dict(X=np.where(X == X[2, 1], np.nan, X)), "not finite.*row 2"),
    (dict(X=np.where(X == X[5, 1], 1e39, X)), "not finite in single precision, the first in row 5"),
    (dict(X=np.zeros((2, 3, 4, 2))), r"\(2, 3, 4, 2\)"),
    (dict(X=X, y=WORDS[:5]), "one for each of the 6 rows"),
    (dict(X=X, y=X), "labels are whole numbers or words"),
    (dict(X=X, y=np.arange(6.0)), "labels are whole numbers or words"),
    (dict(X=np.array([[None] * 4] * 6, dtype=object)), "cannot be taken: it .*holds Python objects"),  # which only a pickle could hold
])
def test_arrays_that_are_refused(arrays, words, npz):
    path = npz(**arrays)
    with pytest.raises(ValueError, match=words) as caught:
        add("mine", path)
    assert str(path) in str(caught.value) and "mine" not in datasets.own.names()


def test_files_that_are_refused(tmp_path, npz):
    (tmp_path / "given.csv").write_text("1,2\n")
    (tmp_path / "text.npz").write_text("1,2\n")
    (tmp_path / "cut.npz").write_bytes(npz(X=X).read_bytes()[:-50])
    (tmp_path / "cut.npy").write_bytes(b"\x93NUMPY\x01\x00")
    (tmp_path / "empty").mkdir()
    picture(tmp_path / "both" / "a.png", np.zeros((2, 2), np.uint8))
    picture(tmp_path / "both" / "sub" / "a.png", np.zeros((2, 2), np.uint8))
    picture(tmp_path / "partly" / "one" / "a.png", np.zeros((2, 2), np.uint8))
    (tmp_path / "partly" / "two").mkdir()
    picture(tmp_path / "sizes" / "a.png", np.zeros((2, 2), np.uint8))
    picture(tmp_path / "sizes" / "b.png", np.zeros((2, 3), np.uint8))
    picture(tmp_path / "broken" / "a.png", np.zeros((2, 2), np.uint8))
    (tmp_path / "broken" / "b.png").write_bytes((tmp_path / "broken" / "a.png").read_bytes()[:40])
    for name, words in (("given.csv", "not of a known kind. Expected a .npy"), ("cut.npz", "cannot be taken"),
                        ("text.npz", "cannot be taken: it is not in NumPy's format, or holds Python objects, which are not read. Expected a"),
                        ("cut.npy", "cannot be taken"), ("empty", "holds no images"), ("both", "holds images beside folders"),
                        ("partly", "without images: two"), ("sizes", "a.png is 2 by 2, .*b.png is 3 by 2"),
                        ("broken", "b.png is no image that could be read")):
        with pytest.raises(ValueError, match=words):
            add("mine", tmp_path / name)
    with pytest.raises(FileNotFoundError, match="nowhere does not exist. Expected"):
        add("mine", tmp_path / "nowhere")
    assert datasets.own.names() == ()


@pytest.mark.parametrize(("number", "mode"), [(np.uint16, "I;16"), (np.int32, "I"), (np.float32, "F")])
def test_images_of_more_than_a_byte_a_pixel_are_refused(number, mode, tmp_path):
    picture(tmp_path / "given" / "a.tif", np.zeros((2, 2), np.uint8))
    picture(tmp_path / "given" / "b.tif", 1000 * np.arange(4).reshape(2, 2).astype(number))
    with pytest.raises(ValueError, match=f"b.tif has mode {mode}, which is not a byte a pixel: convert the images to 8 bits"):
        add("mine", tmp_path / "given")


@pytest.mark.parametrize("name", ["", "../mine", "a/b", ".mine", "a b", "mine.npz"])
def test_names_that_are_refused(name, npz):
    with pytest.raises(ValueError, match="letters, digits"):
        add(name, npz(X=X))


def test_a_slip_in_a_known_name_is_told(tmp_path, npz):
    with pytest.raises(ValueError, match="Did you mean mnist.*Nor can it be added: .*nowhere does not exist"):
        add("mnits", tmp_path / "nowhere")
    add("mnist-of-mine", npz(X=X))
    with pytest.raises(FileNotFoundError, match="^(?!.*Did you mean)"):  # it has been added before, so it is no slip
        add("mnist-of-mine", tmp_path / "nowhere")
    with pytest.raises(ValueError, match="there is no data set 'mine'"):
        load("mine")


@pytest.mark.parametrize("altered", [None, "X", "class_names", "image_shape"])
def test_a_damaged_file_is_refused(altered, npz):
    file = add("mine", npz(X=X, y=WORDS))
    data = file.read_bytes()
    if altered:  # a sound archive of other rows, of classes in another order, of images
        with np.load(file) as arrays:
            stream = io.BytesIO()
            other = {"X": arrays["X"] + 1, "class_names": arrays["class_names"][::-1], "image_shape": np.array([2, 2])}
            np.savez(stream, **dict(arrays) | {altered: other[altered]})
        file.write_bytes(stream.getvalue())
    else:
        file.write_bytes(data[: len(data) // 2])
    with pytest.raises(DataCorrupted, match="genclust data add mine PATH"):
        load("mine")
    assert verify("mine")[0].state == "corrupt"
    file.write_bytes(data)
    assert [(s.name, s.state) for s in verify("mine")] == [("mine", "ok")]


def test_the_command_line(npz):
    run = lambda *words: CliRunner().invoke(app, list(words))  # noqa: E731
    result = run("add", "mine", str(npz(X=X, y=WORDS)))
    assert result.exit_code == 0 and result.stdout.startswith("mine: ")
    assert run("list").stdout.splitlines()[-1].split() == ["mine", "6", "4", "3", "yes", "your", "own"]
    result = run("verify")
    assert result.exit_code == 0 and result.stdout.splitlines()[-1] == "mine: ok"
    assert "mine" not in names()  # which are the sets that everyone has
    result = run("fetch", "mine")
    assert result.exit_code == 0 and result.stdout.split() == ["mine:", str(datasets.fetch("mine"))]
    file = datasets.add("other", npz(X=X))
    file.write_bytes(file.read_bytes()[:100])
    result = run("list")
    assert result.exit_code == 0 and "genclust data add other PATH" in result.stderr
    assert [line.split()[:5] for line in result.stdout.splitlines()[-2:]] == [["mine", "6", "4", "3", "yes"], ["other", "-", "-", "-", "damaged"]]
    result = run("add", "mine", str(npz(Y=X)))
    assert result.exit_code == 1 and result.stderr.startswith("error: ") and "no array X" in result.stderr


def test_the_gallery_runs_on_images_of_ones_own(npz, tmp_path):
    """Of an odd side and without labels: what can't take them has the photographs, and says why."""
    add("mine", npz(X=RNG.integers(0, 256, (40, 9, 12, 3)).astype(np.uint8)))
    done = execute_chapter("gallery", {"profile": "smoke", "dataset": "mine"}, tmp_path / "done.ipynb", progress=False)
    outputs = [output for cell in json.loads(done.read_text())["cells"] for output in cell.get("outputs", [])]
    said = [line for output in outputs for line in ["".join(output.get("data", {}).get("text/markdown", ""))] if line]
    assert any("images are those of **mine**" in line for line in said) and any("mine has no labels" in line for line in said)
    instead = [line for line in said if "fitted to the photographs" in line]
    assert len(instead) == 1 and instead[0].startswith("OT, convolutions") and "image_shape=(9, 12, 3)" in instead[0]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 6
