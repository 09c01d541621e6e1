"""WAMiC (Harchaoui et al., 2018): what is run for its table and figures, and what its figures are checked for."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from pydantic import Field
from scipy.stats import binomtest, spearmanr
from sklearn.neighbors import NearestNeighbors

from ...datasets import Dataset, load
from ...metrics import accuracy, match
from ..catalogue import Chapter, ChapterParameters, Experiment, Method
from ..claims import TOLERANCE, decided, recorded
from ..figures import figure_arrays
from ..records import Record
from ..specs import Spec
from . import vade

# --- Methods ------------------------------------------------------------------------------------

FOLLOW_ITERATIONS, FOLLOW_EPOCHS = 1000, 5  # between two points of the accuracy curve in step 3, and in step 4
WALK_STEPS, WALK_SIZE = 9, 0.5  # Figure 4: points of a walk away from a centroid, and standard deviations between two


def follow(deep, phase: str, epoch: int, data: Dataset, spec: Spec) -> dict[str, float]:
    """The accuracy after step 2, now and then in steps 3 and 4, and at the end of both."""
    every = {"mixture": 1, "adversarial": FOLLOW_ITERATIONS, "encoder": FOLLOW_EPOCHS}.get(phase)
    if every and (epoch % every == 0 or epoch == deep.planned_epochs()[phase]):
        return {"accuracy": accuracy(data.y, deep.predict(data.X))}
    return {}


def keep(estimator, deep, data: Dataset, labels: np.ndarray, spec: Spec) -> dict[str, np.ndarray]:
    """What every chapter keeps, and for images Figure 4's walks: decoded codes (K, WALK_STEPS, D), from each centroid in
    a random direction of the unit sphere, measured in the cluster's own standard deviations."""
    arrays = figure_arrays(estimator, deep, data, labels, spec)
    if data.image_shape is not None:
        rng = np.random.default_rng(spec.seed)
        u = rng.normal(size=deep.means_.shape)
        u /= np.linalg.norm(u, axis=1, keepdims=True)
        way = np.einsum("kij,kj->ki", np.linalg.cholesky(deep.covariances_), u)
        walk = deep.means_[:, None] + WALK_SIZE * np.arange(WALK_STEPS)[:, None] * way[:, None]
        images = deep.inverse_transform(walk.reshape(-1, walk.shape[-1]))
        arrays["walks"] = (np.clip(images, 0, 1) * 255).round().astype(np.uint8).reshape(*walk.shape[:2], -1)
    return arrays


def keep_selection(estimator, deep, data: Dataset, labels: np.ndarray, spec: Spec) -> dict[str, np.ndarray]:
    """Figure 2(b): what every replica scored for every number of clusters, (candidates, replicas)."""
    return {"labels": labels.astype(np.int16), "candidates": np.array(list(deep.candidates)),
            "wasserstein": deep.wasserstein_, "bic": deep.bic_, "silhouette": deep.silhouette_,
            "accuracy": np.array([[accuracy(data.y, one) for one in each] for each in deep.replica_labels_])}


def measure_selection(estimator, data: Dataset) -> dict[str, float]:
    """How many clusters were chosen, and how often each replica alone would have chosen as many."""
    model = estimator[-1]
    alone = np.asarray(model.candidates)[model.wasserstein_.argmin(0)]
    return {"n_clusters_chosen": model.n_clusters_, "share_of_replicas": float((alone == model.n_clusters_).mean())}


def _wamic(seed: int, **params):
    from ...wamic import WAMiC
    return WAMiC(random_state=seed, **params)


def _centred(steps: list):
    """A pipeline that takes the columns' means from its rows before the other steps."""
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler
    return Pipeline([("center", StandardScaler(with_std=False)), *steps])


def _selection(seed: int, **params):
    from ...wamic import WAMiCSelection
    params.pop("n_clusters", None)  # it is what this method finds
    return _centred([("wamic", WAMiCSelection(random_state=seed, **params))])


def _centred_ae_gmm(seed: int, **params):
    from ...autoencoder import autoencoder_gmm
    return _centred(autoencoder_gmm(random_state=seed, **params).steps)


