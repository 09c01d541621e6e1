"""Scores of a clustering against known classes.

Every function takes the known classes ``y_true`` and the predicted clusters
``y_pred``: two one-dimensional sequences of the same length n > 0. A label may
be any integer, a whole-numbered float (read as an integer), a boolean or a
string; labels need not run from 0 to K-1, and the numbers of clusters and
classes may differ. All scores are read off one contingency table

    n[k, c] = number of samples in cluster k whose class is c

with row sums n[k, .], column sums n[., c] and grand total n.

How noise is treated
--------------------
Density-based methods such as HDBSCAN leave some points unassigned, usually
with the label -1. The rule is the same throughout this module:

* ``noise=None`` (the default of every single score): no label is special, and
  -1 is a cluster like any other.
* ``noise=-1`` (or whichever label marks noise): samples predicted as noise are
  left out, and the result is that of the labelled samples alone, exactly as if
  both sequences had been filtered beforehand. If nothing is left, a score is
  nan, a mapping or list is empty.
* ``scores`` looks for -1 by itself. When it finds it, the plain keys hold the
  scores of the labelled samples, and keys ending in ``_total`` those of all
  samples. In the totals of accuracy and purity every noise sample is wrong; in
  the totals of the partition scores (nmi, nmi_geometric, ari, rand_index) the
  noise samples together form one further cluster, which is the value
  ``noise=None`` gives. Thus a result made of noise only has accuracy, purity,
  NMI and ARI of 0 in total, unless there is only one class, in which case a
  single cluster agrees with it perfectly (NMI = ARI = 1). Splitting noise into
  singletons instead would hand that empty result a clearly positive NMI.

Labels are compared as they are: among string labels noise is marked by a
string, so name it, as in ``noise="-1"``.

A score over the labelled samples alone rewards a method for refusing the
difficult ones; show it beside ``share_labelled`` or the total.

Errors
------
All functions raise ``ValueError`` for sequences that are empty, not
one-dimensional or of different lengths; for missing labels (NaN, None),
infinite or fractional ones; for a sequence mixing strings and numbers; and for
so many different labels on both sides that their table would not fit in memory.
"""

from __future__ import annotations

from numbers import Real
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.stats import entropy
from sklearn.metrics import mutual_info_score

__all__ = [
    "ClusterPurity",
    "accuracy",
    "ari",
    "cluster_purity",
    "correct_rows",
    "match",
    "nmi",
    "noise_scores",
    "purity",
    "rand_index",
    "scores",
]

_MAX_CELLS = 2**26  # of the contingency table: 512 MiB of 64-bit counts
_AVERAGES = ("arithmetic", "geometric")


class ClusterPurity(NamedTuple):
    """How pure one cluster is.

    ``cluster`` is its label, ``majority`` the label of its most frequent class
    (the first in sorted order when several tie), ``size`` its number of samples
    and ``purity`` the share of them in the majority class, in (0, 1].
    """

    cluster: Any
    majority: Any
    size: int
    purity: float


class _Table(NamedTuple):
    counts: np.ndarray  # (n_clusters, n_classes) int64
    clusters: list  # row labels, sorted
    classes: list  # column labels, sorted


# --------------------------------------------------------------------------
# From labels to the contingency table


def _labels(values: Any, name: str) -> np.ndarray:
    """Validate one label sequence; return it as an integer or string array."""
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise ValueError(
            f"{name} is ragged; pass a flat sequence with one label per sample"
        ) from error
    if array.ndim != 1:
        raise ValueError(
            f"{name} has shape {array.shape}, but labels must be one-dimensional; "
            "use ravel() on a single column, argmax(axis=1) on one-hot codes or "
            "cluster probabilities"
        )
    if array.size == 0:
        raise ValueError(f"{name} is empty; pass at least one label")
    if array.dtype.kind == "O" or (
        array.dtype.kind in "US" and not isinstance(values, np.ndarray)
    ):
        # NumPy would silently turn [-1, "a"] or [nan, "a"] into strings.
        array = _objects(list(values), name)

    kind = array.dtype.kind
    if kind == "b":
        return array.astype(np.int64)
    if kind == "f":
        return _whole(array, name)
    if kind not in "iuUSO":
        raise ValueError(
            f"{name} has dtype {array.dtype}; convert the labels to integers or strings"
        )
    return array


