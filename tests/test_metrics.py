"""Scores against known classes: checked against brute force, hand and scikit-learn."""

import math
from collections import Counter
from itertools import combinations, permutations

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn import metrics as reference

from genclust import metrics
from genclust.metrics import ClusterPurity

SINGLE_SCORES = {
    "accuracy": metrics.accuracy,
    "nmi": metrics.nmi,
    "nmi_geometric": lambda t, p, **kw: metrics.nmi(t, p, "geometric", **kw),
    "ari": metrics.ari,
    "rand_index": metrics.rand_index,
    "purity": metrics.purity,
}
EVERY_FUNCTION = {
    **SINGLE_SCORES,
    "match": metrics.match,
    "cluster_purity": metrics.cluster_purity,
    "noise_scores": metrics.noise_scores,
    "scores": metrics.scores,
}

# Worked example. Contingency table (clusters 5, 7, 9 by classes 1, 2):
#     5: 3 1     7: 0 2     9: 2 0
TRUE = [1, 1, 1, 2, 2, 2, 1, 1]
PRED = [5, 5, 5, 5, 7, 7, 9, 9]

# With noise. Labelled: clusters 0: aaab, 1: bb. Noise: c and a.
NOISY_TRUE = ["a", "a", "a", "b", "b", "b", "c", "a"]
NOISY_PRED = [0, 0, 0, 0, 1, 1, -1, -1]


def random_labellings(how_many, max_parts=5, max_size=30, seed=0):
    """Random pairs of labellings with K below, equal to and above C."""
    rng = np.random.default_rng(seed)
    for _ in range(how_many):
        n = int(rng.integers(1, max_size + 1))
        n_classes, n_clusters = rng.integers(1, max_parts + 1, 2)
        names = rng.choice(np.arange(-50, 50), n_classes, replace=False)
        y_true = names[rng.integers(0, n_classes, n)]
        y_pred = rng.integers(0, n_clusters, n) * 11 + 3
        copied = rng.random(n) < rng.random()  # some agreement, from none to all
        y_pred = np.where(copied, (y_true % n_clusters) * 11 + 3, y_pred)
        yield y_true, y_pred


def brute_force_hits(y_true, y_pred):
    """Samples right under the best of all injective maps."""
    pairs = Counter(zip(y_pred.tolist(), y_true.tolist()))
    clusters, classes = sorted(set(y_pred.tolist())), sorted(set(y_true.tolist()))
    if len(clusters) <= len(classes):
        maps = (zip(clusters, image) for image in permutations(classes, len(clusters)))
    else:
        maps = (zip(image, classes) for image in permutations(clusters, len(classes)))
    return max(sum(pairs[pair] for pair in one) for one in maps)


# ------------------------------------------------------------------ accuracy, match


def test_accuracy_equals_brute_force_over_all_injective_maps():
    orders = set()
    for y_true, y_pred in random_labellings(300):
        expected = brute_force_hits(y_true, y_pred) / len(y_true)
        assert metrics.accuracy(y_true, y_pred) == expected
        k, c = len(set(y_pred)), len(set(y_true))
        orders.add((k > c) - (k < c))
    assert orders == {-1, 0, 1}  # fewer, as many and more clusters than classes


def test_match_is_injective_complete_and_attains_the_accuracy():
    for y_true, y_pred in random_labellings(200, seed=1):
        mapping = metrics.match(y_true, y_pred)
        clusters, classes = set(y_pred.tolist()), set(y_true.tolist())
        assert len(mapping) == min(len(clusters), len(classes))
        assert set(mapping) <= clusters and set(mapping.values()) <= classes
        assert len(set(mapping.values())) == len(mapping)
        hits = sum(mapping.get(p, "none") == t for t, p in zip(y_true.tolist(), y_pred.tolist()))
        assert hits == brute_force_hits(y_true, y_pred)


def test_accuracy_by_hand_with_more_clusters_than_classes():
    assert metrics.match(TRUE, PRED) == {5: 1, 7: 2}  # 9 goes without
    assert metrics.accuracy(TRUE, PRED) == 5 / 8


