"""Every clustering method of the library on every data set, by one protocol: no paper's, the book's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from ...datasets import DATASETS
from ..catalogue import Chapter, ChapterParameters, Experiment, Method

# --- The protocol ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scale:
    """What a profile grants every method alike, on every set: rows at most, and steps of an optimizer.

    ``layer`` steps pretrain each layer and ``joint`` steps all of them; ``steps`` come after that, and a method that
    does not pretrain has them all in one. ``wamic``, ``ganmm`` and ``hrwae`` are the steps of those, each of which costs a
    multiple of another's. ``starts`` are those of every k-means and EM.
    """

    rows: int
    layer: int
    joint: int
    steps: int
    wamic: int
    ganmm: int
    hrwae: int
    starts: int


SCALES = {
    "paper": Scale(rows=10_000, layer=200, joint=500, steps=800, wamic=200, ganmm=1000, hrwae=400, starts=5),
    "quick": Scale(rows=2000, layer=50, joint=150, steps=250, wamic=40, ganmm=150, hrwae=40, starts=3),
    "smoke": Scale(rows=300, layer=1, joint=2, steps=4, wamic=2, ganmm=4, hrwae=2, starts=1),
}
TABLE = 64  # features up to which a set is a table for a small network
LATENT = 10  # dimensions of every code, or as many as there are features
BATCH = {"soft-kmeans-p": 300, "ot": 300, "hrwae-l1": 128}  # a method's own where it is not 256

MOONS: dict[str, Any] = dict(penalty=0.1, critic_learning_rate=1e-3)  # WAMiC's critic on tables: as its chapter has it on the moons

# The letters are read one a row, as GANMM's paper counts them: a segment alone does not tell its letter. Of RCV1 it is
# the part that is a dense array and has no more rows than the protocol takes.
KINDS = {"tables": ("three_moons", "image_segmentation", "artificial_characters_instances", "hhar"),
         "images": ("digits", "mnist", "fashion_mnist", "cifar10_jpeg"),
         "text": ("reuters21578", "rcv1_10k")}
SETS = tuple(name for names in KINDS.values() for name in names)

EXCLUDED: dict[str, str] = {
    "cgan": "is given the labels",
    "wamic-selection": "finds the number of clusters, which all others are given",
    "ae+gmm-centred": "is AE+GMM on rows whose means are taken out first, for the three moons",
    "ae+kmeans": "is what DEC and soft k-means (p) start from",
} | dict.fromkeys(
    ("gmm-raw", "dec-raw", "dec-embedded", "dec+gmm"), "is one that is here, as the GANMM chapter starts and measures it"
) | dict.fromkeys(
    ("vade-umap", "wamic-umap"), "is the same model from another start; of VaDE the one that is held at it is here"
) | dict.fromkeys(
    ("vade-pretrained", "vade-few", "vade-random", "vade-no-kl", "vade-end-to-end", "vade-long"), "is VaDE with another start or without a term, which its chapter compares"
) | dict.fromkeys(
    ("vae+gmm-unit",), "is VAE+GMM with another likelihood, which VaDE's chapter compares"
) | dict.fromkeys(
    ("soft-kmeans", "ot-p", "ot-early"), "is a variant of one that is here: the paper's soft k-means gains by pretraining, its OT does not"
) | dict.fromkeys(
    ("ot-cost", "soft-kmeans-cost"), "is one that is here with another loss, which its chapter compares"
) | dict.fromkeys(
    ("ot-equal", "ot-kmeans-order", "ot-one-shot", "ot-swapped", "ot-penalised", "soft-unequal"), "is about two classes of unequal sizes"
) | dict.fromkeys(
    ("ganmm-em", "ganmm-fast", "ganmm-code", "ganmm-double", "ganmm-untrained", "ganmm-epoch", "ganmm-alternation", "ganmm-highest",
     "ganmm-proportional", "ganmm-penalty", "ganmm-unaided", "dec+ganmm", "sae+ganmm-em", "sae+ganmm-range", "sae+ganmm-kmeans", "sae+ganmm-gmm"),
    "is a variant of GANMM that its chapter compares"
) | dict.fromkeys(
    ("hrwae-l2", "hrwae-l3", "hrwae-l4"), "costs more than L = 1, and its paper finds it no better at clustering"
) | dict.fromkeys(
    ("hrwae-l1-standard", "hrwae-l1-smoothed", "hrwae-l1-adam", "hrwae-l1-standard-adam", "hrwae-l1-smoothed-adam", "beta-vae",
     "hrwae-l2-no-attention", "hrwae-l2-extra-layers", "hrwae-l3-no-intermediate", "hrwae-l3-prior", "hrwae-l3-prior-no-intermediate",
     "hrwae-l4-prior", "hrwae-l4-even"), "is an ablation of HRWAE-GAN"
)


def unfit(method: str, dataset: str) -> str:
    """Why a method is not run on a set, "" where it is."""
    source = DATASETS[dataset]
    if method == "vade-unit" and dataset not in KINDS["text"]:
        return "text only: there the variances that VaDE learns fall without end"
    if method == "hrwae-l1" and source.image_shape is None:
        return "images only"
    if method == "ganmm" and source.d > TABLE:
        return (f"its networks, one hidden layer of 64 units, are for tables of up to {TABLE} features" if source.image_shape is None
                else "its networks for images take hours, and grey images alone") + ": see SAE+GANMM"
    return ""


def parameters(dataset: str, scale: Scale) -> dict[str, dict[str, Any]]:
    """The parameters of every method that is run on a set; what is not named here is as in the method's own chapter."""
    source = DATASETS[dataset]
    rows = min(scale.rows, source.n)

    def epochs(steps: int, method: str = "") -> int:
        return max(1, round(steps * BATCH.get(method, 256) / rows))

    hidden = [64, 64] if source.d <= TABLE else [256, 256]
    network: dict[str, Any] = dict(hidden=hidden, latent_dim=min(LATENT, source.d))
    stacked = network | dict(layer_epochs=epochs(scale.layer), pretrain_epochs=epochs(scale.joint))
    em: dict[str, Any] = dict(n_init=scale.starts)
    all_steps = 3 * scale.layer + scale.joint + scale.steps
    game = dict(iterations=scale.ganmm, pretrain_iterations=scale.ganmm // 4, learning_rate=2e-4,
                sigma=[[0, 0.5], [scale.ganmm // 4, 0.2], [scale.ganmm // 2, 0.1], [3 * scale.ganmm // 4, 0.04]])
    own: dict[str, dict[str, Any]] = {
        "kmeans": em,
        "gmm": em | dict(covariance_type="diag", reg_covar=1e-3),
        "ae+gmm": stacked | em | dict(covariance_type="full"),
        "vae+gmm": network | em | dict(covariance_type="full", epochs=epochs(all_steps)),
        "n2d": stacked | em,
        "dec": stacked | em | dict(iterations=scale.steps),
        "soft-kmeans-p": network | em | dict(epsilon=0.01, clustering_weight=0.1, size_penalty=0,
                                             pretrain_epochs=epochs(all_steps - scale.steps, "soft-kmeans-p"),
                                             epochs=epochs(scale.steps, "soft-kmeans-p")),
        "ot": network | em | dict(epsilon=0.01, clustering_weight=0.1, epochs=epochs(all_steps, "ot")),
        "vade": stacked | em | dict(init="gmm-full", epochs=epochs(scale.steps)),
        "vade-held": stacked | em | dict(init="umap", held_epochs=epochs(scale.steps // 4), epochs=epochs(scale.steps)),
        "vade-narrow": stacked | em | dict(init="gmm-full", epochs=epochs(scale.steps), code_noise=0.1),
        "vade-unit": stacked | em | dict(init="gmm-full", epochs=epochs(scale.steps), likelihood="unit-gaussian"),
        "wamic": stacked | em | dict(likelihood="gaussian", init="gmm-full", critic_hidden=hidden, iterations=scale.wamic,
                                     warmup=scale.wamic // 2, encoder_epochs=epochs(scale.joint)) | (MOONS if dataset in KINDS["tables"] else {}),
        "ganmm": game,
        "sae+ganmm": game | dict(autoencoder=stacked),
        "hrwae-l1": dict(n_groups=1, clustering="gmm", epochs=epochs(scale.hrwae, "hrwae-l1"), attention_epochs=1),
    }
    return {m: {"n_clusters": source.n_classes, **params} for m, params in own.items() if not unfit(m, dataset)}


# --- Methods and experiments ------------------------------------------------------------------------

METHODS: dict[str, Method] = {}  # those of the papers' chapters


def _experiment(dataset: str) -> Experiment:
    given = {name: parameters(dataset, scale) for name, scale in SCALES.items()}
    profiles = {name: {"n_samples": SCALES[name].rows, **methods} for name, methods in given.items()}
    return Experiment("all", dataset, "every method, at the book's own scale", given["paper"], profiles, bare=True)


EXPERIMENTS = {f"all/{dataset}": _experiment(dataset) for dataset in SETS}

# --- Chapter ------------------------------------------------------------------------------------


class Parameters(ChapterParameters):
    """What ``notebooks/06_all_methods`` can be run with."""

    paper = "all"

    dataset: Literal[SETS] = Field("digits", description="the data set of the live runs")


CHAPTER = Chapter("06_all_methods", Parameters, records=("*",))
