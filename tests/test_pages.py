"""Generated pages and the tables of the chapters: what stands in them, and in which words."""

import re
from pathlib import Path

import pytest

from genclust.lab import tables
from genclust.lab.claims import Answer, Claim, Ledger
from genclust.lab.experiments import make_specs
from genclust.lab.pages import disagreements, headline_rows, ledger_table, ledgers, measured_text, overview, value_text
from genclust.lab.papers import CHAPTERS
from genclust.lab.records import RecordStore
from genclust.lab.runner import execute

ROOT = Path(__file__).resolve().parents[1]


def claim(name="vade/table2/mnist/vade", **changes):
    given = dict(where={"table": "2", "row": "VaDE"}, value=94.06, unit="percent",
                 answered_by=dict(experiment="vade/mnist", method="vade", metric="accuracy"))
    return Claim(id=name, **given | changes)


def order(**changes):
    return claim("vade/order/mnist/vade-over-ae+gmm", kind="order", says="VaDE is better than AE+GMM", value=None, answered_by=dict(
        experiment="vade/mnist", method="vade", metric="accuracy", against="ae+gmm"), **changes)


def ledger(*claims, main=()):
    return Ledger(paper="vade", short="VaDE", title="VaDE", citation="vade2016", year=2016, main=list(main), claims=list(claims))


# -- what a chapter and the book open with ---------------------------------------------------------------


def test_every_paper_has_some_main_claims_and_its_chapter_opens_with_them():
    for found in ledgers(ROOT):
        main = [c for c in found.claims if c.id in found.main]
        assert 2 <= len(found.main) == len(main) <= 4 and not any(c.kind in ("quoted", "context") or c.not_run for c in main)
        page = (ROOT / "notebooks" / f"{CHAPTERS[found.paper].notebook}.py").read_text()
        assert page.index("# ## In short") < page.index(f'tables.headline("{found.paper}", book)') < page.index("# ## The method")


def test_main_claims_have_to_be_there():
    with pytest.raises(ValueError, match="main names vade/table2/mnist/ae, and"):
        ledger(claim(), main=["vade/table2/mnist/vade", "vade/table2/mnist/ae"])


def test_main_claims_stand_in_their_order_with_what_was_found():
    checked = claim("vade/figure3/mnist/rows", kind="property", value=None, says="Draws belong", where={"figure": "3"}, answered_by=None,
                    computed="without_kl_an_autoencoder")
    given = [Answer(claim=order(), verdict="not reproduced", values=[0.5, 80.5], others=[77.0]),
             Answer(claim=claim(), verdict="exceeded", measured=97.0, values=[97.0], records=[]),
             Answer(claim=checked, verdict="reproduced", reason="94 % of 100 draws")]
    rows = headline_rows(ledger(*(a.claim for a in given), main=[a.claim.id for a in reversed(given)]), given)
    assert rows == [["Figure 3", "**reproduced**", "Draws belong", "94 % of 100 draws"],
                    ["Table 2, VaDE", "**exceeded**", "94.06 %", "97.00 % (1 run)"],
                    ["Table 2, VaDE", "**not reproduced**", "VaDE is better than AE+GMM", "40.50 % against 77.00 % (2 and 1 runs)"]]


def test_the_book_opens_with_the_main_claims_of_each_paper(tmp_path):
    given = [Answer(claim=claim(), verdict="exceeded", measured=97.0, values=[97.0])]
    page = overview([(ledger(claim(), main=[claim().id]), given)], tmp_path / "book" / "verdicts.svg")
    assert page.index("| VaDE | Table 2, VaDE | **exceeded** | 94.06 % | 97.00 % (1 run) |") < page.index("(verdicts.svg)")
    assert (tmp_path / "book" / "verdicts.svg").exists()


# -- the ledger ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A record, as small as can be."""
    folder = tmp_path_factory.mktemp("pages")
    return execute(make_specs("vade/digits", profile="smoke", methods=["gmm"])[0], RecordStore(folder / "records"), folder / "work")


def cells(page):
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in page.splitlines()]


def test_a_verdict_stands_before_what_is_long_and_the_command_is_folded_up(run):
    found = [Answer(claim=claim(), verdict="exceeded", reason="tolerance 2", measured=97.0, values=[97.0], records=[run])]
    head, _, row = cells(ledger_table(found))
    assert head == ["where", "verdict", "published", "measured", "why"] and row[:4] == ["Table 2, VaDE", "**exceeded**", "94.06 %", "97.00 % (1 run)"]
    shown, _, folded = row[4].partition("<details><summary>recompute</summary>")
    assert shown == "tolerance 2 " and folded.startswith("`genclust run vade/digits ") and folded.endswith(f"record `{run.spec.id}`</details>")
    assert cells(ledger_table(found, commands=False))[2][4] == "tolerance 2"


