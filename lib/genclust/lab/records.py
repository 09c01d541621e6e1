"""Records: what a run measured, with enough beside it to trust, replay and redraw it."""

from __future__ import annotations

import io
import json
import os
import re
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
    ``arrays`` the digest of the .npz beside the record, or None. Its file has the head, then the history,
    an epoch a line. ``history_digest`` is that of the history's text, ``digest`` that of the head's, taken
    with this field empty: so a head can be read, and trusted, alone.
    """

    model_config = ConfigDict(extra="forbid")

    spec: Spec
    metrics: dict[str, float | None]
    objective: float
    provenance: Provenance
    replay: dict[str, list[float]]
    arrays: str | None = None
    history_digest: str = ""
    digest: str = ""
    history: list[dict]

    def text(self) -> str:
        """The record as its file has it; sets both digests."""
        epochs = ",\n".join("  " + json.dumps(epoch) for epoch in self.history)
        history = f"{HISTORY.decode()}{epochs}\n ]\n}}\n"
        self.history_digest, self.digest = sha256(history), ""
        self.digest = sha256(self._head())
        return self._head() + history

    def _head(self) -> str:
        return json.dumps(self.model_dump(exclude={"history"}), indent=1)[:-2]

    def curve(self, phase: str, key: str) -> tuple[list[int], list[float]]:
        """Epochs and values of one entry of the history, where it was noted."""
        points = [(h["epoch"], h[key]) for h in self.history if h["phase"] == phase and h.get(key) is not None]
        return [e for e, _ in points], [v for _, v in points]


HISTORY = b',\n "history": [\n'
DIGEST = b'\n "digest": "'
HEAD_BYTES = 8192  # enough for every head so far; a longer one costs a second read


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
        """A record from its file, checked against digests and schema."""
        return _record(_bytes(path), path)

    def put(self, record: Record, arrays: dict[str, np.ndarray] | None = None) -> Record:
        """Writes a record and its arrays; the record last, so that a reader never sees it without them."""
        path = self.path(record.spec)
        if arrays:
            buffer = io.BytesIO()
            np.savez_compressed(buffer, **arrays)
            write_atomic(path.with_suffix(".npz"), buffer.getvalue())
            record.arrays = sha256(buffer.getvalue())
        write_atomic(path, record.text())
        return self.read(path)  # as a reader will see it: through JSON once

    def adopt(self, content: bytes, arrays: bytes | None) -> Record:
        """Takes over the files of a record that another store holds. RecordError where they are not whole."""
        record = _record(content, "what came back")
        if (arrays and sha256(arrays)) != record.arrays:
            raise RecordError(f"the arrays of {record.spec} are not those of its record: run it again")
        path = self.path(record.spec)
        if arrays:
            write_atomic(path.with_suffix(".npz"), arrays)
        write_atomic(path, content)
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

    def paths(self, **wanted) -> list[Path]:
        """Files of the records whose spec may have these values, by what their names say, in order."""
        name = re.compile("--".join(re.escape(wanted[key]).replace("/", "-") if key in wanted else ".+"
                                    for key in ("experiment", "method", "profile")) + r"-s\d+-\w+\.json")
        folders = sorted(p for p in self.root.glob(wanted.get("paper", "*")) if p.is_dir())
        return [folder / file for folder in folders for file in sorted(os.listdir(folder)) if name.fullmatch(file)]

    def heads(self, **wanted) -> Iterator[dict]:
        """Records without their histories, as plain dicts with an ``id``: what tables need, at a fraction of the time.

        Only records whose spec has the values in ``wanted``; keys that are not fields of a spec are looked
        up in its params. The head's digest is checked, the schema is not.
        """
        for path in self.paths(**wanted):
            content = _bytes(path, HEAD_BYTES)
            head, _ = _split(content if HISTORY in content else _bytes(path), path)
            try:
                head = json.loads(head + b"}")
                spec = head["spec"]
                if all((spec if key in Spec.model_fields else spec["params"]).get(key) == value
                       for key, value in wanted.items()):
                    yield head | {"id": path.stem.rpartition("-")[2]}
            except (ValueError, KeyError, AttributeError) as error:  # whole, but of another version of the schema
                raise RecordError(f"{path} is not a record: {error!r}") from error

    def table(self, **wanted) -> list[dict]:
        """One flat row a record, by experiment, method and seed: metrics, params, spec, objective and cost.

        Where a parameter and a metric share a name, such as ``n_clusters``, it is the parameter.
        """
        rows = [{**head["metrics"], **head["spec"]["params"], **{k: v for k, v in head["spec"].items() if k != "params"},
                 "id": head["id"], "objective": head["objective"], "wall_seconds": head["provenance"]["wall_seconds"],
                 "peak_memory_mb": head["provenance"]["peak_memory_mb"]} for head in self.heads(**wanted)]
        return sorted(rows, key=lambda row: (row["experiment"], row["method"], row["seed"]))

    def all(self) -> Iterator[Record]:
        """Every record, in the order of the file names."""
        for path in self.paths():
            yield self.read(path)

    def find(self, **wanted) -> list[Record]:
        """Whole records whose spec has these values, by seed: ``find(method="vade", profile="paper")``."""
        specs = [Spec.model_validate(head["spec"]) for head in self.heads(**wanted)]
        return sorted((self.read(self.path(spec)) for spec in specs), key=lambda r: r.spec.seed)


CHANGED = ("{path} is not as its run wrote it (its digest does not match): restore it, "
           "or delete it and run its spec again")


def _bytes(path: Path, size: int = -1) -> bytes:
    """A record's file, or the first ``size`` bytes of it."""
    try:
        with open(path, "rb") as file:
            return file.read(size)
    except OSError as error:
        raise RecordError(f"{path} can't be read: {error}") from error


def _split(content: bytes, path: Path | str) -> tuple[bytes, bytes]:
    """Head and history. RecordError where the head is not the one that its run wrote."""
    end = content.find(HISTORY)
    head = content[: max(end, 0)]
    start = head.find(DIGEST) + len(DIGEST)
    digest = head[start: head.find(b'"', start)]
    if not head or sha256(head[:start] + head[start + len(digest):]) != digest.decode(errors="replace"):
        raise RecordError(CHANGED.format(path=path))
    return head, content[end:]


def _record(content: bytes, path: Path | str) -> Record:
    head, history = _split(content, path)
    try:
        if sha256(history) != json.loads(head + b"}")["history_digest"]:
            raise RecordError(CHANGED.format(path=path))
        return Record.model_validate_json(content)
    except (ValidationError, KeyError) as error:  # whole, but of another version of the schema
        raise RecordError(f"{path} is not a record: {error}") from error
