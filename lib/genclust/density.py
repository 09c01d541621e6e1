"""The clustering box of HRWAE-GAN (section 3.2): UMAP, then HDBSCAN, which leaves points out as noise."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
from sklearn.neighbors import NearestNeighbors

from .reduction import check_umap, own_threads, umap_reducer

NO_HDBSCAN = "this clustering needs hdbscan: pip install 'genclust[umap]'"

DIVISOR, MOST_NEIGHBOURS = 300, 100  # equation 8
FEWEST_NEIGHBOURS = 15  # UMAP's own default, for data sets so small that equation 8 has fewer
DIMENSIONS, EPOCHS = 10, 200  # UMAP's default is 200 for more than 10 000 rows, 500 for fewer


def check_installed(with_hdbscan: bool) -> None:
    """ImportError where umap-learn, or hdbscan if that will be used, is not there: said before a training that leads to them."""
    check_umap()
    if with_hdbscan and find_spec("hdbscan") is None:
        raise ImportError(NO_HDBSCAN)


def n_neighbors(n_samples: int) -> int:
    """Equation 8, min(n // 300, 100), but never under UMAP's own 15."""
    return max(min(n_samples // DIVISOR, MOST_NEIGHBOURS), FEWEST_NEIGHBOURS)


def umap(codes: np.ndarray, neighbours: int, random_state: int):
    """A fitted UMAP of codes (n, d) to min(10, d) dimensions without minimum distance; see its ``embedding_``.

    ValueError where there are no more rows than neighbours. On one thread, so that a seed repeats it.
    """
    n, d = codes.shape
    if n <= neighbours:
        raise ValueError(f"UMAP looks at {neighbours} neighbours of each row, and there are only {n} rows: "
                         f"give it more rows, or set n_neighbors to {n - 1} or less")
    with own_threads():
        return umap_reducer(n, d, random_state, n_components=DIMENSIONS, n_neighbors=neighbours, n_epochs=EPOCHS).fit(codes)


def hdbscan(points: np.ndarray, min_cluster_size: int, min_samples: int, selection: str = "leaf"):
    """A fitted HDBSCAN of points (n, d); its ``labels_`` are (n,), -1 for noise.

    ``min_samples`` is the number of neighbours that a density is judged by. ``selection`` is ``"leaf"``, the finest
    clusters of the hierarchy, or ``"eom"``, the most persistent ones. hdbscan leaves the order of equal distances to numpy's
    sort, which differs between processors: on another kind a few points may be labelled otherwise.
    """
    try:
        from hdbscan import HDBSCAN
    except ImportError:
        raise ImportError(NO_HDBSCAN) from None
    n = len(points)
    return HDBSCAN(min_cluster_size=max(2, min(min_cluster_size, n)), min_samples=min(min_samples, n - 1), core_dist_n_jobs=1,
                   cluster_selection_method=selection, prediction_data=True).fit(np.asarray(points, dtype=np.float64))


def nearest_cluster(points: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Labels (n,) in which noise has joined the cluster of the nearest point that is none; as given if all is noise."""
    noise = labels == -1
    if noise.all() or not noise.any():
        return labels
    index = NearestNeighbors(n_neighbors=1).fit(points[~noise])
    filled = labels.copy()
    filled[noise] = labels[~noise][index.kneighbors(points[noise], return_distance=False)[:, 0]]
    return filled
