"""Chapters: parameters that are refused, notebooks that do what they are told, and pairs in step."""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jupytext
import nbformat
import numpy as np
import pytest
from typer.testing import CliRunner

from genclust.datasets import DataUnavailable, add, load
from genclust.lab import plots
from genclust.lab.chapters import ParameterError, check_parameters, execute_chapter, notebook_parameters
from genclust.lab.papers import CHAPTERS
from genclust.lab.cli import app
from genclust.lab.records import RecordStore

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.py"))
BAD = [
    ({"n_cluster": 7}, ["n_cluster", "n_clusters"]),
    ({"n_clusters": "seven"}, ["'n_clusters'", "'seven'", "integer", "from 2"]),
    ({"n_clusters": 1}, ["'n_clusters'", "from 2"]),
    ({"n_clusters": 7.0}, ["'n_clusters'", "7.0"]),
    ({"n_clusters": True}, ["'n_clusters'", "True"]),
    ({"dataset": "minst"}, ["'dataset'", "'minst'", "fashion_mnist"]),
    ({"dataset": "cifar10"}, ["'dataset'", "'cifar10'", "fashion_mnist"]),  # a set, but not of this chapter
    ({"n_samples": 70_001}, ["'n_samples'", "70001", "mnist has 70000 rows"]),
    ({"n_samples": 100, "n_clusters": 101}, ["'n_clusters'", "101", "100 rows"]),
    ({"profile": "fast"}, ["'profile'", "'fast'", "quick"]),
    ({"seed": -1}, ["'seed'", "from 0"]),
    ({"epochs": 0}, ["'epochs'", "from 1", "None"]),
]