def _objects(items: list, name: str) -> np.ndarray:
    """Turn Python objects into a homogeneous array, refusing missing or mixed ones."""
    kinds = set()
    for position, item in enumerate(items):
        if item is None or (isinstance(item, Real) and item != item):
            raise ValueError(_missing(name, item, position))
        if isinstance(item, (str, bytes)):
            kinds.add(type(item).__name__.removesuffix("_"))
        elif isinstance(item, (Real, np.bool_)):
            kinds.add("number")
        else:
            raise ValueError(
                f"{name}[{position}] is {item!r} of type {type(item).__name__}; "
                "labels must be integers or strings"
            )
    if len(kinds) > 1:
        raise ValueError(
            f"{name} mixes labels of the types {', '.join(sorted(kinds))}; "
            "convert all of them to integers or all of them to strings"
        )
    return np.asarray(items)


def _whole(array: np.ndarray, name: str) -> np.ndarray:
    """Floats that are whole numbers, as integers."""
    nan = np.isnan(array)
    if nan.any():
        position = int(np.flatnonzero(nan)[0])
        raise ValueError(_missing(name, "nan", position, int(nan.sum())))
    # Beyond 2**53 neighbouring integers share one float; inf fails here too.
    wrong = (np.abs(array) >= 2.0**53) | (array != np.floor(array))
    if wrong.any():
        position = int(np.flatnonzero(wrong)[0])
        raise ValueError(
            f"{name}[{position}] is {array[position]!s}, which is not a whole number "
            "below 2**53; pass integer labels (not probabilities or coordinates)"
        )
    return array.astype(np.int64)


def _missing(name: str, value: Any, position: int, how_many: int | None = None) -> str:
    count = "" if how_many is None else f" (missing labels in all: {how_many})"
    return (
        f"{name}[{position}] is {value}{count}; drop samples without a label from "
        "y_true and y_pred, or give unassigned predictions a noise label such as -1"
    )


def _encode(labels: np.ndarray) -> tuple[np.ndarray, list]:
    """Positions of the labels in the sorted list of distinct labels, and that list."""
    if labels.dtype.kind in "iu":
        low, high = int(labels.min()), int(labels.max())
        if high - low <= 4 * labels.size + 1024 and high < 2**63:
            # Counting is several times faster than sorting.
            shifted = labels.astype(np.int64) - low
            present = np.bincount(shifted) > 0
            rank = np.cumsum(present) - 1
            return rank[shifted], (np.flatnonzero(present) + low).tolist()
    distinct, codes = np.unique(labels, return_inverse=True)
    return codes, distinct.tolist()


def _tabulate(y_true: Any, y_pred: Any) -> _Table:
    """The contingency table of all samples, noise included."""
    true = _labels(y_true, "y_true")
    pred = _labels(y_pred, "y_pred")
    if true.size != pred.size:
        raise ValueError(
            f"y_true has {true.size} labels but y_pred has {pred.size}; "
            "pass one of each per sample, in the same order"
        )
    columns, classes = _encode(true)
    rows, clusters = _encode(pred)
    n_cells = len(clusters) * len(classes)
    if n_cells > _MAX_CELLS:
        raise ValueError(
            f"{len(clusters)} clusters by {len(classes)} classes exceed the "
            f"{_MAX_CELLS} cells of the largest table allowed; check that y_true and "
            "y_pred hold labels rather than sample numbers or measurements"
        )
    counts = np.bincount(rows * len(classes) + columns, minlength=n_cells)
    return _Table(counts.reshape(len(clusters), len(classes)), clusters, classes)


