"""What every chapter shows of its records and claims in the same way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from IPython.display import Markdown

from .claims import Claim, Ledger, answer, read_ledger, shortfall
from .experiments import changes, recompute_all
from .files import project_root
from .pages import HEADLINE, cost_of, headline_rows, ledger_table
from .pages import table as page_table
from .papers import METHODS
from .plots import table
from .records import Record, RecordStore


def opened(paper: str) -> tuple[RecordStore, dict[str, Claim]]:
    """The book's records, and a paper's claims by id."""
    return RecordStore(project_root() / "book" / "records"), {claim.id: claim for claim in _ledger(paper).claims}


def _ledger(paper: str) -> Ledger:
    return read_ledger(project_root() / "book" / "claims" / f"{paper.replace('-', '_')}.yml")


def headline(paper: str, store: RecordStore) -> Markdown:
    """What the paper claims above all, and the verdicts: the chapter's answer, before its argument."""
    ledger = _ledger(paper)
    return Markdown(page_table(HEADLINE, headline_rows(ledger, [answer(c, store) for c in ledger.claims if c.id in ledger.main])))


def title(record: Record) -> str:
    """A run's name in a table."""
    return f"{METHODS[record.spec.method].title}, seed {record.spec.seed}"


def whose(record: Record) -> str:
    """Whose a line or a picture is, beside published ones: the profile that is recorded has the papers' name, and not their runs."""
    return "ours, recorded" if record.spec.profile == "paper" else f"live, {record.spec.profile}"


def spread(values: Iterable[float], digits: int = 2) -> str:
    """Mean and sample standard deviation, which no line break parts; of a single value the value, of none nothing."""
    values = np.asarray(list(values), dtype=float)
    if len(values) == 0:
        return ""
    return f"{values.mean():.{digits}f}" + (f"\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}{values.std(ddof=1):.{digits}f}" if len(values) > 1 else "")


def unrecorded(published: Mapping[str, Mapping[str, str]]):
    """Published cells of data sets that have no run here, side by side: a method a row, a set a column."""
    methods = dict.fromkeys(method for column in published.values() for method in column)
    return table([{"method": method} | {name: column.get(method, "") for name, column in published.items()} for method in methods])


def scale(records: Iterable[Record]) -> str:
    """In what runs fall short of the paper's scale, as a sentence; nothing where in nothing."""
    short = shortfall([r.spec for r in records])
    return f"At reduced scale: {short}." if short else ""


def runs(records: Iterable[Record]):
    """The command that makes runs again, one for all seeds of a method, and what they cost together."""
    groups: dict[tuple[str, str, str], list[Record]] = {}
    for r in records:
        groups.setdefault((r.spec.experiment, r.spec.method, changes(r.spec)), []).append(r)
    rows = [{"runs": f"{METHODS[method].title}, {_seeds(found)}", "again": command, "cost": cost_of(found)}
            for (_, method, _), found in groups.items() for command in recompute_all(r.spec for r in found)]
    return table(rows) if rows else Markdown("No run is recorded yet.")


def _seeds(records: list[Record]) -> str:
    return ("seed " if len(records) == 1 else "seeds ") + ", ".join(str(r.spec.seed) for r in sorted(records, key=lambda r: r.spec.seed))


def provenance(records: Iterable[Record]):
    """Code, data and machine behind each run."""
    return table([{
        "id": r.spec.id, "run": f"{METHODS[r.spec.method].title}, {r.spec.profile}, seed {r.spec.seed}",
        "commit": r.provenance.git_commit[:8] + ("+" if r.provenance.git_dirty else ""), "library": r.provenance.library[:8],
        "data": r.provenance.data[:8], "precision": r.provenance.precision, "torch": r.provenance.torch,
        "minutes": f"{r.provenance.wall_seconds / 60:.1f}", "peak memory (MB)": round(r.provenance.peak_memory_mb),
    } for r in records])


def verdicts(claims: Mapping[str, Claim], store: RecordStore) -> Markdown:
    """Every claim that is answered by a record or by a computation. The commands that recompute them stand with the runs."""
    found = [a for a in (answer(c, store) for c in claims.values()) if a.records or a.claim.computed]
    return Markdown(ledger_table(found, commands=False) if found else "No recorded run answers a claim yet.")
