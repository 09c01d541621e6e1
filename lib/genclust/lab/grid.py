"""What the page on all methods shows of its records: cells, missing ones with the reason, ranks, and what follows."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..datasets import DATASETS, is_cached
from .claims import TOLERANCE, speaking
from .papers import METHODS
from .papers.all_methods import KINDS, SCALES, SETS, parameters, unfit
from .ranking import Order, order
from .records import RecordStore
from .selection import Selection, mean_and_interval, score_of
from .sortable import Cell as Shown
from .specs import Spec
from .tables import spread

METRICS = ("accuracy", "nmi", "ari")
POINTS = TOLERANCE["percent"]  # what the protocol takes for a difference that says something
SEEDS = 3  # runs of a method on a set before it is ranked there: one may be a lucky one, and of two nobody can say which
SETTINGS = 3  # before an interval over them is given: resampling one or two values says nothing about others


@dataclass(frozen=True)
class Cell:
    """A method on a set: the values of its runs by metric, of scores between 0 and 1 (ARI may be below); or why there is none."""

    method: str
    dataset: str
    values: dict[str, list[float]]
    missing: str = ""

    @property
    def title(self) -> str:
        return METHODS[self.method].title

    @property
    def whole(self) -> bool:
        """Whether there are as many runs as a rank needs."""
        return len(self.values.get("accuracy", ())) >= SEEDS

    def mean(self, metric: str) -> float:
        """The mean over its runs, nan where there is none."""
        return statistics.fmean(self.values[metric]) if self.values.get(metric) else float("nan")


def methods() -> list[str]:
    """Every method of the grid, in the order of its tables."""
    return list(dict.fromkeys(m for dataset in SETS for m in parameters(dataset, SCALES["paper"])))


def cells(store: RecordStore) -> list[Cell]:
    """Every method on every set, from the records of the paper profile."""
    found: dict[tuple[str, str], list[dict]] = {}
    held = {head["spec"]["dataset"] for head in store.heads()}
    heads = list(store.heads(paper="all", profile="paper"))
    ids = speaking(Spec.model_validate(head["spec"]) for head in heads)
    for head in heads:
        if head["id"] in ids:
            found.setdefault((head["spec"]["method"], head["spec"]["dataset"]), []).append(head)
    return [_cell(m, dataset, found.get((m, dataset), []), dataset in held) for dataset in SETS for m in methods()]


def _cell(method: str, dataset: str, heads: list[dict], had: bool = False) -> Cell:
    """``had``: whether some run of the book is on these data, so that they were there for it."""
    if not heads:
        return Cell(method, dataset, {}, unfit(method, dataset) or ("not run yet" if had else why_not_run(dataset)))
    values = {metric: [score_of(head["metrics"], metric) for head in heads] for metric in METRICS}
    values["n_clusters"] = [head["metrics"]["n_clusters"] for head in heads]  # those that have rows
    values |= {key: [head["provenance"][key] for head in heads] for key in ("wall_seconds", "peak_memory_mb")}
    return Cell(method, dataset, values)


def why_not_run(dataset: str) -> str:
    """Why a set has no runs: because its data are not to be had here, or because nobody has made them yet."""
    source = DATASETS[dataset]
    if not source.files or is_cached(dataset):
        return "not run yet"
    return f"not run: data not here (genclust data {f'fetch {dataset}' if source.is_offered else f'add {dataset} PATH'})"


def table_rows(found: Sequence[Cell]) -> list[dict[str, Shown]]:
    """A row a cell, for :func:`~genclust.lab.sortable.sortable`; accuracies in per cent, or the reason why there is none."""
    rows = []
    for cell in found:
        row: dict[str, Shown] = {"set": cell.dataset, "method": cell.title}
        for heading, metric, scale, digits in (("accuracy (%)", "accuracy", 100, 2), ("NMI", "nmi", 1, 3), ("ARI", "ari", 1, 3),
                                               ("clusters", "n_clusters", 1, 1), ("seconds", "wall_seconds", 1, 1), ("peak memory (MB)", "peak_memory_mb", 1, 0)):
            values = [scale * v for v in cell.values.get(metric, [])]
            if not values:
                row[heading] = cell.missing if metric == "accuracy" else ""
            elif metric == "peak_memory_mb":  # a bound from above: what all runs kept to
                row[heading] = (f"{max(values):.0f}", max(values))
            else:
                row[heading] = (spread(values, digits), statistics.fmean(values))
        n = len(cell.values.get("accuracy", []))
        rows.append(row | {"runs": (str(n), float(n))})
    return rows


def matrix(found: Sequence[Cell], metric: str = "accuracy") -> np.ndarray:
    """Means (methods, sets), nan where there is no run."""
    return np.array([cell.mean(metric) for cell in found]).reshape(len(SETS), -1).T


# --- Ranks, and what follows from them --------------------------------------------------------------


@dataclass(frozen=True)
class Ranked:
    """The order of the methods that have enough runs on all of some sets; scores are (sets, methods)."""

    methods: list[str]
    sets: list[str]
    scores: np.ndarray
    order: Order


def ranked(found: Sequence[Cell]) -> Ranked:
    """The order of the methods that can be run everywhere, on the sets where each of them has ``SEEDS`` runs or more.

    LookupError that says what is missing where these sets are fewer than two.
    """
    everywhere = [m for m in methods() if not any(unfit(m, dataset) for dataset in SETS)]
    rows = [methods().index(m) for m in everywhere]
    whole = np.array([cell.whole for cell in found]).reshape(len(SETS), -1)[:, rows].all(1)
    if whole.sum() < 2:
        raise LookupError(f"{whole.sum()} of {len(SETS)} sets have {SEEDS} or more runs of every method; an order needs two such sets")
    scores = matrix(found)[rows][:, whole].T
    return Ranked(everywhere, [s for s, w in zip(SETS, whole) if w], scores, order(scores))


def _words(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else "none"


def _titles(chosen: Sequence[str]) -> str:
    return _words([METHODS[m].title for m in chosen])


def set_names(chosen: Sequence[str]) -> str:
    """Data sets as a sentence names them: what follows a comma in a title is put into brackets."""
    parts = [DATASETS[d].title.partition(", ") for d in chosen]
    return _words([f"{name} ({more})" if more else name for name, _, more in parts])


def advice(found: Sequence[Cell]) -> list[str]:
    """What the records say to somebody who has to choose a method, in sentences. LookupError where they are too few."""
    r = ranked(found)
    o, n = r.order, len(r.sets)
    best = int(o.mean.argmin())
    alike = [i for i in np.argsort(o.mean, kind="stable") if o.tied_with_best()[i] and i != best]
    seconds = matrix(found, "wall_seconds").T[[SETS.index(s) for s in r.sets]][:, [methods().index(m) for m in r.methods]].mean(0)
    lines = [
        f"**{METHODS[r.methods[best]].title} has the best mean rank**, {o.mean[best]:.1f} of {len(r.methods)}, over {n} sets; it is first in "
        f"{100 * o.first[best]:.0f} % of the resamples of the sets. That the methods do alike is "
        + (f"refuted (Friedman, p = {o.p:.2g})." if o.p < 0.05 else f"not refuted (Friedman, p = {o.p:.2g}): take the order for a hint.")]
    if alike:
        lines.append(f"Not told apart from it by Nemenyi's test: {_titles([r.methods[i] for i in alike])}. {n} sets tell apart mean ranks "
                     f"that differ by {o.critical:.1f} or more.")
        quickest = min([best, *alike], key=lambda i: seconds[i])
        if quickest != best:
            lines.append(f"Of all these **{METHODS[r.methods[quickest]].title} is the quickest**: {seconds[quickest]:.1f} s a fit on average, "
                         f"where {METHODS[r.methods[best]].title} takes {seconds[best]:.1f} s.")
    for kind, names in KINDS.items():
        by_method: dict[str, list[float]] = {}
        there = [s for s in names if s in r.sets]
        for cell in found:
            if cell.dataset in there:
                by_method.setdefault(cell.method, []).append(100 * cell.mean("accuracy") if cell.whole else float("nan"))
        means = {m: statistics.fmean(v) for m, v in by_method.items() if np.isfinite(v).all()}
        if means:
            first, second, *_ = sorted(means, key=means.get, reverse=True)
            lines.append(f"On {kind} ({set_names(there)}) **{METHODS[first].title}** has the highest mean accuracy, {means[first]:.1f} %, and "
                         f"{METHODS[second].title} the next, {means[second]:.1f} %.")
    for dataset in SETS:
        there = {cell.method: cell.mean("accuracy") for cell in found if cell.dataset == dataset and cell.whole}
        if dataset not in r.sets and r.methods[best] in there:
            place = sorted(there, key=there.get, reverse=True).index(r.methods[best]) + 1
            lines.append(f"Not in this ranking, for want of runs of {_titles([m for m in r.methods if m not in there])}: {set_names([dataset])}. "
                         f"{METHODS[r.methods[best]].title} is number {place} of the {len(there)} methods there.")
    base = r.scores[:, [r.methods.index("kmeans")]]
    wins = {m: int(w) for m, w in zip(r.methods, (100 * (r.scores - base) > POINTS).sum(0)) if m != "kmeans"}
    losses = {m: int(w) for m, w in zip(r.methods, (100 * (base - r.scores) > POINTS).sum(0)) if m != "kmeans"}
    most = max(wins.values())
    lines.append(f"Against k-means, by more than {POINTS:g} points: {_titles([m for m in wins if wins[m] == most])} "
                 f"{'is' if list(wins.values()).count(most) == 1 else 'are'} better on {most} of {n} sets; "
                 + "; ".join(f"{METHODS[m].title} is worse on {losses[m]}" for m in sorted(losses, key=losses.get, reverse=True) if losses[m] > n / 3)
                 + ("." if any(v > n / 3 for v in losses.values()) else "no method is worse on more than a third of them."))
    return lines


def selection_advice(choices: Sequence[Selection]) -> list[str]:
    """What choosing by the objective is worth over these settings, in sentences; none for no settings.

    Fewer than ``SETTINGS`` are said to be too few. Rank correlations are left out where so few settings have one.
    """
    if not choices:
        return []
    if len(choices) < SETTINGS:
        return [f"{len(choices)} setting{'s are' if len(choices) > 1 else ' is'} too few to say what choosing by the objective is worth: "
                f"that takes {SETTINGS} or more."]
    gap, gain = ([100 * getattr(c, what) for c in choices] for what in ("gap", "gain"))
    loss = [100 * (c.oracle - c.random) for c in choices]
    taus = [c.agreement for c in choices if c.agreement is not None]
    (g, *gi), (b, *bi), (w, *wi) = (mean_and_interval(values) for values in (gap, loss, gain))
    lines = [f"Over {len(choices)} settings the objective's choice is {g:.2f} points of accuracy below the oracle's on average "
             f"(95 % interval {gi[0]:.2f} to {gi[1]:.2f}); a run taken blindly is {b:.2f} below it ({bi[0]:.2f} to {bi[1]:.2f}). What choosing "
             f"by the objective gains over that is {w:.2f} points ({wi[0]:.2f} to {wi[1]:.2f})"
             + (": it is worth having." if wi[0] > 0 else ": it does harm." if wi[1] < 0 else ": not told apart from nothing.")]
    if len(taus) >= SETTINGS:
        t, low, high = mean_and_interval(taus)
        lines.append(f"Rank correlation of objective and accuracy among runs of one setting (Kendall's tau, mean over {len(taus)} settings in "
                     f"which neither is constant): {t:.2f} ({low:.2f} to {high:.2f})"
                     + (": it tells little of how two runs compare, so that what is gained is in the runs taken." if low <= 0 < high and wi[0] > 0
                        else "."))
    return lines
