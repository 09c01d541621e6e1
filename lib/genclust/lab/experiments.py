"""From an experiment's name to its specs, and from a spec to the command that runs it again."""

from __future__ import annotations

import difflib
import json
import shlex
from collections.abc import Iterable
from typing import Any, get_args

from ..datasets import DATASETS
from .papers import EXPERIMENTS, METHODS
from .specs import Profile, Spec

PROFILES = get_args(Profile)


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
    ValueError for an unknown experiment, profile or method, an override that no method has, or more rows than there are.
    """
    if experiment not in EXPERIMENTS:
        raise unknown("experiment", experiment, EXPERIMENTS)
    if profile not in PROFILES:
        raise unknown("profile", profile, PROFILES)
    e = EXPERIMENTS[experiment]
    n = DATASETS[e.dataset].n
    if n_samples is not None and not 1 <= n_samples <= n:
        raise ValueError(f"n_samples is {n_samples}, but {e.dataset} has {n} rows")
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
        without = [m for m in having if key.endswith("epochs") and value and params[m].get(key) == 0]  # AE + k-means is not trained further
        if without and without == having:
            raise ValueError(f"{key}={value!r}: {', '.join(without)} of {experiment} has no such epochs")
        for m in having:
            if m not in without:
                params[m][key] = value
    specs = [Spec(paper=e.paper, experiment=experiment, method=m, dataset=e.dataset, profile=profile, seed=seed,
                  n_samples=_subset(e.dataset, n_samples or change.get("n_samples")),
                  params=params[m] | {key: value for key, value in point.items() if key not in overrides})
             for point in e.grid for m in chosen for seed in seeds]
    return list({spec.id: spec for spec in specs}.values())  # an override of what is varied leaves one point of it


def recompute(spec: Spec) -> str:
    """The command that runs a spec again."""
    return recompute_all([spec])[0]


def recompute_all(specs: Iterable[Spec]) -> list[str]:
    """The commands that run specs again: one for all that differ in their seeds, or in their methods, alone."""
    seeds: dict[tuple[str, ...], list[int]] = {}
    for spec in specs:
        seeds.setdefault((spec.experiment, spec.profile, changes(spec), spec.method), []).append(spec.seed)
    methods: dict[tuple[str, ...], list[str]] = {}
    for (*rest, method), found in seeds.items():
        methods.setdefault((*rest, _span(found)), []).append(method)
    return [f"genclust run {experiment} --profile {profile} {' '.join(f'--method {m}' for m in found)} --seeds {span} --force{changes}"
            for (experiment, profile, changes, span), found in methods.items()]


def changes(spec: Spec) -> str:
    """The options that make a spec differ from what its experiment has in its profile."""
    usual = make_specs(spec.experiment, profile=spec.profile, methods=[spec.method], seeds=[spec.seed])[0]
    varied = {key for point in EXPERIMENTS[spec.experiment].grid for key in point}
    words = "".join(" -p " + shlex.quote(f"{key}={json.dumps(value)}") for key, value in spec.params.items()
                    if usual.params.get(key) != value or key in varied)
    return words + (f" --n-samples {spec.n_samples or DATASETS[spec.dataset].n}" if spec.n_samples != usual.n_samples else "")


def _span(seeds: list[int]) -> str:
    """Seeds as the command line takes them: "3", "0:3" or "0,2"."""
    seeds = sorted(seeds)
    whole = len(seeds) > 1 and seeds == list(range(seeds[0], seeds[-1] + 1))
    return f"{seeds[0]}:{seeds[-1] + 1}" if whole else ",".join(map(str, seeds))
