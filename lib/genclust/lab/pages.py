"""Pages that are generated: verdicts, ledger, papers that disagree, records, faults, data sets."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from pathlib import Path

from .claims import OF_TWO, VERDICTS, Answer, Claim, Ledger, answer, read_ledger, shortfall
from .experiments import recompute_all
from .records import Record, RecordStore
from .replay import NOTES, verify_all
from .specs import Spec

Found = Sequence[tuple[Ledger, list[Answer]]]

HEADLINE = ["claim", "verdict", "published", "measured"]
GROUPS = {"Judged": VERDICTS[:4], "Not run": VERDICTS[4:5], "Quoted": VERDICTS[5:6], "Context": VERDICTS[6:]}


def ledgers(root: Path) -> list[Ledger]:
    """Every claims file of a checkout, in the order of the papers."""
    return sorted((read_ledger(path) for path in (root / "book" / "claims").glob("*.yml")), key=lambda ledger: ledger.year)


def answers(ledger: Ledger, root: Path) -> list[Answer]:
    """The verdicts on a paper's claims, from the checkout's records."""
    store = RecordStore(root / "book" / "records")
    return [answer(claim, store) for claim in ledger.claims]


def value_text(value: float | None, unit: str | None) -> str:
    """A number as the tables show it."""
    if value is None:
        return ""
    return {"percent": f"{value:.2f} %", "seconds": f"{value:.3g} s", "index": f"{value:.4f}",
            "count": f"{round(value, 2):g}"}.get(unit, f"{value:g}")  # of counts there are means


def published_text(claim: Claim) -> str:
    """What the paper printed: the value with its spread, or the statement."""
    text = value_text(claim.value, claim.unit)
    if claim.spread is not None:
        text += f" ± {value_text(claim.spread, claim.unit)}"
    return "<br>".join(part for part in (text, claim.says) if part)


def measured_text(a: Answer) -> str:
    """What we measured, how it was reduced, and the spread over the runs; of an order both means."""
    unit = a.claim.unit
    if a.others:
        ours, theirs = (value_text(statistics.fmean(values), unit or "percent") for values in (a.values, a.others))
        return f"{ours} against {theirs} ({len(a.values)} and {len(a.others)} runs)"
    if a.measured is None:
        return ""
    text, reduce = value_text(a.measured, unit), a.claim.answered_by.reduce
    n = len(a.values)
    if reduce == "increase":  # a sign is easily read over, beside a word that has another
        return f"{value_text(abs(a.measured), unit)} {'lower' if a.measured < 0 else 'higher'} ({len(a.records)} runs of the two methods)"
    if reduce in OF_TWO:
        return f"{text} ({reduce}, {len(a.records)} runs of the two methods)"
    if n > 1:
        text += f" ({reduce} of {n}; {value_text(min(a.values), unit)} to {value_text(max(a.values), unit)}"
        if reduce == "mean":
            low = max(a.low, 0.0) if unit == "count" else a.low  # no count is below zero, as the interval of its mean may be
            text += f"; interval {value_text(low, unit)} to {value_text(a.high, unit)}"
        text += ")"
    else:
        text += " (1 run)"
    if a.claim.runs and a.claim.runs > n:
        text += f", {n} of the paper's {a.claim.runs} runs"
    return text


def cost_text(wall_seconds: float, peak_memory_mb: float, threads: int, processor: str) -> str:
    """What a record cost."""
    time = (f"{wall_seconds / 3600:.1f} h" if wall_seconds >= 7200 else f"{wall_seconds / 60:.0f} min" if wall_seconds >= 60
            else f"{wall_seconds:.0f} s")
    return f"{time}, {peak_memory_mb / 1000:.1f} GB, {threads} thread{'s' if threads > 1 else ''} of {processor}"


def cost_of(records: Sequence[Record]) -> str:
    """What several records cost together: their time summed up, the most memory, and each kind of processor."""
    given = [r.provenance for r in records]
    cost = cost_text(sum(p.wall_seconds for p in given), max(p.peak_memory_mb for p in given), given[0].threads,
                     " and ".join(sorted({p.processor for p in given})))
    return f"{len(given)} runs, {cost}" if len(given) > 1 else cost


def table(headings: list[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(headings) + " |", "|---" * len(headings) + "|"]
    return "\n".join(lines + ["| " + " | ".join(cell.replace("\n", " ").replace("|", "\\|") for cell in row) + " |" for row in rows])


def headline_rows(ledger: Ledger, given: Iterable[Answer]) -> list[list[str]]:
    """The paper's main claims with their verdicts: cells for a table under ``HEADLINE``."""
    found = {a.claim.id: a for a in given}
    return [[str(a.claim.where), f"**{a.verdict}**", published_text(a.claim), measured_text(a) or a.reason]
            for a in (found[name] for name in ledger.main)]


