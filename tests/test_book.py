"""The book: built whole from a fresh copy, found whole, and seen to be refused when it is not."""

import re
import shutil
from pathlib import Path

import pytest
import yaml
from test_chapters import project

from genclust.lab import book
from genclust.lab.papers import CHAPTERS
from genclust.lab.replay import Outcome, verify

ROOT = Path(__file__).resolve().parents[1]


def some_replayed(store, notes):
    """Every fortieth record replayed, for the page: `genclust verify` replays them all, and takes minutes."""
    for i, path in enumerate(store.paths()):
        yield verify(path, store.root) if i % 40 == 0 else Outcome(path.stem, None, "")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The book with its live runs at smoke size, and the page that it opens with."""
    folder = project(tmp_path_factory.mktemp("book") / "project")
    (folder / "book").unlink()  # a copy in place of the link: one seed of each method is read sooner than all
    shutil.copytree(ROOT / "book", folder / "book", ignore=shutil.ignore_patterns("*-s[1-9]-*"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENCLUST_PROJECT", str(folder))
        patch.setattr("genclust.lab.pages.verify_all", some_replayed)
        return folder, book.build(folder, "smoke")


def test_every_page_is_there_and_no_link_or_image_is_broken(built):
    folder, first = built
    pages = book.pages_of(folder / "_toc.yml")
    assert len(pages) == len(set(pages)) and {"book/intro", "book/ledger", "notebooks/01_vade"} <= set(pages)
    assert first.exists() and all((first.parent / f"{page}.html").exists() for page in pages)
    book.check(folder / "build" / "site", first.parent)  # raises where something is missing


def test_what_is_generated_is_filled_in(built):
    folder, first = built
    html = {page: (first.parent / "book" / f"{page}.html").read_text()
            for page in ("intro", "ledger", "data", "status", "disagreements", "faults")}
    assert not any("<!-- generated" in text for text in html.values())
    assert "verdicts" in html["intro"] and "94.06" in html["ledger"] and "ba891046e6505d7a" in html["data"]
    claims = [c for path in (folder / "book" / "claims").glob("*.yml") for c in yaml.safe_load(path.read_text())["claims"]]
    assert html["ledger"].count("<tr") >= len(claims) > 700
    assert all(re.search(rf"<code[^>]*>.*?{path.stem[-12:]}", html["status"]) for path in (folder / "book" / "records").rglob("*.json"))
    plain = {c["not_run"] for c in claims if re.fullmatch(r"[A-Za-z0-9 ,]+", c.get("not_run", ""))}  # what Markdown leaves alone
    assert "<td><p>yes</p></td>" in html["status"] and len(plain) > 10 and all(reason in html["status"] for reason in plain)
    assert "74.32" in html["disagreements"] and "72.17" in html["disagreements"]  # DEC on Reuters-10k
    assert "at 30 random moments" in html["faults"]


def test_the_chapter_shows_its_figures_and_no_warnings(built):
    _, first = built
    html = (first.parent / "notebooks" / "01_vade.html").read_text()
    assert len(set(re.findall(r'<img[^>]+src="([^"]+)"', html))) >= 4
    assert "Traceback" not in html and "Warning:" not in html
    for page in (first.parent / "notebooks").glob("*.html"):
        drawn = [tag for tag in re.findall(r"<img[^>]+>", page.read_text()) if "_images/" in tag]
        assert drawn and all(re.search(r'alt="(?![^"]*_images/)[^"]{30,}"', tag) for tag in drawn), f"{page.name}: a figure without a word on what it shows"
    assert "|---|" not in html, "a displayed table was not rendered"


def test_a_second_build_does_nothing(built, monkeypatch):
    folder, first = built
    monkeypatch.setenv("GENCLUST_PROJECT", str(folder))
    for name in ("execute_all", "render"):
        monkeypatch.setattr(book, name, lambda *a, **k: pytest.fail("built again"))
    before = first.stat().st_mtime_ns
    assert book.build(folder, "smoke") == first and first.stat().st_mtime_ns == before


@pytest.mark.parametrize("harm, words", [
    (lambda html: (html / "book" / "data.html").unlink(), "page book/data is not in the HTML"),
    (lambda html: next((html / "_images").glob("*.png")).unlink(), "<img> points to"),
    (lambda html: (html / "book" / "intro.html").open("a").write('<a href="nowhere.html">x</a>'), "nowhere.html"),
    (lambda html: (html / "book" / "intro.html").open("a").write('<a href="data.html#nowhere">x</a>'), "data.html#nowhere"),
    (lambda html: (html / "book" / "intro.html").open("a").write('<script src="https://cdn.example/x.js"></script>'), "needs the network"),
])
def test_a_book_that_is_not_whole_is_refused(built, tmp_path, harm, words):
    import shutil
    folder, first = built
    html = tmp_path / "html"
    shutil.copytree(first.parent, html, ignore=shutil.ignore_patterns("mathjax"))
    harm(html)
    with pytest.raises(RuntimeError, match=re.escape(words)):
        book.check(folder / "build" / "site", html)


def test_every_chapter_is_in_the_table_of_contents():
    pages = book.pages_of(ROOT / "_toc.yml")
    assert {f"notebooks/{c.notebook}" for c in CHAPTERS.values()} <= set(pages)


def test_prose_holds_no_path_of_a_machine_and_sources_exist():
    for page in book.pages_of(ROOT / "_toc.yml"):
        path = next(p for p in ((ROOT / page).with_suffix(s) for s in (".md", ".ipynb")) if p.exists())
        assert not re.search(r"(/home/|/root/|/work/|/tmp/)\w", path.read_text()), path
