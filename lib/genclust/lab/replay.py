"""Replay: the first optimizer steps of every phase of a run, recomputed with today's code.

A digest would call every record stale after every comment. Losses say what matters: whether
today's code, given the same spec, still computes what the record says. A replay is the spec itself
on the first rows of its data, cut to a few steps a phase, in float32 on one thread of the CPU, so
that it takes seconds and means the same on every machine.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from .methods import METHODS
from .specs import Spec

ROWS = 1024
STEPS = 5
RTOL = 1e-4  # float32 sums in another order, on another processor, stay inside; a changed loss does not


class ReplayError(AssertionError):
    """Today's code parts from a record."""


def prefix(spec: Spec, X: np.ndarray) -> dict[str, list[float]]:
    """Losses of the first steps of every phase; for a method without steps, its first objective."""
    method = METHODS[spec.method]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        rows = np.ascontiguousarray(X[:ROWS])
        estimator = method.make(spec.seed, **spec.params)
        deep = method.deep(estimator)
        if deep is None:
            estimator.set_params(n_init=1, max_iter=STEPS)
            return {"objective": [method.objective(estimator.fit(rows), rows)]}
        deep.set_params(device="cpu", precision="float32", n_restarts=1, verbose=0)
        for part in {id(deep): deep, id(estimator): estimator}.values():
            for key in part.get_params():
                if key.rpartition("__")[2] == "n_init":
                    part.set_params(**{key: 1})
        estimator.fit(rows, **method.fit_options(max_steps=STEPS))
        losses = {phase: list(values) for phase, values in deep.step_losses_.items()}
        if estimator is not deep:
            losses["objective"] = [method.objective(estimator, rows)]
        return losses
    finally:
        torch.set_num_threads(threads)


def compare(recorded: dict[str, list[float]], replayed: dict[str, list[float]], what: str) -> None:
    """ReplayError naming the first phase and step at which two prefixes part, with both losses."""
    if recorded.keys() != replayed.keys():
        raise ReplayError(f"{what}: its phases were {sorted(recorded)}, today's are {sorted(replayed)}")
    for phase, losses in recorded.items():
        if len(losses) != len(replayed[phase]):
            raise ReplayError(f"{what}: phase {phase!r} had {len(losses)} steps, today's has {len(replayed[phase])}")
        for step, (then, now) in enumerate(zip(losses, replayed[phase]), 1):
            if not math.isclose(then, now, rel_tol=RTOL, abs_tol=1e-6):
                raise ReplayError(f"{what}: phase {phase!r}, step {step}: recorded {then:.8g}, today {now:.8g}")
