"""The catalogue: for each experiment its methods, and what each profile changes."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, get_args

from ..datasets import DATASETS, names
from .methods import METHODS
from .specs import Profile, Spec

PROFILES = get_args(Profile)


@dataclass(frozen=True)
class Experiment:
    """``methods[m]`` are the parameters at the paper's scale; ``profiles[p]`` what a smaller profile changes.

    A profile's ``"n_samples"`` is the size of the subset; its other entries are method names.
    """

    paper: str
    dataset: str
    about: str
    methods: dict[str, dict[str, Any]]
    profiles: dict[str, dict[str, Any]] = field(default_factory=dict)


# Section 4.2 of VaDE; what the paper leaves out (pretraining, initialisation) is discussed in its chapter.
_PRETRAINING = dict(layer_epochs=8, pretrain_epochs=20)
_VADE: dict[str, dict[str, Any]] = {
    "gmm": dict(n_init=3, covariance_type="diag", reg_covar=1e-3),
    "ae+gmm": dict(covariance_type="full", n_init=10, **_PRETRAINING),
    "vade": dict(epochs=150, init="gmm-full", n_init=10, **_PRETRAINING),
    "vade-umap": dict(epochs=150, init="umap", n_init=10, **_PRETRAINING),
    "vade-held": dict(epochs=150, init="umap", n_init=10, held_epochs=10, **_PRETRAINING),
}
_VADE_PROFILES: dict[str, dict[str, Any]] = {
    "quick": {
        "n_samples": 20_000,
        "gmm": dict(n_init=1),
        "ae+gmm": dict(layer_epochs=4, pretrain_epochs=10, n_init=3),
        "vade": dict(layer_epochs=4, pretrain_epochs=10, n_init=3, epochs=15),
        "vade-umap": dict(layer_epochs=4, pretrain_epochs=10, n_init=3, epochs=15),
        "vade-held": dict(layer_epochs=4, pretrain_epochs=10, n_init=3, epochs=15, held_epochs=5),
    },
    "smoke": {
        "n_samples": 1000,
        "gmm": dict(n_init=1, max_iter=10),
        "ae+gmm": dict(hidden=[64, 32], layer_epochs=1, pretrain_epochs=2, n_init=1),
        "vade": dict(hidden=[64, 32], layer_epochs=1, pretrain_epochs=2, n_init=1, epochs=2),
        "vade-umap": dict(hidden=[64, 32], layer_epochs=1, pretrain_epochs=2, n_init=1, epochs=2),
        "vade-held": dict(hidden=[64, 32], layer_epochs=1, pretrain_epochs=2, n_init=1, epochs=2, held_epochs=2),
    },
}


def _vade(dataset: str, n_clusters: int, about: str, methods: Iterable[str] = tuple(_VADE), **params: Any) -> Experiment:
    return Experiment("vade", dataset, about, {m: {"n_clusters": n_clusters, **_VADE[m], **params} for m in methods},
                      _VADE_PROFILES)


_CLASSES = {"three_moons": 3}
EXPERIMENTS = {f"vade/{d}": _vade(d, _CLASSES.get(d, 10), "Table 2, and Figures 2 to 4") for d in names()}
# The paper does not say how long Figure 5's runs were: 50 epochs are our choice, made for their cost.
EXPERIMENTS |= {f"vade/mnist-k{k}": _vade("mnist", k, f"Figure 5, K = {k}", ["vade", "vade-umap"], epochs=50) for k in (7, 14)}


def _subset(dataset: str, n_samples: int | None) -> int | None:
    """None where a subset would be the whole set or more."""
    return None if n_samples is None or n_samples >= DATASETS[dataset].n else n_samples


def unknown(what: str, name: str, known: Iterable[str]) -> ValueError:
    """An error that names near matches first and everything that is accepted after them."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    return ValueError(f"unknown {what} {name!r}.{hint} Known: {', '.join(known)}")


def make_specs(experiment: str, *, profile: str = "quick", methods: Iterable[str] | None = None,
               seeds: Iterable[int] = (0,), n_samples: int | None = None, **overrides: Any) -> list[Spec]:
    """The specs of an experiment, methods first and seeds within them.

    ``overrides`` replace parameters (``n_clusters=14``, ``epochs=5``) of every method that has them.
    ValueError for an unknown experiment, profile or method, or an override that no method has.
    """
    if experiment not in EXPERIMENTS:
        raise unknown("experiment", experiment, EXPERIMENTS)
    if profile not in PROFILES:
        raise unknown("profile", profile, PROFILES)
    e = EXPERIMENTS[experiment]
    chosen = list(methods) if methods else list(e.methods)
    for method in chosen:
        if method not in e.methods:
            raise unknown("method", method, e.methods)
    change = e.profiles.get(profile, {})
    params = {m: {**e.methods[m], **change.get(m, {})} for m in chosen}
    for key, value in overrides.items():
        having = ([m for m in chosen if key in params[m]]
                  or [m for m in chosen if key in METHODS[m].parameters()])  # this one has to import the method
        if not having:
            raise unknown("parameter", key, {k for m in chosen for k in (*params[m], *METHODS[m].parameters())})
        for m in having:
            params[m][key] = value
    return [Spec(paper=e.paper, experiment=experiment, method=m, dataset=e.dataset, profile=profile, seed=seed,
                 n_samples=_subset(e.dataset, n_samples or change.get("n_samples")), params=params[m])
            for m in chosen for seed in seeds]


def recompute(spec: Spec) -> str:
    """The command that runs a spec again."""
    words = f"genclust run {spec.experiment} --profile {spec.profile} --method {spec.method} --seeds {spec.seed} --force"
    usual = make_specs(spec.experiment, profile=spec.profile, methods=[spec.method], seeds=[spec.seed])[0]
    words += "".join(f" -p {key}={json.dumps(value)}" for key, value in spec.params.items()
                     if usual.params.get(key) != value)
    return words + (f" --n-samples {spec.n_samples}" if spec.n_samples != usual.n_samples else "")
