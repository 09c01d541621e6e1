"""Pages that are generated: the ledger, the overview of verdicts, the table of data sets."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from .claims import VERDICTS, Answer, Ledger, answer, read_ledger
from .experiments import recompute
from .records import RecordStore


GROUPS = {"Judged": VERDICTS[:4], "Not run": VERDICTS[4:5], "Quoted": VERDICTS[5:6], "Context": VERDICTS[6:]}


def ledgers(root: Path) -> list[Ledger]:
    """Every claims file of a checkout."""
    return [read_ledger(path) for path in sorted((root / "book" / "claims").glob("*.yml"))]


def answers(ledger: Ledger, root: Path) -> list[Answer]:
    """The verdicts on a paper's claims, from the checkout's records."""
    store = RecordStore(root / "book" / "records")
    return [answer(claim, store) for claim in ledger.claims]


def value_text(value: float | None, unit: str | None) -> str:
    """A number as the tables show it."""
    if value is None:
        return ""
    if unit == "percent":
        return f"{value:.2f} %"
    if unit == "seconds":
        return f"{value:.3g} s"
    return f"{value:g}"


def measured_text(a: Answer) -> str:
    """What we measured, how it was reduced, and the spread over the runs."""
    if a.measured is None:
        return ""
    unit = a.claim.unit
    text = value_text(a.measured, unit)
    n = len(a.values)
    if n > 1:
        text += f" ({a.claim.answered_by.reduce} of {n}; {value_text(min(a.values), unit)} to {value_text(max(a.values), unit)})"
    else:
        text += " (1 run)"
    if a.claim.runs and a.claim.runs > n:
        text += f", {n} of the paper's {a.claim.runs} runs"
    return text


def ledger_table(found: list[Answer]) -> str:
    """A Markdown table of claims, with the command that recomputes each measured one and its cost."""
    lines = ["| where | published | measured | verdict | why, and how to recompute |", "|---|---|---|---|---|"]
    for a in found:
        c = a.claim
        notes = [a.reason] if a.reason else []
        if a.records:
            shown = max(a.records, key=lambda r: r.objective) if a.measured is not None else a.records[0]
            p = shown.provenance
            notes.append(f"`{recompute(shown.spec)}` ({p.wall_seconds / 60:.0f} min, {p.peak_memory_mb / 1000:.1f} GB, "
                         f"{p.threads} thread{'s' if p.threads > 1 else ''} of {p.processor})")
        published = value_text(c.value, c.unit) or (c.says or "")
        lines.append(f"| {c.where} | {published} | {measured_text(a)} | **{a.verdict}** | {'; '.join(notes)} |".replace("\n", " "))
    return "\n".join(lines)


def ledger_page(root: Path) -> str:
    """Every claim of every paper."""
    parts = []
    for ledger in ledgers(root):
        parts += [f"## {ledger.title}", "", f"{{cite}}`{ledger.citation}`", ""]
        found = answers(ledger, root)
        for heading, verdicts in GROUPS.items():
            group = [a for a in found if a.verdict in verdicts]
            if group:
                parts += [f"### {heading}", "", ledger_table(group), ""]
    return "\n".join(parts)


def overview(root: Path, picture: Path) -> str:
    """Counts of verdicts for each paper, as a picture in ``picture`` and as a table."""
    from . import plots
    counts = {ledger.short: Counter(a.verdict for a in answers(ledger, root)) for ledger in ledgers(root)}
    plots.style()
    picture.parent.mkdir(parents=True, exist_ok=True)
    plots.verdict_bars(counts).savefig(picture)
    lines = ["| verdict | " + " | ".join(counts) + " |", "|---" * (len(counts) + 1) + "|"]
    lines += [f"| {v} | " + " | ".join(str(count.get(v, 0)) for count in counts.values()) + " |" for v in VERDICTS]
    return f"![Verdicts on every claim, by paper]({picture.name})\n\n" + "\n".join(lines)


def datasets_table() -> str:
    """Size, digest, licence and source of every data set."""
    from ..datasets import DATASETS, load
    lines = []
    for name, source in DATASETS.items():
        lines += [f"### {source.title}", "", source.about, ""]
        lines += ["| | |", "|---|---|", f"| name | `{name}` |",
                  f"| rows, features, classes | {source.n}, {source.d}, {source.n_classes} |",
                  f"| home | {f'<{source.homepage}>' if source.homepage else 'computed here'} |",
                  f"| licence | {source.licence} |", f"| cite | {{cite}}`{source.citation}` |"]
        lines += [f"| `{f.name}`, {f.size} bytes | SHA-256 `{f.sha256}` |" for f in source.files]
        if not source.files:
            lines.append(f"| rows and labels | SHA-256 `{load(name).digest}` |")
        lines.append("")
    return "\n".join(lines)
