"""The OT chapter's part of the lab: what its statements are checked by, its grids, and records that are made and replayed."""

import statistics
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from genclust import DeepKMeans
from genclust.datasets import load
from genclust.lab import replay
from genclust.lab.claims import AnsweredBy, Claim, Where, answer, welch
from genclust.lab.experiments import make_specs, recompute
from genclust.lab.papers import CHECKS, EXPERIMENTS, ot_clustering
from genclust.lab.records import RecordStore
from genclust.lab.runner import execute


def runs(**accuracies):
    """Records of methods, as the comparisons see them: ``ot=(0.85, 0.84)``; with an epsilon where a dict is given."""
    def record(value, epsilon=0.01, **metrics):
        return SimpleNamespace(metrics={"accuracy": value, **metrics}, spec=SimpleNamespace(params={"epsilon": epsilon}))
    return {m.replace("_", "-").replace("ae-k", "ae+k"): [record(v, e) for e, vs in (values.items() if isinstance(values, dict) else [(0.01, values)]) for v in vs]
            for m, values in accuracies.items()}


def test_comparisons_hold_and_fail():
    high, low = (0.85, 0.86, 0.84), (0.80, 0.81, 0.79)
    assert ot_clustering.ot_on_top(runs(ot=high, soft_kmeans=low, ae_kmeans=low))[0]
    assert not ot_clustering.ot_on_top(runs(ot=low, soft_kmeans=high, ae_kmeans=low))[0]
    assert ot_clustering.pretraining_does_not_help_ot(runs(ot=high, ot_p=high))[0]
    assert not ot_clustering.pretraining_does_not_help_ot(runs(ot=low, ot_p=high))[0]
    assert ot_clustering.soft_kmeans_slightly_over_ae_kmeans(runs(soft_kmeans=(0.80, 0.84), ae_kmeans=(0.79, 0.83)))[0]
    assert not ot_clustering.soft_kmeans_slightly_over_ae_kmeans(runs(soft_kmeans=high, ae_kmeans=low))[0]
    assert not ot_clustering.soft_kmeans_slightly_over_ae_kmeans(runs(soft_kmeans=low, ae_kmeans=high))[0]
    with pytest.raises(LookupError, match=r"OT: 1 of at least 2 runs"):
        ot_clustering.ot_on_top(runs(ot=(0.8,), soft_kmeans=low, ae_kmeans=low))


def test_comparisons_over_epsilon():
    flat = {e: (0.85, 0.84) for e in ot_clustering.EPSILONS}
    falling = {e: (0.85 - 0.05 * i, 0.84 - 0.05 * i) for i, e in enumerate(ot_clustering.EPSILONS)}
    assert ot_clustering.robust_to_epsilon(runs(ot=flat))[0] and not ot_clustering.robust_to_epsilon(runs(ot=falling))[0]
    assert ot_clustering.pretraining_robust(runs(ot=falling, ot_p=flat, soft_kmeans=falling, soft_kmeans_p=flat))[0]
    assert not ot_clustering.pretraining_robust(runs(ot=flat, ot_p=falling, soft_kmeans=falling, soft_kmeans_p=flat))[0]
    assert not ot_clustering.pretraining_robust(runs(ot=falling, ot_p=flat, soft_kmeans=flat, soft_kmeans_p=falling))[0]
    low_at_first = flat | {ot_clustering.EPSILONS[0]: (0.5, 0.5)}  # the fall is counted from 0.01
    assert ot_clustering.pretraining_robust(runs(ot=falling | {ot_clustering.EPSILONS[0]: (0.1, 0.1)}, ot_p=low_at_first, soft_kmeans=falling,
                                                 soft_kmeans_p=flat))[0]
    assert ot_clustering.ot_over_soft_kmeans_by_epsilon(runs(ot=flat, soft_kmeans={e: (0.8, 0.8) for e in flat}))[0]
    assert not ot_clustering.ot_over_soft_kmeans_by_epsilon(runs(ot=falling, soft_kmeans=flat))[0]
    with pytest.raises(LookupError, match="at epsilon 10"):
        ot_clustering.robust_to_epsilon(runs(ot={e: v for e, v in flat.items() if e != 10}))