METHODS = {
    "wamic": Method("WAMiC", _wamic, lambda m, X: float(m.objective_), "wamic", follow=follow, keep=keep),
    "wamic-selection": Method("WAMiC, K by Wasserstein distance", _selection, lambda m, X: float(m[-1].objective_), "wamic",
                              step="wamic", measure=measure_selection, keep=keep_selection),
}
METHODS["ae+gmm-centred"] = replace(vade.METHODS["ae+gmm"], title="AE+GMM, centred", make=_centred_ae_gmm,
                                    follow=None)  # it would follow the autoencoder on rows that are not centred
METHODS["wamic-umap"] = replace(METHODS["wamic"], title="WAMiC, UMAP start")

# --- Experiments --------------------------------------------------------------------------------

# The paper gives Adam's rate (1e-5), the encoder's widths and d; all else is ours: see its chapter.
_PRETRAINING = dict(likelihood="gaussian", layer_epochs=8, pretrain_epochs=20)
_ADVERSARIAL = dict(iterations=20_000, warmup=1000, learning_rate=1e-4, encoder_epochs=20)
_METHODS: dict[str, dict[str, Any]] = {
    "kmeans": dict(n_init=10),
    "ae+gmm": dict(covariance_type="full", n_init=10, **_PRETRAINING),
    "wamic": dict(init="gmm-full", n_init=10, **_PRETRAINING, **_ADVERSARIAL),
    "wamic-umap": dict(init="umap", n_init=10, **_PRETRAINING, **_ADVERSARIAL),
}
_QUICK = dict(hidden=[256, 256], critic_hidden=[256, 256], layer_epochs=2, pretrain_epochs=10, n_init=3, iterations=100,
              warmup=100, encoder_epochs=5, log_every=20)
_SMOKE = dict(hidden=[64, 32], critic_hidden=[32, 32], layer_epochs=1, pretrain_epochs=2, n_init=1, iterations=4, warmup=2,
              encoder_epochs=2, log_every=2)
_OF_CODES = ("hidden", "layer_epochs", "pretrain_epochs", "n_init")  # what AE+GMM has of them
_PROFILES: dict[str, dict[str, Any]] = {
    "quick": {"n_samples": 10_000, "kmeans": dict(n_init=1), "ae+gmm": {k: _QUICK[k] for k in _OF_CODES},
              "wamic": _QUICK, "wamic-umap": _QUICK},
    "smoke": {"n_samples": 1000, "kmeans": dict(n_init=1, max_iter=10), "ae+gmm": {k: _SMOKE[k] for k in _OF_CODES},
              "wamic": _SMOKE, "wamic-umap": _SMOKE},
}
_SETS = {"mnist": 10, "fashion_mnist": 10, "digits": 10, "reuters21578": 4, "rcv1_10k": 4, "hhar": 6}  # and their K

# Section 4.2. The penalty's weight is that of Gulrajani et al. for their toy sets.
_MOONS_CODES: dict[str, Any] = dict(
    n_clusters=3, latent_dim=1, hidden=[64, 64], likelihood="gaussian", pretraining="end-to-end", batch_size=64, pretrain_epochs=600,
    pretrain_learning_rate=3e-3, pretrain_lr_decay=0.995, precision="float32", covariance_type="full", n_init=10)
_MOONS: dict[str, dict[str, Any]] = {
    "kmeans": dict(n_init=10, n_clusters=3),
    "ae+gmm": _MOONS_CODES,
    "ae+gmm-centred": _MOONS_CODES,
    "wamic-selection": dict(candidates=[2, 3, 4, 5, 6], n_replicas=30, latent_dim=1, hidden=[64, 64], critic_hidden=[64, 64],
                            pretrain_epochs=900, pretrain_learning_rate=3e-3, pretrain_lr_decay=0.9967, batch_size=64, n_init=5,
                            penalty=0.1, warmup=300, iterations=600, learning_rate=5e-5, critic_learning_rate=1e-3,
                            estimate_iterations=600, estimate_learning_rate=1e-3, encoder_epochs=30, encoder_start="same"),
}
_MOONS_QUICK = dict(candidates=[2, 3, 4], n_replicas=4, pretrain_epochs=60, warmup=50, iterations=60, estimate_iterations=200,
                    encoder_epochs=5, log_every=20)