def _without(table: _Table, noise: Any) -> _Table:
    """The table of the samples whose cluster is not ``noise``.

    Classes left without a sample go too, as if the samples had been filtered.
    """
    if noise is None or noise not in table.clusters:
        return table
    row = table.clusters.index(noise)
    counts = np.delete(table.counts, row, axis=0)
    kept = counts.any(axis=0)
    return _Table(
        counts[:, kept],
        table.clusters[:row] + table.clusters[row + 1 :],
        [c for c, keep in zip(table.classes, kept) if keep],
    )


def _labelled(y_true: Any, y_pred: Any, noise: Any) -> _Table:
    return _without(_tabulate(y_true, y_pred), noise)


# --------------------------------------------------------------------------
# From the contingency table to scores


def _ratio(part: int, whole: int) -> float:
    return int(part) / int(whole) if whole else float("nan")


def _matched(counts: np.ndarray) -> int:
    """Samples on the best one-to-one mapping."""
    return int(counts[linear_sum_assignment(counts, maximize=True)].sum())


def _majority(counts: np.ndarray) -> int:
    """Samples in the majority class of their cluster."""
    return int(counts.max(axis=1).sum()) if counts.size else 0


def _nmi(counts: np.ndarray) -> dict[str, float]:
    """Normalised mutual information under each average."""
    if counts.size == 0:
        return dict.fromkeys(_AVERAGES, float("nan"))
    if counts.shape == (1, 1):
        return dict.fromkeys(_AVERAGES, 1.0)
    information = float(mutual_info_score(None, None, contingency=counts))
    if information <= np.finfo(float).eps:
        return dict.fromkeys(_AVERAGES, 0.0)
    h_pred, h_true = float(entropy(counts.sum(axis=1))), float(entropy(counts.sum(axis=0)))
    means = {"arithmetic": (h_pred + h_true) / 2, "geometric": (h_pred * h_true) ** 0.5}
    return {average: min(information / mean, 1.0) for average, mean in means.items()}


