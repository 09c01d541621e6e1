"""Specs, runs, records, claims, replay and the command line, on the smallest real runs."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats
from typer.testing import CliRunner

from genclust import VaDE
from genclust.datasets import DATASETS, load
from genclust.lab import claims, replay
from genclust.lab.cli import app, parse_overrides, parse_seeds, summary
from genclust.lab.experiments import make_specs, recompute, recompute_all
from genclust.lab.files import project_root
from genclust.lab.pages import cost_of, disagreements
from genclust.lab.papers import EXPERIMENTS, PROPERTIES
from genclust.lab.provenance import imported_files
from genclust.lab.records import RecordError, RecordStore
from genclust.lab.runner import execute
from genclust.lab.schedule import run_all

ROOT = Path(__file__).resolve().parents[1]


def smoke(method="vade", **overrides):
    return make_specs("vade/digits", profile="smoke", methods=[method], **overrides)[0]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A store with one record of VaDE and one of GMM."""
    folder = tmp_path_factory.mktemp("records")
    store = RecordStore(folder / "records")
    return store, [execute(smoke(m), store, folder / "work") for m in ("vade", "gmm")]


# -- specs ---------------------------------------------------------------------------------------------


def test_equal_specs_have_equal_ids_and_any_change_gives_another():
    spec = smoke()
    assert spec.id == smoke().id and len(spec.id) == 12
    others = [smoke(seeds=[1]), smoke(n_clusters=9), smoke(n_samples=500), smoke("ae+gmm"),
              make_specs("vade/digits", profile="quick", methods=["vade"])[0]]
    assert len({spec.id, *(s.id for s in others)}) == 6


@pytest.mark.parametrize("arguments, words", [
    (dict(experiment="vade/mnis"), ["vade/mnis", "Did you mean", "vade/mnist"]),
    (dict(experiment="vade/mnist", profile="papr"), ["papr", "paper"]),
    (dict(experiment="vade/mnist", methods=["vde"]), ["vde", "vade"]),
    (dict(experiment="vade/mnist", n_cluster=3), ["n_cluster", "n_clusters"]),
])
def test_an_unknown_name_is_refused_with_near_matches(arguments, words):
    with pytest.raises(ValueError) as error:
        make_specs(**arguments)
    assert all(word in str(error.value) for word in words)


def test_seeds_and_overrides_are_parsed():
    assert parse_seeds("3") == [3] and parse_seeds("0:3") == [0, 1, 2] and parse_seeds("0,4") == [0, 4]
    assert parse_overrides(["n_clusters=14", "init=umap"]) == {"n_clusters": 14, "init": "umap"}
    with pytest.raises(ValueError, match="-p n_samples: give it as --n-samples"):
        parse_overrides(["n_samples=500"], options=["n_samples"])
    for name, instead in (("n_samples", "--n-samples"), ("methods", "--method"), ("experiment", "the first argument")):
        result = CliRunner().invoke(app, ["run", "vade/digits", "-p", f"{name}=500"])
        assert result.exit_code == 1 and f"-p {name}: give it as {instead} instead" == str(result.exception)
    for bad in ("a", "3:1", "-1", "1:2:3"):
        with pytest.raises(ValueError, match="seeds"):
            parse_seeds(bad)


def test_every_experiment_builds_every_method_in_every_profile():
    from genclust.lab.papers import METHODS
    for name in EXPERIMENTS:
        for profile in ("smoke", "quick", "paper"):
            for spec in make_specs(name, profile=profile):
                METHODS[spec.method].make(spec.seed, **spec.params)


# -- runs and records ----------------------------------------------------------------------------------


def test_a_record_holds_what_a_reader_needs(made):
    store, (vade, gmm) = made
    assert 0 < vade.metrics["accuracy"] <= 1 and vade.metrics["n_samples"] == 1000
    assert {h["phase"] for h in vade.history} >= {"layer 1", "layer 2", "layer 3", "autoencoder", "vade"}
    assert vade.curve("vade", "accuracy")[0] == [1, 2]
    assert set(vade.replay) == {h["phase"] for h in vade.history} and set(gmm.replay) == {"objective"}
    p = vade.provenance
    assert p.data == load("digits", n_samples=1000).digest and p.wall_seconds > 0 and p.peak_memory_mb > 50
    assert p.processor.endswith(f", {torch.backends.cpu.get_cpu_capability()}")
    assert store.get(vade.spec) == vade
    arrays = store.arrays(vade)
    assert arrays["labels"].shape == (1000,) and arrays["draws"].shape == (10, 10, 64)


def test_the_cost_of_runs_on_several_machines_names_each(made):
    _, (vade, gmm) = made
    old = gmm.model_copy(update={"provenance": gmm.provenance.model_copy(update={"processor": "an older one", "peak_memory_mb": 5000.0,
                                                                                 "wall_seconds": 600.0})})
    text = cost_of([vade, old, gmm])
    assert text.startswith("3 runs, 10 min, 5.0 GB, ") and text.endswith(f" of {vade.provenance.processor} and an older one")
    assert not cost_of([gmm]).startswith("1 runs")


def test_labels_and_scores_of_a_record_agree(made):
    from genclust.metrics import accuracy
    store, records = made
    y = load("digits", n_samples=1000).y
    for record in records:
        assert accuracy(y, store.arrays(record)["labels"]) == pytest.approx(record.metrics["accuracy"], abs=1e-6)


def test_what_has_a_record_is_not_run_again(made, monkeypatch):
    store, (vade, _) = made
    monkeypatch.setattr("genclust.lab.runner._run", lambda *a: pytest.fail("ran again"))
    assert execute(vade.spec, store, store.root.parent / "work") == vade