_MOONS_SMOKE = dict(candidates=[2, 3], n_replicas=2, pretrain_epochs=2, warmup=2, iterations=4, n_init=1, estimate_iterations=4,
                    encoder_epochs=2, log_every=2)
_MOONS_PROFILES: dict[str, dict[str, Any]] = {
    "quick": {"wamic-selection": _MOONS_QUICK} | dict.fromkeys(("ae+gmm", "ae+gmm-centred"), dict(pretrain_epochs=60, n_init=3)),
    "smoke": {"wamic-selection": _MOONS_SMOKE, "n_samples": 1000}
    | dict.fromkeys(("ae+gmm", "ae+gmm-centred"), dict(pretrain_epochs=2, n_init=1)),
}
EXPERIMENTS = {f"wamic/{d}": Experiment(
    "wamic", d, "Table 1, and Figures 3 and 4",
    {m: {"n_clusters": k, **params} for m, params in _METHODS.items()}, _PROFILES) for d, k in _SETS.items()}
EXPERIMENTS["wamic/three_moons"] = Experiment("wamic", "three_moons", "Section 4.2 and Figure 2", _MOONS, _MOONS_PROFILES)

# What the conclusion leaves for the future: the same choice of K on real data. 10 000 digits and small networks, so that
# eight runs for each K are affordable on a processor.
_DIGITS_K: dict[str, Any] = dict(
    candidates=[6, 8, 10, 12, 14], n_replicas=8, latent_dim=10, hidden=[256, 256], critic_hidden=[128, 128], pretrain_epochs=40,
    pretrain_learning_rate=1e-3, pretrain_lr_decay=0.93, batch_size=128, n_init=3, penalty=10.0, warmup=100, iterations=600,
    learning_rate=2e-5, critic_learning_rate=1e-3, estimate_iterations=1000, estimate_learning_rate=1e-3, encoder_epochs=10,
    encoder_start="same")
EXPERIMENTS["wamic/mnist-k"] = Experiment("wamic", "mnist", "Section 5: the number of clusters on real data", {"wamic-selection": _DIGITS_K}, {
    "paper": {"n_samples": 10_000},
    "quick": {"n_samples": 2000, "wamic-selection": _MOONS_QUICK | dict(candidates=[8, 10, 12], pretrain_epochs=10, n_replicas=2)},
    "smoke": {"n_samples": 1000, "wamic-selection": _MOONS_SMOKE | dict(hidden=[64, 32])}})

# --- Properties, and checks without records -------------------------------------------------------

MOONS = 3
RESAMPLES, SURE = 2000, 0.95  # bootstrap; share of its resamples that has to agree, as p < 0.05 has to for an order


def selected(values: np.ndarray) -> np.ndarray:
    """How often the whole selection, repeated on resampled runs, would fall on each row of values (candidates, runs): the
    share of bootstrap resamples of the runs in which the row has the smallest median."""
    draws = np.random.default_rng(0).integers(values.shape[1], size=(RESAMPLES, values.shape[1]))
    winners = np.median(values[:, draws], axis=2).argmin(0)
    return np.bincount(winners, minlength=len(values)) / RESAMPLES


def selects_three(record: Record, arrays: dict, data: Dataset) -> tuple[bool, str]:
    """Figure 2(b): 3 clusters have the smallest median of the held-out distance over the runs, and still have it in 95 %
    of bootstrap resamples of the runs."""
    candidates, distance = arrays["candidates"], arrays["wasserstein"]
    medians = np.median(distance, axis=1)
    share = float(selected(distance)[candidates == MOONS].sum())
    alone = candidates[distance.argmin(0)]
    return candidates[medians.argmin()] == MOONS and share >= SURE, (
        "medians " + ", ".join(f"{m:.3f} (K = {k})" for k, m in zip(candidates, medians))
        + f"; {MOONS} is selected in {100 * share:.0f} % of the resamples ({100 * SURE:.0f} % asked), and by "
        f"{(alone == MOONS).sum()} of {len(alone)} runs alone")


