"""GANMM (Yu and Zhou, 2018): what is run for its tables and figures, and what its statements are checked by."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import numpy as np
from pydantic import Field

from ...datasets import DATASETS, Dataset, load
from ...metrics import cluster_purity, scores
from ..catalogue import BASELINES, Chapter, ChapterParameters, Experiment, Method
from ..claims import better, recorded, welch
from ..epsilon_em import Step, epsilon_em, memorising_em, mixed
from ..figures import figure_arrays, labels_only
from ..records import Record
from ..specs import Spec
from . import vade

# --- Methods ------------------------------------------------------------------------------------

EPSILON_ROWS, EPSILON_DRAWS, EPSILON_NEIGHBOURS = 500, 200, 30
DRAWS = 200  # of each generator of images, for a classifier
PRINTED = {"purity": "purity", "ari": "ari", "nmi": "nmi_geometric"}  # a score's name in the paper and here


def follow(deep, phase: str, epoch: int, data: Dataset, spec: Spec) -> dict[str, float]:
    """The scores on the way, as the authors' code prints them, and the divergence that an epsilon-E-step leaves."""
    if phase != "ganmm":
        return {}
    found = scores(data.y, deep.labels_)
    curve = {name: found[name] for name in PRINTED.values()}
    if spec.method == "ganmm" and deep.networks == "mlp":
        curve["epsilon"] = epsilon(deep, data.X, spec.seed)
    return curve


