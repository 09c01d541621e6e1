"""A table that a reader can sort by any column, in a page that may have no network: HTML with a few lines of script."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from html import escape

# A click on a heading sorts by what its cells have in data-key, numbers from the largest, words from A; the next click
# turns the order round. What is not a number stays last.
SCRIPT = """<script>
document.querySelectorAll("#NAME th").forEach((head, column) => head.firstChild.addEventListener("click", () => {
  const body = head.closest("table").tBodies[0], numeric = head.dataset.kind === "number";
  const before = head.getAttribute("aria-sort"), down = before ? before === "ascending" : numeric;
  const key = row => row.cells[column].dataset.key, sign = down ? -1 : 1;
  const last = row => numeric && isNaN(key(row));
  const order = (a, b) => sign * (numeric ? key(a) - key(b) : key(a).localeCompare(key(b)));
  const rows = [...body.rows];
  head.parentElement.querySelectorAll("th").forEach(other => other.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  body.append(...rows.filter(row => !last(row)).sort(order), ...rows.filter(last));
}));
</script>"""
SCROLL = "max-height: 34em; overflow: auto; white-space: nowrap; margin-bottom: 1em; border: 1px solid var(--pst-color-border, silver)"
HEAD = "position: sticky; top: 0; background: var(--pst-color-surface, white)"
WORDS = "white-space: normal"  # in place of a number
BUTTON = "all: unset; cursor: pointer"

Cell = str | tuple[str, float]  # what is shown; with a number to sort by


def sortable(rows: Sequence[Mapping[str, Cell]], headings: Iterable[str]) -> str:
    """The rows as HTML. A column is sorted by numbers if any of its cells has one; the others are then nan."""
    headings = list(headings)
    numeric = {h: any(isinstance(row[h], tuple) for row in rows) for h in headings}

    def cell(row: Mapping[str, Cell], heading: str) -> str:
        given = row[heading]
        shown, key = given if isinstance(given, tuple) else (given, math.nan if numeric[heading] else given)
        wrap = f' style="{WORDS}"' if numeric[heading] and not isinstance(given, tuple) else ""
        return f'<td data-key="{escape(str(key))}"{wrap}>{escape(shown)}</td>'

    head = "".join(f'<th scope="col" data-kind="{"number" if numeric[h] else "text"}" style="{HEAD}">'
                   f'<button type="button" style="{BUTTON}" title="sort">{escape(h)} ⇅</button></th>' for h in headings)
    body = "\n".join(f"<tr>{''.join(cell(row, h) for h in headings)}</tr>" for row in rows)
    name = f"sortable-{sha256(body.encode()).hexdigest()[:8]}"
    return (f'<div id="{name}" style="{SCROLL}"><table class="dataframe"><thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n'
            f"</tbody></table></div>\n{SCRIPT.replace('NAME', name)}")
