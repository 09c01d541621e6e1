"""The page on all methods: its protocol, its runs, the selection gap, ranks, tables, and what it says where data are missing."""

import json
import math
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from bs4 import BeautifulSoup
from scipy import stats
from typer.testing import CliRunner

import genclust
from genclust.datasets import DATASETS, DataUnavailable, load
from genclust.lab import book, grid, replay
from genclust.lab.chapters import ParameterError, check_parameters, live_specs
from genclust.lab.cli import app
from genclust.lab.experiments import make_specs, recompute
from genclust.lab.pages import ledgers, status_page
from genclust.lab.papers import CHAPTERS, EXPERIMENTS, METHODS, all_methods
from genclust.lab.ranking import critical_difference, order, ranks
from genclust.lab.records import RecordStore
from genclust.lab.runner import execute
from genclust.lab.selection import mean_and_interval, score_of, selection, selections, told_apart
from genclust.lab.sortable import sortable
from genclust.lab.specs import Spec

ROOT = Path(__file__).resolve().parents[1]


# -- the selection gap ---------------------------------------------------------------------------------


def test_the_gap_is_what_the_best_run_has_over_the_one_that_the_objective_takes():
    found = selection([1.0, 3.0, 2.0], [0.5, 0.6, 0.9])
    assert (found.n, found.chosen, found.oracle, found.median) == (3, 0.6, 0.9, 0.6)
    assert found.gap == pytest.approx(0.3) and found.spread == pytest.approx(0.4) and found.random == pytest.approx(2 / 3)
    assert found.gain == pytest.approx(0.6 - 2 / 3) and found.agreement == pytest.approx(1 / 3)  # two pairs of three agree
    best = selection([-2.0, -1.0], [0.5, 0.7])
    assert best.gap == 0 and best.agreement == 1
    assert selection([1.0, 1.0], [0.5, 0.7]).agreement is None and selection([1.0, 1.0], [0.5, 0.7]).chosen == 0.5


@pytest.mark.parametrize("objectives, scores, words", [([1.0], [0.5], "two or more"), ([1.0, 2.0], [0.5], "2 objectives and 1"),
                                                       ([1.0, math.nan], [0.5, 0.6], "finite")])
def test_no_choice_among_too_few_or_unfinished_runs(objectives, scores, words):
    with pytest.raises(ValueError, match=words):
        selection(objectives, scores)


def head(seed, accuracy, objective, experiment="vade/digits", method="vade", **params):
    spec = dict(paper=experiment.partition("/")[0], experiment=experiment, method=method, dataset=experiment.partition("/")[2],
                profile="paper", seed=seed, n_samples=None, params={"n_clusters": 10, **params})
    return {"spec": spec, "objective": objective, "metrics": accuracy if isinstance(accuracy, dict) else {"accuracy": accuracy},
            "provenance": {"wall_seconds": 2.0 + seed, "peak_memory_mb": 100.0 + seed}}


def test_runs_that_differ_in_more_than_the_seed_are_not_chosen_among():
    heads = [head(0, 0.5, -1.0), head(1, 0.9, -2.0), head(0, 0.7, -1.0, epochs=5), head(1, 0.8, -0.5, epochs=5),
             head(0, 0.3, 0.0, method="gmm"), head(0, {"draws_of_class": 1.0}, 0.0, method="cgan"), head(1, {"draws_of_class": 1.0}, 0.0, method="cgan")]
    found = {(spec.method, spec.params.get("epochs")): c for spec, c in selections(heads)}
    assert found.keys() == {("vade", None), ("vade", 5)}
    assert found["vade", None].gap == pytest.approx(0.4) and found["vade", 5].gap == 0
    assert len(selections(heads, least=3)) == 0