def project(folder: Path) -> Path:
    """A checkout with the book's own sources, and folders for output of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("_toc.yml", "_config.yml", "_static", "book", "notebooks", "constraints.txt"):
        (folder / name).symlink_to(ROOT / name)
    return folder


def papermill(folder: Path, *words: str) -> subprocess.CompletedProcess:
    """The papermill command as the README has it, on the real notebook."""
    command = [sys.executable, "-m", "papermill", "notebooks/01_vade.ipynb", "out.ipynb", "--no-progress-bar", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=400,
                          env=os.environ | {"GENCLUST_PROJECT": str(folder)})


def titles(store: RecordStore) -> list[tuple]:
    return [(r.spec.dataset, r.spec.method, r.spec.params["n_clusters"], r.spec.profile) for r in store.all()]


@pytest.mark.parametrize("given, words", BAD)
def test_a_parameter_that_can_not_be_is_refused_by_name(given, words):
    with pytest.raises(ParameterError) as error:
        check_parameters("vade", given)
    assert all(word in str(error.value) for word in words), error.value


def test_the_gallery_refuses_a_data_set_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setenv("GENCLUST_CACHE", str(tmp_path))
    with pytest.raises(ParameterError, match="'dataset' can't be 'minst': there is no data set 'minst'. Did you mean mnist.*genclust data add"):
        check_parameters("gallery", {"dataset": "minst"})
    np.save(tmp_path / "given.npy", np.eye(4))
    add("minst", tmp_path / "given.npy")
    assert check_parameters("gallery", {"dataset": "minst"}).dataset == "minst"


@pytest.mark.parametrize("given, words", BAD[:3])
def test_the_command_line_refuses_before_any_work(given, words, tmp_path, monkeypatch):
    monkeypatch.setattr("papermill.execute_notebook", lambda *a, **k: pytest.fail("executed"))
    (name, value), = given.items()
    result = CliRunner().invoke(app, ["chapter", "vade", "-p", f"{name}={value}", "-o", str(tmp_path / "out.ipynb")])
    assert result.exit_code == 1 and words[0].strip("'") in str(result.exception) and not list(tmp_path.iterdir())


def test_a_cell_that_fails_is_named_with_its_error(tmp_path, monkeypatch):
    from papermill import PapermillExecutionError

    def fails(source, done, **options):
        shutil.copyfile(source, done)
        raise PapermillExecutionError(7, 4, "1 / 0", "ZeroDivisionError", "division by zero", [])

    monkeypatch.setattr("papermill.execute_notebook", fails)
    with pytest.raises(RuntimeError, match=r"01_vade.ipynb, cell 7: ZeroDivisionError: division by zero\n.*out.failed.ipynb"):
        execute_chapter("vade", {}, tmp_path / "out.ipynb")
    assert (tmp_path / "out.failed.ipynb").exists() and not (tmp_path / "out.ipynb").exists()


@pytest.mark.parametrize("words", [["-p", "n_cluster", "7"], ["-p", "n_clusters", "seven"], ["-p", "dataset", "minst"]])
def test_papermill_refuses_before_any_work(words, tmp_path):
    folder = project(tmp_path / "project")
    done = papermill(folder, *words)
    assert done.returncode != 0 and "ParameterError" in done.stderr and words[1] in done.stderr
    assert not (folder / "build").exists(), "work was done before the refusal"
    cells = nbformat.read(folder / "out.ipynb", as_version=4).cells
    run = [c for c in cells if c.cell_type == "code" and c.get("execution_count")]
    assert len(run) == 3, "the parameters, the injected ones, and the check"


def test_a_chapter_of_ones_own_leaves_the_books_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("GENCLUST_PROJECT", str(project(tmp_path)))
    monkeypatch.setattr("papermill.execute_notebook", lambda source, done, **options: shutil.copyfile(source, done))
    assert execute_chapter("vade", {"n_clusters": 14}) == tmp_path / "build" / "own" / "01_vade.ipynb"
    assert not (tmp_path / "build" / "chapters").exists()


def test_the_check_can_be_run_again_in_a_session():
    namespace = dict(profile="quick", dataset="digits", n_clusters=7, seed=0, epochs=None, n_samples=None)
    params = notebook_parameters("vade", namespace)
    assert notebook_parameters("vade", namespace | {"params": params, "np": shutil, "runs": {}}) == params
    with pytest.raises(ParameterError, match="'runs'"):
        notebook_parameters("vade", namespace | {"runs": {}})


def test_papermill_does_what_it_is_told(tmp_path):
    name, rows, pixels = "fashion_mnist", 1000, 784
    try:
        load(name)
    except DataUnavailable:
        name, rows, pixels = "digits", 500, 64  # no source answers: what comes with scikit-learn
    folder = project(tmp_path / "project")
    done = papermill(folder, "-p", "dataset", name, "-p", "n_clusters", "14", "-p", "profile", "smoke")
    assert done.returncode == 0, done.stderr[-3000:]
    store = RecordStore(folder / "build" / "live")
    assert sorted(titles(store)) == [(name, m, 14, "smoke") for m in ("ae+gmm", "gmm", "vade")]
    vade = next(r for r in store.all() if r.spec.method == "vade")
    assert vade.provenance.data == load(name, n_samples=rows).digest
    assert store.arrays(vade)["draws"].shape == (14, 10, pixels)


def test_points_in_the_plane_have_a_chapter_too(tmp_path):
    folder = project(tmp_path / "project")
    done = papermill(folder, "-p", "dataset", "three_moons", "-p", "n_clusters", "3", "-p", "profile", "smoke")
    assert done.returncode == 0, done.stderr[-3000:]


# -- the notebooks as files ------------------------------------------------------------------------------


@pytest.mark.parametrize("source", NOTEBOOKS, ids=lambda p: p.stem)
def test_the_pair_is_in_step_and_without_outputs(source):
    script, notebook = jupytext.read(source), nbformat.read(source.with_suffix(".ipynb"), as_version=4)
    held, written = ([(c.cell_type, c.source, c.metadata.get("tags", []), c.metadata.get("mystnb")) for c in of.cells] for of in (notebook, script))
    assert held == written, "run `make notebooks`"
    assert notebook.metadata.kernelspec.name == "python3" and "papermill" not in notebook.metadata
    for cell in notebook.cells:
        assert not cell.get("outputs") and cell.get("execution_count") is None


def called(node: ast.AST) -> set[str]:
    """The functions that a piece of code calls, as it names them."""
    return {ast.unparse(n.func) for n in ast.walk(node) if isinstance(n, ast.Call)}


@pytest.mark.parametrize("source", NOTEBOOKS, ids=lambda p: p.stem)
def test_every_cell_that_draws_says_in_words_what(source):
    drawing = {f"plots.{name}" for name, f in vars(plots).items() if getattr(f, "__annotations__", {}).get("return") == "plt.Figure"}
    drawing |= {"plots.plt.show", "plots.plt.subplots"}
    alts = []
    for cell in jupytext.read(source).cells:
        for part in ast.parse(cell.source).body if cell.cell_type == "code" else ():
            if isinstance(part, ast.FunctionDef):
                drawing |= {part.name} if called(part) & drawing else set()
            elif called(part) & drawing:
                alts.append(cell.metadata.get("mystnb", {}).get("image", {}).get("alt"))
                assert alts[-1] and len(alts[-1]) > 30, cell.source
    assert alts, "a chapter without a figure"


def test_every_notebook_has_a_chapter_and_every_chapter_a_notebook():
    assert {p.stem for p in NOTEBOOKS} == {c.notebook for c in CHAPTERS.values()}


@pytest.mark.parametrize("name", CHAPTERS)
def test_the_parameters_cell_has_the_defaults_and_no_cell_overwrites_one(name):
    chapter = CHAPTERS[name]
    cells = [c for c in jupytext.read(ROOT / "notebooks" / f"{chapter.notebook}.py").cells if c.cell_type == "code"]
    assert cells[0].metadata.tags == ["parameters"]
    namespace = {}
    exec(cells[0].source, namespace)
    assert notebook_parameters(name, namespace) == chapter.parameters()
    assert set(chapter.parameters.model_fields) <= set(namespace)
    for cell in cells[1:]:
        stored = {n.id for n in ast.walk(ast.parse(cell.source)) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        assert not stored & set(chapter.parameters.model_fields), cell.source
