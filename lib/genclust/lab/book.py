"""The book: execute the chapters that changed, fill in the generated parts, render, and check the result."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import yaml
from joblib import cpu_count
from tqdm.auto import tqdm

from .chapters import execute_chapter
from .files import sha256, write_atomic
from .pages import answers, datasets_table, disagreements, faults_page, ledger_page, ledgers, overview, status_page
from .papers import CHAPTERS
from .provenance import LIBRARY


def build(root: Path, profile: str = "quick") -> Path:
    """The rendered book's first page. Chapters, and the HTML, are made again only where their sources changed.

    RuntimeError where a page is missing or has a broken link; the same where a cell of a chapter fails.
    """
    todo = {}
    for name, chapter in CHAPTERS.items():
        output = root / "build" / "chapters" / f"{chapter.notebook}.ipynb"
        stamp = output.with_suffix(".stamp")
        now = digest_of(chapter_sources(root, chapter), profile)
        if output.exists() and stamp.exists() and stamp.read_text() == now:
            print(f"{chapter.notebook}: unchanged")
        else:
            todo[name] = output, stamp, now
    if todo:
        execute_all(todo, profile)
    site, html = root / "build" / "site", root / "build" / "html"
    stamp = root / "build" / "html.stamp"
    now = digest_of([*site_sources(root), *(root / "build" / "chapters").glob("*.stamp")])
    if not (stamp.exists() and stamp.read_text() == now and (html / "index.html").exists()):
        stage(root, site)
        render(site, html)
        check(site, html)
        write_atomic(stamp, now)
    return html / "index.html"


def execute_all(todo: dict[str, tuple[Path, Path, str]], profile: str) -> None:
    """Executes chapters side by side, one on every core, and stamps each that is done: name -> output, stamp, digest.

    The error of the first chapter that fails, once those that run beside it have ended; the others are not begun.
    """
    workers = min(cpu_count(), len(todo))
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"), initializer=_share,
                             initargs=(cpu_count() // workers,)) as pool:
        running = {pool.submit(_execute, name, profile, output, place): (output, stamp, now)
                   for place, (name, (output, stamp, now)) in enumerate(todo.items())}
        print(f"executing {len(todo)} chapters in the {profile} profile, {workers} at a time", flush=True)
        try:
            for done in as_completed(running):
                output, stamp, now = running[done]
                seconds = done.result()
                write_atomic(stamp, now)
                tqdm.write(f"{output.stem}: {seconds:.0f} s")
                sys.stdout.flush()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _share(threads: int) -> None:
    """In a process of the pool: the cores are shared out, since threads that wait for a busy core stand in its way."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, str(threads))


def _execute(name: str, profile: str, output: Path, place: int) -> float:
    """Executes a chapter, with a progress bar in its own line of the terminal; the seconds it took."""
    began = time.monotonic()
    execute_chapter(name, {} if profile == "quick" else {"profile": profile}, output,
                    progress={"position": place, "desc": output.stem, "leave": False})
    return time.monotonic() - began


def chapter_sources(root: Path, chapter) -> list[Path]:
    """The files that a chapter's page depends on; this module only carries them."""
    library = sorted(set(LIBRARY.rglob("*.py")) - {Path(__file__).resolve()})
    claims = root / "book" / "claims" / f"{chapter.paper.replace('-', '_')}.yml"
    return [root / "constraints.txt", root / "notebooks" / f"{chapter.notebook}.ipynb", *library, *([claims] if claims.exists() else []),
            *sorted((root / "book").glob("*_bench.json")),
            *sorted(p for of in chapter.records or (chapter.paper,) for p in (root / "book" / "records").glob(f"{of}/*"))]


def site_sources(root: Path) -> list[Path]:
    """The files that the rendered pages depend on, besides the executed chapters."""
    return [root / "constraints.txt", root / "_config.yml", root / "_toc.yml", *sorted(p for p in (root / "book").rglob("*") if p.is_file()),
            *sorted((root / "_static").glob("*")), *sorted(LIBRARY.rglob("*.py"))]