def test_the_same_runs_in_two_chapters_count_once_and_settings_are_told_apart():
    heads = [head(seed, accuracy, -accuracy, experiment=of, **params) for of, params in (
        ("vade/digits", {}), ("wamic/digits", {}), ("wamic/mnist", {})) for seed, accuracy in ((0, 0.5), (1, 0.9))]
    assert [spec.experiment for spec, _ in selections(heads)] == ["vade/digits", "wamic/mnist"]
    heads += [head(seed, 0.6 + (e or 0) + seed / 10, 0.0, epsilon=e) for seed in (0, 1) for e in (0.1, 0.2)]
    specs = [spec for spec, _ in selections(heads)]
    assert told_apart(specs) == ["epsilon unset", "", "epsilon 0.1", "epsilon 0.2"]
    assert told_apart([specs[1], specs[1].model_copy(update={"n_samples": 100})]) == ["all rows", "100 rows"]


def test_noise_counts_as_wrong():
    assert score_of({"accuracy": 0.9, "accuracy_total": 0.4}) == 0.4 and score_of({"accuracy": 0.9}) == 0.9 and score_of({}) is None


def test_the_intervals_hold_the_mean():
    mean, low, high = mean_and_interval([1.0, 2.0, 3.0, 6.0])
    assert mean == 3 and 1 <= low < 3 < high <= 6
    assert mean_and_interval([2.0]) == (2, 2, 2)


def test_what_the_choice_is_worth_is_said_from_the_choices():
    good, bad = selection([1, 2, 3], [0.5, 0.6, 0.9]), selection([3, 2, 1], [0.5, 0.6, 0.9])
    assert "it is worth having" in grid.selection_advice([good] * 3)[0] and "it does harm" in grid.selection_advice([bad] * 3)[0]
    assert "not told apart" in grid.selection_advice([good, bad] * 2)[0] and grid.selection_advice([]) == []
    assert "1.00 (1.00 to 1.00)" in grid.selection_advice([good] * 3)[1]


def test_of_one_or_two_settings_nothing_is_concluded():
    good, flat = selection([1, 2, 3], [0.5, 0.6, 0.9]), selection([1, 1, 1], [0.5, 0.6, 0.9])
    for n, words in ((1, "1 setting is too few"), (2, "2 settings are too few")):
        line, = grid.selection_advice([good] * n)
        assert line.startswith(words) and "interval" not in line and "worth having" not in line
    assert len(grid.selection_advice([good] * 3)) == 2 and len(grid.selection_advice([good, good, flat])) == 1, "two correlations are too few too"


# -- ranks ---------------------------------------------------------------------------------------------

SCORES = np.array([[0.9, 0.8, 0.7, 0.1], [0.6, 0.5, 0.55, 0.2], [0.3, 0.35, 0.2, 0.1], [0.99, 0.7, 0.8, 0.6], [0.5, 0.4, 0.3, 0.2]])


def test_ranks_and_friedmans_test_are_those_of_the_formulas():
    assert ranks(SCORES)[1].tolist() == [1, 3, 2, 4] and ranks(np.array([[0.5, 0.5, 0.1]])).tolist() == [[1.5, 1.5, 3]]
    found = order(SCORES)
    n, k = SCORES.shape
    mean = np.array([6, 11, 13, 20]) / 5
    assert np.allclose(found.mean, mean)
    chi2 = 12 * n / (k * (k + 1)) * ((mean**2).sum() - k * (k + 1) ** 2 / 4)
    assert found.p == pytest.approx(stats.chi2.sf(chi2, k - 1)) and found.p < 0.05
    assert found.first.sum() == pytest.approx(1) and found.first.argmax() == 0 and (found.low <= mean).all() and (mean <= found.high).all()
    assert found.tied_with_best().tolist() == [True, True, True, False]


def test_the_critical_difference_is_that_of_the_published_table():
    assert critical_difference(2, 10) == pytest.approx(1.960 * np.sqrt(2 * 3 / 60), rel=1e-3)
    assert critical_difference(10, 14) == pytest.approx(3.164 * np.sqrt(10 * 11 / (6 * 14)), rel=1e-3)


def test_an_order_needs_differences_and_no_gaps():
    assert order(np.full((3, 4), 0.5)).p == 1
    for scores, words in ((np.array([[0.5, np.nan, 0.1]] * 2), "gaps"), (SCORES[:1], "two sets"), (SCORES[:, :2], "three methods")):
        with pytest.raises(ValueError, match=words):
            order(scores)


# -- the protocol --------------------------------------------------------------------------------------


