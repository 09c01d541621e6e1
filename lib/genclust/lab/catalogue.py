"""What a paper's module in :mod:`genclust.lab.papers` is made of: methods, experiments, a chapter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from ..datasets import DATASETS, names
from .figures import figure_arrays


@dataclass(frozen=True)
class Method:
    """A method that specs can name: how it is built, followed, and judged without labels.

    ``make(seed, **params)`` builds the estimator; ``objective(estimator, X)`` is what restarts are picked by.
    ``module`` holds the method's code in genclust, None where scikit-learn has it all. ``step`` is the
    name of the deep estimator inside a pipeline ("" where the estimator is deep itself), ``embedding`` that of an
    autoencoder before it, which has a checkpoint of its own.

    ``labels(estimator, X)`` are those that are scored, on the rows of the fit; only where prediction need not repeat them
    is it other than ``predict``.

    ``chaotic`` says that what follows the deep part, UMAP, ends elsewhere on another processor: a replay leaves it out.

    A ``supervised`` one is given the labels, and predicts none: its records hold what ``measure`` gives and no scores.

    ``follow(deep, phase, epoch, data, spec)`` gives what a run's history gets after an epoch, of the deep part or of the
    embedding, beside the estimator's own figures; ``measure(estimator, data)`` what its metrics get beside the scores;
    ``keep(estimator, deep, data, labels, spec)`` the arrays that the figures need. All three may look at
    labels: the estimator never sees what they return.
    """

    title: str
    make: Callable[..., Any]
    objective: Callable[[Any, Any], float]
    module: str | None = None
    step: str = ""
    embedding: str = ""
    supervised: bool = False
    chaotic: bool = False
    follow: Callable[..., dict[str, float]] | None = None
    measure: Callable[..., dict[str, float]] | None = None
    keep: Callable[..., dict[str, Any]] = figure_arrays
    labels: Callable[[Any, Any], Any] = lambda m, X: m.predict(X)

    def deep(self, estimator):
        """The deep part of an estimator, or None."""
        if self.module is None:
            return None
        return estimator.named_steps[self.step] if self.step else estimator

    def parameters(self) -> set[str]:
        """Names of the deep part's parameters that a spec may set."""
        deep = self.deep(self.make(0, n_clusters=2))
        return set(deep.get_params()) - {"random_state", "verbose", "device"} if deep is not None else set()

    def planned_epochs(self, estimator) -> dict[str, int]:
        """The phases of a fit, an embedding's first, and the epochs of each."""
        parts = [estimator.named_steps[self.embedding]] if self.embedding else []
        return {phase: epochs for part in (*parts, self.deep(estimator)) for phase, epochs in part.planned_epochs().items()}

    def fit_options(self, **options) -> dict:
        """Keyword arguments for ``fit`` that reach the deep part, and an embedding before it."""
        if self.module is None:
            return {}
        prefix = f"{self.step}__" if self.step else ""
        found = {prefix + key: value for key, value in options.items()}
        if self.embedding:
            if options.get("checkpoint"):
                options["checkpoint"] = options["checkpoint"].with_suffix(".embedding.safetensors")
            found |= {f"{self.embedding}__{key}": value for key, value in options.items()}
        return found


def _gmm(seed: int, **params):
    from sklearn.mixture import GaussianMixture
    params.setdefault("covariance_type", "diag")
    return GaussianMixture(params.pop("n_clusters"), random_state=seed, **params)


def _kmeans(seed: int, **params):
    from sklearn.cluster import KMeans
    return KMeans(params.pop("n_clusters"), random_state=seed, **params)


BASELINES = {
    "kmeans": Method("k-means", _kmeans, lambda m, X: -float(m.inertia_)),
    "gmm": Method("GMM", _gmm, lambda m, X: float(m.lower_bound_)),
}


@dataclass(frozen=True)
class Experiment:
    """``methods[m]`` are the parameters at the paper's scale; ``profiles[p]`` what a smaller profile changes.

    A profile's ``"n_samples"`` is the size of the subset; its other entries are method names. ``grid`` holds what is
    varied: every method is run at every point of it. ``bare`` runs keep their labels and scores alone, and pretrain
    for themselves: what is timed is the method.
    """

    paper: str
    dataset: str
    about: str
    methods: dict[str, dict[str, Any]]
    profiles: dict[str, dict[str, Any]] = field(default_factory=dict)
    grid: tuple[dict[str, Any], ...] = ({},)
    bare: bool = False


class PageParameters(BaseModel):
    """What every notebook can be run with. A subclass names its ``paper`` and adds parameters."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
    paper: ClassVar[str]

    profile: Literal["smoke", "quick", "paper"] = Field("quick", description="the scale of the live runs")

    def misfits(self) -> dict[str, str]:
        """Which parameters can't be what they are, though of their type, and why."""
        return {}


class ChapterParameters(PageParameters):
    """What every chapter can be run with. None means: as the profile has it.

    Parameters that are set replace the methods' own of the same name in the live runs.
    """

    dataset: Literal[tuple(names())] = Field("mnist", description="the data set of the live runs")
    n_clusters: int | None = Field(None, ge=2, le=1000, description="K of the live runs; None: the number of classes")
    seed: int = Field(0, ge=0, lt=2**31, description="seed of the live runs")
    epochs: int | None = Field(None, ge=1, le=100_000, description="epochs of the live runs")
    n_samples: int | None = Field(None, ge=100, description="rows of the live runs")

    def misfits(self) -> dict[str, str]:
        """Which parameters ask for more than the data set has, and what it has."""
        n = DATASETS[self.dataset].n
        rows = min(self.n_samples or n, n)
        return {name: f"{self.dataset} has {n} rows" if name == "n_samples" else f"there are {rows} rows"
                for name, most in (("n_samples", n), ("n_clusters", rows)) if (getattr(self, name) or 0) > most}

    def overrides(self) -> dict[str, Any]:
        """The methods' parameters that are set here."""
        return {key: value for key, value in self if value is not None and key not in ("profile", "dataset", "seed", "n_samples")}


@dataclass(frozen=True)
class Chapter:
    """A notebook, the parameters that it accepts, and the papers whose records it shows (patterns; none: its own's)."""

    notebook: str
    parameters: type[PageParameters]
    records: tuple[str, ...] = ()

    @property
    def paper(self) -> str:
        """Whose records and claims it shows."""
        return self.parameters.paper
