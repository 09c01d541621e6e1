"""From a spec to a record: one run, which can be killed at any moment and taken up again."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

from ..files import acquire, clear_half_written
from .files import project_root, sha256, write_atomic
from .methods import METHODS
from .provenance import git_state, library_digest, peak_memory_mb, processor, reset_peak_memory
from .records import Provenance, Record, RecordError, RecordStore
from .specs import Spec

log = logging.getLogger("genclust")
Progress = Callable[[str, int], None]  # phase, epoch

N_CODES = 2000  # codes kept for the embedding figure
N_DRAWS = 10  # draws, and members, kept of every cluster
CURVE_DENSE, CURVE_EVERY = 10, 5  # accuracy after each of the first epochs, then after every fifth
MIXTURE_EPOCHS = (1, 2, 3, 5, 10, 15, 20, 30, 50, 75, 100)  # of the autoencoder; where AE+GMM's curve has points


def execute(spec: Spec, store: RecordStore, work: Path, *, force: bool = False, same_code: bool = False,
            progress: Progress | None = None) -> Record:
    """The record of a spec: found in the store, or made by running it and written there in one step.

    ``work`` keeps the checkpoint of an unfinished run; a run that was killed goes on from there. Two
    runners on one spec are safe: the second waits and finds the first one's record. With ``same_code`` a
    record that other code made, or that can't be read, is made anew; ``force`` makes any anew.
    """
    with acquire(work / f"{spec.stem}.lock"):
        found = None if force else _reusable(spec, store) if same_code else store.get(spec)
        return found or _run(spec, store, work, progress)


def _reusable(spec: Spec, store: RecordStore) -> Record | None:
    """The record in a store that is only a cache: None where other code made it, or it can't be read."""
    try:
        found = store.get(spec)
    except RecordError as error:
        log.warning("%s; it is made anew", error)
        return None
    return found if found and found.provenance.library == library_digest(METHODS[spec.method].module) else None


def _run(spec: Spec, store: RecordStore, work: Path, progress: Progress | None) -> Record:
    import sklearn
    import torch

    from ..base import CheckpointError
    from ..datasets import load
    from ..metrics import scores
    from .replay import prefix

    began = time.monotonic()
    reset_peak_memory()  # this process may have made other records before
    clear_half_written(work / spec.stem)
    clear_half_written(store.path(spec).with_suffix(""))
    clock = _Clock(work / f"{spec.stem}.clock.json")
    checkpoint = work / f"{spec.stem}.safetensors"
    method = METHODS[spec.method]
    data = load(spec.dataset, n_samples=spec.n_samples)
    pretrained = work / "pretrained" / library_digest("autoencoder")
    follow = Follower(method, data.X, data.y, spec, progress, clock)

    def fit():
        estimator = method.make(spec.seed, **spec.params)
        follow.estimator = estimator
        return estimator.fit(data.X, **method.fit_options(callback=follow, checkpoint=checkpoint,
                                                              cache=pretrained))

    try:
        estimator = fit()
    except CheckpointError as error:
        log.warning("%s: starting this run over", error)
        checkpoint.rename(checkpoint.with_suffix(".damaged"))
        estimator = fit()
    labels = estimator.predict(data.X)
    deep = method.deep(estimator)
    commit, dirty = git_state()
    constraints = _constraints()
    record = Record(
        spec=spec,
        metrics={k: _plain(v) for k, v in scores(data.y, labels).items()},
        objective=method.objective(estimator, data.X),
        history=[{k: _plain(v) for k, v in h.items()} for h in (deep.history_ if deep is not None else [])],
        replay=prefix(spec, data.X),
        provenance=Provenance(
            library=library_digest(method.module), constraints=constraints, data=data.digest, git_commit=commit,
            git_dirty=dirty, device=str(deep.device_) if deep is not None else "cpu", processor=processor(),
            threads=torch.get_num_threads(), precision=deep.precision_ if deep is not None else "float32",
            python=".".join(map(str, __import__("sys").version_info[:3])), torch=torch.__version__,
            scikit_learn=sklearn.__version__, started=clock.started,
            wall_seconds=round(clock.before + time.monotonic() - began, 1), peak_memory_mb=peak_memory_mb(),
            resumed=clock.resumed))
    record = store.put(record, figure_arrays(estimator, deep, data, labels, spec))
    checkpoint.unlink(missing_ok=True)
    clock.path.unlink(missing_ok=True)
    return record