def test_every_method_is_in_the_grid_or_left_out_with_a_reason():
    here = set(grid.methods())
    assert here | set(all_methods.EXCLUDED) == set(METHODS) and not here & set(all_methods.EXCLUDED)
    assert all(all_methods.EXCLUDED.values()) and not any(METHODS[m].supervised for m in here)
    assert set(all_methods.SETS) <= set(DATASETS)


def test_no_method_has_more_rows_or_steps_on_one_set_than_on_another():
    for name, scale in all_methods.SCALES.items():
        for dataset in all_methods.SETS:
            for spec in make_specs(f"all/{dataset}", profile=name):
                rows = spec.n_samples or DATASETS[dataset].n
                assert rows <= scale.rows and spec.params["n_clusters"] == DATASETS[dataset].n_classes
                METHODS[spec.method].make(0, **spec.params)
                step = rows / all_methods.BATCH.get(spec.method, 256)  # an epoch's
                for key, steps in (("layer_epochs", scale.layer), ("encoder_epochs", scale.joint), ("held_epochs", scale.steps // 4)):
                    if key in spec.params:
                        assert spec.params[key] == 1 or abs(spec.params[key] * step - steps) <= step / 2 + 1e-9, (spec, key)
                if spec.method in ("vade", "vae+gmm", "ot"):
                    wanted = scale.steps if spec.method == "vade" else 3 * scale.layer + scale.joint + scale.steps
                    assert spec.params["epochs"] == 1 or abs(spec.params["epochs"] * step - wanted) <= step / 2 + 1e-9
    assert "hrwae-l1" not in EXPERIMENTS["all/reuters21578"].methods and "ganmm" not in EXPERIMENTS["all/mnist"].methods


def test_the_chapters_parameters_reach_its_runs():
    specs = {s.method: s for s in live_specs(check_parameters("all", {"dataset": "three_moons", "n_clusters": 4, "epochs": 3}), ["kmeans", "vade"])}
    assert specs["vade"].params["epochs"] == 3 and {s.params["n_clusters"] for s in specs.values()} == {4}
    assert live_specs(check_parameters("all", {}), ["vade"])[0].params["n_clusters"] == 10
    with pytest.raises(ParameterError, match="'mine!'"):
        check_parameters("gallery", {"dataset": "mine!"})
    with pytest.raises(ParameterError, match="no data set 'mine'.*genclust data add NAME PATH"):
        check_parameters("gallery", {"dataset": "mine"})
    assert check_parameters("gallery", {"dataset": "digits"}).dataset == "digits"


# -- runs ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A project with the smallest runs of some methods on two sets, recorded as if they were of the paper profile."""
    root = tmp_path_factory.mktemp("all") / "project"
    store = RecordStore(root / "book" / "records")
    (root / "book" / "claims").mkdir(parents=True)
    for dataset, methods in (("digits", ["kmeans", "vade", "sae+ganmm"]), ("three_moons", ["kmeans", "ganmm"])):
        for spec in make_specs(f"all/{dataset}", profile="smoke", methods=methods, seeds=(0, 1) if dataset == "digits" else (0,)):
            execute(Spec(**spec.model_dump() | {"profile": "paper"}), store, root / "work")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grid, "speaking", lambda specs: {spec.id for spec in specs})  # smoke runs that pass for full ones
        yield root, store


def test_a_bare_run_keeps_labels_and_scores_alone_and_shares_nothing(made):
    root, store = made
    records = list(store.all())
    assert len(records) == 8 and not (root / "work" / "pretrained").exists()
    for record in records:
        assert set(store.arrays(record)) == {"labels"} and store.path(record.spec).with_suffix(".npz").stat().st_size < 2000
        assert set(record.metrics) <= {"accuracy", "nmi", "nmi_geometric", "ari", "rand_index", "purity", "n_samples", "n_clusters", "n_classes"}
        assert not any("accuracy" in epoch or "ari" in epoch for epoch in record.history)
        assert recompute(record.spec).startswith(f"genclust run {record.spec.experiment} --profile paper --method {record.spec.method}")


def test_the_runs_replay_and_a_changed_spec_does_not(made):
    _, store = made
    record = store.find(method="vade", experiment="all/digits")[0]
    data = load("digits", n_samples=record.spec.n_samples)
    assert not replay.gaps(record.replay, replay.prefix(record.spec, data.X), "same")
    assert replay.FEW_ROWS < len(data.X)
    changed = Spec(**record.spec.model_dump() | {"params": record.spec.params | {"latent_dim": 9}})
    assert replay.gaps(record.replay, replay.prefix(changed, data.X), "changed")


def test_where_data_are_missing_the_other_records_are_still_replayed(made, monkeypatch, tmp_path):
    root, store = made
    real, asked = load, []

    def without_digits(name, **given):
        asked.append(name)
        if name == "digits":
            raise DataUnavailable("no source gave it")
        return real(name, **given)

    monkeypatch.setattr("genclust.datasets.load", without_digits)
    replay._data.cache_clear()
    notes = tmp_path / "notes.json"
    outcomes = list(replay.verify_all(store, workers=1, notes=notes))
    assert [o.same for o in outcomes].count(None) == 6 and [o.same for o in outcomes].count(True) == 2
    assert asked.count("digits") == 1, "the search for it is not repeated for every record"
    assert len(json.loads(notes.read_text())) == 2, "what could not be tried is tried again next time"
    result = CliRunner().invoke(app, ["verify", "--workers", "1", "--records", str(store.root)])
    assert result.exit_code == 0 and "2 of 8 records replay; 6 can't be replayed here" in result.stdout
    replay._data.cache_clear()


def test_the_generated_pages_need_no_claims_of_it(made, monkeypatch):
    root, store = made
    monkeypatch.setattr("genclust.lab.pages.verify_all", partial(replay.verify_all, workers=1))
    assert "all" not in {ledger.paper for ledger in ledgers(ROOT)} and ledgers(root) == []
    page = status_page([], root)
    assert "## 8 records" in page and page.count("| yes |") == 8
    sources = book.chapter_sources(ROOT, CHAPTERS["all"])
    assert all(p.exists() for p in sources) and {p.parent.name for p in sources} >= {"vade", "wamic", "ganmm", "ot-clustering"}
    assert not any("records" in p.parts for p in book.chapter_sources(ROOT, CHAPTERS["gallery"]))


def test_a_record_that_ends_while_the_pages_are_made_waits_for_the_next(made, monkeypatch, tmp_path):
    _, store = made
    root, (late, *others) = tmp_path, store.paths()
    there = RecordStore(root / "book" / "records")
    for path in others:
        put = there.root / path.relative_to(store.root)
        put.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, put)

    def replayed(given, notes):
        found = [replay.Outcome(path.stem, True, "") for path in given.paths()]
        shutil.copyfile(late, there.root / late.relative_to(store.root))
        return found

    monkeypatch.setattr("genclust.lab.pages.verify_all", replayed)
    assert "## 7 records" in status_page([], root), "the late one is not among them"
    assert "## 8 records" in status_page([], root)