def test_accuracy_by_hand_with_fewer_clusters_than_classes():
    assert metrics.accuracy([0, 0, 0, 1, 1, 2], [4, 4, 4, 4, 4, 4]) == 3 / 6
    assert metrics.match([0, 0, 0, 1, 1, 2], [4, 4, 4, 4, 4, 4]) == {4: 0}


def test_best_mapping_is_not_the_greedy_one():
    # Table [[5, 4], [4, 0]]: taking the 5 first yields 5 + 0; the best is 4 + 4.
    y_true = [0] * 5 + [1] * 4 + [0] * 4
    y_pred = [0] * 9 + [1] * 4
    assert metrics.match(y_true, y_pred) == {0: 1, 1: 0}
    assert metrics.accuracy(y_true, y_pred) == 8 / 13


def test_mapping_is_not_symmetric_in_direction():
    assert metrics.match(["x", "y", "y"], [3, 8, 8]) == {3: "x", 8: "y"}


# ------------------------------------------------------------------ nmi, ari, rand


@pytest.mark.parametrize("average", ["arithmetic", "geometric"])
def test_nmi_agrees_with_scikit_learn(average):
    for y_true, y_pred in random_labellings(150, seed=2):
        expected = reference.normalized_mutual_info_score(y_true, y_pred, average_method=average)
        assert metrics.nmi(y_true, y_pred, average) == pytest.approx(expected, abs=1e-12)


def test_nmi_averages_by_hand():
    # Four samples, classes 2 + 2 and singletons: I = log 2, H(T) = log 2, H(P) = log 4.
    y_true, y_pred = [0, 0, 1, 1], [0, 1, 2, 3]
    assert metrics.nmi(y_true, y_pred) == pytest.approx(2 / 3)
    assert metrics.nmi(y_true, y_pred, "geometric") == pytest.approx(1 / math.sqrt(2))


def test_rounding_never_lifts_nmi_above_one():
    labels = [0] * 8 + [1]  # information over entropy rounds to 1 + 9e-16 here
    for average in ("arithmetic", "geometric"):
        assert 1 - 1e-12 < metrics.nmi(labels, labels, average) <= 1


def test_nmi_rejects_an_unknown_average():
    with pytest.raises(ValueError, match="'harmonic'.*'arithmetic' or 'geometric'"):
        metrics.nmi([0, 1], [0, 1], "harmonic")


def test_ari_agrees_with_scikit_learn():
    for y_true, y_pred in random_labellings(150, seed=3):
        expected = reference.adjusted_rand_score(y_true, y_pred)
        assert metrics.ari(y_true, y_pred) == pytest.approx(expected, abs=1e-12)


def test_ari_reaches_its_lower_bound():
    assert metrics.ari([0, 0, 1, 1], [0, 1, 0, 1]) == -0.5


def test_rand_index_agrees_with_counting_pairs():
    for y_true, y_pred in random_labellings(100, seed=4):
        pairs = list(combinations(range(len(y_true)), 2))
        agree = sum((y_true[i] == y_true[j]) == (y_pred[i] == y_pred[j]) for i, j in pairs)
        expected = agree / len(pairs) if pairs else 1.0
        assert metrics.rand_index(y_true, y_pred) == expected
        assert metrics.rand_index(y_true, y_pred) == reference.rand_score(y_true, y_pred)


def test_rand_index_is_high_at_random_where_ari_is_zero():
    rng = np.random.default_rng(5)
    y_true, y_pred = rng.integers(0, 10, (2, 20_000))
    assert metrics.rand_index(y_true, y_pred) == pytest.approx(0.82, abs=1e-3)
    assert metrics.ari(y_true, y_pred) == pytest.approx(0, abs=1e-3)


def test_pair_scores_stay_exact_for_many_samples():
    # Products of pair counts exceed 64 bits here.
    y_true = np.repeat([0, 1], 100_000)
    y_pred = np.tile([0, 1], 100_000)
    half = 50_000
    together = 4 * math.comb(half, 2)
    in_one = 2 * math.comb(2 * half, 2)
    every = math.comb(4 * half, 2)
    assert metrics.rand_index(y_true, y_pred) == (every - 2 * (in_one - together)) / every
    expected = (together - in_one**2 / every) / (in_one - in_one**2 / every)
    assert metrics.ari(y_true, y_pred) == pytest.approx(expected, rel=1e-6)
    assert metrics.ari(y_true, y_pred) < 0


