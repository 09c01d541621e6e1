"""UMAP (McInnes et al., 2018), as every method here uses it: one thread, compiled once for all processes."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec

import torch


NO_UMAP = "UMAP needs umap-learn: pip install 'genclust[umap]'"


def check_umap() -> None:
    """ImportError where umap-learn is not there: said before a training that leads to it."""
    if find_spec("umap") is None:
        raise ImportError(NO_UMAP)


@cache
def _keep_what_is_compiled() -> None:
    """Numba is told to keep UMAP's compiled code on disk, for the processes to come.

    Of its own accord UMAP is compiled anew in every process, for 10 to 30 seconds: longer than it then takes to embed
    thousands of rows.
    """
    from numba.core.dispatcher import Dispatcher
    for name in [name for name in sys.modules if name.split(".")[0] in ("umap", "pynndescent")]:
        for function in vars(sys.modules[name]).values():
            if isinstance(function, Dispatcher) and function.py_func.__module__ == name:
                try:
                    function.enable_caching()
                except RuntimeError:  # nowhere to write to: then it is compiled as ever
                    return


@contextmanager
def own_threads() -> Iterator[None]:
    """Around all that UMAP does. Numba sets OpenMP's number of threads, which is torch's too: put back afterwards."""
    threads = torch.get_num_threads()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Cannot cache compiled function")  # two of them hold pointers; no matter
            yield
    finally:
        torch.set_num_threads(threads)


def umap_reducer(n: int, d: int, random_state, *, n_components: int = 10, n_neighbors: int = 20, **options):
    """``umap.UMAP`` for n rows of d features: no minimum distance, one thread, so that a seed repeats it, no more
    neighbours or dimensions than there are. ImportError without umap-learn."""
    check_umap()
    from umap import UMAP
    _keep_what_is_compiled()
    return UMAP(n_neighbors=min(n_neighbors, n - 1), n_components=min(n_components, d, n - 1), min_dist=0.0,
                random_state=random_state, n_jobs=1, init="pca" if n < 50 else "spectral", **options)