# -- what the page shows -------------------------------------------------------------------------------


def test_a_missing_cell_says_why(made, monkeypatch):
    _, store = made
    monkeypatch.setattr(grid, "is_cached", lambda name: name not in ("hhar", "cifar10_jpeg"))
    found = {(c.method, c.dataset): c for c in grid.cells(store)}
    assert len(found) == len(grid.methods()) * len(all_methods.SETS)
    assert found["hrwae-l1", "reuters21578"].missing == "images only" and "images take hours" in found["ganmm", "mnist"].missing
    assert all("tables of up to 64 features" in found["ganmm", d].missing for d in ("hhar", "reuters21578", "rcv1_10k"))
    assert found["vade", "mnist"].missing == "not run yet" and "data not here (genclust data fetch hhar)" in found["vade", "hhar"].missing
    assert "data not here (genclust data add cifar10_jpeg PATH)" in found["vade", "cifar10_jpeg"].missing
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grid, "why_not_run", lambda dataset: "data not here")
        there = {(c.method, c.dataset): c.missing for c in grid.cells(store)}
    assert there["dec", "digits"] == "not run yet" and there["vade", "mnist"] == "data not here", "where a run of a set is, its data were"
    cell = found["vade", "digits"]
    assert not cell.missing and len(cell.values["accuracy"]) == 2 and cell.mean("accuracy") == np.mean(cell.values["accuracy"])
    monkeypatch.setattr(grid, "speaking", lambda specs: {spec.id for spec in specs if spec.method != "vade"})  # a run with parameters of its own has no cell
    assert {(c.method, c.dataset): c for c in grid.cells(store)}["vade", "digits"].missing == "not run yet"
    scores = grid.matrix(list(found.values()))
    assert scores.shape == (len(grid.methods()), len(all_methods.SETS))
    assert scores[grid.methods().index("vade"), all_methods.SETS.index("digits")] == cell.mean("accuracy")
    assert np.isfinite(scores).sum() == 5
    with pytest.raises(LookupError, match="0 of 10 sets have 3 or more runs of every method"):
        grid.advice(list(found.values()))