def ledger_table(found: list[Answer], commands: bool = True) -> str:
    """A table of claims; with ``commands`` that which recomputes each measured one, its cost and its records, folded up:
    opened, they would leave the verdicts a narrow strip."""
    rows = []
    for a in found:
        notes = [a.reason] if a.reason else []
        if a.claim.doubt:
            notes.append(f"*in doubt:* {a.claim.doubt}")
        why = "; ".join(notes)
        if commands and a.records:
            words = " and ".join(f"`{command}`" for command in recompute_all(r.spec for r in a.records))
            ids = ", ".join(f"`{r.spec.id}`" for r in a.records)
            why += (f" <details><summary>recompute</summary>{words} ({cost_of(a.records)}); "
                    f"record{'s' * (len(a.records) > 1)} {ids}</details>")
        rows.append([str(a.claim.where), f"**{a.verdict}**", published_text(a.claim), measured_text(a), why.strip()])
    return table(["where", "verdict", "published", "measured", "why"], rows)


def ledger_page(found: Found) -> str:
    """Every claim of every paper."""
    parts = []
    for ledger, given in found:
        parts += [f"## {ledger.short}: {ledger.title}", "", f"{{cite}}`{ledger.citation}`, {len(given)} claims", ""]
        for heading, verdicts in GROUPS.items():
            group = [a for a in given if a.verdict in verdicts]
            if group:
                parts += [f"### {heading} ({len(group)})", "", ledger_table(group), ""]
    return "\n".join(parts)


def overview(found: Found, picture: Path) -> str:
    """The main claims of each paper, then the counts of its verdicts, as a picture in ``picture`` and as a table."""
    from . import plots
    counts = {ledger.short: Counter(a.verdict for a in given) for ledger, given in found}
    plots.style()
    picture.parent.mkdir(parents=True, exist_ok=True)
    plots.verdict_bars(counts).savefig(picture)
    main = table(["paper", *HEADLINE], [[ledger.short, *row] for ledger, given in found for row in headline_rows(ledger, given)])
    drawn = f"![Verdicts on every claim, by paper]({picture.name})"
    counted = table(["verdict", *counts], [[v, *(str(count.get(v, 0)) for count in counts.values())] for v in VERDICTS])
    return f"{main}\n\nAll of their claims, counted by verdict:\n\n{drawn}\n\nWhat each word means: [verdicts](protocol.md).\n\n{counted}"


