"""Figures of the chapters, in one style. Every function draws what it is given and returns the figure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns

from .claims import VERDICTS

COLOURS = {"reproduced": "#237a36", "exceeded": "#1971c2", "not reproduced": "#c92a2a", "at reduced scale": "#e8a33d",
           "not run": "#adb5bd", "quoted": "#dee2e6", "context": "#dee2e6"}
HATCHES = {"context": "///"}  # greys enough for a third one there are not
DARK = ("reproduced", "exceeded", "not reproduced")  # white numbers can be read on these, black ones on the others

# Places in the palette, so that a method keeps its colour from figure to figure
LINES = {"VaDE": 0, "VaDE, UMAP start": 9, "VaDE, UMAP start held": 2, "AE+GMM": 3, "VAE+GMM": 4,
         "VaDE, pretrained in full": 0, "VaDE, few epochs of pretraining": 1, "VaDE, random initialisation": 8, "VaDE, without the KL term": 7,
         "WAMiC": 5, "WAMiC, UMAP start": 6, "GANMM": 0, "GANMM(EM)": 1,
         "OT": 0, "OT (p)": 9, "soft k-means": 1, "soft k-means (p)": 3, "AE + k-means": 2}


def colours(names: Iterable[str]) -> dict[str, tuple[float, float, float]]:
    """A colour for each name: that of the method that it begins with, or else, and where that is taken, one that is free."""
    names, places = list(names), {}
    for name in names:
        method = max((m for m in LINES if name == m or name.startswith((f"{m} ", f"{m},"))), key=len, default=None)
        if method is not None and LINES[method] not in places.values():
            places[name] = LINES[method]
    palette = sns.color_palette("deep", max(10, len(names)))
    free = iter(i for i in range(len(palette)) if i not in places.values())
    return {name: palette[places[name] if name in places else next(free)] for name in names}


def style() -> None:
    """The look of every figure."""
    sns.set_theme(context="notebook", style="whitegrid", rc={"figure.dpi": 110, "savefig.bbox": "tight", "axes.titlesize": 11})


def table(rows):
    """Rows (or columns) of a table as a page shows them: no index, no superfluous digits, blanks for what is missing."""
    return pd.DataFrame(rows).style.hide(axis="index").format(na_rep="", precision=3).set_table_attributes(
        'class="dataframe" style="margin-bottom: 1em"').set_table_styles([{"selector": "th, td", "props": "padding: 0.15em 0.5em"}])


def image_rows(rows: Mapping[str, np.ndarray], shape: tuple[int, ...], title: str = "") -> plt.Figure:
    """Images (n, h * w), or in colour (n, h * w * 3), of each name in a row of their own; a missing one is left white.

    ``shape`` is (h, w) or (h, w, 3). Grey images are drawn dark on white, coloured ones as they are.
    """
    n = max(len(images) for images in rows.values())
    side = min(0.55, 7.5 / n)  # of an image, in inches: a long row gets smaller ones, and not a figure wider than the page
    fig, axes = plt.subplots(len(rows), 1, figsize=(side * n + 1.2, (side + 0.03) * len(rows) + 0.3), squeeze=False)
    for ax, (name, images) in zip(axes[:, 0], rows.items()):
        strip = np.ones((shape[0], n * shape[1], *shape[2:]))
        for i, image in enumerate(images):
            pixels = np.asarray(image, dtype=float).reshape(shape) / max(1.0, float(np.max(images)))
            strip[:, i * shape[1]:(i + 1) * shape[1]] = pixels if len(shape) == 3 else 1 - pixels
        ax.imshow(strip, cmap="gray", vmin=0, vmax=1, aspect="equal")
        ax.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
        ax.set(xticks=[], yticks=[])
        ax.grid(False)
        for spine in ax.spines.values():
            spine.set_visible(False)
    axes[0, 0].set_title(title)
    fig.subplots_adjust(hspace=0.05)
    return fig


def curves(series: Mapping[str, Sequence[tuple[Sequence[float], Sequence[float]]]], levels: Mapping[str, float],
           xlabel: str = "epoch", ylabel: str = "accuracy (%)") -> plt.Figure:
    """For each name a line for each run, in one colour; ``levels`` are published values, dashed."""
    fig, ax = plt.subplots(figsize=(7.2, 4.2))
    palette = colours(series)
    for name, runs in series.items():
        for i, (x, y) in enumerate(runs):
            ax.plot(x, y, color=palette[name], lw=1.6, alpha=0.85, label=name if i == 0 else None)
    for value in levels.values():
        ax.axhline(value, ls="--", lw=1, color="0.45")
    at, line = -np.inf, np.ptp(ax.get_ylim()) / 22  # the height of a line of small print
    for name, value in sorted(levels.items(), key=lambda item: item[1]):
        at = max(value, at + line)  # names of neighbouring levels must not cover each other
        ax.annotate(name, (1.0, at), xycoords=("axes fraction", "data"), xytext=(4, 0), textcoords="offset points",
                    va="center", fontsize=8, color="0.35")
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.legend(fontsize=8, ncol=2, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.17))  # many lines leave no room within
    return fig


def bands(series: Mapping[str, Sequence[tuple[Sequence[float], Sequence[float]]]], levels: Mapping[str, float],
          title: str = "") -> plt.Figure:
    """For each name the mean over its runs, at the epochs that all have, in a band from the lowest to the highest."""
    means = {}
    for name, runs in series.items():
        at = [dict(zip(*run)) for run in runs]
        x = [epoch for epoch in runs[0][0] if all(epoch in own for own in at)]
        values = np.array([[own[epoch] for epoch in x] for own in at])
        means[f"{name} ({len(runs)} run{'s' if len(runs) > 1 else ''})"] = x, values.mean(0), values.min(0), values.max(0)
    fig = curves({name: [(x, mean)] for name, (x, mean, _, _) in means.items()}, levels)
    ax, palette = fig.axes[0], colours(means)
    for name, (x, _, low, high) in means.items():
        ax.fill_between(x, low, high, color=palette[name], alpha=0.2, lw=0)
    ax.set_title(title)
    return fig


def objectives(points: Mapping[str, Sequence[tuple[float, float]]], xlabel: str = "ELBO (nats a row)",
               ylabel: str = "accuracy (%)") -> plt.Figure:
    """For each name its runs as points: objective against score."""
    fig, ax = plt.subplots(figsize=(5.4, 3.6))
    for (name, pairs), marker in zip(points.items(), "osD^vP"):
        if pairs:
            ax.scatter(*zip(*pairs), label=name, marker=marker, s=44, alpha=0.9)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.legend(fontsize=8)
    return fig


def boxes(panels: Mapping[str, np.ndarray], at: Sequence[int], xlabel: str, title: str = "") -> plt.Figure:
    """For each name a panel with a box for every row of its values (len(at), runs)."""
    fig, axes = plt.subplots(1, len(panels), figsize=(2.6 * len(panels), 3), squeeze=False)
    for ax, (name, values) in zip(axes[0], panels.items()):
        ax.boxplot([row[np.isfinite(row)] for row in np.asarray(values)], tick_labels=[str(k) for k in at], widths=0.55)
        ax.set(xlabel=xlabel, ylabel=name)
    fig.suptitle(title, fontsize=11)
    fig.tight_layout()
    return fig


def tsne(codes: np.ndarray, profile: str) -> np.ndarray:
    """t-SNE of codes (n, d) in two dimensions, (m, 2): of the first 300, and for as few steps as it takes, in the smoke profile,
    which only shows that a page works; of all in the others."""
    from sklearn.manifold import TSNE
    if profile == "smoke":
        return TSNE(random_state=0, init="pca", max_iter=250).fit_transform(codes[:300])
    return TSNE(random_state=0, init="pca").fit_transform(codes)


def embedding(points: np.ndarray, y: np.ndarray, correct: np.ndarray, names: Sequence[str], title: str = "") -> plt.Figure:
    """Points (n, 2) twice: coloured by class, and by whether their cluster's class is theirs."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(10.5, 4.8))
    palette = sns.color_palette("tab10", len(names))
    for c, name in enumerate(names):
        left.scatter(*points[y == c].T, s=5, color=palette[c], label=name)
        if (y == c).any():
            left.annotate(name, np.median(points[y == c], axis=0), fontsize=10, weight="bold", ha="center",
                          bbox=dict(boxstyle="round,pad=0.15", fc="white", ec="none", alpha=0.75))
    # Blue and orange: red and green look alike to many
    right.scatter(*points[correct].T, s=5, color="#0072b2", label="right")
    right.scatter(*points[~correct].T, s=9, color="#d55e00", label="wrong")
    left.set_title("coloured by class")
    right.set_title(f"right and wrong ({100 * correct.mean():.1f} % of these points right)")
    right.legend(markerscale=3, fontsize=8)
    for ax in (left, right):
        ax.set(xticks=[], yticks=[])
        ax.grid(False)
    fig.suptitle(title)
    return fig


