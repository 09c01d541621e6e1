"""From a spec to a record: one run, or many in several processes."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from datetime import datetime, timezone
from pathlib import Path
from threading import Thread

import numpy as np
from filelock import FileLock
from tqdm.auto import tqdm

from .files import project_root, sha256, write_atomic
from .methods import METHODS
from .provenance import git_state, library_digest, peak_memory_mb, processor
from .records import Provenance, Record, RecordStore
from .specs import Spec

log = logging.getLogger("genclust")
Progress = Callable[[str, int], None]  # phase, epoch

N_CODES = 2000  # codes kept for the embedding figure
N_DRAWS = 10  # draws, and members, kept of every cluster
CURVE_DENSE, CURVE_EVERY = 10, 5  # accuracy after each of the first epochs, then after every fifth
MIXTURE_EPOCHS = (1, 2, 3, 5, 10, 15, 20, 30, 50, 75, 100)  # of the autoencoder; where AE+GMM's curve has points


def execute(spec: Spec, store: RecordStore, work: Path, *, force: bool = False, progress: Progress | None = None) -> Record:
    """The record of a spec: found in the store, or made by running it and written there in one step.

    ``work`` keeps the checkpoint of an unfinished run; a run that was killed goes on from there. Two
    runners on one spec are safe: the second waits and finds the first one's record.
    """
    work.mkdir(parents=True, exist_ok=True)
    with FileLock(work / f"{spec.stem}.lock"):
        found = None if force else store.get(spec)
        return found or _run(spec, store, work, progress)


def _run(spec: Spec, store: RecordStore, work: Path, progress: Progress | None) -> Record:
    import sklearn
    import torch

    from ..base import CheckpointError
    from ..datasets import load
    from ..metrics import scores
    from .replay import prefix

    began = time.monotonic()
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


# -- many runs -------------------------------------------------------------------------------------


def run_all(specs: Sequence[Spec], store: RecordStore, work: Path, *, workers: int = 1, force: bool = False) -> list[Record]:
    """The records of many specs, in order, with a progress bar for each run that is under way.

    With several workers each run has a process, and an equal share of the cores, to itself. The first
    failure is raised after the other runs have ended; what they recorded stays.
    """
    specs = list(specs)
    n_epochs = [sum(_epochs(s).values()) for s in specs]
    overall = tqdm(total=len(specs), desc="runs", unit="run", position=0)
    bars: dict[str, tqdm] = {}
    last: dict[str, tuple[str, int]] = {}

    def show(spec_id: str, phase: str, epoch: int) -> None:
        bar = bars.get(spec_id)
        if bar is None:
            i = next(i for i, s in enumerate(specs) if s.id == spec_id)
            bar = bars[spec_id] = tqdm(total=n_epochs[i], unit="epoch", leave=False, position=len(bars) + 1)
        before = last.get(spec_id, (phase, 0))
        done = epoch - before[1] if before[0] == phase else epoch
        last[spec_id] = (phase, epoch)
        spec = next(s for s in specs if s.id == spec_id)
        bar.set_description(f"{spec.experiment} {spec.method} s{spec.seed} {phase}")
        bar.update(done)

    records: dict[int, Record] = {}
    failures: list[tuple[Spec, BaseException]] = []
    try:
        if workers <= 1:
            for i, spec in enumerate(specs):
                try:
                    records[i] = execute(spec, store, work, force=force, progress=lambda p, e: show(spec.id, p, e))
                except Exception as error:
                    failures.append((spec, error))
                overall.update()
        else:
            context = multiprocessing.get_context("spawn")
            with context.Manager() as manager:
                queue = manager.Queue()
                listener = Thread(target=lambda: [show(*event) for event in iter(queue.get, None)], daemon=True)
                listener.start()
                threads = max(1, len(os.sched_getaffinity(0)) // workers)
                with ProcessPoolExecutor(workers, mp_context=context, initializer=_initialise, initargs=(threads,),
                                         max_tasks_per_child=1) as pool:
                    futures = {pool.submit(_in_worker, s, store.root, work, force, queue): i for i, s in enumerate(specs)}
                    for future in as_completed(futures):
                        i = futures[future]
                        try:
                            records[i] = future.result()
                        except Exception as error:
                            failures.append((specs[i], error))
                        overall.update()
                queue.put(None)
                listener.join()
    finally:
        for bar in (*bars.values(), overall):
            bar.close()
    if failures:
        text = "\n".join(f"  {spec}: {type(e).__name__}: {e}" for spec, e in failures)
        raise RuntimeError(f"{len(failures)} of {len(specs)} runs failed:\n{text}") from failures[0][1]
    return [records[i] for i in range(len(specs))]


def _initialise(threads: int) -> None:
    import torch
    torch.set_num_threads(threads)


def _in_worker(spec: Spec, root: Path, work: Path, force: bool, queue) -> Record:
    return execute(spec, RecordStore(root), work, force=force, progress=lambda p, e: queue.put((spec.id, p, e)))


def _epochs(spec: Spec) -> dict[str, int]:
    """Epochs of every phase of a spec, for the progress bar."""
    method = METHODS[spec.method]
    deep = method.deep(method.make(spec.seed, **spec.params)) if method.module else None
    if deep is None:
        return {}
    params = deep.get_params()
    layers = (len(params["hidden"]) + 1) * params["layer_epochs"] if params["pretraining"] == "stacked" else 0
    return {"layers": layers, "pretrain": params["pretrain_epochs"], "train": params.get("held_epochs", 0) + params.get("epochs", 0)}
