"""Checkable properties of figures: what a figure is said to show, as a predicate on a record.

Each takes a record, its arrays and the data set, and returns whether the property holds and the
figures that decide it, in words.
"""

from __future__ import annotations

import numpy as np
from sklearn.neighbors import NearestNeighbors

from ..datasets import Dataset
from ..metrics import match
from .records import Record

DRAWS_SHARE = 0.9  # of the draws that must belong to the cluster that they were drawn from
NEIGHBOURS = 10


def accuracy_rises(record: Record, arrays: dict, data: Dataset) -> tuple[bool, str]:
    """Figure 2: the accuracy after the last epoch is above that after the first."""
    epochs, values = record.curve("vade", "accuracy")
    return values[-1] > values[0], f"{100 * values[0]:.2f} % after epoch {epochs[0]}, {100 * values[-1]:.2f} % after epoch {epochs[-1]}"


def draws_belong(record: Record, arrays: dict, data: Dataset) -> tuple[bool, str]:
    """Figure 3: the training image nearest to a draw is, for 90 % of the draws, in the cluster drawn from."""
    draws = arrays["draws"]
    n_clusters, n_draws, _ = draws.shape
    index = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(data.X)
    nearest = index.kneighbors(draws.reshape(n_clusters * n_draws, -1) / np.float32(255), return_distance=False)[:, 0]
    share = float((arrays["labels"][nearest] == np.repeat(np.arange(n_clusters), n_draws)).mean())
    return share >= DRAWS_SHARE, f"{100 * share:.0f} % of {n_clusters * n_draws} draws (at least {100 * DRAWS_SHARE:.0f} % asked)"


def errors_at_border(record: Record, arrays: dict, data: Dataset) -> tuple[bool, str]:
    """Figure 4: among the 10 nearest codes, those in the point's own cluster are fewer for wrong points than for
    right ones, and most wrong points have a neighbour of another cluster."""
    codes, rows = arrays["codes"], arrays["code_rows"]
    labels = arrays["labels"][rows]
    correct = correct_rows(data.y, arrays["labels"])[rows]
    around = NearestNeighbors(n_neighbors=NEIGHBOURS + 1).fit(codes).kneighbors(codes, return_distance=False)[:, 1:]
    own = (labels[around] == labels[:, None]).mean(1)
    if correct.all() or not correct.any():
        return bool(correct.all()), "no wrong points" if correct.all() else "no right points"
    mixed = float((own[~correct] < 1).mean())
    return own[~correct].mean() < own[correct].mean() and mixed > 0.5, (
        f"own-cluster share of the {NEIGHBOURS} nearest codes: {own[~correct].mean():.2f} for wrong points, "
        f"{own[correct].mean():.2f} for right ones; {100 * mixed:.0f} % of the wrong ones have a neighbour of another cluster")


def similar_digits_merge(record: Record, arrays: dict, data: Dataset) -> tuple[bool, str]:
    """Figure 5(a): most of the 4s and most of the 9s are in one cluster; likewise the 3s and the 8s."""
    home = [np.bincount(arrays["labels"][data.y == digit]).argmax() for digit in range(10)]
    pairs = {pair: home[pair[0]] == home[pair[1]] for pair in ((4, 9), (3, 8))}
    together = [[d for d in range(10) if home[d] == c] for c in sorted(set(home))]
    return all(pairs.values()), "digits by their largest cluster: " + ", ".join("".join(map(str, ds)) for ds in together)


def digits_split(record: Record, arrays: dict, data: Dataset) -> tuple[bool, str]:
    """Figure 5(b): both 0 and 1 are the majority of at least two clusters."""
    labels = arrays["labels"]
    majority = [int(np.bincount(data.y[labels == c]).argmax()) for c in np.unique(labels)]
    split = [d for d in range(10) if majority.count(d) > 1]
    return {0, 1} <= set(split), f"digits with more than one cluster: {', '.join(map(str, split)) or 'none'}"


def correct_rows(y: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Whether each row's class is the one that the Hungarian method gives to its cluster."""
    classes = match(y, labels)
    return np.array([classes.get(c, None) for c in labels.tolist()], dtype=object) == y


PROPERTIES = {f.__name__: f for f in (accuracy_rises, draws_belong, errors_at_border, similar_digits_merge, digits_split)}
