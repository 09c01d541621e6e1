"""Records: what a run measured, with enough beside it to trust, replay and redraw it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from .files import sha256, write_atomic
from .specs import Spec


class RecordError(ValueError):
    """A record that can't be read, does not fit the schema, or was changed by hand."""


class Provenance(BaseModel):
    """Where a record comes from. Seconds are of wall time, memory is the process's peak in MB.

    Layers that another run of the same seed had pretrained are taken over: ``wall_seconds`` does not count
    them again. The history has the seconds of their epochs.
    """

    model_config = ConfigDict(extra="forbid")

    library: str  # digest of the library files that the method imports
    constraints: str  # digest of constraints.txt, "" outside a checkout
    data: str
    git_commit: str
    git_dirty: bool
    device: str
    processor: str
    threads: int
    precision: str
    python: str
    torch: str
    scikit_learn: str
    started: str
    wall_seconds: float
    peak_memory_mb: float
    resumed: int  # how often the run was taken up again after an interruption


class Record(BaseModel):
    """A finished run.

    ``replay`` holds the losses of the first optimizer steps of every phase (see :mod:`.replay`);
    ``arrays`` the digest of the .npz beside the record, or None.
    """

    model_config = ConfigDict(extra="forbid")

    spec: Spec
    metrics: dict[str, float | None]
    objective: float
    history: list[dict]
    replay: dict[str, list[float]]
    provenance: Provenance
    arrays: str | None = None
    digest: str = ""

    def content_digest(self) -> str:
        """SHA-256 of all but the digest itself."""
        return sha256(json.dumps(self.model_dump(exclude={"digest"}), sort_keys=True))

    def curve(self, phase: str, key: str) -> tuple[list[int], list[float]]:
        """Epochs and values of one entry of the history, where it was noted."""
        points = [(h["epoch"], h[key]) for h in self.history if h["phase"] == phase and h.get(key) is not None]
        return [e for e, _ in points], [v for _, v in points]


class RecordStore:
    """Records under one folder: ``<paper>/<readable name>-<id>.json`` and, for arrays, ``.npz``."""

    def __init__(self, root: Path):
        self.root = Path(root)

    def path(self, spec: Spec) -> Path:
        return self.root / spec.paper / f"{spec.stem}.json"

    def get(self, spec: Spec) -> Record | None:
        """The record of a spec, or None. RecordError where there is a damaged one."""
        path = self.path(spec)
        return self.read(path) if path.exists() else None

    def read(self, path: Path) -> Record:
        """A record from its file, checked against schema and digest."""
        try:
            record = Record.model_validate_json(path.read_bytes())
        except (ValidationError, OSError) as error:
            raise RecordError(f"{path} is not a record: {error}") from error
        if record.digest != record.content_digest():
            raise RecordError(f"{path} was changed after its run (its digest does not match): restore it, "
                              "or delete it and run its spec again")
        return record

    def put(self, record: Record, arrays: dict[str, np.ndarray] | None = None) -> Record:
        """Writes a record and its arrays; the record last, so that a reader never sees it without them."""
        path = self.path(record.spec)
        if arrays:
            import io
            buffer = io.BytesIO()
            np.savez_compressed(buffer, **arrays)
            write_atomic(path.with_suffix(".npz"), buffer.getvalue())
            record.arrays = sha256(buffer.getvalue())
        # Through JSON once, so that the digest is of the values that a reader will parse.
        record = Record.model_validate_json(record.model_dump_json())
        record.digest = record.content_digest()
        write_atomic(path, json.dumps(record.model_dump(), indent=1) + "\n")
        return record

    def arrays(self, record: Record) -> dict[str, np.ndarray]:
        """The arrays of a record. RecordError where the file is missing or altered."""
        path = self.path(record.spec).with_suffix(".npz")
        if record.arrays is None or not path.exists():
            raise RecordError(f"{path} is not there: run `genclust run` for {record.spec} again")
        if sha256(path) != record.arrays:
            raise RecordError(f"{path} was changed after its run: restore it, or run its spec again")
        with np.load(path, allow_pickle=False) as file:
            return dict(file)

    def all(self, paper: str = "*") -> Iterator[Record]:
        """Every record, in the order of the file names."""
        for path in sorted(self.root.glob(f"{paper}/*.json")):
            yield self.read(path)

    def find(self, **wanted) -> list[Record]:
        """Records whose spec has these values, by seed: ``find(method="vade", profile="paper")``.

        Keys that are not fields of a spec are looked up in its params.
        """
        def matches(spec: Spec) -> bool:
            return all((getattr(spec, k) if k in Spec.model_fields else spec.params.get(k)) == v
                       for k, v in wanted.items())
        return sorted((r for r in self.all() if matches(r.spec)), key=lambda r: r.spec.seed)
