"""Replay: the first optimizer steps of every phase of a run, recomputed with today's code.

A digest would call every record stale after every comment. Losses say what matters: whether
today's code, given the same spec, still computes what the record says. A replay is the spec itself
on the first rows of its data, cut to a few steps a phase, in float32 on one thread of the CPU, so
that it takes seconds.

Nearly all losses are the same on every processor, to some digits. Not those behind a step that jumps: k-means, EM or
UMAP may end elsewhere for the last digit of one row, a row may go to another cluster, a gradient that is nothing but
rounding becomes a step of Adam's. Which losses these are a replay can find out by itself: they part from themselves, too,
when the last digits of the data change.
"""

from __future__ import annotations

import json
import logging
import math
import multiprocessing
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from joblib import cpu_count

from ..datasets import DATASETS
from .files import sha256, write_atomic
from .papers import METHODS, is_bare
from .provenance import LIBRARY
from .records import RecordError, RecordStore
from .specs import Spec

log = logging.getLogger("genclust")
ROWS, FEW_ROWS = 1024, 256  # the second for experiments of hundreds of bare runs
STEPS = 5
NOTES = "build/replays.json"  # outcomes that the book shows
RTOL = 1e-4  # float32 sums in another order, on another processor, stay inside; a changed loss does not
ATOL = 1e-5  # that of a critic is a difference of two means, and near zero itself: there it is off by up to 4e-6
LAST_DIGITS = 1e-6  # of the data's entries: by at most so much they change, relatively
DRAWS, SHARE = 8, 0.1  # so many such changes are tried; one that moves a loss by this share of a gap explains the gap


class ReplayError(AssertionError):
    """Today's code parts from a record."""


def prefix(spec: Spec, X: np.ndarray, y: np.ndarray | None = None) -> dict[str, list[float]]:
    """Losses of the first steps of every phase; for a method without steps, its first objective. Labels are for
    supervised methods alone."""
    method = METHODS[spec.method]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        n = FEW_ROWS if is_bare(spec.experiment) else ROWS
        rows = np.ascontiguousarray(X[:n])
        estimator = method.make(spec.seed, **spec.params)
        deep = method.deep(estimator)
        if deep is None:
            estimator.set_params(n_init=1, max_iter=STEPS)
            return {"objective": [method.objective(estimator.fit(rows), rows)]}
        plain = dict(device="cpu", precision="float32", n_restarts=1, verbose=0)
        for part in [deep, estimator[method.embedding]] if method.embedding else [deep]:
            part.set_params(**{key: value for key, value in plain.items() if key in part.get_params()})
        for part in {id(deep): deep, id(estimator): estimator}.values():
            for key in part.get_params():
                if key.rpartition("__")[2] == "n_init":
                    part.set_params(**{key: 1})
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*clusters have no rows")  # after so few steps that says nothing
            estimator.fit(rows, *([y[:n]] if method.supervised else []), **method.fit_options(max_steps=STEPS))
        losses = {phase: list(values) for phase, values in deep.step_losses_.items()}
        if estimator is not deep and not method.chaotic:
            losses["objective"] = [method.objective(estimator, rows)]
        return losses
    finally:
        torch.set_num_threads(threads)


class Gap(NamedTuple):
    """A loss that is not the recorded one; ``step`` counts from 0."""

    phase: str
    step: int
    then: float
    now: float

    def __str__(self) -> str:
        return f"phase {self.phase!r}, step {self.step + 1}: recorded {self.then:.8g}, today {self.now:.8g}"


def gaps(recorded: dict[str, list[float]], replayed: dict[str, list[float]], what: str) -> list[Gap]:
    """Where two prefixes part. ReplayError for other phases, or another number of steps."""
    if recorded.keys() != replayed.keys():
        raise ReplayError(f"{what}: its phases were {sorted(recorded)}, today's are {sorted(replayed)}")
    for phase, losses in recorded.items():
        if len(losses) != len(replayed[phase]):
            raise ReplayError(f"{what}: phase {phase!r} had {len(losses)} steps, today's has {len(replayed[phase])}")
    return [Gap(phase, step, then, now) for phase, losses in recorded.items() for step, (then, now) in enumerate(zip(losses, replayed[phase]))
            if not math.isclose(then, now, rel_tol=RTOL, abs_tol=ATOL)]