@pytest.mark.parametrize("check", [f.__name__ for f in ot_clustering.CHECKS])
def test_the_propositions_hold(check):
    holds, reason = CHECKS[check]()
    assert holds and reason


def test_welch_is_scipys_and_decides_without_spread():
    a, b = [0.85, 0.84, 0.86], [0.80, 0.83, 0.82]
    assert welch(a, b) == stats.ttest_ind(a, b, equal_var=False, alternative="greater").pvalue
    assert welch(b, a, higher=False) == pytest.approx(welch(a, b))
    assert welch([0.5, 0.5], [0.4, 0.4]) == 0 and welch([0.4, 0.4], [0.5, 0.5]) == 1


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Two seeds of two methods of the paper's experiment, at the size of the smoke profile."""
    folder = tmp_path_factory.mktemp("ot")
    made = RecordStore(folder / "records")
    for spec in make_specs("ot-clustering/mnist_train", profile="smoke", methods=["ot", "ae+kmeans"], seeds=(0, 1)):
        record = execute(spec, made, folder / "work")
        (full,) = make_specs("ot-clustering/mnist_train", profile="paper", methods=[spec.method], seeds=[spec.seed], n_samples=spec.n_samples,
                             **{key: value for key, value in spec.params.items() if key.endswith("epochs")})
        made.put(record.model_copy(update={"spec": full}), {"labels": made.arrays(record)["labels"]})
    return made


def test_a_p_value_is_answered_on_the_same_side_of_five_per_cent(store):
    a, b = ([100 * r.metrics["accuracy"] for r in store.find(method=m, profile="paper")] for m in ("ot", "ae+kmeans"))
    p = welch(a, b)
    for printed in (0.5, 1e-6):
        claim = Claim(id="ot-clustering/x/y", where=Where(section="3"), value=printed, unit="probability", answered_by=AnsweredBy(
            experiment="ot-clustering/mnist_train", method="ot", metric="accuracy", reduce="p-value", against="ae+kmeans"))
        found = answer(claim, store)
        assert found.measured == pytest.approx(p) and found.verdict == "at reduced scale"  # two epochs of 200
        assert f"{statistics.fmean(a):.2f} against {statistics.fmean(b):.2f}" in found.reason and "epochs 2 of 200" in found.reason
    with pytest.raises(ValueError, match="against"):
        Claim(id="ot-clustering/x/y", where=Where(section="3"), value=0.1, unit="probability", answered_by=AnsweredBy(
            experiment="ot-clustering/mnist_train", method="ot", metric="accuracy", reduce="p-value"))


def test_records_measure_what_the_sweep_chooses_by_and_replay(store):
    record = store.find(method="ot", profile="smoke")[0]
    assert {"agreement", "reconstruction", "mean_cost", "nearest_cost", "code_variance", "kmeans_accuracy"} <= record.metrics.keys()
    assert record.metrics["nearest_cost"] < record.metrics["mean_cost"] and -1 <= record.metrics["agreement"] <= 1
    assert [h["phase"] for h in record.history] == ["clustering"] * 2 and all("accuracy" in h for h in record.history)
    X = load("mnist_train", n_samples=record.spec.n_samples).X
    assert not replay.gaps(record.replay, replay.prefix(record.spec, X), "ot")


def test_a_grid_is_run_at_every_point_and_each_point_by_its_own_command():
    specs = make_specs("ot-clustering/weight", profile="paper", seeds=(0, 1))
    assert len(specs) == 2 * 2 * len(ot_clustering.SWEEP) == len({s.id for s in specs})  # of OT and of soft k-means
    for spec in specs:
        words = recompute(spec).split()
        given = dict(w.split("=") for w in words if "=" in w)
        assert {k: float(v) for k, v in given.items()} == {k: spec.params[k] for k in ("clustering_weight", "epsilon")}
        again = make_specs("ot-clustering/weight", profile="paper", seeds=[spec.seed], methods=[spec.method], **{k: float(v) for k, v in given.items()})
        assert [s.id for s in again] == [spec.id]