def moons_accuracy(record: Record, arrays: dict, data: Dataset) -> tuple[bool, str]:
    """Section 4.2: with three clusters the run that has the smallest held-out distance is right about every point, but for
    the tolerance of an accuracy."""
    i = list(arrays["candidates"]).index(MOONS)
    scores = 100 * arrays["accuracy"][i]
    found = float(scores[arrays["wasserstein"][i].argmin()])
    return found >= 100 - TOLERANCE["percent"], (
        f"{found:.2f} % in the run with the smallest distance; over {len(scores)} runs {scores.mean():.2f} % on average, "
        f"{scores.min():.2f} % to {scores.max():.2f} %")


def stretches(arrays: dict, data: Dataset) -> int:
    """Uninterrupted stretches of one class along a one-dimensional code; 0 for a run that keeps no codes."""
    if "codes" not in arrays:
        return 0
    y = data.y[arrays["code_rows"]][np.argsort(arrays["codes"][:, 0])]
    return 1 + int((y[1:] != y[:-1]).sum())


def step3_longest(record: Record, arrays: dict, data: Dataset) -> tuple[bool, str]:
    """Section 4.3: the adversarial step takes more seconds than each of the others."""
    seconds: dict[str, float] = defaultdict(float)
    step = {"mixture": "step 2", "warm-up": "step 3", "adversarial": "step 3", "encoder": "step 4"}
    for row in record.history:
        seconds[step.get(row["phase"], "step 1")] += row["seconds"]
    return max(seconds, key=seconds.get) == "step 3", ", ".join(f"{s} {seconds[s]:.0f} s" for s in sorted(seconds))


def walks_leave_the_data(record: Record, arrays: dict, data: Dataset) -> tuple[bool, str]:
    """Figure 4: the further from a centroid, the further is what is decoded from its nearest training image."""
    walks = arrays["walks"] / np.float32(255)
    index = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(data.X)
    away = index.kneighbors(walks.reshape(-1, walks.shape[-1]))[0].reshape(walks.shape[:2]).mean(0)
    rank = float(spearmanr(np.arange(len(away)), away).statistic)
    return rank > 0.9 and away[-1] > away[0], (
        f"mean distance to the nearest image {away[0]:.2f} at the centroids, {away[-1]:.2f} after "
        f"{WALK_SIZE * (WALK_STEPS - 1):g} standard deviations; rank correlation with the way {rank:.2f}")


def centroids_show_their_class(record: Record, arrays: dict, data: Dataset) -> tuple[bool, str]:
    """Figure 4: most of the ten images nearest to a decoded centroid are of the class matched to its cluster, and the
    ten clusters are matched to ten classes."""
    centroids = arrays["walks"][:, 0] / np.float32(255)
    near = NearestNeighbors(n_neighbors=10, algorithm="brute").fit(data.X).kneighbors(centroids, return_distance=False)
    shown = [int(np.bincount(data.y[rows], minlength=10).argmax()) for rows in near]
    matched = match(data.y, arrays["labels"])
    right = [c for c in range(len(shown)) if matched.get(c) == shown[c]]
    return len(right) == len(data.class_names), f"{len(right)} of {len(shown)} centroids show the class of their cluster"


def autoencoder_does_most(runs: Mapping[str, Sequence[Record]]) -> tuple[bool, str]:
    """Section 4.2: from k-means on the points to no error, which is where WAMiC ends, AE+GMM goes more than half of the way."""
    points, codes = (100 * statistics.fmean(r.metrics["accuracy"] for r in recorded(runs, m, 2)) for m in ("kmeans", "ae+gmm-centred"))
    return codes - points > (100 - points) / 2, f"k-means on the points {points:.2f} %, AE+GMM {codes:.2f} % on average"


def codes_separate(runs) -> tuple[bool, str]:
    """Section 4.2: along the one-dimensional code every class is one uninterrupted stretch in most runs, where a one-sided sign
    test says so, or that it is not in most. LookupError where it says neither."""
    found = [stretches(runs.store.arrays(r), load(r.spec.dataset, n_samples=r.spec.n_samples)) for r in recorded(runs, "ae+gmm-centred", 2)]
    separate = found.count(MOONS)
    words = f"in {separate} of {len(found)} runs; stretches of a class along the code: {', '.join(map(str, found))}, of {MOONS} classes"
    most, few = (binomtest(separate, len(found), alternative=side).pvalue for side in ("greater", "less"))
    return decided(most, few, f"{words}: not decided, sign test p = {min(most, few):.2g}"), words