def unsettled(found: list[Gap], spec: Spec, X: np.ndarray, y: np.ndarray | None = None) -> bool:
    """Whether each gap is of a loss that a change in the last digits of the data moves, too, by a like amount."""
    rows, left = X[:ROWS], list(found)
    for seed in range(DRAWS):
        moved = rows * (1 - LAST_DIGITS * np.random.default_rng(seed).random(rows.shape))  # towards 0: stays in its range
        again = prefix(spec, moved.astype(rows.dtype), y)
        left = [gap for gap in left if not abs(again[gap.phase][gap.step] - gap.now) >= SHARE * abs(gap.then - gap.now)]
        if not left:
            return True
    return False


@dataclass(frozen=True)
class Outcome:
    """Whether a record is whole and replays, None where its data can't be had; ``what`` is its spec, or what is wrong.

    ``unsettled`` is the first loss that differs and that a change in the last digits of the data moves as well.
    """

    stem: str
    same: bool | None
    what: str
    unsettled: str = ""


@lru_cache(maxsize=1)
def _data(dataset: str, n_samples: int | None):
    """The rows of a spec, None where they can't be had. Records in a row share them, and a search for them in vain."""
    from ..datasets import DataUnavailable, load
    try:
        return load(dataset, n_samples=n_samples)
    except DataUnavailable as error:
        log.warning("%s: its records can't be replayed here. %s", dataset, error)
        return None


def verify(path: Path, root: Path) -> Outcome:
    """Checks the record in a file: digests, schema, arrays, and the replay of its first steps."""
    store = RecordStore(root)
    try:
        record = store.read(path)
        if record.arrays is not None:
            store.arrays(record)
        data = _data(record.spec.dataset, record.spec.n_samples)
        if data is None:
            return Outcome(path.stem, None, f"{record.spec}: its data are not here (genclust data fetch {record.spec.dataset}, "
                                            "or data add)")
        source = DATASETS.get(record.spec.dataset)
        if record.provenance.data != data.digest and not (source and source.make):  # what is made here may be rounded here
            raise ReplayError(f"{record.spec}: its data were others, of digest {record.provenance.data[:12]}; today's is "
                              f"{data.digest[:12]}. `genclust run --force` runs it anew.")
        found = gaps(record.replay, prefix(record.spec, data.X, data.y), str(record.spec))
        if found and not unsettled(found, record.spec, data.X, data.y):
            raise ReplayError(f"{record.spec}: {found[0]}")
    except (ReplayError, RecordError) as error:
        return Outcome(path.stem, False, str(error))
    return Outcome(path.stem, True, str(record.spec), str(found[0]) if found else "")


def verify_all(store: RecordStore, *, workers: int | None = None, notes: Path | None = None, anew: bool = False) -> Iterator[Outcome]:
    """Every record of a store, in order, in as many processes as there are cores.

    With ``notes``, a file, outcomes found before are taken from it where neither the record nor any file of
    the library has changed since, unless all are asked for ``anew``; new ones are added.
    """
    code = sha256("".join(map(sha256, sorted(LIBRARY.rglob("*.py")))) + torch.__version__)
    paths = store.paths()
    keys = {path: sha256(code + "".join(sha256(file) for file in (path, path.with_suffix(".npz")) if file.exists())) for path in paths}
    try:
        known = {key: Outcome(**given) for key, given in json.loads(notes.read_text()).items()} if notes and not anew else {}
    except (OSError, ValueError, TypeError):
        known = {}
    todo = [path for path in paths if keys[path] not in known]
    workers = min(workers or cpu_count(), len(todo))
    if workers > 1:
        with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
            found = pool.map(verify, todo, [store.root] * len(todo))
            yield from _in_turn(paths, keys, known, found)
    else:
        yield from _in_turn(paths, keys, known, map(verify, todo, [store.root] * len(todo)))
    if notes:
        settled = {keys[path]: asdict(known[keys[path]]) for path in paths if known[keys[path]].same is not None}
        write_atomic(notes, json.dumps(settled, indent=1))


def _in_turn(paths: list[Path], keys: dict[Path, str], known: dict[str, Outcome], found: Iterator[Outcome]) -> Iterator[Outcome]:
    """Outcomes in the order of ``paths``; those in ``found`` are added to ``known``."""
    for path in paths:
        if keys[path] not in known:
            known[keys[path]] = next(found)
        yield known[keys[path]]