def test_unequal_proportions_start_from_examples_of_each_class():
    data = load(ot_clustering.IMBALANCED)
    assert len(data.y) == 7447 and abs(data.y.mean() - 0.8) < 1e-3
    ours = {m: ot_clustering._make_from_examples(3, order=order, n_clusters=2) for m, order in (("right", [0, 1]), ("swapped", [1, 0]))}
    for m, classes in (("right", (0, 1)), ("swapped", (1, 0))):
        rows = [int(np.flatnonzero((data.X == image).all(1))[0]) for image in ours[m].init]
        assert tuple(data.y[rows]) == classes
    assert set(ot_clustering.UNEQUAL) == set(EXPERIMENTS["ot-clustering/imbalanced"].methods)


def test_the_ones_that_are_counted_are_the_ones(monkeypatch):
    monkeypatch.setattr(ot_clustering, "measure", lambda deep, data: {})
    y = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    deep = SimpleNamespace(predict=lambda X: np.array([0, 0, 0, 1, 1, 1, 1, 1]), weights_=np.array([0.2, 0.8]))
    assert ot_clustering.measure_imbalanced(deep, SimpleNamespace(X=None, y=y)) == {"ones_in_large": 0.25}


def test_labels_are_no_part_of_what_the_weight_is_chosen_by():
    rng = np.random.default_rng(0)
    X = rng.random((120, 6), dtype=np.float32)
    model = DeepKMeans(3, hidden=(8,), epochs=1, batch_size=40, random_state=0).fit(X)
    one, two = (ot_clustering.measure(model, SimpleNamespace(X=X, y=y)) for y in (np.arange(120) % 3, np.zeros(120, dtype=int)))
    assert one.pop("kmeans_accuracy") != two.pop("kmeans_accuracy") and one == two


def test_up_to_which_epsilon_the_statements_of_figure_2_reach():
    flat = {e: (0.85, 0.84) for e in ot_clustering.EPSILONS}
    assert not ot_clustering.robust_to_epsilon(runs(ot=flat | {0.01: (0.7, 0.7)}))[0]
    assert ot_clustering.robust_to_epsilon(runs(ot=flat | {0.1: (0.7, 0.7)}))[0]
    soft = {e: (0.8, 0.8) for e in flat}
    assert not ot_clustering.ot_over_soft_kmeans_by_epsilon(runs(ot=flat | {0.1: (0.7, 0.7)}, soft_kmeans=soft))[0]
    assert ot_clustering.ot_over_soft_kmeans_by_epsilon(runs(ot=flat | {1.0: (0.7, 0.7)}, soft_kmeans=soft))[0]


def test_the_rule_takes_a_weight_from_each_seed_and_from_their_means():
    def run(seed, weight, agreement, error, epsilon=0.01):
        return SimpleNamespace(spec=SimpleNamespace(seed=seed, params=dict(clustering_weight=weight, epsilon=epsilon)),
                               metrics=dict(agreement=agreement, reconstruction=error))
    weights = sorted({point["clustering_weight"] for point in ot_clustering.SWEEP if point["epsilon"] == 0.01})
    error = {w: 9 + w for w in weights}  # the least weight reconstructs best
    first = [run(0, w, 0.8 if w == 0.1 else 0.5, error[w]) for w in weights]
    second = [run(1, w, 1.0 if w >= 1 else 0.5, error[w]) for w in weights]
    assert ot_clustering.choices([]) == {}
    assert ot_clustering.choices([*first, *second[:-1], run(0, 0.1, 1.0, 0.0, epsilon=1.0)]) == {"from seed 0": 0.1}
    assert ot_clustering.choices([*first, *second]) == {"from seed 0": 0.1, "from seed 1": 1.0, "from the means of these": 1.0}