def test_of_an_order_both_means_are_measured():
    a = Answer(claim=order(), verdict="not reproduced", values=[74.0, 76.0, 75.0], others=[77.2, 77.3])
    assert measured_text(a) == "75.00 % against 77.25 % (3 and 2 runs)"
    assert measured_text(a.model_copy(update={"claim": order(unit="index"), "values": [0.5], "others": [0.25]})) == "0.5000 against 0.2500 (1 and 1 runs)"
    assert measured_text(Answer(claim=order(), verdict="not run")) == ""


def test_a_mean_of_counts_is_rounded_and_no_interval_of_it_goes_below_zero():
    lost = claim(value=4.0, unit="count", answered_by=dict(experiment="vade/mnist", method="vade", metric="lost_classes", reduce="mean"))
    a = Answer(claim=lost, verdict="not reproduced", measured=4 / 3, low=-0.100884, high=2.76755, values=[1.0, 1.0, 2.0])
    assert measured_text(a) == "1.33 (mean of 3; 1 to 2; interval 0 to 2.77)"
    assert [value_text(v, "count") for v in (4.0, 60_000, 30654)] == ["4", "60000", "30654"]
    of = a.model_copy(update={"claim": claim(unit="index", value=0.5)})  # an index may be negative
    assert "interval -0.1009 to" in measured_text(of)


@pytest.mark.parametrize("measured, words", [(-10.714, "10.71 % lower (2 runs"), (11.58, "11.58 % higher (2 runs")])
def test_an_increase_that_is_none_is_said_in_words(run, measured, words):
    by = dict(experiment="vade/mnist", method="vade", metric="accuracy", reduce="increase", against="dec")
    assert measured_text(Answer(claim=claim(answered_by=by), verdict="not reproduced", measured=measured, values=[measured],
                                records=[run, run])).startswith(words)


# -- the tables and figures of the chapters --------------------------------------------------------------


@pytest.mark.parametrize("profile, words", [("paper", "ours, recorded"), ("quick", "live, quick")])
def test_our_own_run_is_not_taken_for_the_papers(run, profile, words):
    record = run.model_copy(update={"spec": run.spec.model_copy(update={"profile": profile})})
    assert tables.whose(record) == words


def test_no_figure_or_row_names_a_run_by_its_profile_alone():
    for page in (ROOT / "notebooks").glob("*.py"):
        assert "spec.profile})" not in page.read_text(), page
    assert not [c.id for found in ledgers(ROOT) for c in found.claims if "ours" in (c.where.row or "")], "a paper's 'ours' is not ours"


def test_a_mean_and_its_deviation_stay_on_one_line():
    assert tables.spread([1.0, 3.0]) == "2.00\xa0±\xa01.41" and tables.spread([1.0], 1) == "1.0" and tables.spread([]) == ""


def test_sets_without_a_run_share_one_table():
    page = tables.unrecorded({"HHAR": {"VaDE": "84.46"}, "Reuters": {"DEC": "75.63", "VaDE": "77.80"}}).to_html()
    rows = [re.findall(r"<t[hd][^>]*>([^<]*)<", row) for row in re.findall(r"<tr>.*?</tr>", page, re.S)]
    assert rows == [["method", "HHAR", "Reuters"], ["VaDE", "84.46", "77.80"], ["DEC", "", "75.63"]]


# -- cells of several papers -----------------------------------------------------------------------------


def test_each_papers_setting_has_its_measured_value_on_one_scale():
    def of(paper, value, unit, measured, experiment):
        one = claim(f"{paper}/table1/cell", value=value, unit=unit, cell="dec/mnist/accuracy",
                    answered_by=dict(experiment=experiment, method="dec", metric="accuracy", reduce="mean"))
        found = Answer(claim=one, verdict="not reproduced", measured=measured, low=measured - 1, high=measured + 1, values=[measured, measured])
        return Ledger(paper=paper, short=paper.upper(), title=paper, citation=paper, year=2000, claims=[one]), [found]

    mixed = disagreements([of("vade", 84.3, "percent", 83.0, "vade/mnist"), of("ganmm", 0.85, "index", 0.5, "ganmm/mnist_train")])
    assert "| apart (points) |" in mixed and "| 0.70 |" in mixed and "0.8500" not in mixed
    assert "VADE (`vade/mnist`): 83.00 % (mean of 2;" in mixed and "GANMM (`ganmm/mnist_train`): 50.00 % (mean of 2; 50.00 % to 50.00 %" in mixed
    alike = disagreements([of("vade", 0.84, "index", 0.8, "vade/mnist"), of("ganmm", 0.85, "index", 0.5, "ganmm/mnist_train")])
    assert "VADE: 0.8400" in alike and "| 1.00 |" in alike, "where all print fractions, fractions"
