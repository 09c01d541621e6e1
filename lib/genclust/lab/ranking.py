"""Ranks of methods over data sets, and how sure their order is (Demšar, 2006)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

LEVEL = 0.05
RESAMPLES = 2000


@dataclass(frozen=True)
class Order:
    """Methods by their mean rank over data sets, 1 being best; arrays are (methods,).

    ``low`` and ``high`` are the 95 % bootstrap interval of the mean rank over resampled sets, ``first`` the share of resamples
    in which a method has the best mean rank (shared, where several have it). ``p`` is that of Friedman's test that all methods
    do alike, 1 where they tie on every set. By Nemenyi's test two methods differ if their mean ranks are ``critical`` or
    more apart.
    """

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    first: np.ndarray
    p: float
    critical: float

    def tied_with_best(self) -> np.ndarray:
        """Whether a method is not told apart from the one with the best mean rank, (methods,) bool."""
        return self.mean - self.mean.min() < self.critical


def ranks(scores: np.ndarray) -> np.ndarray:
    """Ranks of methods on every set, 1 for the highest score; equal scores share their mean rank.

    ``scores`` are (sets, methods). ValueError where one is missing: a method that was not tried has no rank.
    """
    scores = np.asarray(scores, dtype=float)
    if scores.ndim != 2 or not np.isfinite(scores).all():
        raise ValueError(f"ranks need a finite score of every method on every set, not {scores.shape} with gaps")
    return stats.rankdata(-scores, axis=1)


def critical_difference(n_methods: int, n_sets: int) -> float:
    """Nemenyi's: what two mean ranks have to be apart, at the level of 5 % for all pairs together."""
    q = stats.studentized_range.ppf(1 - LEVEL, n_methods, np.inf) / np.sqrt(2)
    return float(q * np.sqrt(n_methods * (n_methods + 1) / (6 * n_sets)))


def order(scores: np.ndarray) -> Order:
    """The order of methods by scores (sets, methods). ValueError for fewer than three methods or two sets."""
    found = ranks(scores)
    n_sets, n_methods = found.shape
    if n_methods < 3 or n_sets < 2:
        raise ValueError(f"an order needs three methods and two sets; there are {n_methods} and {n_sets}")
    tied = bool((found == found[:, :1]).all())
    p = 1.0 if tied else float(stats.friedmanchisquare(*found.T).pvalue)
    draws = np.random.default_rng(0).integers(n_sets, size=(RESAMPLES, n_sets))
    resampled = found[draws].mean(1)
    best = resampled == resampled.min(1, keepdims=True)
    low, high = np.quantile(resampled, [0.025, 0.975], axis=0)
    return Order(mean=found.mean(0), low=low, high=high, first=(best / best.sum(1, keepdims=True)).mean(0), p=p,
                 critical=critical_difference(n_methods, n_sets))