# ------------------------------------------------------------------ purity


def test_purity_by_hand():
    assert metrics.purity(TRUE, PRED) == 7 / 8
    assert metrics.cluster_purity(TRUE, PRED) == [
        ClusterPurity(cluster=5, majority=1, size=4, purity=0.75),
        ClusterPurity(cluster=7, majority=2, size=2, purity=1.0),
        ClusterPurity(cluster=9, majority=1, size=2, purity=1.0),
    ]


def test_cluster_purity_sorts_numbers_as_numbers_and_breaks_ties_by_class():
    rows = metrics.cluster_purity(["b", "a", "c", "c"], [10, 10, 9, -2])
    assert [row.cluster for row in rows] == [-2, 9, 10]
    assert rows[2].majority == "a"


def test_purity_is_the_weighted_mean_of_cluster_purity_and_bounds_accuracy():
    strict = 0
    for y_true, y_pred in random_labellings(100, seed=6):
        rows = metrics.cluster_purity(y_true, y_pred)
        mean = sum(row.size * row.purity for row in rows) / sum(row.size for row in rows)
        value = metrics.purity(y_true, y_pred)
        assert value == pytest.approx(mean)
        assert value >= metrics.accuracy(y_true, y_pred)
        strict += value > metrics.accuracy(y_true, y_pred)
    assert strict


# ------------------------------------------------------------------ invariance, limits


@pytest.mark.parametrize("name", SINGLE_SCORES)
def test_scores_do_not_depend_on_names_or_order(name):
    score = SINGLE_SCORES[name]
    rng = np.random.default_rng(7)
    for y_true, y_pred in random_labellings(40, seed=8):
        value = score(y_true, y_pred)
        order = rng.permutation(len(y_true))
        true_words = [f"class {-t}" for t in y_true]
        far = np.where(y_pred == 3, -(10**15), y_pred * 10**12)  # sorted, not counted
        small = (y_pred - 40).astype(np.int8)
        assert score(y_true[order], y_pred[order]) == pytest.approx(value, abs=1e-12)
        assert score(true_words, far) == pytest.approx(value, abs=1e-12)
        assert score(y_true.astype(float), small) == pytest.approx(value, abs=1e-12)
        assert score(list(true_words), np.array(true_words, object)) == pytest.approx(1)


@pytest.mark.parametrize("name", SINGLE_SCORES)
def test_renamed_classes_score_one_and_others_less(name):
    score = SINGLE_SCORES[name]
    assert score([2, 2, 0, 1], ["p", "p", "q", "r"]) == pytest.approx(1, abs=1e-12)
    assert score([2, 2, 0, 1], ["p", "q", "q", "q"]) < 0.8
    assert score([6], [4]) == 1


@pytest.mark.parametrize("name", ["nmi", "nmi_geometric", "ari"])
def test_a_single_cluster_carries_no_information(name):
    assert SINGLE_SCORES[name]([0, 0, 1, 1], [0, 0, 0, 0]) == 0
    assert SINGLE_SCORES[name]([0, 0, 0, 0], [0, 0, 1, 1]) == 0
    assert SINGLE_SCORES[name]([0, 0, 0, 0], [1, 1, 1, 1]) == 1


def test_extreme_integers_of_narrow_and_wide_types():
    narrow = np.array([-128, 127, -128, 127], np.int8)
    wide = np.array([2**64 - 1, 2**64 - 2, 2**64 - 1, 2**64 - 2], np.uint64)
    assert metrics.match(narrow, wide) == {2**64 - 1: -128, 2**64 - 2: 127}
    edges = np.array([-(2**63), 2**63 - 1, -(2**63), 2**63 - 1])
    assert metrics.match(edges, narrow) == {-128: -(2**63), 127: 2**63 - 1}


