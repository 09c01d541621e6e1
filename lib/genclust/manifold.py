"""N2D (McConville et al., 2021): UMAP of an autoencoder's codes, and a Gaussian mixture on that."""

from __future__ import annotations

from numbers import Integral

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.mixture import GaussianMixture
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted, validate_data

from .autoencoder import POSITIVE, Autoencoder, EmbeddedClustering
from .reduction import check_umap, own_threads, umap_reducer


class UMAPEmbedding(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """UMAP (McInnes et al., 2018) with no minimum distance, as clustering wants it; needs the extra ``umap``.

    Parameters
    ----------
    n_components : dimensions of the embedding, at most those of X.
    n_neighbors : of the graph that is embedded, 2 or more; at most those that there are.
    random_state : seed; None draws anew.

    Attributes
    ----------
    umap_ : the fitted ``umap.UMAP``.
    """

    _parameter_constraints = {
        "n_components": [POSITIVE],
        "n_neighbors": [Interval(Integral, 2, None, closed="left")],
        "random_state": ["random_state"],
    }

    def __init__(self, n_components=10, *, n_neighbors=20, random_state=None):
        self.n_components = n_components
        self.n_neighbors = n_neighbors
        self.random_state = random_state

    def _check_size(self, n: int) -> None:
        if n < 3:
            raise ValueError(f"UMAP needs 3 rows or more, and there are {n}")

    def fit(self, X, y=None):
        """Embed X, (n, d)."""
        self.fit_transform(X)
        return self

    def fit_transform(self, X, y=None) -> np.ndarray:
        """The embedding of X, (n, d) -> (n, min(n_components, d)) float64."""
        self._validate_params()
        X = validate_data(self, X, dtype=np.float32, ensure_min_samples=3)
        self.umap_ = umap_reducer(*X.shape, self.random_state, n_components=self.n_components, n_neighbors=self.n_neighbors)
        with own_threads():
            points = np.asarray(self.umap_.fit_transform(X), dtype=np.float64)
        self._n_features_out = points.shape[1]
        return points

    def transform(self, X) -> np.ndarray:
        """Other rows placed among the fitted ones, which don't move; for the fitted X, whole and in its order, its own embedding.

        UMAP knows its own rows by the whole of X alone: a fitted row that is asked for without all the others is placed anew,
        near where it was.
        """
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float32, reset=False)
        with own_threads():
            return np.asarray(self.umap_.transform(X), dtype=np.float64)


class N2D(EmbeddedClustering):
    """A pipeline with UMAP in it: ImportError, before its first step is trained, where umap-learn is missing."""

    def _check(self, X) -> None:
        check_umap()
        super()._check(X)


def n2d(n_clusters: int, *, n_neighbors: int = 20, n_init: int = 10, random_state=None, **autoencoder) -> N2D:
    """The pipeline N2D: an :class:`Autoencoder`, UMAP of its codes into as many dimensions as clusters, then EM there
    with full covariances (best likelihood of ``n_init``).

    ``predict`` of the fitted X gives the labels of the fit. A fitted row that is asked for without all the others is placed
    anew by UMAP, and between two clusters it may change sides. A fit raises ImportError without umap-learn.
    """
    return N2D.of(
        Autoencoder(random_state=random_state, **autoencoder),
        UMAPEmbedding(n_clusters, n_neighbors=n_neighbors, random_state=random_state),
        GaussianMixture(n_clusters, n_init=n_init, max_iter=300, random_state=random_state))
