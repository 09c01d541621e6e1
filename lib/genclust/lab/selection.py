"""Choosing among runs without labels, by the objective; and what that choice costs: the selection gap."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from .specs import Spec

LEVEL, RESAMPLES = 0.95, 2000


@dataclass(frozen=True)
class Selection:
    """What runs that differ in nothing but the seed scored, and which of them the objective takes.

    ``chosen`` is the score of the run with the best objective (of the first, if several have it); ``oracle`` that of the
    best run, which only labels can find; ``random`` the mean, what a run taken blindly has on average. ``agreement`` is
    Kendall's tau-b of objective and score, None where either is the same in all runs.
    """

    n: int
    chosen: float
    oracle: float
    random: float
    median: float
    spread: float
    agreement: float | None

    @property
    def gap(self) -> float:
        """The selection gap, oracle less chosen; never negative."""
        return self.oracle - self.chosen

    @property
    def gain(self) -> float:
        """What the objective's choice is better than a blind one, on average."""
        return self.chosen - self.random


def selection(objectives: Sequence[float], scores: Sequence[float]) -> Selection:
    """The choice among runs with these objectives and scores; both are better when higher.

    ValueError for fewer than two runs, for lengths that differ, and for what is not finite.
    """
    if len(objectives) != len(scores) or len(scores) < 2:
        raise ValueError(f"a choice needs two or more runs, and an objective and a score of each; there are {len(objectives)} "
                         f"objectives and {len(scores)} scores")
    if not np.isfinite([*objectives, *scores]).all():
        raise ValueError("objectives and scores have to be finite")
    tau = float(stats.kendalltau(objectives, scores).statistic)
    return Selection(
        n=len(scores), chosen=scores[int(np.argmax(objectives))], oracle=max(scores), random=statistics.fmean(scores),
        median=statistics.median(scores), spread=max(scores) - min(scores), agreement=None if math.isnan(tau) else tau)


def score_of(metrics: Mapping[str, float | None], metric: str = "accuracy") -> float | None:
    """A score over all rows, where noise is wrong or a cluster of its own; None where a run has none, or it is no number."""
    return metrics.get(f"{metric}_total", metrics.get(metric))


def selections(heads: Iterable[Mapping], least: int = 2) -> list[tuple[Spec, Selection]]:
    """The choice in every setting that ``least`` or more of the records have, of which ``heads`` are the heads.

    A setting is all of a spec but the seed; the spec beside the choice is that of its first run. Runs without the score
    don't count. Where two experiments have the same runs on the same data, as a baseline of two chapters, they count once.
    """
    settings: dict[str, list[tuple[Spec, float, float]]] = defaultdict(list)
    for head in heads:
        spec, score = Spec.model_validate(head["spec"]), score_of(head["metrics"])
        if score is not None and math.isfinite(head["objective"]):
            settings[spec.model_copy(update={"seed": 0}).canonical()].append((spec, head["objective"], score))
    once = {(runs[0][0].dataset, *((objective, score) for _, objective, score in runs)): runs for runs in reversed(settings.values())
            if len(runs) >= least}
    return [(runs[0][0], selection([o for _, o, _ in runs], [s for _, _, s in runs])) for runs in reversed(once.values())]


def told_apart(specs: Sequence[Spec]) -> list[str]:
    """For each of these settings what it has otherwise than the others of its experiment and method: "epsilon 0.1, 10000 rows"."""
    def shown(key: str, value: object) -> str:
        return f"{value or 'all'} rows" if key == "n_samples" else f"{key.replace('_', ' ')} {'unset' if value is None else value}"

    alike: dict[tuple[str, str], list[dict]] = defaultdict(list)
    for spec in specs:
        alike[spec.experiment, spec.method].append({**spec.params, "n_samples": spec.n_samples})
    words = []
    for spec in specs:
        group, own = alike[spec.experiment, spec.method], {**spec.params, "n_samples": spec.n_samples}
        words.append(", ".join(shown(key, own.get(key)) for key in dict.fromkeys(k for other in group for k in other)
                               if any(other.get(key) != own.get(key) for other in group)))
    return words


def mean_and_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """The mean, and its 95 % bootstrap interval over ``values``; with a single value that value thrice."""
    values = np.asarray(values, dtype=float)
    draws = np.random.default_rng(0).integers(len(values), size=(RESAMPLES, len(values)))
    low, high = np.quantile(values[draws].mean(1), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(values.mean()), float(low), float(high)