def test_a_record_changed_by_hand_is_refused(made, tmp_path):
    store, (vade, _) = made
    copy = tmp_path / "vade" / store.path(vade.spec).name
    copy.parent.mkdir()
    whole = store.path(vade.spec).read_text()
    epoch = json.dumps(vade.history[-1])
    for edited in (whole.replace(str(vade.metrics["accuracy"]), "0.9406"),  # in the head
                   whole.replace(epoch, epoch.replace(str(vade.history[-1]["loss"]), "1.5")),  # in the history
                   json.dumps(json.loads(whole)), whole[:500], whole[:-200], ""):
        assert edited != whole
        copy.write_text(edited)
        with pytest.raises(RecordError, match="is not as its run wrote it"):
            list(RecordStore(tmp_path).all())
    copy.write_bytes(store.path(vade.spec).read_bytes())
    arrays = bytearray(store.path(vade.spec).with_suffix(".npz").read_bytes())
    arrays[len(arrays) // 2] ^= 1
    copy.with_suffix(".npz").write_bytes(arrays)
    with pytest.raises(RecordError, match="changed after its run"):
        RecordStore(tmp_path).arrays(vade)


def test_a_head_says_what_the_whole_record_says(made):
    store, records = made
    for record in records:
        (head,) = store.heads(method=record.spec.method, seed=0, n_clusters=10)
        assert head["id"] == record.spec.id and head["spec"] == record.spec.model_dump()
        assert head["metrics"] == record.metrics and head["objective"] == record.objective
        (row,) = store.table(method=record.spec.method)
        assert row["accuracy"] == record.metrics["accuracy"] and row["n_clusters"] == 10 and row["seed"] == 0
    assert [r["method"] for r in store.table()] == ["gmm", "vade"]
    assert store.find(method="vade") == [records[0]] and not store.table(n_clusters=11) and not store.table(paper="wamic")
    longest = records[0].model_copy(update={"replay": {f"phase {i}": [float(i)] * 5 for i in range(200)}})
    other = RecordStore(store.root.parent / "long")
    other.put(longest)
    assert next(other.heads())["replay"] == longest.replay  # longer than what is read at first


@pytest.mark.parametrize("damaged", [False, True])
def test_a_record_that_other_code_made_is_made_anew_where_asked(made, tmp_path, damaged):
    store, (vade, _) = made
    other = RecordStore(tmp_path / "records")
    stale = other.put(vade.model_copy(update={"provenance": vade.provenance.model_copy(update={"library": "0" * 16}),
                                              "arrays": None}))
    assert execute(vade.spec, other, tmp_path / "work") == stale
    if damaged:
        other.path(vade.spec).write_text("{}")
        with pytest.raises(RecordError):
            execute(vade.spec, other, tmp_path / "work")
    again = execute(vade.spec, other, tmp_path / "work", same_code=True)
    assert again.provenance.library == vade.provenance.library and again.metrics == vade.metrics


def test_two_workers_give_the_records_that_one_gives(made, tmp_path, monkeypatch):
    store, alone = made
    monkeypatch.setattr("genclust.lab.schedule.cpu_count", lambda: 2)  # one thread each, as this process has
    together = run_all([r.spec for r in alone], RecordStore(tmp_path / "records"), tmp_path / "work", workers=2)
    for one, two in zip(alone, together):
        assert two.spec == one.spec and two.metrics["n_samples"] == one.metrics["n_samples"]
        assert not replay.gaps(one.replay, two.replay, "two workers")
        assert two.provenance.threads == one.provenance.threads == 1
        assert two.metrics == one.metrics and two.objective == one.objective


def test_a_failing_run_names_its_spec_and_leaves_the_others(tmp_path):
    bad, good = smoke(n_clusters=5000), smoke("gmm")
    store = RecordStore(tmp_path / "records")
    with pytest.raises(RuntimeError, match="n_clusters=5000"):
        run_all([bad, good], store, tmp_path / "work")
    assert store.get(good) is not None and store.get(bad) is None


def test_a_damaged_checkpoint_starts_the_run_over(tmp_path, made, caplog):
    _, (vade, _) = made
    work = tmp_path / "work"
    work.mkdir()
    (work / f"{vade.spec.stem}.safetensors").write_bytes(b"half a checkpoint")
    record = execute(vade.spec, RecordStore(tmp_path / "records"), work)
    assert record.objective == vade.objective and "damaged" in caplog.text


# -- replay --------------------------------------------------------------------------------------------


def test_an_unchanged_library_replays(made):
    _, records = made
    for record in records:
        X = load("digits", n_samples=1000).X
        assert not replay.gaps(record.replay, replay.prefix(record.spec, X), "unchanged")


def _half_entropy(monkeypatch):
    from genclust.vade import VaDENetwork
    terms = VaDENetwork.elbo_terms
    monkeypatch.setattr(VaDENetwork, "elbo_terms", lambda self, x, *rest: {
        k: v * (0.99 if k == "-log q(z|x)" else 1) for k, v in terms(self, x, *rest).items()})


def _other_rate(monkeypatch):
    from genclust import autoencoder
    decay = autoencoder.exponential_decay
    monkeypatch.setattr(autoencoder, "exponential_decay", lambda rate, *a: decay(1.1 * rate, *a))


@pytest.mark.parametrize("change, phase", [(_half_entropy, "vade"), (_other_rate, "layer 1")])
def test_a_changed_loss_or_rate_does_not_replay(made, monkeypatch, change, phase):
    _, (vade, _) = made
    change(monkeypatch)
    first, *_ = replay.gaps(vade.replay, replay.prefix(vade.spec, load("digits", n_samples=1000).X), "changed")
    assert re.match(rf"phase '{phase}', step \d: recorded .* today ", str(first))


def test_scaled_data_does_not_replay(made):
    _, (vade, _) = made
    assert replay.gaps(vade.replay, replay.prefix(vade.spec, load("digits", n_samples=1000).X * 0.99), "scaled")[0].phase == "layer 1"


def _of_data(X):
    """A prefix with a loss that the data decide, and one that their last digits do."""
    return {"settled": [float(X.mean()), 2.0], "jumps": [float(X.astype("f8").sum() * 1e9 % 7)]}


@pytest.mark.parametrize("parted, explained", [({"jumps": [0.1]}, True), ({"settled": [0.5, 2.0]}, False), ({"settled": [0.5, 2.0], "jumps": [0.1]}, False),
                                               ({"jumps": [1e6]}, False)])
def test_a_loss_that_the_last_digits_of_the_data_move_need_not_be_the_recorded_one(made, monkeypatch, parted, explained):
    """A gap is explained by a move of like size, and each has to be."""
    _, (vade, _) = made
    X = load("digits", n_samples=1000).X
    monkeypatch.setattr(replay, "prefix", lambda spec, rows, y: _of_data(rows))
    now = _of_data(X[:replay.ROWS])
    assert replay.gaps(now, now, "itself") == []
    found = replay.gaps(now | parted, now, "another")
    assert found and replay.unsettled(found, vade.spec, X) is explained


def test_a_record_replays_with_other_instructions():
    """Sums come out otherwise without vector instructions, and the level of a WAMiC critic with them: rounding decides it."""
    (path,) = (ROOT / "book" / "records" / "all").glob("all-three_moons--wamic--paper-s0-*.json")
    code = "import sys; from pathlib import Path; from genclust.lab.replay import verify; p = Path(sys.argv[1]); print(verify(p, p.parents[1]))"
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True,
                          env=os.environ | {"ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "COMPATIBLE", "OPENBLAS_CORETYPE": "Nehalem"})
    assert "same=True" in done.stdout, done.stdout + done.stderr


def test_verify_says_what_rounding_decides(made, monkeypatch):
    store, (vade, gmm) = made
    monkeypatch.setattr(replay, "prefix", lambda spec, rows, y: (gmm if spec.method == "gmm" else vade).replay | (
        {"vade": [x * (1 + float(rows.astype("f8").sum() * 1e9 % 1 + 0.1)) for x in vade.replay["vade"]]} if spec.method == "vade" else {}))
    result = CliRunner().invoke(app, ["verify", "--workers", "1", "--records", str(store.root)])
    assert result.exit_code == 0 and "2 of 2 records replay, 1 of them but for what rounding decides" in result.stdout
    assert re.search(r"same +vade/digits vade .* but for what rounding decides: phase 'vade', step 1: recorded ", result.stdout)


@pytest.mark.parametrize("method", ["dec", "vae+gmm", "cgan"])
def test_the_baselines_leave_records_that_replay(method, tmp_path):
    store = RecordStore(tmp_path / "records")
    record, data = execute(smoke(method), store, tmp_path / "work"), load("digits", n_samples=1000)
    assert not replay.gaps(record.replay, replay.prefix(record.spec, data.X, data.y), "unchanged")
    arrays = store.arrays(record)
    if method == "cgan":  # it was given the labels: scores of them would say nothing
        assert "accuracy" not in record.metrics and 0 <= record.metrics["draws_of_class"] <= 1
        assert arrays["draws"].shape == (10, 10, 64)
    else:
        assert 0 < record.metrics["accuracy"] <= 1 and arrays["codes"].shape == (1000, 10)
    line = summary(record.model_dump() | {"id": record.spec.id})
    assert ("draws_of_class" if method == "cgan" else "accuracy") in line
    noise = record.model_dump() | {"id": record.spec.id, "metrics": {"accuracy": None, "nmi": 0.0}}
    assert "accuracy -  nmi 0.0000" in summary(noise)
    noise["metrics"] = {"accuracy": 0.9, "accuracy_total": 0.45, "nmi": 0.8, "nmi_total": 0.4, "share_labelled": 0.5}
    assert "accuracy 0.4500  nmi 0.4000  labelled 0.5000" in summary(noise)  # over all rows, not the labelled ones alone


# -- provenance ----------------------------------------------------------------------------------------


def test_the_library_digest_covers_what_a_method_imports_and_nothing_else():
    names = {p.name for p in imported_files("vade")}
    assert names == {"vade.py", "autoencoder.py", "base.py", "draws.py", "files.py", "mixture.py", "networks.py", "reduction.py"}


def test_imports_are_followed_into_packages_and_out_of_them():
    names = {p.relative_to(p.parents[1]).as_posix() for p in imported_files("datasets")}
    assert names == {"genclust/files.py", *(f"datasets/{n}.py" for n in ("__init__", "cache", "formats", "origins", "own", "sources"))}


# -- claims --------------------------------------------------------------------------------------------


def claim(**changes):
    given = dict(id="vade/t/cell", where={"table": "2"}, value=50.0, unit="percent", runs=1,
                 answered_by=dict(experiment="vade/digits", method="gmm", metric="accuracy", reduce="best"))
    return claims.Claim(**given | changes)


class Shelf:
    """A store that finds the records it was given."""

    def __init__(self, **by_method):
        self.by_method = by_method

    def find(self, method, **_):
        return self.by_method.get(method, [])


def records_with(record, accuracies, objectives=None):
    return [record.model_copy(update={
        "spec": make_specs("vade/digits", profile="paper", methods=["gmm"])[0],
        "metrics": record.metrics | {"accuracy": a}, "objective": o})
        for a, o in zip(accuracies, objectives or accuracies)]


@pytest.mark.parametrize("accuracies, objectives, value, runs, reduce, verdict", [
    ([0.51], None, 50.0, 1, "best", "reproduced"),
    ([0.53], None, 50.0, 1, "best", "exceeded"),
    ([0.47], None, 50.0, 1, "best", "not reproduced"),
    ([0.47], None, 50.0, 10, "best", "at reduced scale"),
    ([0.53], None, 50.0, 10, "best", "exceeded"),
    ([0.40, 0.50], [2.0, 1.0], 50.0, 2, "best", "not reproduced"),  # the objective takes the worse one
    ([0.40, 0.50], [1.0, 2.0], 50.0, 2, "best", "reproduced"),
    ([0.44, 0.46, 0.54, 0.43, 0.48], None, 50.0, 5, "mean", "reproduced"),  # inside the interval of the mean
    ([0.43, 0.46, 0.54], None, 50.0, 3, "mean", "at reduced scale"),  # inside that of too few
    ([0.62, 0.75], None, 89.0, 10, "mean", "at reduced scale"),  # as nearly everything is inside that of two
    ([0.44, 0.52], None, 47.0, 10, "mean", "reproduced"),  # within the tolerance
    ([0.44, 0.45, 0.46], None, 50.0, 3, "mean", "not reproduced"),
    ([0.50], None, 50.0, 3, "mean", "at reduced scale"),  # one run has no mean, whatever it says
    ([0.90], None, 50.0, 3, "mean", "at reduced scale"),
    ([0.90], None, 50.0, 1, "mean", "exceeded"),  # but the paper's own is one
])
def test_verdicts_on_values(made, accuracies, objectives, value, runs, reduce, verdict):
    shelf = Shelf(gmm=records_with(made[1][1], accuracies, objectives))
    asked = claim(value=value, runs=runs, answered_by=dict(experiment="vade/digits", method="gmm", metric="accuracy", reduce=reduce))
    assert claims.answer(asked, shelf).verdict == verdict


@pytest.mark.parametrize("reduce", ["min", "max"])
@pytest.mark.parametrize("n, runs, verdict", [(2, 3, "at reduced scale"), (3, 3, "reproduced"), (4, None, "at reduced scale")])
def test_an_extreme_of_fewer_runs_is_none(made, reduce, n, runs, verdict):
    shelf = Shelf(gmm=records_with(made[1][1], [0.5] * n))
    asked = claim(value=50.0, runs=runs, answered_by=dict(experiment="vade/digits", method="gmm", metric="accuracy", reduce=reduce))
    found = claims.answer(asked, shelf)
    assert found.verdict == verdict and (verdict == "reproduced" or f"of {n} runs, where the paper had {runs or 'more'}" in found.reason)


@pytest.mark.parametrize("better, verdict", [({}, "not reproduced"), ({"better": "higher"}, "exceeded"), ({"better": "lower"}, "not reproduced")])
def test_more_of_a_count_is_better_only_where_the_claim_says_so(made, better, verdict):
    shelf = Shelf(gmm=records_with(made[1][1], [13.0, 13.0]))
    asked = claim(value=10.0, unit="count", **better, answered_by=dict(experiment="vade/digits", method="gmm", metric="accuracy"))
    assert claims.answer(asked, shelf).verdict == verdict


def test_one_run_has_no_best(made):
    by = dict(experiment="vade/digits", method="gmm", metric="accuracy", reduce="best")
    found = claims.answer(claim(value=60.0, runs=None, answered_by=by), Shelf(gmm=records_with(made[1][1], [0.5])))
    assert found.verdict == "at reduced scale" and "the best of 1 run, where the paper had several" in found.reason


@pytest.mark.parametrize("a, b, verdict", [
    ([0.80, 0.82, 0.81], [0.70, 0.71, 0.69], "reproduced"),
    ([0.70, 0.71, 0.69], [0.80, 0.82, 0.81], "not reproduced"),
    ([0.70, 0.82, 0.75], [0.70, 0.80, 0.76], "not run"),  # undecided
    ([0.70, 0.82, 0.75, 0.77, 0.72], [0.70, 0.80, 0.76, 0.78, 0.71], "not reproduced"),  # so many would show it
    ([0.80], [0.70, 0.71], "not run"),
])
def test_verdicts_on_orders(made, a, b, verdict):
    shelf = Shelf(gmm=records_with(made[1][1], a), kmeans=records_with(made[1][1], b))
    asked = claim(kind="order", value=None, unit=None, says="GMM beats k-means",
                  answered_by=dict(experiment="vade/digits", method="gmm", metric="accuracy", against="kmeans"))
    assert claims.answer(asked, shelf).verdict == verdict


@pytest.mark.parametrize("by, words", [
    (dict(reduce="mean"), "not at hand"), (dict(reduce="difference", against="gmm"), "not at hand"),
    (dict(metric="accuracy", reduce="difference", against="gmm", against_metric="fid_inception"), "not at hand")])
def test_what_no_record_has_is_not_run_and_what_one_has_is_that_ones(made, by, words):
    """A metric that needs what is not on every machine is in some records and not in others."""
    without, having = records_with(made[1][1], [0.5, 0.6])
    having = having.model_copy(update={"metrics": having.metrics | {"fid_inception": 30.0, "accuracy": 60.0}})
    asked = claim(value=30.0, unit="number", tolerance=1, not_run="the weights were not at hand",
                  answered_by=dict(experiment="vade/digits", method="gmm", metric="fid_inception") | by)
    found = claims.answer(asked, Shelf(gmm=[without]))
    assert found.verdict == "not run" and words in found.reason and found.records == []
    found = claims.answer(asked, Shelf(gmm=[without, having]))
    assert found.verdict != "not run" and having in found.records and found.measured in (0.0, 30.0, pytest.approx(0.25))


def test_an_order_counts_the_runs_that_have_the_metric(made):
    without, having = records_with(made[1][1], [0.5, 0.6])
    having = having.model_copy(update={"metrics": having.metrics | {"fid_inception": 30.0}})
    asked = claim(kind="order", value=None, unit=None, says="x", answered_by=dict(
        experiment="vade/digits", method="gmm", metric="fid_inception", against="kmeans"))
    found = claims.answer(asked, Shelf(gmm=[without, having], kmeans=[without]))
    assert found.verdict == "not run" and "there are 1 and 0" in found.reason


@pytest.mark.parametrize("level, verdict", [(0.05, "not run"), (0.1, "reproduced")])
def test_an_order_holds_at_the_level_that_the_paper_names(made, level, verdict):
    shelf = Shelf(gmm=records_with(made[1][1], [0.80, 0.83, 0.81]), kmeans=records_with(made[1][1], [0.77, 0.81, 0.78]))
    found = claims.answer(claim(kind="order", value=None, unit=None, says="GMM beats k-means", level=level,
                                answered_by=dict(experiment="vade/digits", method="gmm", metric="accuracy", against="kmeans")), shelf)
    assert found.verdict == verdict and "Welch p = 0.0" in found.reason and ("to be below 0.1" in found.reason) is (level == 0.1)


def test_an_order_may_be_of_what_is_better_low_and_across_experiments(made):
    record = made[1][1]
    shelf = Shelf(gmm=records_with(record, [0.2, 0.21, 0.22]), kmeans=records_with(record, [0.5, 0.52, 0.54]))
    by = dict(experiment="vade/digits", method="gmm", metric="accuracy", against="kmeans", against_experiment="vade/mnist")
    asked = dict(kind="order", value=None, unit="index", says="less is better", answered_by=by)
    found = claims.answer(claim(**asked, better="lower"), shelf)
    assert found.verdict == "reproduced" and found.reason.startswith("0.2100 against 0.5200")
    assert claims.answer(claim(**asked), shelf).verdict == "not reproduced"
    low = claims.answer(claim(value=60.0, better="lower"), shelf)
    assert low.verdict == "exceeded"  # 22 where the paper has 60, and less is better
    extremes = [claims.answer(claim(answered_by=by | {"against": None, "reduce": r}), shelf).measured for r in ("min", "max", "mean")]
    assert extremes == pytest.approx([20, 22, 21])


@pytest.mark.parametrize("reduce, value, measured, verdict", [
    ("ratio", 2.0, 1.6, "reproduced"), ("ratio", 3.0, 1.6, "not reproduced"), ("ratio", 1.0, 1.6, "exceeded"),
    ("difference", 0.0, 0.3, "reproduced"), ("difference", 1.0, 0.3, "not reproduced"),
    ("increase", 60.2, 60.0, "reproduced"), ("increase", 80.0, 60.0, "not reproduced")])
def test_ratios_and_differences_of_two_methods(made, reduce, value, measured, verdict):
    shelf = Shelf(gmm=records_with(made[1][1], [0.7, 0.9]), kmeans=records_with(made[1][1], [0.5]))
    by = dict(experiment="vade/digits", method="gmm", metric="accuracy", against="kmeans", reduce=reduce)
    asked = claim(value=value, unit="number", tolerance=0.5, answered_by=by)
    found = claims.answer(asked, shelf)
    assert found.measured == pytest.approx(measured) and found.verdict == verdict and len(found.records) == 3
    other = claims.answer(asked.model_copy(update={"answered_by": asked.answered_by.model_copy(update={"against_metric": "nmi"})}), shelf)
    nmi = shelf.by_method["kmeans"][0].metrics["nmi"]
    assert other.measured == pytest.approx({"ratio": 0.8 / nmi, "increase": 80 / nmi - 100, "difference": 0.8 - nmi}[reduce])
    assert claims.answer(asked, Shelf(gmm=shelf.by_method["gmm"])).verdict == "not run"
    with pytest.raises(ValueError, match="need answered_by.against"):
        claim(answered_by=by | {"against": None})


def test_a_claim_can_say_that_its_runs_are_smaller_than_its_source(made):
    shelf = Shelf(gmm=records_with(made[1][1], [0.79, 0.81]), kmeans=records_with(made[1][1], [0.5, 0.55]))
    by = dict(experiment="vade/digits", method="gmm", metric="accuracy")
    for asked in (dict(answered_by=by), dict(answered_by=by | {"against": "kmeans"}, kind="order", value=None, unit=None, says="x")):
        found = claims.answer(claim(reduced="a tenth of the epochs", **asked), shelf)
        assert found.verdict == "at reduced scale" and "a tenth of the epochs" in found.scale
        assert claims.answer(claim(**asked), shelf).verdict != "at reduced scale"


def test_a_comparison_rests_on_the_runs_that_it_asks_for(made):
    from genclust.lab.papers.vade import METHODS
    shelf = Shelf(**{m: records_with(made[1][1], [v]) for m, v in (("vade", 0.9), ("vae+gmm", 0.8), ("dec", 0.89), ("gmm", 0.5))})
    by = dict(experiment="vade/mnist", method="vade", metric="fewer_errors_than_vae", reduce="best")
    found = claims.answer(claim(kind="property", value=None, unit=None, says="x", answered_by=by), shelf)
    assert found.verdict == "reproduced" and len(found.records) == 2
    by["metric"] = "fewer_errors_than_dec"  # by less than the tolerance
    assert claims.answer(claim(kind="property", value=None, unit=None, says="x", answered_by=by), shelf).verdict == "not reproduced"
    del shelf.by_method["dec"]
    found = claims.answer(claim(kind="property", value=None, unit=None, says="x", answered_by=by), shelf)
    assert found.verdict == "not run" and METHODS["dec"].title in found.reason


def test_a_comparison_may_ask_for_another_experiment(made, monkeypatch):
    from genclust.lab.papers import COMPARISONS
    asked = []

    def other(runs):
        return len(claims.recorded(runs, ("vade/digits", "gmm"))) == 2, "two runs"

    class Store:
        def find(self, *, experiment, method, profile):
            asked.append((experiment, method, profile))
            return records_with(made[1][1], [0.5, 0.6]) if experiment == "vade/digits" else []

    monkeypatch.setitem(COMPARISONS, "other", other)
    by = dict(experiment="vade/digits", method="vade", metric="other", reduce="best")
    found = claims.answer(claim(kind="property", value=None, unit=None, says="x", answered_by=by), Store())
    assert found.verdict == "reproduced" and len(found.records) == 2 and ("vade/digits", "gmm", "paper") in asked
    with pytest.raises(LookupError, match="GMM of vade/mnist: 0 of at least 1 run"):
        claims.recorded({}, ("vade/mnist", "gmm"))


def test_wrong_points_inside_a_cluster_and_at_its_border_are_told_apart():
    from genclust.lab.papers.vade import errors_at_border, errors_inside
    codes = np.concatenate([np.random.default_rng(0).normal(size=(40, 2)), 100 + np.random.default_rng(1).normal(size=(40, 2))])
    labels, y = np.repeat([0, 1], 40), np.repeat([0, 1], 40)
    arrays = dict(codes=codes, code_rows=np.arange(80), labels=labels)
    y[:5] = 1  # wrong, and every neighbour is in the same far-away cluster
    holds, reason = errors_inside(None, arrays, SimpleNamespace(y=y))
    assert holds and reason.startswith("100 %") and not errors_at_border(None, arrays, SimpleNamespace(y=y))[0]
    mixed = arrays | dict(codes=np.random.default_rng(0).normal(size=(80, 2)))  # two clusters in one place
    assert not errors_inside(None, mixed, SimpleNamespace(y=y))[0]
    assert errors_inside(None, arrays, SimpleNamespace(y=labels)) == (False, "no wrong points")


def test_vae_is_compared_with_vade_and_dec_by_the_silhouettes_of_their_codes(made):
    from genclust.lab.papers.vade import vae_less_distinct

    class Runs(dict):
        """Two clusters, so far apart in the runs of a method."""
        def __init__(self, **gaps):
            super().__init__({m: records_with(made[1][1], [0.5, 0.5, 0.5]) for m in gaps})
            spread = {id(r): (gap, i) for m, gap in gaps.items() for i, r in enumerate(self[m])}
            labels = np.repeat([0, 1], 40)
            self.store = SimpleNamespace(arrays=lambda r: dict(
                codes=spread[id(r)][0] * labels[:, None] + np.random.default_rng(spread[id(r)][1]).normal(size=(80, 2)),
                code_rows=np.arange(80), labels=labels))

    holds, words = vae_less_distinct(Runs(**{"vae+gmm": 1, "vade": 3, "dec": 30}))
    assert holds and words.startswith("mean silhouette VAE+GMM: 0.") and "(3 runs)" in words
    assert not vae_less_distinct(Runs(**{"vae+gmm": 3, "vade": 1, "dec": 30}))[0]
    assert not vae_less_distinct(Runs(**{"vae+gmm": 3, "vade": 30, "dec": 1}))[0]
    with pytest.raises(LookupError, match="not decided"):  # both below 0.25, one as the other
        vae_less_distinct(Runs(**{"vae+gmm": 1, "vade": 1, "dec": 30}))


def test_every_digit_has_to_have_a_cluster():
    from genclust.lab.papers.vade import ten_digits
    y = np.repeat(np.arange(10), 5)
    assert ten_digits(None, {"labels": 9 - y}, SimpleNamespace(y=y)) == (True, "majority classes of the clusters: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9")
    assert not ten_digits(None, {"labels": np.where(y == 9, 4, y)}, SimpleNamespace(y=y))[0]  # 4 and 9 share one
    assert not ten_digits(None, {"labels": np.where(np.arange(50) == 0, 10, y)}, SimpleNamespace(y=y))[0]  # 0 has two


def _bars(width, slant, n, seed):
    """n images of 28 x 28: a bar of ink, so wide and leaning so far to the right for each pixel up, with jitter."""
    rng = np.random.default_rng(seed)
    i, j = np.mgrid[:28, :28]
    lean = slant + rng.normal(0, 0.05, (n, 1, 1))
    wide = width + rng.normal(0, 0.2, (n, 1, 1))
    return (np.abs(j - 14 - lean * (14 - i)) <= wide).astype(np.float32).reshape(n, -1)


def test_width_and_slant_of_ink():
    from genclust.lab.papers.vade import width_and_slant
    widths, slants = width_and_slant(np.concatenate([_bars(3.5, 0, 20, 0), _bars(6.5, 0, 20, 1), _bars(3.5, 0.4, 20, 2)]), (28, 28))
    uniform = np.sqrt((7**2 - 1) / 12)  # of a bar of 7 pixels
    assert widths[:20].mean() == pytest.approx(uniform, rel=0.1) and widths[20:40].mean() == pytest.approx(np.sqrt((13**2 - 1) / 12), rel=0.1)
    assert slants[:40].mean() == pytest.approx(0, abs=0.05) and slants[40:].mean() == pytest.approx(0.4, abs=0.1)


def test_kinds_of_0_differ_in_width_and_those_of_1_in_slant():
    from genclust.lab.papers.vade import kinds_of_0_and_1
    X = np.concatenate([_bars(3, 0, 30, 0), _bars(5, 0, 30, 1), _bars(1, 0, 30, 2), _bars(1, 0.3, 30, 3)])
    data, labels = SimpleNamespace(X=X, y=np.repeat([0, 1], 60), image_shape=(28, 28)), np.repeat(np.arange(4), 30)
    assert kinds_of_0_and_1(None, {"labels": labels}, data)[0]
    mixed = np.where(labels < 2, np.arange(120) % 2, labels)  # the clusters of 0 are the same mixture
    assert not kinds_of_0_and_1(None, {"labels": mixed}, data)[0]
    assert kinds_of_0_and_1(None, {"labels": np.minimum(labels, 2)}, data) == (False, "1 is the majority of 1 cluster")


def test_errors_are_compared_in_the_runs_with_the_best_objective(made):
    from genclust.lab.papers.vade import fewer_errors_than_dec, fewer_errors_than_vae
    record = made[1][1]
    runs = {"vade": records_with(record, [0.9, 0.7], [1.0, 2.0]), "dec": records_with(record, [0.8, 0.6], [2.0, 1.0]), "vae+gmm": []}
    assert fewer_errors_than_dec(runs) == (False, "VaDE: 30.00 % wrong, DEC: 20.00 % wrong")
    assert fewer_errors_than_dec(runs | {"vade": runs["vade"][:1]})[0]
    with pytest.raises(LookupError, match="VAE.GMM"):
        fewer_errors_than_vae(runs)


def test_what_the_start_and_the_kl_term_are_worth(made):
    from genclust.lab.papers import vade

    def runs(accuracies, em=0.5):
        return [r.model_copy(update={"metrics": r.metrics | {"em_accuracy": em}, "history": [
            {"phase": "vade", "epoch": i, "accuracy": value} for i, value in enumerate((0.3, r.metrics["accuracy"]))]})
                for r in records_with(made[1][1], accuracies)]

    same, apart = runs([0.5, 0.52, 0.51]), runs([0.4, 0.6, 0.5])
    assert vade.em_as_good({"vade-pretrained": runs([0.50, 0.501, 0.499])})[0]
    assert not vade.em_as_good({"vade-pretrained": runs([0.50, 0.501, 0.499], em=0.45)})[0]
    assert not vade.em_as_good({"vade-pretrained": runs([0.50, 0.501, 0.499], em=0.55)})[0]
    for em in (0.45, 0.5, 0.55):
        with pytest.raises(LookupError, match="neither shown nor ruled out"):
            vade.em_as_good({"vade-pretrained": runs([0.4, 0.6, 0.5], em=em)})
    assert vade.random_start_trains({"vade-random": apart}) == (True, "from the first epoch to the last 30.00 to 40.00 %, 30.00 to 60.00 %, 30.00 to 50.00 %")
    assert not vade.random_start_trains({"vade-random": runs([0.6, 0.31])})[0]  # one of them did not
    assert vade.pretraining_is_stable({"vade-pretrained": same, "vade-random": apart})[0]
    assert not vade.pretraining_is_stable({"vade-pretrained": apart, "vade-random": same})[0]
    with pytest.raises(LookupError, match="not decided, F test"):  # less by a little, of three runs
        vade.pretraining_is_stable({"vade-pretrained": same, "vade-random": runs([0.5, 0.525, 0.51])})
    with pytest.raises(LookupError, match="2 of at least 3 runs"):  # a spread of two says little
        vade.pretraining_is_stable({"vade-pretrained": same[:2], "vade-random": apart})
    assert vade.few_epochs_are_enough({"vade-long": runs([0.50, 0.501]), "vade-pretrained": runs([0.50, 0.501])})[0]
    assert not vade.few_epochs_are_enough({"vade-long": runs([0.60, 0.601]), "vade-pretrained": runs([0.50, 0.501])})[0]
    with pytest.raises(LookupError, match="neither shown nor ruled out"):
        vade.few_epochs_are_enough({"vade-long": apart, "vade-pretrained": same})
    with pytest.raises(LookupError, match="1 of at least 2 runs"):
        vade.em_as_good({"vade-pretrained": same[:1]})
    assert all(check()[0] for check in vade.CHECKS)


def test_an_order_may_compare_two_metrics_and_a_metric_may_choose_the_best_run(made):
    runs = [r.model_copy(update={"metrics": r.metrics | {"other": other}})
            for r, other in zip(records_with(made[1][1], [0.5, 0.52, 0.54], [3.0, 2.0, 1.0]), [0.2, 0.3, 0.1])]
    shelf = Shelf(gmm=runs)
    by = dict(experiment="vade/digits", method="gmm", metric="accuracy")
    order = dict(kind="order", value=None, unit=None, says="one metric is above another")
    found = claims.answer(claim(**order, answered_by=by | dict(against="gmm", against_metric="other")), shelf)
    assert found.verdict == "reproduced" and found.records == runs  # once each
    reversed_ = claim(**order, better="lower", answered_by=by | dict(against="gmm", against_metric="other"))
    assert claims.answer(reversed_, shelf).verdict == "not reproduced"
    assert claims.answer(claim(answered_by=by | dict(reduce="best")), shelf).measured == pytest.approx(50)
    assert claims.answer(claim(answered_by=by | dict(reduce="best", chosen_by="other")), shelf).measured == pytest.approx(52)


def test_papers_that_disagree_about_a_cell_are_found():
    def ledger(paper, value, unit, cell="dec/mnist/accuracy"):
        one = claim(id=f"{paper}/t/cell", value=value, unit=unit, cell=cell, answered_by=None, not_run="not here")
        shelf = Shelf()
        return (claims.Ledger(paper=paper, short=paper.upper(), title=paper, citation=paper, year=2000, claims=[one]),
                [claims.answer(one, shelf)])

    same = disagreements([ledger("a", 84.3, "percent"), ledger("b", 0.843, "index")])
    assert "1 cells stand in more than one paper; in 0" in same and "84.30" not in same
    other = disagreements([ledger("a", 84.3, "percent"), ledger("b", 0.85, "index"), ledger("c", 1, "percent", "x/mnist/accuracy")])
    assert "in 1 of them" in other and "A: 84.30 %" in other and "B: 85.00 %" in other and "0.70" in other and "C:" not in other


def test_every_ledger_is_whole_and_its_cells_use_the_same_words():
    ledgers = [claims.read_ledger(path) for path in sorted((ROOT / "book" / "claims").glob("*.yml"))]
    assert {ledger.short: len(ledger.claims) for ledger in ledgers}.keys() == {"VaDE", "WAMiC", "GANMM", "OT clustering", "HRWAE-GAN"}
    tables = {ledger.short: {c.where.table for c in ledger.claims} - {None} for ledger in ledgers}
    assert tables == {"VaDE": set("123"), "WAMiC": {"1"}, "GANMM": set("12345"), "OT clustering": {"1"}, "HRWAE-GAN": {"1", "2"}}
    shared = [c.cell for ledger in ledgers for c in {c.cell: c for c in ledger.claims if c.cell}.values()]
    assert {"dec/reuters-10k/accuracy", "vade/reuters/accuracy", "gmm/mnist/accuracy"} <= {c for c in shared if shared.count(c) > 1}


def test_a_record_of_fewer_epochs_is_at_reduced_scale(made):
    less = make_specs("vade/digits", profile="paper", methods=["vade"], epochs=2, n_samples=1000)[0]
    record = made[1][0].model_copy(update={"spec": less})
    asked = claim(answered_by=dict(experiment="vade/digits", method="vade", metric="accuracy"))
    found = claims.answer(asked, Shelf(vade=[record]))
    assert found.verdict == "at reduced scale" and "epochs 2 of 150" in found.reason and "1000 rows" in found.reason


@pytest.mark.parametrize("change, words", [
    ({"value": 104.0}, "range"),
    ({"value": 50.0, "unit": None}, "unit"),
    ({"vallue": 50.0}, "vallue"),
    ({"kind": "quoted"}, "quoted_from"),
    ({"kind": "order"}, "against"),
    ({"answered_by": None}, "not_run"),
    ({"id": "no slash"}, "id"),
])
def test_a_claim_that_does_not_fit_is_refused(change, words):
    with pytest.raises(ValueError, match=words):
        claim(**change)


def test_a_malformed_ledger_names_the_file_and_the_field(tmp_path):
    text = (ROOT / "book" / "claims" / "vade.yml").read_text()
    path = tmp_path / "vade.yml"
    path.write_text(text.replace("unit: percent", "unit: promille", 1))
    line = 1 + path.read_text().splitlines().index("    unit: promille")
    with pytest.raises(ValueError, match=rf"vade\.yml(.|\n)*line {line}, claims\.\d+\.unit"):
        claims.read_ledger(path)
    path.write_text(text.replace("    unit: percent\n", "    units: percent\n", 1))
    line = 1 + path.read_text().splitlines().index("    units: percent")
    with pytest.raises(ValueError, match=rf"line {line}, claims\.\d+\.units: Extra inputs"):
        claims.read_ledger(path)
    path.write_text(text + "  - id: vade/table1/mnist/samples\n    where: {table: \"1\"}\n    kind: context\n")
    with pytest.raises(ValueError, match="stands twice"):
        claims.read_ledger(path)
    path.write_text(text.replace("    unit: percent\n", "    unit: percent\n    unit: index\n", 1))
    line = 1 + path.read_text().splitlines().index("    unit: index")
    with pytest.raises(ValueError, match=rf"vade\.yml(.|\n)*'unit' stands twice(.|\n)*line {line}"):
        claims.read_ledger(path)


def test_the_vade_ledger_holds_every_cell_of_the_tables():
    ledger = claims.read_ledger(ROOT / "book" / "claims" / "vade.yml")
    by_table = {t: [c for c in ledger.claims if c.where.table == t and "extension" not in c.id] for t in "123"}
    assert [len(by_table[t]) for t in "123"] == [4 * 3, 6 * 4, 4 * 2]
    assert {c.where.figure for c in ledger.claims} >= {"2", "3", "4", "5"}
    for c in ledger.claims:
        if c.answered_by:
            methods = {c.answered_by.method, c.answered_by.against} - {None}
            assert methods <= set(EXPERIMENTS[c.answered_by.experiment].methods), c.id


def in_steps(experiment, method, key="epochs", rows=70_000):
    """What the epochs of a method come to in steps."""
    return rows // VaDE().batch_size * EXPERIMENTS[experiment].methods[method][key]


def printed_number(n):
    """As the claims write it."""
    return f"{n:,}".replace(",", " ") if n >= 10_000 else str(n)


def test_statements_on_a_part_of_vades_training_say_so():
    """The paper's batch is smaller, so as many epochs are fewer steps here, of which no parameter in the catalogue tells. It is
    said of every statement that rests on such runs, whether they bear it out or not."""
    found = claims.read_ledger(ROOT / "book" / "claims" / "vade.yml").claims
    for experiment, printed in (("vade/mnist", "105 000"), ("vade/mnist-k7", "50 epochs"), ("vade/mnist-k14", "50 epochs")):
        steps = printed_number(in_steps(experiment, "vade"))
        judged = [c for c in found if c.answered_by and c.kind != "context"
                  and (c.answered_by.experiment, c.answered_by.method) == (experiment, "vade")]
        assert judged
        for c in judged:
            of_dec = "dec" in (c.answered_by.against or c.answered_by.metric)  # at reduced scale for DEC's autoencoder already
            assert c.reduced and (of_dec or (steps in c.reduced and printed in c.reduced)), c.id
    few = next(c.says for c in found if c.id == "vade/section4.2/general/few-epochs")
    for method in ("vade-long", "vade-pretrained"):
        layer, joint = (in_steps("vade/mnist-start", method, key, 10_000) for key in ("layer_epochs", "pretrain_epochs"))
        assert printed_number(4 * layer + joint) in few, method


# -- the book's own records ----------------------------------------------------------------------------


def test_every_record_of_the_book_is_whole():
    store = RecordStore(ROOT / "book" / "records")
    for record in store.all():
        assert store.path(record.spec).exists(), f"{record.spec}: not under its own name"
        assert record.spec.profile == "paper"
        if record.arrays is not None:
            store.arrays(record)


# -- command line --------------------------------------------------------------------------------------


def test_show_prints_a_record_and_the_command_that_recomputes_it(made):
    store, (vade, _) = made
    result = CliRunner().invoke(app, ["show", vade.spec.id[:6], "--records", str(store.root)])
    assert result.exit_code == 0 and vade.spec.id in recompute(vade.spec) + store.path(vade.spec).name
    assert "genclust run vade/digits --profile smoke --method vade --seeds 0" in result.stdout
    assert recompute(smoke(n_clusters=7)).endswith("-p n_clusters=7")
    assert recompute(smoke(n_samples=300)).endswith("--n-samples 300")
    with pytest.raises(ValueError, match="no record's id begins with 'zzz'; `genclust status` lists all 2"):
        CliRunner().invoke(app, ["show", "zzz", "--records", str(store.root)], catch_exceptions=False)


def test_more_rows_than_there_are_is_refused():
    with pytest.raises(ValueError, match="n_samples is 1798, but digits has 1797 rows"):
        make_specs("vade/digits", n_samples=1798)


def test_a_command_is_one_that_a_shell_takes():
    assert recompute(smoke(hidden=[48, 24])).endswith("-p 'hidden=[48, 24]'")
    whole = make_specs("vade/digits", profile="quick", methods=["vade"], n_samples=DATASETS["digits"].n)[0]
    assert whole.n_samples is None
    subset = make_specs("vade/digits", profile="quick", methods=["vade"])[0].n_samples
    assert recompute(whole).endswith(f"--n-samples {DATASETS['digits'].n}" if subset else "--force")


def test_an_override_that_every_estimator_has_reaches_those_that_do_not_list_it():
    specs = make_specs("ot-clustering/imbalanced", learning_rate=0.01)
    assert specs and all(s.params["learning_rate"] == 0.01 for s in specs)


@pytest.mark.parametrize("changes, counts", [
    (dict(), True), (dict(epochs=3), True), (dict(n_clusters=14), False), (dict(hidden=[4]), False), (dict(learning_rate=1.0), False)])
def test_a_run_with_parameters_of_its_own_answers_no_claim(changes, counts):
    (spec,) = make_specs("vade/mnist", profile="paper", methods=["vade"], **changes)
    assert claims.is_catalogued(spec) is counts
    assert all(map(claims.is_catalogued, make_specs("ot-clustering/epsilon", profile="paper")))


def test_a_trial_at_a_smaller_scale_speaks_only_where_nothing_larger_does():
    def specs(*seeds, **changes):
        return make_specs("ot-clustering/epsilon", profile="paper", methods=["ot"], seeds=seeds, **changes)
    small, fewer, own = specs(0, 1, epochs=20), specs(2, n_samples=5000), specs(3, learning_rate=1.0)
    whole = [spec for spec in specs(0) if spec.params["epsilon"] == 1.0]
    elsewhere = make_specs("ot-clustering/mnist_train", profile="paper", methods=["ot"])
    ids = claims.speaking([*small, *fewer, *own, *whole, *elsewhere])
    assert ids == {spec.id for spec in [*whole, *elsewhere]} | {s.id for s in small if s.params["epsilon"] != 1.0}
    assert claims.speaking([*small, *fewer]) == {spec.id for spec in small}  # all rows come before all epochs
    assert claims.speaking([*small, *specs(4, epochs=30)]) == {spec.id for spec in specs(4, epochs=30)}


def test_one_command_recomputes_what_differs_in_seeds_or_methods_alone():
    specs = [s for m, seeds in (("gmm", [2, 0, 1]), ("kmeans", [0]), ("vade", range(3)))
             for s in make_specs("vade/digits", profile="smoke", methods=["gmm" if m == "kmeans" else m], seeds=seeds,
                                 **({"n_init": 4} if m == "kmeans" else {}))]
    assert recompute_all(specs) == [
        "genclust run vade/digits --profile smoke --method gmm --method vade --seeds 0:3 --force",
        "genclust run vade/digits --profile smoke --method gmm --seeds 0 --force -p n_init=4"]
    assert recompute_all(make_specs("vade/digits", methods=["gmm"], seeds=[0, 2]))[0].endswith("--seeds 0,2 --force")


@pytest.mark.parametrize("command", ["verify", "status"])
def test_a_folder_of_records_that_does_not_exist_is_named(command, tmp_path):
    result = CliRunner().invoke(app, [command, "--records", str(tmp_path / "recrods")])
    said = re.sub(r"\x1b\[[0-9;]*m|[\s│]", "", result.output)  # a box of the terminal's width
    assert result.exit_code == 2 and "recrods'doesnotexist" in said


def test_what_is_refused_is_not_left_as_unfinished(tmp_path):
    (spec,) = make_specs("vade/digits", profile="smoke", methods=["vade"], epochs="many")
    with pytest.raises(RuntimeError, match="1 of 1 runs failed:\n.*InvalidParameterError.*'epochs'"):
        run_all([spec], RecordStore(tmp_path / "records"), tmp_path / "work")
    assert not list((tmp_path / "work").glob("*.json"))


@pytest.mark.parametrize("where, words", [("file", "isafile"), ("file/records", "shouldbeafolderonthewaytoitisafile")])
def test_records_that_can_not_be_written_are_refused_before_the_fit(where, words, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr("genclust.datasets.load", lambda *a, **k: pytest.fail("work was begun"))
    monkeypatch.setenv("GENCLUST_WORK", str(tmp_path / "work"))
    result = CliRunner().invoke(app, ["run", "vade/digits", "--profile", "smoke", "--method", "gmm", "--records", str(tmp_path / where)])
    said = re.sub(r"\x1b\[[0-9;]*m|[\s│]", "", f"{result.output}{result.exception}")
    assert result.exit_code and words in said and not list((tmp_path / "work").glob("*.json"))


@pytest.mark.parametrize("address", ["garbage", "tcp://host", "tcp://host:port", "foo://host:1"])
def test_a_scheduler_that_is_no_address_is_refused_before_a_client_is_made(address, tmp_path, monkeypatch):
    monkeypatch.setattr("distributed.Client", lambda *a, **k: pytest.fail("a client was made"))
    with pytest.raises(ValueError, match=f"the scheduler '{address}' is no address .*give tcp://host:port"):
        run_all([smoke()], RecordStore(tmp_path / "records"), tmp_path / "work", scheduler=address)


def test_a_method_without_epochs_gets_none():
    specs = {s.method: s for s in make_specs("ot-clustering/mnist_train", methods=["ae+kmeans", "ot"], epochs=5)}
    assert specs["ot"].params["epochs"] == 5 and specs["ae+kmeans"].params["epochs"] == 0
    with pytest.raises(ValueError, match="epochs=5: ae.kmeans of ot-clustering/mnist_train has no such epochs"):
        make_specs("ot-clustering/mnist_train", methods=["ae+kmeans"], epochs=5)


def test_verify_passes_and_then_fails_on_a_changed_loss(made, monkeypatch):
    store, _ = made
    words = ["verify", "--workers", "1", "--records", str(store.root)]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0 and "2 of 2 records replay" in result.stdout
    _half_entropy(monkeypatch)
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 1 and "1 of 2 records replay" in result.output and "phase 'vade'" in result.output


def test_verify_says_that_the_data_were_others(made, monkeypatch):
    store, (vade, _) = made
    path = store.path(vade.spec)
    data = load("digits", n_samples=1000)
    monkeypatch.setattr(replay, "_data", lambda *_: replace(data, digest="5d60f770b718" * 5))
    assert replay.verify(path, store.root).same, "digits are scaled here, and may be rounded here"
    monkeypatch.setattr(replay, "DATASETS", {"digits": replace(DATASETS["digits"], make=None)})
    outcome = replay.verify(path, store.root)
    assert not outcome.same and f"digest {data.digest[:12]}; today's is 5d60f770b718. `genclust run --force`" in outcome.what


def test_what_verify_found_the_book_need_not_replay(made, tmp_path, monkeypatch):
    store, _ = made
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "_toc.yml").touch()
    shutil.copytree(store.root, tmp_path / "book" / "records")
    monkeypatch.setenv("GENCLUST_PROJECT", str(tmp_path))
    assert CliRunner().invoke(app, ["verify", "--workers", "1"]).exit_code == 0
    book, replayed = RecordStore(tmp_path / "book" / "records"), []
    monkeypatch.setattr(replay, "verify", lambda path, root: replayed.append(path) or replay.Outcome(path.stem, False, "replayed"))
    assert [o.same for o in replay.verify_all(book, workers=1, notes=tmp_path / replay.NOTES)] == [True, True] and not replayed
    path = next(path.with_suffix(".npz") for path in book.paths() if path.with_suffix(".npz").exists())
    path.write_bytes(path.read_bytes()[:-1])
    list(replay.verify_all(book, workers=1, notes=tmp_path / replay.NOTES))
    assert [p.stem for p in replayed] == [path.stem], "what is known is of the arrays, too"
    assert [o.same for o in replay.verify_all(book, workers=1, notes=tmp_path / replay.NOTES, anew=True)] == [False, False]


def test_an_error_is_one_message_and_no_traceback(tmp_path):
    done = subprocess.run([sys.executable, "-m", "genclust.lab.cli", "run", "vade/mnits", "--records", str(tmp_path)],
                          capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1 and "vade/mnist" in done.stderr and "Traceback" not in done.stderr


def test_a_missing_extra_is_named(monkeypatch, capsys):
    from genclust.lab import cli
    monkeypatch.setitem(sys.modules, "papermill", None)
    monkeypatch.setattr(sys, "argv", ["genclust", "chapter", "vade"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 1 and "papermill is not installed: pip install 'genclust[book]'" in capsys.readouterr().err


def test_status_does_not_wait_for_torch():
    code = ("import sys; from typer.testing import CliRunner; from genclust.lab.cli import app; "
            "print(CliRunner().invoke(app, ['status']).exit_code, {'torch', 'sklearn'} & set(sys.modules))")
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT).stdout.strip() == "0 set()"


def test_outside_a_checkout_the_error_says_so(tmp_path, monkeypatch):
    monkeypatch.delenv("GENCLUST_PROJECT", raising=False)
    with pytest.raises(FileNotFoundError, match="_toc.yml"):
        project_root(tmp_path)


def test_draws_and_members_come_from_their_clusters(made):
    store, (vade, _) = made
    arrays = store.arrays(vade)
    for c, rows in enumerate(arrays["members"]):
        kept = rows[rows >= 0]
        assert (arrays["labels"][kept] == c).all() and len(set(kept.tolist())) == len(kept)
        assert len(kept) == min(10, int(np.sum(arrays["labels"] == c)))


@pytest.mark.parametrize("a, printed, verdict", [
    ([0.80, 0.82, 0.81], 0.01, "reproduced"), ([0.80, 0.82, 0.81], 0.5, "not reproduced"),
    ([0.70, 0.71, 0.69], 0.5, "not run"), ([0.70, 0.71, 0.69], 0.01, "not run"),  # of so few, no difference is no finding
    ([0.60, 0.61, 0.59], 0.5, "reproduced"), ([0.60, 0.61, 0.59], 0.01, "not reproduced"),
    ([0.70, 0.71, 0.69, 0.7, 0.7], 0.5, "reproduced"), ([0.70, 0.71, 0.69, 0.7, 0.7], 0.01, "not reproduced")])
def test_a_p_value_is_reproduced_on_the_same_side_of_the_level(made, a, printed, verdict):
    shelf = Shelf(gmm=records_with(made[1][1], a), kmeans=records_with(made[1][1], [0.70, 0.71, 0.69, 0.7, 0.7][:len(a)]))
    asked = claim(value=printed, unit="probability", answered_by=dict(
        experiment="vade/digits", method="gmm", metric="accuracy", against="kmeans", reduce="p-value"))
    assert claims.answer(asked, shelf).verdict == verdict


def test_the_interval_is_students():
    values = [40.0, 44.0, 45.0, 51.0]
    assert claims.interval(values) == pytest.approx(stats.t.interval(0.95, 3, np.mean(values), stats.sem(values)))


@pytest.mark.parametrize("kind", ["ratio", "order"])
def test_runs_that_fall_short_on_the_other_side_count_too(made, kind):
    less = make_specs("vade/digits", profile="paper", methods=["vade"], epochs=2)[0]
    others = [r.model_copy(update={"spec": less}) for r in records_with(made[1][1], [0.5, 0.52])]
    by = dict(experiment="vade/digits", method="gmm", metric="accuracy", against="vade")
    asked = claim(value=1.6, unit="number", answered_by=by | {"reduce": "ratio"}) if kind == "ratio" else claim(
        kind="order", value=None, unit=None, says="x", answered_by=by)
    found = claims.answer(asked, Shelf(gmm=records_with(made[1][1], [0.8, 0.82]), vade=others))
    assert found.verdict == "at reduced scale" and "epochs 2 of 150" in found.scale


def test_a_comparison_can_be_said_to_be_at_a_smaller_scale(made):
    shelf = Shelf(**{m: records_with(made[1][1], [v]) for m, v in (("vade", 0.9), ("vae+gmm", 0.8))})
    found = claims.answer(claim(kind="property", value=None, unit=None, says="x", reduced="a tenth of the epochs", answered_by=dict(
        experiment="vade/mnist", method="vade", metric="fewer_errors_than_vae")), shelf)
    assert found.verdict == "at reduced scale" and "a tenth of the epochs" in found.scale


def test_a_property_is_that_of_the_run_with_the_best_objective(made, monkeypatch):
    monkeypatch.setitem(PROPERTIES, "picked", lambda record, arrays, data: (record.objective == 2.0, "x"))
    shelf = Shelf(gmm=records_with(made[1][1], [0.9, 0.5, 0.7], [1.0, 2.0, -3.0]))
    shelf.arrays = lambda record: {}
    asked = claim(kind="property", value=None, unit=None, says="x", answered_by=dict(experiment="vade/digits", method="gmm", metric="picked"))
    found = claims.answer(asked, shelf)
    assert found.verdict == "reproduced" and [r.objective for r in found.records] == [2.0]


def test_seconds_an_epoch_are_those_of_the_last_phase(made):
    record = made[1][1].model_copy(update={"history": [
        {"phase": p, "epoch": 1, "seconds": s} for p, s in (("layer 1", 9.0), ("vade", 1.0), ("vade", 2.0), ("vade", 6.0))]})
    assert claims.in_unit(record, "seconds_per_epoch", "seconds") == 2.0


def test_what_verify_found_ends_with_the_code_that_it_was_found_with(made, tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(replay, "LIBRARY", tmp_path)
    monkeypatch.setattr(replay, "verify", lambda path, root: calls.append(path) or replay.Outcome(path.stem, True, ""))
    for code, asked in (("1", 2), ("1", 2), ("2", 4)):
        (tmp_path / "a.py").write_text(code)
        list(replay.verify_all(made[0], workers=1, notes=tmp_path / "notes.json"))
        assert len(calls) == asked