COMPARISONS = (autoencoder_does_most, codes_separate)
PROPERTIES = (selects_three, moons_accuracy, step3_longest, walks_leave_the_data, centroids_show_their_class)


def moons_not_linear() -> tuple[bool, str]:
    """Figure 2(a): a linear classifier that is shown the labels of all rows still makes errors."""
    from sklearn.linear_model import LogisticRegression
    data = load("three_moons")
    wrong = int((LogisticRegression(C=1e4, max_iter=2000).fit(data.X, data.y).predict(data.X) != data.y).sum())
    return wrong > 0, f"logistic regression errs on {wrong} of {len(data.y)} points"


def squared_error_dominates() -> tuple[bool, str]:
    """Section 3.2: the share of the squared error in the variational loss of eq. 2's model goes to 1 with sigma to 0. For a
    linear decoder, whose best q(z | x) is known: the posterior itself."""
    rng = np.random.default_rng(0)
    w, x = rng.normal(size=(6, 2)), rng.normal(size=(200, 6))
    shares = []
    for sigma in (1.0, 0.1, 0.01, 0.001):
        spread = np.linalg.inv(np.eye(2) + w.T @ w / sigma**2)
        means = x @ w @ spread / sigma**2
        error = ((x - means @ w.T) ** 2).sum(1).mean() / (2 * sigma**2)
        rest = np.trace(w @ spread @ w.T) / (2 * sigma**2) + 0.5 * (
            np.trace(spread) + (means**2).sum(1).mean() - 2 - np.linalg.slogdet(spread)[1])
        shares.append(float(error / (error + rest)))
    words = ", ".join(f"{share:.4f}" for share in shares)
    return shares == sorted(shares) and shares[-1] > 0.99, f"shares {words} for sigma 1 to 0.001"


def far_and_border_points() -> tuple[bool, str]:
    """Section 2.1: gradients in x of the squared distance to the nearest centre, and of -log p(x) of a mixture, for two
    centres four apart, each of unit variance: at 20, far from both, and on both sides of the border in the middle."""
    centres = np.array([-2.0, 2.0])

    def kmeans(x: float) -> float:
        return 2 * (x - centres[np.abs(x - centres).argmin()])

    def mixture(x: float) -> float:
        weights = np.exp(-0.5 * ((x - centres) ** 2 - ((x - centres) ** 2).min()))
        return x - float(weights @ centres / weights.sum())

    words, far, jump = [], {}, {}
    for name, gradient in (("squared distance", kmeans), ("mixture", mixture)):
        near, far[name], jump[name] = (abs(v) for v in (gradient(3.0), gradient(20.0), gradient(1e-9) - gradient(-1e-9)))
        words.append(f"{name} {far[name]:.2f} far away, {near:.2f} one standard deviation from a centre, a jump of {jump[name]:.2f} at the border")
    small = mixture(20.0) <= mixture(3.0) and jump["mixture"] < 1e-6 < jump["squared distance"]
    return small, "gradient of " + "; of the ".join(words)


CHECKS = (moons_not_linear, squared_error_dominates, far_and_border_points)

# --- Chapter ------------------------------------------------------------------------------------


class Parameters(ChapterParameters):
    """What ``notebooks/02_wamic`` can be run with."""

    paper = "wamic"

    dataset: Literal["three_moons", *_SETS] = Field("three_moons", description="the data set of the live runs")
    epochs: int | None = Field(None, ge=1, le=100_000, description="epochs of steps 1 and 4 of the live runs")
    iterations: int | None = Field(None, ge=0, le=10_000_000, description="iterations of step 3 of the live runs")

    def overrides(self) -> dict[str, Any]:
        given = super().overrides()
        epochs = given.pop("epochs", None)
        return given | ({"pretrain_epochs": epochs, "encoder_epochs": epochs} if epochs else {})


CHAPTER = Chapter("02_wamic", Parameters, records=("wamic", "vade"))
