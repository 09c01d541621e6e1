"""From a spec to a record: one run, which can be killed at any moment and taken up again."""

from __future__ import annotations

import json
import logging
import platform
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

from ..files import acquire, check_writable, clear_half_written
from .figures import labels_only
from .files import project_root, sha256, write_atomic
from .papers import METHODS, is_bare
from .provenance import git_state, library_digest, peak_memory_mb, processor, reset_peak_memory
from .records import Provenance, Record, RecordError, RecordStore
from .specs import Spec

log = logging.getLogger("genclust")
Progress = Callable[[str, int], None]  # phase, epoch


def execute(spec: Spec, store: RecordStore, work: Path, *, force: bool = False, same_code: bool = False,
            progress: Progress | None = None) -> Record:
    """The record of a spec: found in the store, or made by running it and written there in one step.

    ``work`` keeps the checkpoints of an unfinished run; a run that was killed goes on from there. Two
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

    from ..base import CheckpointError, Diverged
    from ..datasets import load
    from ..metrics import scores
    from .replay import prefix

    check_writable(store.path(spec))  # not only once the fit is done
    began = time.monotonic()
    reset_peak_memory()  # this process may have made other records before
    clear_half_written(work / spec.stem)
    clear_half_written(store.path(spec).with_suffix(""))
    clock = _Clock(work / f"{spec.stem}.clock.json")
    checkpoint, saved = work / f"{spec.stem}.safetensors", f"{spec.stem}*.safetensors"  # one, and all that there may be
    method = METHODS[spec.method]
    data = load(spec.dataset, n_samples=spec.n_samples)
    pretrained = work / "pretrained" / library_digest("autoencoder")
    if is_bare(spec.experiment):
        method, pretrained = replace(method, follow=None, measure=None, keep=labels_only), None
    follow = Follower(method, data, spec, progress, clock)

    def fit():
        estimator = method.make(spec.seed, **spec.params)
        given = (data.X, data.y) if method.supervised else (data.X,)
        try:
            estimator.fit(*given, **method.fit_options(callback=follow, checkpoint=checkpoint, cache=pretrained))
        except Diverged as error:  # a result too: the record holds the last finite state, and says so
            log.warning("%s: %s", spec, error)
            return estimator, {"diverged": error.iteration}
        return estimator, {}

    try:
        estimator, ended = fit()
    except CheckpointError as error:
        log.warning("%s: starting this run over", error)
        for file in work.glob(saved):
            file.rename(file.with_suffix(".damaged"))
        estimator, ended = fit()
    except ValueError:  # refused before any work: nothing is unfinished
        if not any(work.glob(saved)):
            clock.path.unlink(missing_ok=True)
        raise
    labels = data.y if method.supervised else method.labels(estimator, data.X)
    scored = {} if method.supervised else scores(data.y, labels)
    deep = method.deep(estimator)
    measured = ended | (method.measure(estimator, data) if method.measure is not None else {})
    commit, dirty = git_state()
    constraints = _constraints()
    record = Record(
        spec=spec,
        metrics={k: _plain(v) for k, v in (scored | measured).items()},
        objective=method.objective(estimator, data.X),
        history=[{k: _plain(v) for k, v in h.items()} for h in (deep.history_ if deep is not None else [])],
        replay=prefix(spec, data.X, data.y),
        provenance=Provenance(
            library=library_digest(method.module), constraints=constraints, data=data.digest, git_commit=commit,
            git_dirty=dirty, device=str(deep.device_) if deep is not None else "cpu", processor=processor(),
            threads=deep.threads_ if deep is not None else torch.get_num_threads(), precision=deep.precision_ if deep is not None else "float32",
            python=platform.python_version(), torch=torch.__version__,
            scikit_learn=sklearn.__version__, started=clock.started,
            wall_seconds=round(clock.before + time.monotonic() - began, 1), peak_memory_mb=peak_memory_mb(),
            resumed=clock.resumed))
    record = store.put(record, method.keep(estimator, deep, data, labels, spec))
    for file in work.glob(saved):
        file.unlink()
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
    """The callback of a run: keeps its clock, shows its progress, and adds what the method's ``follow`` measures."""

    def __init__(self, method, data, spec: Spec, progress: Progress | None, clock: _Clock):
        self.method, self.data, self.spec, self.progress, self.clock = method, data, spec, progress, clock

    def __call__(self, deep, phase: str, epoch: int, logs: dict) -> None:
        if self.method.follow is not None:
            logs.update(self.method.follow(deep, phase, epoch, self.data, self.spec))
        self.clock.tick()
        if self.progress is not None:
            self.progress(phase, epoch)


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