def disagreements(found: Found) -> str:
    """The cells that more than one paper reports, where they differ, with what we measured in the setting of each."""
    cells: dict[str, list[tuple[Ledger, Answer]]] = {}
    for ledger, given in found:
        for a in given:
            if a.claim.cell is not None and a.claim.value is not None:
                cells.setdefault(a.claim.cell, []).append((ledger, a))
    shared = {cell: held for cell, held in cells.items() if len({ledger.paper for ledger, _ in held}) > 1}
    differing = {cell: held for cell, held in shared.items() if len({in_percent(a.claim) for _, a in held}) > 1}
    rows = []
    for cell, held in sorted(differing.items()):
        method, data, metric = cell.split("/")
        values = [in_percent(a.claim) for _, a in held]
        if len({a.claim.unit for _, a in held}) > 1:
            held = [(ledger, _as_percent(a)) for ledger, a in held]
        printed = "<br>".join(f"{ledger.short}: {value_text(a.claim.value, a.claim.unit)} ({a.claim.where}"
                              f"{', quoted' if a.claim.kind == 'quoted' else ''})" for ledger, a in held)
        measured = "<br>".join(f"{ledger.short} (`{a.claim.answered_by.experiment}`): {measured_text(a)}" for ledger, a in held if a.measured is not None)
        rows.append([f"{method}, {data}, {metric}", printed, f"{max(values) - min(values):.2f}", measured])
    text = table(["cell", "printed", "apart (points)", "measured, in the setting of each paper"], rows)
    return f"{len(shared)} cells stand in more than one paper; in {len(differing)} of them the papers differ.\n\n{text}"


def in_percent(claim: Claim) -> float:
    """A claim's value on one scale, whether its paper prints fractions or percentages."""
    return round(100 * claim.value if claim.unit == "index" else claim.value, 4)


def _as_percent(a: Answer) -> Answer:
    """An answer in per cent, for a table where another paper prints percentages."""
    if a.claim.unit != "index":
        return a

    def times(value: float | None) -> float | None:
        return None if value is None else 100 * value

    claim = a.claim.model_copy(update={"unit": "percent", "value": times(a.claim.value), "spread": times(a.claim.spread)})
    return a.model_copy(update={"claim": claim, "measured": times(a.measured), "low": times(a.low), "high": times(a.high),
                                "values": [100 * value for value in a.values]})


def status_page(found: Found, root: Path) -> str:
    """Every record with its scale, age, cost and replay; then what is not run, by reason."""
    store = RecordStore(root / "book" / "records")
    heads = list(store.heads())  # before the replays, which take minutes: a run may end meanwhile, and its record waits for the next page
    replayed = {outcome.stem: outcome for outcome in verify_all(store, notes=root / NOTES)}
    today = datetime.now(timezone.utc)
    rows = []
    for head in heads:
        spec, p = Spec.model_validate(head["spec"]), head["provenance"]
        outcome = replayed[spec.stem]
        age = (today - datetime.fromisoformat(p["started"])).days
        scale = shortfall([spec]) or "the paper profile"
        rows.append([f"`{head['id']}`", f"{spec.experiment}, {spec.method}, seed {spec.seed}", scale,
                     f"{p['started'][:10]} ({age})",
                     {True: "yes" + ", but for what rounding decides" * bool(outcome.unsettled), False: f"**no**: {outcome.what}",
                      None: "not tried: its data are not here"}[outcome.same],
                     cost_text(p["wall_seconds"], p["peak_memory_mb"], p["threads"], p["processor"])])
    missing = Counter((ledger.short, a.reason) for ledger, given in found for a in given if a.verdict == "not run")
    return "\n".join([
        f"## {len(rows)} records", "", table(["id", "run", "scale", "made (days ago)", "replays", "cost"], rows), "",
        f"## {sum(missing.values())} claims not run, and why", "",
        table(["paper", "claims", "why"], [[paper, str(n), reason] for (paper, reason), n in missing.most_common()])])


def faults_page(root: Path) -> str:
    """The faults that were tried, as the tests noted them."""
    given = json.loads((root / "book" / "faults.json").read_text())
    rows = [[row["fault"], row["outcome"], f"{row['seconds']:.0f} s"] for row in given["faults"]]
    return (f"Tried on {given['tried']} at commit `{given['commit'][:10]}`, on {given['system']}, {given['processor']}.\n\n"
            + table(["fault", "outcome", "took"], rows))


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
        lines += [f"| `{f.name}`{f', {f.size} bytes' if f.size else ''} | SHA-256 `{f.sha256}` |" for f in source.files]
        if source.recipe:
            lines.append(f"| rows | {source.recipe} |")
        if not source.files:
            lines.append(f"| rows and labels | SHA-256 `{load(name).digest}` |")
        lines.append("")
    return "\n".join(lines)
