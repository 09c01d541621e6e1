"""Arrays that are kept of a run, small, for the figures of the chapters."""

from __future__ import annotations

import numpy as np

N_CODES = 2000  # codes kept for the embedding figure
N_DRAWS = 10  # draws, and members, kept of every cluster


def figure_arrays(estimator, deep, data, labels: np.ndarray, spec) -> dict[str, np.ndarray]:
    """Labels, and where the model has them codes, members and draws of every cluster."""
    rng = np.random.default_rng(spec.seed)
    n_clusters = spec.params["n_clusters"]
    arrays = {"labels": labels.astype(np.int16)}
    chosen = np.sort(rng.permutation(len(labels))[:N_CODES])
    if deep is not None:
        codes = deep.transform(entering(estimator, deep, data.X[chosen]))
        arrays |= {"code_rows": chosen.astype(np.int32), "codes": codes.astype(np.float32)}
    members = np.full((n_clusters, N_DRAWS), -1, dtype=np.int32)
    for c in range(n_clusters):
        rows = rng.permutation(np.flatnonzero(labels == c))[:N_DRAWS]
        members[c, : len(rows)] = rows
    arrays["members"] = members
    if data.image_shape is not None and hasattr(estimator, "sample"):
        if deep is None:  # scikit-learn's mixture draws all clusters at once: draw until each has enough
            draws, of = estimator.sample(200 * n_clusters)
            draws = np.stack([np.resize(draws[of == c], (N_DRAWS, draws.shape[1])) if (of == c).any()
                              else np.zeros((N_DRAWS, draws.shape[1])) for c in range(n_clusters)])
        else:
            draws = np.stack([deep.sample(N_DRAWS, cluster=c, random_state=spec.seed + c)[0] for c in range(n_clusters)])
        arrays["draws"] = (np.clip(draws, 0, 1) * 255).round().astype(np.uint8)
    return arrays


def entering(estimator, deep, X: np.ndarray) -> np.ndarray:
    """Rows as the deep step of a fitted pipeline gets them, after the steps before it; as they are where it is alone."""
    for _, step in getattr(estimator, "steps", ()):
        if step is deep:
            break
        X = step.transform(X)
    return X


def labels_only(estimator, deep, data, labels: np.ndarray, spec) -> dict[str, np.ndarray]:
    """The labels alone, for runs of which only the scores are shown."""
    return {"labels": labels.astype(np.int16)}
