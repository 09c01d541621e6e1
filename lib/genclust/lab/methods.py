"""The methods that specs can name: how each is built, followed and judged without labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Method:
    """``make(seed, **params)`` builds the estimator; ``objective(estimator, X)`` is what restarts are picked by.

    ``module`` holds the method's code in genclust, None where scikit-learn has it all. ``step`` is the
    name of the deep estimator inside a pipeline ("" where the estimator is deep itself).
    """

    title: str
    make: Callable[..., Any]
    objective: Callable[[Any, Any], float]
    module: str | None = None
    step: str = ""

    def deep(self, estimator):
        """The deep part of an estimator, or None."""
        if self.module is None:
            return None
        return estimator.named_steps[self.step] if self.step else estimator

    def parameters(self) -> set[str]:
        """Names of the deep part's parameters that a spec may set."""
        deep = self.deep(self.make(0, n_clusters=2))
        return set(deep.get_params()) - {"random_state", "verbose", "device"} if deep is not None else set()

    def fit_options(self, **options) -> dict:
        """Keyword arguments for ``fit`` that reach the deep part."""
        prefix = f"{self.step}__" if self.step else ""
        return {prefix + key: value for key, value in options.items()} if self.module else {}


def _gmm(seed: int, **params):
    from sklearn.mixture import GaussianMixture
    params.setdefault("covariance_type", "diag")
    return GaussianMixture(params.pop("n_clusters"), random_state=seed, **params)


def _kmeans(seed: int, **params):
    from sklearn.cluster import KMeans
    return KMeans(params.pop("n_clusters"), random_state=seed, **params)


def _ae_gmm(seed: int, **params):
    from ..autoencoder import autoencoder_gmm
    return autoencoder_gmm(random_state=seed, **params)


def _vade(seed: int, **params):
    from ..vade import VaDE
    return VaDE(random_state=seed, **params)


METHODS = {
    "kmeans": Method("k-means", _kmeans, lambda m, X: -float(m.inertia_)),
    "gmm": Method("GMM", _gmm, lambda m, X: float(m.lower_bound_)),
    "ae+gmm": Method("AE+GMM", _ae_gmm, lambda m, X: float(m[-1].lower_bound_), "autoencoder", "autoencoder"),
    "vade": Method("VaDE", _vade, lambda m, X: float(m.objective_), "vade"),
}
# The same estimator under other names, so that a table can hold every start.
METHODS["vade-umap"] = replace(METHODS["vade"], title="VaDE, UMAP start")
METHODS["vade-held"] = replace(METHODS["vade"], title="VaDE, UMAP start held")