def test_numbers_are_sorted_as_numbers_and_words_as_words(made):
    _, store = made
    rows = grid.table_rows(grid.cells(store))
    page = BeautifulSoup(sortable(rows, rows[0]), "html.parser")
    kinds = [th["data-kind"] for th in page.find_all("th")]
    assert kinds == ["text"] * 2 + ["number"] * 7 and len(page.tbody.find_all("tr")) == len(rows)
    for tr, row in zip(page.tbody.find_all("tr"), rows):
        for td, kind, given in zip(tr.find_all("td"), kinds, row.values()):
            if kind == "number":
                key = float(td["data-key"])  # raises where it is none
                assert math.isnan(key) and td.text == given if isinstance(given, str) else (td.text, key) == given
    assert {r["runs"][0] for r in rows} == {"2", "1", "0"} and "images only" in {r["accuracy (%)"] for r in rows}
    assert page.div["id"] in page.script.string and not page.script.get("src") and "http" not in page.script.string


def test_what_is_shown_is_escaped():
    html = sortable([{"a": "<b>", "b": ("1 < 2", 1.0)}, {"a": '"', "b": ""}], ["a", "b"])
    assert "<b>" not in html and "&lt;b&gt;" in html and 'data-key="&quot;"' in html and 'data-key="nan"' in html


def test_memory_is_sorted_by_the_number_that_is_shown():
    rows = grid.table_rows([grid.Cell("vade", "digits", {"accuracy": [0.5, 0.7, 0.6], "wall_seconds": [1.0, 2.0, 6.0], "nmi": [0.5] * 3,
                                                         "ari": [0.5] * 3, "peak_memory_mb": [100.0, 900.4, 200.0]})])
    assert rows[0]["peak memory (MB)"] == ("900", 900.4)
    assert rows[0]["seconds"] == ("3.0\xa0±\xa02.6", 3.0) and rows[0]["runs"] == ("3", 3.0)


def scored(method, dataset, accuracy, seconds=1.0, runs=grid.SEEDS):
    return grid.Cell(method, dataset, {key: [value] * runs for key, value in (
        ("accuracy", accuracy), ("wall_seconds", seconds), ("nmi", 0.5), ("ari", 0.5), ("peak_memory_mb", 1.0))})