class _Clock:
    """Adds up the time of a run over interruptions."""

    def __init__(self, path: Path):
        self.path, self._began = path, time.monotonic()
        try:
            saved = json.loads(path.read_text())
        except (OSError, ValueError):
            saved = {"started": datetime.now(timezone.utc).isoformat(timespec="seconds"), "seconds": 0.0, "resumed": -1}
        self.started, self.before, self.resumed = saved["started"], saved["seconds"], saved["resumed"] + 1
        self.tick()

    def tick(self) -> None:
        seconds = self.before + time.monotonic() - self._began
        write_atomic(self.path, json.dumps({"started": self.started, "seconds": seconds, "resumed": self.resumed}))


class Follower:
    """The callback of a run: scores against the labels, which the estimator itself never sees."""

    def __init__(self, method, X, y, spec: Spec, progress: Progress | None, clock: _Clock):
        self.method, self.X, self.y, self.spec, self.progress, self.clock = method, X, y, spec, progress, clock
        self.estimator = None

    def __call__(self, deep, phase: str, epoch: int, logs: dict) -> None:
        if phase in ("held", "vade") and (epoch <= CURVE_DENSE or epoch % CURVE_EVERY == 0):
            logs["accuracy"] = self._accuracy(deep.predict(self.X))
        if phase == "autoencoder" and epoch in MIXTURE_EPOCHS:
            logs["accuracy"] = self._mixture_accuracy(deep.transform(self.X))
        self.clock.tick()
        if self.progress is not None:
            self.progress(phase, epoch)

    def _accuracy(self, labels: np.ndarray) -> float:
        from ..metrics import accuracy
        return accuracy(self.y, labels)

    def _mixture_accuracy(self, codes: np.ndarray) -> float:
        """A single EM on 10 000 of the codes, K the number of classes: AE+GMM's curve, at a cost that a curve may have.

        It does not depend on the spec's method or K, since all methods of a seed share one pretraining.
        """
        from sklearn.mixture import GaussianMixture
        some = np.random.default_rng(self.spec.seed).permutation(len(codes))[:10_000]
        em = GaussianMixture(len(np.unique(self.y)), random_state=self.spec.seed, reg_covar=1e-4)
        return self._accuracy(em.fit(codes[some]).predict(codes))


def figure_arrays(estimator, deep, data, labels: np.ndarray, spec: Spec) -> dict[str, np.ndarray]:
    """What the figures need of a fitted model, small: labels, codes, draws and members of every cluster."""
    rng = np.random.default_rng(spec.seed)
    n_clusters = spec.params["n_clusters"]
    arrays = {"labels": labels.astype(np.int16)}
    chosen = np.sort(rng.permutation(len(labels))[:N_CODES])
    if deep is not None:
        arrays |= {"code_rows": chosen.astype(np.int32), "codes": deep.transform(data.X[chosen]).astype(np.float32)}
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


def _plain(value):
    """A number as JSON has it, to seven digits; None for what is not finite."""
    if isinstance(value, str) or value is None:
        return value
    value = float(value)
    if not np.isfinite(value):
        return None
    return int(value) if value.is_integer() and abs(value) < 2**53 else float(f"{value:.7g}")


def _constraints() -> str:
    try:
        return sha256(project_root() / "constraints.txt")[:16]
    except OSError:
        return ""