def _pairs(counts: np.ndarray) -> tuple[int, int, int, int]:
    """Unordered pairs of samples: together in both partitions, in the clusters
    only, in the classes only, in neither. Python integers, hence exact."""

    def together(sizes: np.ndarray) -> int:
        return int((sizes * (sizes - 1) // 2).sum())

    n = int(counts.sum())
    both = together(counts)
    pred_only = together(counts.sum(axis=1)) - both
    true_only = together(counts.sum(axis=0)) - both
    return both, pred_only, true_only, n * (n - 1) // 2 - both - pred_only - true_only


def _rand(counts: np.ndarray) -> float:
    if counts.size == 0:
        return float("nan")
    both, pred_only, true_only, neither = _pairs(counts)
    agree = both + neither
    disagree = pred_only + true_only
    return agree / (agree + disagree) if disagree else 1.0


def _ari(counts: np.ndarray) -> float:
    if counts.size == 0:
        return float("nan")
    a, b, c, d = _pairs(counts)
    if b == c == 0:
        return 1.0
    return 2 * (a * d - b * c) / ((a + b) * (b + d) + (a + c) * (c + d))


def _partition_scores(counts: np.ndarray) -> dict[str, float]:
    information = _nmi(counts)
    return {
        "nmi": information["arithmetic"],
        "nmi_geometric": information["geometric"],
        "ari": _ari(counts),
        "rand_index": _rand(counts),
    }


def _noise_part(correct: int, n_labelled: int, n: int, n_clusters: int) -> dict[str, float]:
    return {
        "share_labelled": n_labelled / n,
        "accuracy_labelled": _ratio(correct, n_labelled),
        "accuracy_total": correct / n,
        "n_clusters": n_clusters,
    }


# --------------------------------------------------------------------------
# Public functions


def match(y_true: Any, y_pred: Any, *, noise: Any = None) -> dict[Any, Any]:
    """The one-to-one mapping from clusters to classes that gets most samples right.

    Returns
    -------
    dict from cluster label to class label, with min(K, C) entries for K clusters
    and C classes, sorted by cluster. It maximises ``sum_k n[k, m(k)]`` over the
    injective maps m (Hungarian method). With K > C the surplus clusters are
    absent. A listed cluster need not contain a sample of its class: a pair may
    only complete the mapping. Among equally good mappings one is returned.
    """
    counts, clusters, classes = _labelled(y_true, y_pred, noise)
    rows, columns = linear_sum_assignment(counts, maximize=True)
    return {clusters[k]: classes[c] for k, c in zip(rows.tolist(), columns.tolist())}


def correct_rows(y_true: Any, y_pred: Any) -> np.ndarray:
    """Whether each row's class is the one that `match` gives to its cluster: (n,), (n,) -> (n,) bool."""
    classes = match(y_true, y_pred)
    true, pred = _labels(y_true, "y_true"), _labels(y_pred, "y_pred")
    return np.array([classes.get(c, None) for c in pred.tolist()], dtype=object) == true


def accuracy(y_true: Any, y_pred: Any, *, noise: Any = None) -> float:
    """Unsupervised clustering accuracy, as DEC and VaDE report it.

    ``max_m (1/n) sum_i [y_true_i = m(y_pred_i)]`` over the one-to-one mappings m
    of ``match``. Samples of a cluster without a class count as wrong.

    Returns
    -------
    float in (0, 1]; 1 exactly when the partitions agree; nan if all is noise.
    """
    counts = _labelled(y_true, y_pred, noise).counts
    return _ratio(_matched(counts), counts.sum())


def nmi(
    y_true: Any, y_pred: Any, average: str = "arithmetic", *, noise: Any = None
) -> float:
    """Normalised mutual information of clusters and classes.

    ``I(T; P) / mean(H(T), H(P))`` with entropies of the observed frequencies.
    The mean is (H(T) + H(P)) / 2 for ``average="arithmetic"``, which is
    scikit-learn's default, and sqrt(H(T) H(P)) for ``average="geometric"``,
    which GANMM prints. The geometric value is never the smaller one.

    Parameters
    ----------
    average : "arithmetic" or "geometric"; ValueError for another.

    Returns
    -------
    float in [0, 1]. One class in one cluster scores 1; otherwise a partition
    with a single part scores 0. nan if all is noise.
    """
    if average not in _AVERAGES:
        raise ValueError(
            f"average is {average!r}; choose " + " or ".join(map(repr, _AVERAGES))
        )
    return _nmi(_labelled(y_true, y_pred, noise).counts)[average]


def ari(y_true: Any, y_pred: Any, *, noise: Any = None) -> float:
    """Rand index adjusted for chance (Hubert and Arabie).

    ``(R - E[R]) / (1 - E[R])`` for the Rand index R and its expectation over
    random partitions with the same part sizes. In pairs of samples, with a
    together in both partitions, b in the clusters only, c in the classes only
    and d in neither: ``2 (ad - bc) / ((a+b)(b+d) + (a+c)(c+d))``.

    Returns
    -------
    float in [-0.5, 1]; 0 on average at random; 1 exactly when the partitions
    agree; nan if all is noise.
    """
    return _ari(_labelled(y_true, y_pred, noise).counts)


def rand_index(y_true: Any, y_pred: Any, *, noise: Any = None) -> float:
    """Rand index, not adjusted for chance.

    ``(a + d) / (n (n-1) / 2)``: the share of pairs of samples that are together
    in both partitions (a) or apart in both (d). GANMM prints this quantity under
    the name ARI. Its level at random is high: about 0.82 for ten equally
    frequent classes and clusters, where ``ari`` is 0.

    Returns
    -------
    float in [0, 1]; 1 exactly when the partitions agree (as with n = 1, where
    there are no pairs); nan if all is noise.
    """
    return _rand(_labelled(y_true, y_pred, noise).counts)


def purity(y_true: Any, y_pred: Any, *, noise: Any = None) -> float:
    """Share of samples that belong to the majority class of their cluster.

    ``(1/n) sum_k max_c n[k, c]``. Several clusters may share a class, so purity
    is at least ``accuracy`` and reaches 1 when every sample is its own cluster:
    compare it between clusterings of equal K only.

    Returns
    -------
    float in (0, 1]; nan if all is noise.
    """
    counts = _labelled(y_true, y_pred, noise).counts
    return _ratio(_majority(counts), counts.sum())


def cluster_purity(y_true: Any, y_pred: Any, *, noise: Any = None) -> list[ClusterPurity]:
    """Majority class, size and purity of each cluster.

    The purity of cluster k is ``max_c n[k, c] / n[k, .]``; the mean over the
    clusters, weighted by size, is ``purity``.

    Returns
    -------
    list of ``ClusterPurity`` (cluster, majority, size, purity), one per cluster,
    sorted by cluster label; empty if all is noise.
    """
    counts, clusters, classes = _labelled(y_true, y_pred, noise)
    return [
        ClusterPurity(cluster, classes[int(row.argmax())], int(row.sum()),
                      _ratio(row.max(), row.sum()))
        for cluster, row in zip(clusters, counts)
    ]


def noise_scores(y_true: Any, y_pred: Any, *, noise: Any = -1) -> dict[str, float]:
    """Accuracy of a clustering that leaves some samples unassigned.

    With L labelled samples out of n, of which h are right under the best
    one-to-one mapping of the proper clusters:

    * ``share_labelled`` = L / n, in [0, 1];
    * ``accuracy_labelled`` = h / L, in (0, 1], nan when L = 0;
    * ``accuracy_total`` = h / n, in [0, 1]: noise counts as wrong;
    * ``n_clusters``: the number of clusters, noise not being one.

    Parameters
    ----------
    noise : the predicted label that marks noise; None if there is none.

    Returns
    -------
    dict with these four keys. Without noise both accuracies equal ``accuracy``.
    """
    table = _tabulate(y_true, y_pred)
    part = _without(table, noise)
    return _noise_part(
        _matched(part.counts), int(part.counts.sum()), int(table.counts.sum()), len(part.clusters)
    )


def scores(y_true: Any, y_pred: Any, *, noise: Any = -1) -> dict[str, float]:
    """All scores from one contingency table.

    Parameters
    ----------
    noise : the predicted label that marks noise, where it occurs; None to take
        every label as a cluster.

    Returns
    -------
    dict with the keys ``accuracy``, ``nmi``, ``nmi_geometric``, ``ari``,
    ``rand_index``, ``purity`` (formulas and ranges: see the functions of these
    names; ``nmi_geometric`` is ``nmi`` with the geometric mean) and the counts
    ``n_samples``, ``n_clusters``, ``n_classes`` (of all samples; noise is not a
    cluster).

    If noise occurs in y_pred, the six scores are those of the labelled samples
    (nan if there are none), and these keys are added: ``share_labelled``,
    ``accuracy_labelled`` (equal to ``accuracy``, under the name it has in
    ``noise_scores``), and for each of the six a total over all samples,
    ``accuracy_total`` to ``purity_total``. Noise samples are wrong in the totals
    of accuracy and purity, and form one cluster in the others.
    """
    table = _tabulate(y_true, y_pred)
    part = _without(table, noise)
    n, n_labelled = int(table.counts.sum()), int(part.counts.sum())
    correct, majority = _matched(part.counts), _majority(part.counts)

    result: dict[str, float] = {
        "accuracy": _ratio(correct, n_labelled),
        **_partition_scores(part.counts),
        "purity": _ratio(majority, n_labelled),
        "n_samples": n,
        "n_clusters": len(part.clusters),
        "n_classes": len(table.classes),
    }
    if n_labelled < n:
        result |= _noise_part(correct, n_labelled, n, len(part.clusters))
        whole = _partition_scores(table.counts)
        result |= {f"{key}_total": value for key, value in whole.items()}
        result["purity_total"] = majority / n
    return result