def classes(points: Mapping[str, np.ndarray], y: np.ndarray, names: Sequence[str], title: str = "") -> plt.Figure:
    """For each name points (n, 2), side by side, coloured by their classes (n,)."""
    fig, axes = plt.subplots(1, len(points), figsize=(5.3 * len(points), 4.8), squeeze=False)
    palette = sns.color_palette("tab10", len(names))
    for ax, (what, where) in zip(axes[0], points.items()):
        for c, name in enumerate(names):
            ax.scatter(*where[y == c].T, s=5, color=palette[c], label=name)
        ax.set_title(what)
        ax.set(xticks=[], yticks=[])
        ax.grid(False)
    axes[0, -1].legend(markerscale=3, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    fig.suptitle(title)
    return fig


def heat_map(values: np.ndarray, rows: Sequence[str], columns: Sequence[str], label: str, notes: Sequence[Sequence[str]]) -> plt.Figure:
    """Values (rows, columns) as colours with their numbers; where one is nan, its note instead."""
    fig, ax = plt.subplots(figsize=(0.75 * len(columns) + 2.6, 0.42 * len(rows) + 1.4))
    # Colours are those of each column's own range: sets differ far more than methods do
    low, high = (pick(values, axis=0, initial=start, where=np.isfinite(values)) for pick, start in ((np.min, np.inf), (np.max, -np.inf)))
    with np.errstate(invalid="ignore"):
        shade = np.where(high > low, (values - low) / np.where(high > low, high - low, 1), np.where(np.isfinite(values), 0.5, np.nan))
    sns.heatmap(shade, ax=ax, cmap="viridis", vmin=0, vmax=1, annot=np.where(np.isfinite(values), values, 0), fmt=".1f",
                mask=~np.isfinite(values), xticklabels=columns, yticklabels=rows, linewidths=1, annot_kws={"size": 9},
                cbar_kws={"label": label, "ticks": []})
    for i, j in zip(*np.nonzero(~np.isfinite(values))):
        ax.text(j + 0.5, i + 0.5, notes[i][j], ha="center", va="center", fontsize=9, color="0.4")
    ax.set_xticklabels(columns, rotation=30, ha="right")
    ax.grid(False)
    return fig


def mean_ranks(names: Sequence[str], mean: np.ndarray, low: np.ndarray, high: np.ndarray, critical: float) -> plt.Figure:
    """Mean ranks with their intervals, best first; what lies in the band is not told apart from the best."""
    by = np.argsort(mean, kind="stable")
    fig, ax = plt.subplots(figsize=(6.4, 0.34 * len(names) + 1.1))
    ax.axvspan(mean.min(), mean.min() + critical, color="0.5", alpha=0.15, lw=0)
    ax.errorbar(mean[by], np.arange(len(names)), xerr=np.abs(np.stack([mean - low, high - mean]))[:, by], fmt="o", capsize=3)
    ax.set_yticks(range(len(names)), [names[i] for i in by])
    ax.set_xlabel("mean rank over the sets (1 is best)")
    ax.invert_yaxis()
    return fig


def gaps(points: Mapping[str, Sequence[float]], xlabel: str) -> plt.Figure:
    """For each name its values as dots on a line, and their mean as a bar."""
    fig, ax = plt.subplots(figsize=(6.4, 0.34 * len(points) + 1.1))
    for i, values in enumerate(points.values()):
        ax.scatter(values, np.full(len(values), i), s=28, alpha=0.7, color="#1971c2")
        ax.scatter([np.mean(values)], [i], marker="|", s=260, color="#c92a2a")
    ax.set_yticks(range(len(points)), list(points))
    ax.set_xlabel(xlabel)
    ax.invert_yaxis()
    return fig


def verdict_bars(counts: Mapping[str, Mapping[str, int]]) -> plt.Figure:
    """Stacked bars of verdicts for each paper; what is too narrow for its number leaves it to the table below."""
    widest = max((sum(count.values()) for count in counts.values()), default=1)
    fig, ax = plt.subplots(figsize=(8, 0.7 * len(counts) + 1.3))
    for i, (_, count) in enumerate(counts.items()):
        left = 0
        for verdict in VERDICTS:
            n = count.get(verdict, 0)
            if n:
                ax.barh(i, n, left=left, color=COLOURS[verdict], edgecolor="white", hatch=HATCHES.get(verdict), label=verdict)
                if n > 0.02 * widest:
                    ax.text(left + n / 2, i, str(n), ha="center", va="center", fontsize=9, color="white" if verdict in DARK else "black")
                left += n
    handles = {label: handle for handle, label in zip(*ax.get_legend_handles_labels())}
    ordered = [v for v in VERDICTS if v in handles]
    ax.legend([handles[v] for v in ordered], ordered, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncol=4, fontsize=8, frameon=False)
    ax.set_yticks(range(len(counts)), list(counts))
    ax.set_xlabel("number of claims")
    ax.invert_yaxis()
    ax.grid(False)
    return fig