def test_labels_come_back_as_plain_python_values():
    mapping = metrics.match(np.array([1.0, 2.0]), np.array(["u", "v"]))
    assert mapping == {"u": 1, "v": 2}
    assert {type(key) for key in mapping} == {str}
    assert {type(value) for value in mapping.values()} == {int}
    assert metrics.match([False, True], [0, 1]) == {0: 0, 1: 1}


# ------------------------------------------------------------------ noise


@pytest.mark.parametrize("name", [*SINGLE_SCORES, "match", "cluster_purity"])
def test_leaving_noise_out_equals_filtering_beforehand(name):
    function = EVERY_FUNCTION[name]
    differs = 0
    for y_true, y_pred in random_labellings(60, seed=9):
        noise = int(y_pred[0])
        kept = y_pred != noise
        if kept.any():
            expected = function(y_true[kept], y_pred[kept])
            assert function(y_true, y_pred, noise=noise) == expected
            differs += function(y_true, y_pred) != expected
    assert differs  # without the keyword the label is a cluster


def test_noise_scores_by_hand():
    assert metrics.noise_scores(NOISY_TRUE, NOISY_PRED) == {
        "share_labelled": 6 / 8,
        "accuracy_labelled": 5 / 6,
        "accuracy_total": 5 / 8,
        "n_clusters": 2,
    }


def test_noise_never_takes_a_class_in_the_matching():
    # As a cluster, -1 would win class 0 with three hits; as noise it wins nothing.
    y_true, y_pred = [0, 0, 0, 0, 1], [-1, -1, -1, 4, 6]
    assert metrics.noise_scores(y_true, y_pred)["accuracy_total"] == 2 / 5
    assert metrics.match(y_true, y_pred, noise=-1) == {4: 0, 6: 1}
    assert metrics.accuracy(y_true, y_pred) == 4 / 5


def test_noise_scores_without_noise():
    assert metrics.noise_scores(TRUE, PRED) == {
        "share_labelled": 1.0,
        "accuracy_labelled": 5 / 8,
        "accuracy_total": 5 / 8,
        "n_clusters": 3,
    }


def test_noise_under_another_name():
    words = ["none" if p == -1 else f"k{p}" for p in NOISY_PRED]
    assert metrics.noise_scores(NOISY_TRUE, words, noise="none") == metrics.noise_scores(
        NOISY_TRUE, NOISY_PRED
    )
    assert metrics.noise_scores(NOISY_TRUE, words)["share_labelled"] == 1
    assert metrics.noise_scores(NOISY_TRUE, NOISY_PRED, noise=None)["n_clusters"] == 3


def test_minus_one_among_the_classes_is_an_ordinary_class():
    assert metrics.accuracy([-1, -1, 0], [5, 5, 6], noise=-1) == 1
    assert metrics.noise_scores([-1, -1, 0], [5, 5, 6])["share_labelled"] == 1


def test_everything_noise():
    y_true, y_pred = ["a", "a", "b"], [-1, -1, -1]
    part = metrics.noise_scores(y_true, y_pred)
    assert math.isnan(part.pop("accuracy_labelled"))
    assert part == {"share_labelled": 0, "accuracy_total": 0, "n_clusters": 0}
    assert metrics.match(y_true, y_pred, noise=-1) == {}
    assert metrics.cluster_purity(y_true, y_pred, noise=-1) == []
    for name, score in SINGLE_SCORES.items():
        assert math.isnan(score(y_true, y_pred, noise=-1)), name
        assert not math.isnan(score(y_true, y_pred)), name

    table = metrics.scores(y_true, y_pred)
    assert all(math.isnan(table[name]) for name in SINGLE_SCORES)
    totals = {key: value for key, value in table.items() if key.endswith("_total")}
    # Pairs: one of three is in one class, and all three are in the one cluster.
    assert totals.pop("rand_index_total") == pytest.approx(1 / 3)
    assert set(totals.values()) == {0} and len(totals) == 5


# ------------------------------------------------------------------ all in one