def digest_of(paths: list[Path], *words: str) -> str:
    """One digest of the contents of files, and of some words."""
    return sha256(json.dumps([*words, *((str(p), sha256(p)) for p in paths)]))


def stage(root: Path, site: Path) -> None:
    """A copy of the book's sources with the generated parts filled in and the executed notebooks in place."""
    shutil.rmtree(site, ignore_errors=True)
    shutil.copytree(root / "book", site / "book", ignore=shutil.ignore_patterns("records", "claims"))
    if (root / "_static").is_dir():
        shutil.copytree(root / "_static", site / "_static")
    for name in ("_config.yml", "_toc.yml"):
        shutil.copyfile(root / name, site / name)
    (site / "notebooks").mkdir()
    for chapter in CHAPTERS.values():
        shutil.copyfile(root / "build" / "chapters" / f"{chapter.notebook}.ipynb", site / "notebooks" / f"{chapter.notebook}.ipynb")
    found = [(ledger, answers(ledger, root)) for ledger in ledgers(root)]
    generated = {
        "overview": lambda: overview(found, site / "book" / "verdicts.svg"),
        "datasets": datasets_table,
        "ledger": lambda: ledger_page(found),
        "disagreements": lambda: disagreements(found),
        "status": lambda: status_page(found, root),
        "faults": lambda: faults_page(root),
    }
    for page in (site / "book").glob("*.md"):
        text = page.read_text()
        filled = re.sub(r"<!-- generated: (\w+) -->", lambda m: generated[m[1]](), text)
        if filled != text:
            page.write_text(filled)


def render(site: Path, html: Path) -> None:
    """Runs Jupyter Book; RuntimeError with its output where it fails or warns."""
    shutil.rmtree(site / "_build", ignore_errors=True)
    done = subprocess.run([str(Path(sys.executable).with_name("jupyter-book")), "build", str(site), "-W", "--keep-going", "-q"],
                          capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"jupyter-book failed with exit code {done.returncode}:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}")
    shutil.rmtree(html, ignore_errors=True)
    shutil.move(site / "_build" / "html", html)


def pages_of(toc: Path) -> list[str]:
    """The pages that a table of contents names, root first."""
    def walk(node) -> Iterator[str]:
        if isinstance(node, dict):
            for key in ("root", "file"):
                if key in node:
                    yield node[key]
            for key in ("parts", "chapters", "sections"):
                for child in node.get(key, []):
                    yield from walk(child)
    return list(walk(yaml.safe_load(toc.read_text())))


def check(site: Path, html: Path) -> None:
    """RuntimeError that lists every missing page, broken local link, anchor or image, and what comes from the network."""
    wrong = [f"page {page} is not in the HTML" for page in pages_of(site / "_toc.yml") if not (html / f"{page}.html").exists()]
    pages = {page.resolve(): _Links() for page in sorted(html.rglob("*.html")) if "_static" not in page.relative_to(html).parts}
    for page, links in pages.items():
        links.feed(page.read_text())
    for page, links in pages.items():
        name = page.relative_to(html.resolve())
        for tag, url in links.found:
            parts = urlsplit(url)
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            if parts.scheme in ("http", "https") or url.startswith("//"):
                if tag != "a":
                    wrong.append(f"{name}: <{tag}> needs the network: {url}")
            elif not parts.scheme and not target.exists():
                wrong.append(f"{name}: <{tag}> points to {url}, which is not there")
            elif not parts.scheme and parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
                wrong.append(f"{name}: <{tag}> points to {url}, and that page has no such anchor")
    if wrong:
        raise RuntimeError("the rendered book is not whole:\n" + "\n".join(f"  {line}" for line in wrong))


class _Links(HTMLParser):
    """Collects what a page points to, and where in it others can point to."""

    def __init__(self):
        super().__init__()
        self.found: list[tuple[str, str]] = []
        self.anchors: set[str] = set()

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.anchors.update(filter(None, (given.get("id"), given.get("name"))))
        url = given.get("src") or (given.get("href") if tag in ("a", "link") else None)
        if tag == "link" and given.get("rel") in ("canonical", "search"):
            return
        if url:
            self.found.append((tag, url))