def test_the_advice_follows_from_the_cells():
    """VaDE best everywhere; DEC next and quicker; k-means low, WAMiC below it on every set."""
    level = {"vade": 0.9, "dec": 0.89, "wamic": 0.1, "kmeans": 0.3}
    found = [grid.Cell(m, d, {}, "images only") if all_methods.unfit(m, d)
             else scored(m, d, level.get(m, 0.5 + 0.01 * i), 0.5 if m == "dec" else 3.0) for d in all_methods.SETS for i, m in enumerate(grid.methods())]
    lines = "\n".join(grid.advice(found))
    assert "**VaDE has the best mean rank**, 1.0 of 13, over 10 sets; it is first in 100 %" in lines and "is refuted" in lines
    assert "**DEC is the quickest**: 0.5 s a fit on average, where VaDE takes 3.0 s" in lines
    assert "On images (Optical recognition of handwritten digits, MNIST, Fashion-MNIST and CIFAR-10 in JPEG) **VaDE** has the highest mean accuracy, 90.0 %, and DEC the next, 89.0 %" in lines
    assert "better on 10 of 10 sets; WAMiC is worse on 10." in lines
    for few in (grid.Cell("dec", "mnist", {}, "not run yet"), scored("dec", "mnist", 0.9, runs=2)):
        partial = [few if (c.method, c.dataset) == ("dec", "mnist") else c for c in found]
        assert set(all_methods.SETS) - set(grid.ranked(partial).sets) == {"mnist"}, "a set counts where all have three runs"
        assert "Not in this ranking, for want of runs of DEC: MNIST. VaDE is number 1 of the" in "\n".join(grid.advice(partial))
    assert "Not in this ranking" not in lines
    lucky = [scored("hrwae-l1", c.dataset, 0.99, runs=1) if c.method == "hrwae-l1" and not c.missing else c for c in found]
    assert "CIFAR-10 in JPEG) **VaDE** has the highest" in "\n".join(grid.advice(lucky)), "nor does one run make a method the best on images"
    short = [scored(c.method, c.dataset, 0.5, runs=2) if c.method == "kmeans" and c.dataset != "digits" else c for c in found]
    with pytest.raises(LookupError, match="1 of 10 sets have 3 or more runs of every method"):
        grid.ranked(short)


def test_the_gallery_has_a_line_for_every_method():
    page = (ROOT / "notebooks" / "07_gallery.py").read_text()
    parts = {"Autoencoder", "VAE", "UMAPEmbedding", "TrainableMixture", "FullMixture", "transport", "__version__"}
    assert not [name for name in genclust.__all__ if name not in parts and f"{name}(" not in page]


def test_the_answer_stands_before_what_it_rests_on():
    page = (ROOT / "notebooks" / "06_all_methods.py").read_text()
    assert page.index("## What to pick") < page.index("grid.advice(found)") < page.index("## The protocol") < page.index("## The table")


def test_both_pages_are_where_a_reader_looks_for_them():
    pages = book.pages_of(ROOT / "_toc.yml")
    assert pages.index("notebooks/05_hrwae_gan") < pages.index("notebooks/06_all_methods") < pages.index("notebooks/07_gallery")
    assert "07_gallery" in (ROOT / "book" / "library.md").read_text() and "all/" in (ROOT / "README.md").read_text()


def test_every_phase_has_its_share_of_the_budget():
    for name, scale in all_methods.SCALES.items():
        whole = 3 * scale.layer + scale.joint + scale.steps
        for dataset in all_methods.SETS:
            for spec in make_specs(f"all/{dataset}", profile=name):
                p, step = spec.params, (spec.n_samples or DATASETS[dataset].n) / all_methods.BATCH.get(spec.method, 256)
                if "layer_epochs" in p:
                    assert p["pretrain_epochs"] == max(1, round(scale.joint / step)), spec
                if spec.method == "dec":
                    assert p["iterations"] == scale.steps
                if spec.method == "soft-kmeans-p":
                    assert p["epochs"] + p["pretrain_epochs"] <= whole / step + 2, spec


def test_a_cell_counts_noise_as_wrong():
    cell = grid._cell("vade", "digits", [{"metrics": {"accuracy": 0.9, "accuracy_total": 0.4, "nmi": 0.8, "nmi_total": 0.3, "ari": 0.7, "ari_total": 0.2, "n_clusters": 9.0},
                                          "provenance": {"wall_seconds": 1.0, "peak_memory_mb": 1.0}}])
    assert (cell.values["accuracy"], cell.values["nmi"], cell.values["ari"]) == ([0.4], [0.3], [0.2]) and cell.values["n_clusters"] == [9.0]


def test_the_intervals_are_of_95_per_cent():
    values = np.random.default_rng(0).normal(size=400)
    mean, low, high = mean_and_interval(values)
    assert np.array([mean - low, high - mean]) == pytest.approx(1.96 * values.std() / 20, rel=0.1)
    scores = np.random.default_rng(0).random((200, 3))
    found, se = order(scores), stats.rankdata(-scores, axis=1).std(0) / np.sqrt(200)
    assert found.high - found.low == pytest.approx(2 * 1.96 * se, rel=0.15)
