"""What every chapter shows of its records and claims in the same way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from IPython.display import Markdown

from .claims import Claim, answer, read_ledger
from .experiments import recompute
from .files import project_root
from .pages import cost_text, ledger_table
from .papers import METHODS
from .plots import table
from .records import Record, RecordStore


def opened(paper: str) -> tuple[RecordStore, dict[str, Claim]]:
    """The book's records, and a paper's claims by id."""
    book = project_root() / "book"
    ledger = read_ledger(book / "claims" / f"{paper.replace('-', '_')}.yml")
    return RecordStore(book / "records"), {claim.id: claim for claim in ledger.claims}


def title(record: Record) -> str:
    """A run's name in a table."""
    return f"{METHODS[record.spec.method].title}, seed {record.spec.seed}"


def spread(values: Iterable[float], digits: int = 2) -> str:
    """Mean and sample standard deviation; of a single value the value, of none nothing."""
    values = np.asarray(list(values), dtype=float)
    if len(values) == 0:
        return ""
    return f"{values.mean():.{digits}f}" + (f" ± {values.std(ddof=1):.{digits}f}" if len(values) > 1 else "")


def runs(records: Iterable[Record]):
    """The command that makes each run again, and what it cost."""
    rows = []
    for r in records:
        p = r.provenance
        rows.append({"run": title(r), "again": recompute(r.spec), "cost": cost_text(p.wall_seconds, p.peak_memory_mb, p.threads, p.processor)})
    return table(rows) if rows else Markdown("No run is recorded yet.")


def provenance(records: Iterable[Record]):
    """Code, data and machine behind each run."""
    return table([{
        "id": r.spec.id, "run": f"{METHODS[r.spec.method].title}, {r.spec.profile}, seed {r.spec.seed}",
        "commit": r.provenance.git_commit[:8] + ("+" if r.provenance.git_dirty else ""), "library": r.provenance.library[:8],
        "data": r.provenance.data[:8], "precision": r.provenance.precision, "torch": r.provenance.torch,
        "minutes": f"{r.provenance.wall_seconds / 60:.1f}", "peak memory (MB)": round(r.provenance.peak_memory_mb),
    } for r in records])


def verdicts(claims: Mapping[str, Claim], store: RecordStore) -> Markdown:
    """Every claim that is answered by a record or by a computation."""
    found = [a for a in (answer(c, store) for c in claims.values()) if a.records or a.claim.computed]
    return Markdown(ledger_table(found) if found else "No recorded run answers a claim yet.")