def test_scores_equal_the_single_functions():
    for y_true, y_pred in random_labellings(60, seed=10):
        table = metrics.scores(y_true, y_pred)
        counts = {key: table.pop(key) for key in ("n_samples", "n_clusters", "n_classes")}
        assert table == {name: score(y_true, y_pred) for name, score in SINGLE_SCORES.items()}
        assert list(counts.values()) == [len(y_true), len(set(y_pred)), len(set(y_true))]


def test_scores_with_noise():
    table = metrics.scores(NOISY_TRUE, NOISY_PRED)
    for name, score in SINGLE_SCORES.items():
        assert table[name] == score(NOISY_TRUE[:6], NOISY_PRED[:6]), name
    for name in ("nmi", "nmi_geometric", "ari", "rand_index"):
        assert table[f"{name}_total"] == SINGLE_SCORES[name](NOISY_TRUE, NOISY_PRED), name
        assert table[f"{name}_total"] != table[name], name
    assert table["purity"] == 5 / 6 and table["purity_total"] == 5 / 8
    assert metrics.noise_scores(NOISY_TRUE, NOISY_PRED).items() <= table.items()
    assert (table["n_samples"], table["n_clusters"], table["n_classes"]) == (8, 2, 3)
    assert len(table) == 6 + 6 + 3 + 2


def test_scores_can_take_minus_one_as_a_cluster():
    table = metrics.scores(NOISY_TRUE, NOISY_PRED, noise=None)
    assert "share_labelled" not in table and table["n_clusters"] == 3
    assert table["accuracy"] == metrics.accuracy(NOISY_TRUE, NOISY_PRED) == 6 / 8


# ------------------------------------------------------------------ validation

BAD = {
    "lengths": ([0, 1, 1], [0, 1], "y_true has 3 labels but y_pred has 2.*pass one of each"),
    "empty": ([], [], "y_true is empty; pass"),
    "scalar": (3, [3], r"y_true has shape \(\)"),
    "matrix": ([0, 1], [[0.1, 0.9], [0.8, 0.2]], r"y_pred has shape \(2, 2\).*argmax"),
    "ragged": ([[0], [1, 2]], [0, 1], "y_true is ragged; pass a flat"),
    "nan": ([0, 1, 2], [0.0, np.nan, np.nan], r"y_pred\[1\] is nan.*in all: 2.*drop"),
    "none": (["a", None], [0, 1], r"y_true\[1\] is None.*drop"),
    "nan among words": ([0, 1], ["a", float("nan")], r"y_pred\[1\] is nan.*drop"),
    "infinite": ([0, 1], [0.0, np.inf], r"y_pred\[1\] is inf.*pass integer"),
    "fraction": ([0, 1], [1.0, 0.25], r"y_pred\[1\] is 0.25.*pass integer"),
    "inexact": ([0, 1], [1.0, 2.0**53], r"y_pred\[1\] is .*below 2\*\*53"),
    "mixed": ([0, 1], [-1, "a"], "y_pred mixes.*number, str; convert"),
    "object": ([0, 1], [{}, {}], r"y_pred\[0\] is {} of type dict; labels must"),
    "complex": ([0, 1], np.array([1j, 0]), "y_pred has dtype complex128; convert"),
    "huge": (np.arange(9_000), np.arange(9_000), "9000 clusters by 9000 classes.*check"),
}


@pytest.mark.parametrize("case", BAD)
def test_errors_name_the_value_and_the_mend(case):
    y_true, y_pred, message = BAD[case]
    for name, function in EVERY_FUNCTION.items():
        with pytest.raises(ValueError, match=message):
            function(y_true, y_pred)


def test_second_argument_is_checked_for_emptiness_too():
    with pytest.raises(ValueError, match="y_pred is empty"):
        metrics.accuracy([1], [])


def test_correct_rows_takes_what_the_others_take():
    true, pred = [0, 0, 1, 1], [5, 5, 7, 5]
    for convert in (list, np.array, tuple, pd.Series, lambda v: torch.tensor(list(v))):
        found = metrics.correct_rows(convert(true), convert(pred))
        assert isinstance(found, np.ndarray) and found.tolist() == [True, True, True, False]