def epsilon(deep, X: np.ndarray, seed: int) -> float:
    """KL(q || p) in nats a row: q is the classifier's posterior, p that of the mixture of generators.

    A GAN has no density: p(k | x) is estimated by the generators that the nearest of many draws, as many of each, come
    from, weighed by the clusters' shares. One draw of each generator is added to the nearest ones, so that it is never zero.
    """
    from sklearn.neighbors import NearestNeighbors
    K = deep.n_clusters
    rows = np.random.default_rng(seed).permutation(len(X))[:EPSILON_ROWS]
    draws = np.concatenate([deep.sample(EPSILON_DRAWS, cluster=k, random_state=seed + k)[0] for k in range(K)])
    near = NearestNeighbors(n_neighbors=EPSILON_NEIGHBOURS).fit(draws).kneighbors(X[rows], return_distance=False)
    counts = np.stack([(near // EPSILON_DRAWS == k).sum(1) for k in range(K)], 1) + 1.0
    p = counts * (np.bincount(deep.labels_, minlength=K) + 1)
    p /= p.sum(1, keepdims=True)
    q = deep.predict_proba(X[rows]).astype(float)
    return float((q * (np.log(q.clip(1e-12)) - np.log(p))).sum(1).mean())


def measure(estimator, data: Dataset) -> dict[str, float]:
    """What Table 2 and Figures 3 to 5 need: classes that are the majority of no cluster, clusters without rows, the purest
    and the least pure cluster; and of a fit on a part of the rows the scores on all of them."""
    labels = estimator.predict(data.X)
    clusters = cluster_purity(data.y, labels)
    found: dict[str, float] = {
        "lost_classes": len(set(data.y.tolist()) - {c.majority for c in clusters}),
        "empty_clusters": estimator.predict_proba(data.X[:1]).shape[1] - len(clusters),
        "mean_purity": statistics.fmean(c.purity for c in clusters),
        "lowest_purity": min(c.purity for c in clusters), "highest_purity": max(c.purity for c in clusters)}
    if getattr(estimator, "networks", "") == "dcgan":
        found |= drawn(estimator, data.name, {c.cluster: (c.majority, c.size) for c in clusters})
    whole = load(data.name)
    if len(whole.y) > len(data.y):
        on_all = scores(whole.y, estimator.predict(whole.X))
        found |= {f"{name}_whole": on_all[name] for name in PRINTED.values()}
    return found


def drawn(estimator, dataset: str, clusters: dict[int, tuple[int, int]]) -> dict[str, float]:
    """What a classifier of real digits, which nothing that is trained here ever sees, makes of the draws of each generator:
    how sure it is, how that goes with the size of the cluster, and how many of the draws of 4 and 7 it takes for a 9.

    ``clusters`` are the majority class and size of each that has rows.
    """
    from scipy.stats import spearmanr

    from ..fid import class_probabilities
    p = {k: class_probabilities(dataset, estimator.sample(DRAWS, cluster=k, random_state=k)[0]) for k in clusters}
    sure = {k: float(found.max(1).mean()) for k, found in p.items()}
    found = {"draws_certainty": statistics.fmean(sure.values())}
    sizes = [size for _, size in clusters.values()]
    if len(set(sizes)) > 2:
        found["draws_certainty_by_size"] = float(spearmanr(list(sure.values()), sizes).statistic)
    if mixed_up := [k for k, (majority, _) in clusters.items() if majority in (4, 7)]:
        found["draws_nine"] = statistics.fmean(float((p[k].argmax(1) == 9).mean()) for k in mixed_up)
    return found


def keep(estimator, deep, data: Dataset, labels: np.ndarray, spec: Spec) -> dict[str, np.ndarray]:
    """The labels, and of images what Figure 2 draws."""
    return (labels_only if data.image_shape is None else figure_arrays)(estimator, deep, data, labels, spec)


def at_rest(record: Record) -> bool:
    """Whether a run of GANMM ended because hardly any row changed cluster any more, and not by its cap on the iterations."""
    method = METHODS[record.spec.method]
    return method.deep(method.make(record.spec.seed, **record.spec.params)).at_rest(record.history)


def _ganmm(seed: int, **params: Any):
    from ...ganmm import GANMM
    return GANMM(random_state=seed, **params)


def _embedded(seed: int, **params: Any):
    from ...ganmm import embedded_ganmm
    return embedded_ganmm(random_state=seed, **params)


def _dec_gmm(seed: int, n_clusters: int, dec: dict[str, Any] | None = None, **params: Any):
    from sklearn.mixture import GaussianMixture
    from sklearn.pipeline import make_pipeline

    from ...dec import DEC
    return make_pipeline(DEC(n_clusters, random_state=seed, **(dec or {})), GaussianMixture(n_clusters, random_state=seed, **params))


_method = partial(Method, make=_ganmm, objective=lambda m, X: float(m.objective_), module="ganmm", follow=follow,
                  measure=measure, keep=keep)
METHODS = {
    "ganmm": _method("GANMM"),
    "ganmm-em": _method("GANMM(EM)"),
    "ganmm-code": _method("GANMM, all quirks of the authors' code"),
    "ganmm-fast": _method("GANMM, four times the rate"),
    "ganmm-double": _method("GANMM, double softmax"),
    "ganmm-untrained": _method("GANMM, untrained output layer"),
    "ganmm-epoch": _method("GANMM, Algorithm 1 to the letter"),
    "ganmm-alternation": _method("GANMM, classifier and GANs by the pass"),
    "ganmm-highest": _method("GANMM, highest posteriors borrowed"),
    "ganmm-proportional": _method("GANMM, draws in proportion"),
    "ganmm-penalty": _method("GANMM, gradient penalty"),
    "ganmm-unaided": _method("GANMM, nothing borrowed and unequal draws"),
    "sae+ganmm": _method("SAE+GANMM", make=_embedded, step="ganmm", keep=labels_only,
                         objective=lambda m, X: float(m[-1].objective_), embedding="autoencoder"),
}
METHODS["sae+ganmm-em"] = replace(METHODS["sae+ganmm"], title="SAE+GANMM(EM)")
METHODS["sae+ganmm-range"] = replace(METHODS["sae+ganmm"], title="SAE+GANMM, codes divided by their range")
METHODS["dec+ganmm"] = replace(METHODS["sae+ganmm"], title="DEC+GANMM", embedding="dec")
METHODS["dec+gmm"] = Method("DEC+GMM", make=_dec_gmm, objective=lambda m, X: float(m[-1].lower_bound_), module="dec", step="dec",
                            measure=measure, keep=labels_only)
METHODS |= {f"sae+ganmm-{start}": replace(METHODS["sae+ganmm"], title=f"SAE+GANMM from {name}'s partition")
            for start, name in (("kmeans", "k-means"), ("gmm", "GMM"))}
# "DEC without its autoencoder", as the paper compares with on raw features: nothing is pretrained.
METHODS["dec-raw"] = replace(vade.METHODS["dec"], title="DEC, nothing pretrained", measure=measure, keep=labels_only)
METHODS["dec-embedded"] = replace(vade.METHODS["dec"], measure=measure, keep=labels_only)
METHODS["gmm-raw"] = replace(BASELINES["gmm"], measure=measure)

# --- Experiments --------------------------------------------------------------------------------

# The paper gives neither the number of iterations nor a criterion; the authors' code has 200 000. Here a run ends when its
# assignment is at rest, or else is cut off by this cap, which is what the machine allows for ten seeds: ``at_rest`` tells the two
# apart, and the claims say which. Networks, rates and shares are the authors' code's.
ITERATIONS, PRETRAINING = 4000, 500
_ALL_QUIRKS = ["double softmax", "untrained output", "single-cluster batches", "unclipped pretraining"]
_TABULAR: dict[str, dict[str, Any]] = {
    "ganmm": {},
    "ganmm-em": dict(e_step="critics"),
    "ganmm-code": dict(quirks=_ALL_QUIRKS),
    "ganmm-double": dict(quirks=["double softmax"]),
    "ganmm-untrained": dict(quirks=["untrained output"]),
    "ganmm-epoch": dict(alternation="epoch", borrowing="highest", fakes="proportional"),
    "ganmm-alternation": dict(alternation="epoch"),
    "ganmm-highest": dict(borrowing="highest"),
    "ganmm-proportional": dict(fakes="proportional"),
    "ganmm-penalty": dict(lipschitz="penalty"),
    "ganmm-unaided": dict(sigma=0.0, fakes="proportional"),
}
_BASELINES: dict[str, dict[str, Any]] = {
    "kmeans": dict(n_init=10), "gmm-raw": dict(n_init=3, covariance_type="full", reg_covar=1e-3),
    "dec-raw": dict(likelihood="gaussian", layer_epochs=0, pretrain_epochs=0, iterations=20_000, n_init=20)}
_SHORT = [[0, 0.5], [100, 0.2], [200, 0.1], [300, 0.04]]


def _without_own_shares(change: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """What a smaller profile changes; the shares of borrowed rows not where a method has its own."""
    return {key: value for key, value in change.items() if key != "sigma" or "sigma" not in own}


def _profiles(methods: dict[str, dict[str, Any]], n_samples: int, quick: dict[str, Any], **smoke: Any) -> dict[str, dict[str, Any]]:
    """The shares of borrowed rows shrink as the iterations do, and the rate of learning rises where they are few."""
    def shrunk(method: str, change: dict[str, Any]) -> dict[str, Any]:
        if method in _BASELINES:
            return dict(n_init=1) | ({"iterations": change["iterations"]} if "iterations" in methods[method] else {})
        return _without_own_shares(change, methods[method])
    tiny = dict(iterations=4, pretrain_iterations=2) | smoke
    return {"quick": {"n_samples": n_samples} | {m: shrunk(m, quick) for m in methods},
            "smoke": {"n_samples": 1000} | {m: shrunk(m, tiny) for m in methods}}


def _experiment(dataset: str, about: str, n_clusters: int, methods: dict[str, dict[str, Any]], *, quick: dict[str, Any],
                n_samples: int = 2500, smoke: dict[str, Any] | None = None, **params: Any) -> Experiment:
    common = dict(n_clusters=n_clusters, iterations=ITERATIONS, pretrain_iterations=PRETRAINING) | params
    given = {m: common | p for m, p in methods.items()} | {m: dict(n_clusters=n_clusters) | p for m, p in _BASELINES.items()}
    return Experiment("ganmm", dataset, about, given, _profiles(given, n_samples, quick, **smoke or {}))


_QUICK = dict(iterations=400, pretrain_iterations=100, learning_rate=2e-4, sigma=_SHORT)
EXPERIMENTS = {
    "ganmm/image_segmentation": _experiment("image_segmentation", "Table 4", 7, _TABULAR, quick=_QUICK),
    "ganmm/artificial_characters": _experiment("artificial_characters", "Table 5", 10, _TABULAR, quick=_QUICK),
    "ganmm/artificial_characters_instances": _experiment("artificial_characters_instances", "Table 5's set, one row a letter", 10, _TABULAR,
                                                         quick=_QUICK),
    "ganmm/digits": _experiment("digits", "not in the paper: small images as a table", 10, _TABULAR, quick=_QUICK),
    "ganmm/three_moons": _experiment("three_moons", "not in the paper: two dimensions", 3, _TABULAR, quick=_QUICK),
}

_IMAGES: dict[str, dict[str, Any]] = {m: dict(networks="dcgan", noise_dim=128, channels=64, precision="auto", **_TABULAR[m])
                                      for m in ("ganmm", "ganmm-em", "ganmm-double")}
# Not the authors' rate: at theirs, with few channels, the critics' objective falls too slowly for these iterations
_IMAGES["ganmm-fast"] = _IMAGES["ganmm"] | {"learning_rate": 2e-4}
_DCGAN_QUICK = _QUICK | dict(iterations=20, pretrain_iterations=5, channels=4)


def _raw_mnist(about: str, n_samples: int | None) -> Experiment:
    found = _experiment("mnist_train", about, 10, _IMAGES, quick=_DCGAN_QUICK, smoke=dict(channels=2))
    gmm = dict(n_clusters=10, n_init=3, covariance_type="diag", reg_covar=1e-3)  # 784 x 784 covariances of 6000 rows are singular
    return replace(found, methods=found.methods | {"gmm-raw": gmm},
                   profiles=found.profiles | ({"paper": {"n_samples": n_samples}} if n_samples else {}))


EXPERIMENTS |= {"ganmm/mnist_train": _raw_mnist("Tables 1 and 2, Figure 2", None)}
EXPERIMENTS |= {f"ganmm/mnist_train-{share}": _raw_mnist(f"Figures 3 to 5, {share} %", 600 * share) for share in (10, 50)}

# The autoencoder is DEC's, with squared errors. DEC's paper fine-tunes it for 365 epochs of MNIST; its error still falls
# after these, which are what the machine allows for ten seeds.
_SAE = dict(likelihood="gaussian", layer_epochs=8, pretrain_epochs=60)
# Not in the paper: GANMM with a gradient penalty, from a partition that it is not to lose again at once
_STARTED = dict(sigma=0.04, lipschitz="penalty", learning_rate=2e-4, iterations=2000)
_CODES: dict[str, dict[str, Any]] = {
    "sae+ganmm": {},
    "sae+ganmm-em": dict(e_step="critics"),
    "sae+ganmm-range": dict(scale="range"),
    "sae+ganmm-kmeans": dict(init="kmeans") | _STARTED,
    "sae+ganmm-gmm": dict(init="gmm") | _STARTED,
}


def _shorter(game: dict[str, Any], steps: int, **layers: Any) -> dict[str, dict[str, Any]]:
    """What a smaller profile changes: GANMM's training, the steps of DEC's clustering, the layers of the autoencoder."""
    dec = layers | dict(iterations=steps, n_init=1)
    return {m: _without_own_shares(game, own) | {"autoencoder": layers} for m, own in _CODES.items()} | {
        "dec+ganmm": game | dict(dec=dec), "dec+gmm": dict(dec=dec, n_init=1),
        "dec-embedded": dec, "ae+gmm": layers | dict(n_init=1)}


_DEC: dict[str, Any] = dict(iterations=20_000, n_init=20, **_SAE)
EXPERIMENTS["ganmm/mnist_embedded"] = Experiment("ganmm", "mnist_train", "Table 3", {
    m: dict(n_clusters=10, iterations=ITERATIONS, pretrain_iterations=PRETRAINING, autoencoder=_SAE) | own for m, own in _CODES.items()} | {
    # "Fine-tuned" may mean DEC's own tuning: the paper's GMM and DEC do almost alike on its codes
    "dec+ganmm": dict(n_clusters=10, iterations=ITERATIONS, pretrain_iterations=PRETRAINING, dec=_DEC),
    "dec+gmm": dict(n_clusters=10, covariance_type="full", n_init=10, dec=_DEC),
    "dec-embedded": dict(n_clusters=10, **_DEC),
    "ae+gmm": dict(n_clusters=10, covariance_type="full", n_init=10, **_SAE)}, {
    "quick": {"n_samples": 5000} | _shorter(_QUICK, 400, layer_epochs=2, pretrain_epochs=5),
    "smoke": {"n_samples": 1000} | _shorter(dict(iterations=4, pretrain_iterations=2), 4, hidden=[64, 32], layer_epochs=1,
                                            pretrain_epochs=2)})

# --- Statements about recorded runs ---------------------------------------------------------------

SMALL, LARGE = 2000 / 50_000, 10_000 / 50_000  # cluster sizes that the text calls small and large, as shares
NINES = 0.05  # of the draws
STILL = 0.005  # of the rows: GANMM's own tol, below which a fit may count as at rest
LEVEL = 0.1  # of the sum of all epsilons: what the second half may add to it


def _extremes(record: Record, arrays: dict) -> tuple[float, float, str]:
    """Shares of the rows that the smallest and the largest cluster hold, and both in words."""
    shares = np.bincount(arrays["labels"], minlength=record.spec.params["n_clusters"]) / len(arrays["labels"])
    low, high = float(shares.min()), float(shares.max())
    return low, high, f"clusters hold {100 * low:.1f} % to {100 * high:.1f} % of the rows"


def balanced(record: Record, arrays: dict, data: Dataset) -> tuple[bool, str]:
    """Section 4.1: no cluster is small or large."""
    low, high, said = _extremes(record, arrays)
    return low >= SMALL and high <= LARGE, f"{said} ({100 * SMALL:.0f} % to {100 * LARGE:.0f} % asked)"


def unbalanced(record: Record, arrays: dict, data: Dataset) -> tuple[bool, str]:
    """Section 4.1, of DEC: there is a small cluster, and a large one."""
    low, high, said = _extremes(record, arrays)
    return low < SMALL and high > LARGE, f"{said} (one below {100 * SMALL:.0f} % and one above {100 * LARGE:.0f} % asked)"


def epsilons_level_off(record: Record, arrays: dict, data: Dataset) -> tuple[bool, str]:
    """Section 3: the measured divergences have a finite sum."""
    _, values = record.curve("ganmm", "epsilon")
    late = sum(values[len(values) // 2:]) / sum(values)
    return late <= LEVEL, (f"epsilon is {values[0]:.2f} nats a row after the first hundred iterations and {values[-1]:.2f} after the "
                           f"last; the second half adds {100 * late:.0f} % of the sum (at most {100 * LEVEL:.0f} % asked)")


def _balances(runs: dict[str, list[Record]], method: str) -> list[list[float]]:
    return [record.curve("ganmm", "balance")[1] for record in recorded(runs, method, 2)]


def imbalanced_at_first(runs: dict[str, list[Record]]) -> tuple[bool, str]:
    """Without the remedy the first hundred iterations leave most runs with an empty cluster and one of more than twice an equal share,
    which of ten clusters is what section 4.1 calls large."""
    found = recorded(runs, "ganmm-unaided", 2)
    empty, largest = ([r.curve("ganmm", name)[1][0] for r in found] for name in ("empty", "largest"))
    equal = 1 / found[0].spec.params["n_clusters"]
    unequal = [e > 0 and share > 10 * LARGE * equal for e, share in zip(empty, largest)]
    return statistics.fmean(unequal) > 0.5, (
        f"after the first hundred iterations, in {len(found)} runs of {1 / equal:.0f} clusters: {', '.join(f'{e:.0f}' for e in empty)} are empty, "
        f"and the largest holds {', '.join(f'{100 * share:.0f}' for share in largest)} % of the rows (one empty and one above "
        f"{1000 * LARGE * equal:.0f} % asked, in over half of the runs)")


def imbalance_grows(runs: dict[str, list[Record]]) -> tuple[bool, str]:
    """Without the remedy the entropy of the cluster sizes falls from the first hundred iterations to the last, by Welch's test. A run
    that has all rows in one cluster by then can't show it: its entropy is zero, and no imbalance is greater."""
    every = _balances(runs, "ganmm-unaided")
    curves = [curve for curve in every if curve[0] > 0]
    if len(curves) < 2:
        raise LookupError(f"{len(curves)} of {len(every)} runs have more than one cluster after the first hundred iterations; in the others no "
                          "imbalance can grow, and two are needed")
    first, last = ([curve[i] for curve in curves] for i in (0, -1))
    words = (f"entropy of the sizes over log K, mean of the {len(curves)} of {len(every)} runs that have more than one cluster after the first "
             f"hundred iterations: {statistics.fmean(first):.3f} then, {statistics.fmean(last):.3f} at the end")
    return better(first, last, words), words


def remedy_balances(runs: dict[str, list[Record]]) -> tuple[bool, str]:
    """With borrowed rows and equal draws the entropy of the cluster sizes is higher, by Welch's test."""
    aided, unaided = ([statistics.fmean(curve) for curve in _balances(runs, m)] for m in ("ganmm", "ganmm-unaided"))
    p = welch(aided, unaided)
    return p < 0.05, (f"entropy of the sizes over log K, mean over the iterations: {statistics.fmean(aided):.3f} with the remedy, "
                      f"{statistics.fmean(unaided):.3f} without, Welch p = {p:.2g}")


def em_stands_still(runs: dict[str, list[Record]]) -> tuple[bool, str]:
    """Introduction, of GANs trained by EM: in most runs on the tables the assignment stands still from the first hundred iterations on."""
    curves = {e: [r.curve("ganmm", "moved")[1] for r in recorded(runs, (f"ganmm/{e}", "ganmm-em"), 2)]
              for e in ("image_segmentation", "artificial_characters")}
    still = [max(curve[1:]) < STILL for found in curves.values() for curve in found]
    said = (f"{DATASETS[e].title} {100 * statistics.fmean(c[1] for c in found):.1f} % in the second hundred iterations and "
            f"{100 * statistics.fmean(c[-1] for c in found):.1f} % in the last ({len(found)} runs)" for e, found in curves.items())
    return statistics.fmean(still) > 0.5, (f"rows that change cluster, on average: {', '.join(said)}; {sum(still)} of {len(still)} runs stand "
                                           f"still after the first hundred (below {100 * STILL:g} % of the rows asked, in over half of the runs)")


def purer_clusters(runs: dict[str, list[Record]]) -> tuple[bool, str]:
    """Section 4.1: the mean purity of GANMM's clusters, over its runs, is above that of every other method of Table 1."""
    names = ("ganmm", "gmm-raw", "dec-raw", "ganmm-em")
    means = {m: statistics.fmean(r.metrics["mean_purity"] for r in recorded(runs, m)) for m in names}
    return means["ganmm"] > max(means[m] for m in names[1:]), ", ".join(f"{METHODS[m].title} {v:.3f}" for m, v in means.items())


def surer_draws(runs: dict[str, list[Record]]) -> tuple[bool, str]:
    """Figure 2: a classifier of real digits is surer of GANMM's draws than of GANMM(EM)'s, on average over runs."""
    means = {m: statistics.fmean(r.metrics["draws_certainty"] for r in recorded(runs, m)) for m in ("ganmm", "ganmm-em")}
    return means["ganmm"] > means["ganmm-em"], "mean probability of the class it decides for: " + ", ".join(
        f"{METHODS[m].title} {v:.3f}" for m, v in means.items())


def nines_among_4_and_7(runs: dict[str, list[Record]]) -> tuple[bool, str]:
    """Figure 2: of the draws of clusters whose majority is 4 or 7 the classifier takes at least one in twenty for a 9."""
    having = [r for r in recorded(runs, "ganmm") if "draws_nine" in r.metrics]
    share = statistics.fmean(r.metrics["draws_nine"] for r in recorded({"ganmm": having}, "ganmm"))
    return share >= NINES, f"{100 * share:.1f} % of the draws, mean of {len(having)} runs ({100 * NINES:.0f} % asked)"


def small_clusters_draw_worse(runs: dict[str, list[Record]]) -> tuple[bool, str]:
    """Figure 2, of GANMM(EM): the smaller the cluster, the less sure the classifier is of its draws."""
    having = [r for r in recorded(runs, "ganmm-em") if "draws_certainty_by_size" in r.metrics]
    rank = statistics.fmean(r.metrics["draws_certainty_by_size"] for r in recorded({"ganmm-em": having}, "ganmm-em"))
    return rank > 0, f"rank correlation of certainty and size, mean of {len(having)} runs: {rank:.2f}"


def on_all(record: Record, metric: str) -> float:
    """A score on all of MNIST, of a run on all of it or on a share."""
    return record.metrics.get(f"{metric}_whole", record.metrics[metric])


def _by_share(runs: dict, method: str, metric: str) -> list[float]:
    """Mean of a score on all of MNIST, of the runs on all of it, on half and on a tenth."""
    found = [recorded(runs, (f"ganmm/mnist_train{share}", method)) for share in ("", "-50", "-10")]
    return [statistics.fmean(on_all(r, metric) for r in own) for own in found]


def _falls(runs: dict, metric: str) -> tuple[bool, str]:
    means = _by_share(runs, "ganmm", metric)
    return means[0] > means[1] > means[2], "means of the runs on all, half and a tenth: " + ", ".join(f"{v:.3f}" for v in means)


def purity_falls(runs: dict) -> tuple[bool, str]:
    """Figure 3: GANMM's mean purity on all of MNIST falls with the share trained on."""
    return _falls(runs, "purity")


def ari_falls(runs: dict) -> tuple[bool, str]:
    """Figure 4: the same with ARI."""
    return _falls(runs, "ari")


def nmi_falls(runs: dict) -> tuple[bool, str]:
    """Figure 5: the same with NMI, by the geometric mean."""
    return _falls(runs, "nmi_geometric")


def _others_steady(runs: dict, metric: str) -> tuple[bool, str]:
    means = {m: _by_share(runs, m, metric) for m in ("ganmm", "gmm-raw", "dec-raw", "ganmm-em")}
    change = {m: abs(all_of_it - tenth) for m, (all_of_it, _, tenth) in means.items()}
    return change["ganmm"] > max(v for m, v in change.items() if m != "ganmm"), "change from all to a tenth: " + ", ".join(
        f"{METHODS[m].title} {v:.3f}" for m, v in change.items())


def purity_of_others_steady(runs: dict) -> tuple[bool, str]:
    """Figure 3: from all of the data to a tenth the mean purity of each other method changes less than GANMM's."""
    return _others_steady(runs, "purity")


def ari_of_others_steady(runs: dict) -> tuple[bool, str]:
    """Figure 4: the same with ARI."""
    return _others_steady(runs, "ari")


def nmi_of_others_steady(runs: dict) -> tuple[bool, str]:
    """Figure 5: the same with NMI, by the geometric mean."""
    return _others_steady(runs, "nmi_geometric")


PROPERTIES = (balanced, unbalanced, epsilons_level_off)
COMPARISONS = (imbalanced_at_first, imbalance_grows, remedy_balances, em_stands_still, purer_clusters, surer_draws,
               nines_among_4_and_7, small_clusters_draw_worse, purity_falls, ari_falls, nmi_falls,
               purity_of_others_steady, ari_of_others_steady, nmi_of_others_steady)

# --- Statements that need no records --------------------------------------------------------------

ROUNDING = 1e-9  # of log-likelihoods of a few hundred nats


def _mixture() -> tuple[np.ndarray, np.ndarray]:
    """200 rows of two unit Gaussians four apart, and means to start from."""
    rng = np.random.default_rng(0)
    return np.concatenate([rng.normal(-2, 1, 100), rng.normal(2, 1, 100)]), np.array([-0.5, 1.0])


def _runs() -> dict[str, list[Step]]:
    """Epsilon-EM with exact M-steps, for epsilons of several kinds."""
    x, means = _mixture()
    shares: dict[str, Callable[[int], float]] = {
        "constant": lambda t: 0.3, "geometric": lambda t: 0.5 * 0.8**t,
        "geometric, ever more rarely": lambda t: 2.0 ** -(t**0.5) if t and int(t**0.5) ** 2 == t else 0.0}
    return {name: epsilon_em(x, means, mixed(share, len(x), 2), 150) for name, share in shares.items()}


def likelihood_gap() -> tuple[bool, str]:
    """Section 3: the log-likelihood exceeds the bound by exactly epsilon."""
    steps = [step for run in _runs().values() for step in run]
    worst = max(abs(s.likelihood - s.bound - s.epsilon) / abs(s.likelihood) for s in steps)
    return worst < ROUNDING, f"largest relative difference of the two sides over {len(steps)} steps: {worst:.1g}"


def step_bound() -> tuple[bool, str]:
    """Section 3: a step lowers the log-likelihood by at most the epsilon before it."""
    slack = [b.likelihood - a.likelihood + a.epsilon for run in _runs().values() for a, b in zip(run, run[1:])]
    return min(slack) >= -ROUNDING, f"least of gain plus epsilon over {len(slack)} steps: {min(slack):.3g} nats"


def sum_bound() -> tuple[bool, str]:
    """Section 3: the log-likelihood is never below its start by more than the sum of the epsilons so far."""
    slack = []
    for run in _runs().values():
        before = np.cumsum([s.epsilon for s in run]) - [s.epsilon for s in run]
        slack += [s.likelihood - run[0].likelihood + spent for s, spent in zip(run[1:], before[1:])]
    return bool(min(slack) >= -ROUNDING), f"least of total gain plus spent epsilons over {len(slack)} steps: {min(slack):.3g} nats"


def summable_epsilons_converge() -> tuple[bool, str]:
    """Section 3: where the epsilons have a finite sum, the log-likelihood never falls again from some step on."""
    runs, said, holds = _runs(), [], True
    for name in ("geometric", "geometric, ever more rarely"):
        falls = [t for t, (a, b) in enumerate(zip(runs[name], runs[name][1:]), 1) if b.likelihood < a.likelihood - ROUNDING]
        total = sum(s.epsilon for s in runs[name])
        said.append(f"{name}: epsilons add up to {total:.3g} nats, " + (f"{len(falls)} falls, the last at step {falls[-1]}" if falls else "no fall"))
        holds &= not falls or falls[-1] < len(runs[name]) // 2
    return holds, "; ".join(said) + f"; of {len(runs['geometric'])} steps each"


def early_convergence() -> tuple[bool, str]:
    """Section 3: with components that remember their rows, the second step of EM changes nothing; smooth ones go on."""
    moved: dict[float, list[list[float]]] = {1e-3: [], 1.0: []}
    for seed in range(10):
        rng = np.random.default_rng(seed)
        X, labels = rng.normal(size=(150, 2)), rng.permutation(np.arange(150) % 3)
        for bandwidth, found in moved.items():
            found.append(memorising_em(X, labels, bandwidth, 3))
    still, smooth = (statistics.fmean(m[1] for m in found) for found in moved.values())
    return max(m[1] for m in moved[1e-3]) == 0, (
        f"rows that change cluster in the second step, over 10 random data sets: {100 * still:.1f} % with bandwidth 0.001, "
        f"{100 * smooth:.1f} % with bandwidth 1")


def random_start() -> tuple[bool, str]:
    """Section 3: from random parameters, the first assignment is likely to put (nearly) all rows into one cluster."""
    from ...ganmm import GANMM
    X = load("digits").X - 0.5
    largest = [GANMM(10, init=None, iterations=1, random_state=seed).fit(X).weights_.max() for seed in range(10)]
    likely = float(np.mean([share > 0.9 for share in largest]))
    return likely > 0.5, (f"digits, 10 seeds: the largest cluster holds {100 * min(largest):.0f} % to {100 * max(largest):.0f} % of the "
                          f"rows, over 90 % for {100 * likely:.0f} % of the seeds (over half asked)")


def _range(name: str) -> tuple[bool, str]:
    """Least and largest value of a score over random partitions, and whether they lie in [0, 1]."""
    rng, found = np.random.default_rng(0), []
    for _ in range(300):
        n = int(rng.integers(4, 60))
        y, labels = (rng.integers(int(rng.integers(2, 6)), size=n) for _ in range(2))
        found.append(scores(y, labels)[name])
    return min(found) >= 0 and max(found) <= 1, f"from {min(found):.3f} to {max(found):.3f} over {len(found)} random partitions"


def purity_range() -> tuple[bool, str]:
    """Section 4: purity lies between 0 and 1."""
    return _range("purity")


def ari_range() -> tuple[bool, str]:
    """Section 4: the index called ARI lies between 0 and 1. The tables' values can only be the adjusted one's."""
    (holds, said), (_, plain) = _range("ari"), _range("rand_index")
    return holds, f"adjusted {said}; the printed formula, unadjusted, {plain}"


def nmi_range() -> tuple[bool, str]:
    """Section 4: NMI, by the geometric mean, lies between 0 and 1."""
    return _range("nmi_geometric")


CHECKS = (likelihood_gap, step_bound, sum_bound, summable_epsilons_converge, early_convergence, random_start,
          purity_range, ari_range, nmi_range)

# --- Chapter ------------------------------------------------------------------------------------


LIVE = ("image_segmentation", "artificial_characters", "digits", "three_moons", "mnist_train")


class Parameters(ChapterParameters):
    """What ``notebooks/03_ganmm`` can be run with."""

    paper = "ganmm"
    dataset: Literal[LIVE] = Field("image_segmentation", description="the data set of the live runs")
    epochs: int | None = Field(None, ge=1, le=1_000_000, description="iterations of the live runs, which count as epochs here")

    def overrides(self) -> dict[str, Any]:
        found = super().overrides()
        return found | ({"iterations": found.pop("epochs")} if "epochs" in found else {})


CHAPTER = Chapter("03_ganmm", Parameters, records=("ganmm", "all"))
