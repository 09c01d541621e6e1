"""The command line: ``genclust data | run | status | show | verify | chapter | book``."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from .data_cli import app as data_app
from .files import project_root, work_folder

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
                  help="Deep generative clustering: data, runs, records and the book.")
app.add_typer(data_app, name="data", help="Fetch, add and check data sets.")


def parse_seeds(text: str) -> list[int]:
    """``"3"`` is seed 3, ``"0:3"`` are 0, 1, 2, ``"0,4"`` are 0 and 4. ValueError for anything else."""
    try:
        if ":" in text:
            first, last = (int(part) for part in text.split(":"))
            seeds = list(range(first, last))
        else:
            seeds = [int(part) for part in text.split(",")]
    except ValueError:
        seeds = []
    if not seeds or min(seeds) < 0:
        raise ValueError(f"seeds {text!r} are not a range: use one seed (3), a range (0:3 is 0, 1, 2) or a list (0,4)")
    return seeds


def parse_overrides(pairs: list[str], options: Sequence[str] = ()) -> dict[str, Any]:
    """``["n_clusters=14"]`` to ``{"n_clusters": 14}``; values are JSON, or else text. ValueError for what is one of the ``options``."""
    found = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise ValueError(f"{pair!r} is not NAME=VALUE, for example n_clusters=14")
        if key in options:
            instead = {"experiment": "the first argument", "methods": "--method"}.get(key, f"--{key.replace('_', '-')}")
            raise ValueError(f"-p {key}: give it as {instead} instead")
        try:
            found[key] = json.loads(value)
        except json.JSONDecodeError:
            found[key] = value
    return found


def record_store(folder: Path | None, profile: str = "paper"):
    """The folder that is named; else ``book/records`` for the paper profile, ``build/live`` for smaller ones."""
    from .records import RecordStore
    return RecordStore(folder or project_root() / ("book/records" if profile == "paper" else "build/live"))


Records = Annotated[Optional[Path], typer.Option("--records", file_okay=False, help="Folder of the records (book/records; for "
                                                                                    "runs in a smaller profile than paper, build/live).")]
Recorded = Annotated[Optional[Path], typer.Option("--records", exists=True, file_okay=False, help="Folder of the records (book/records).")]


@app.command()
def run(experiment: Annotated[str, typer.Argument(help="For example vade/mnist; `genclust run list` shows all.")],
        profile: Annotated[str, typer.Option(help="smoke, quick or paper.")] = "quick",
        seeds: Annotated[str, typer.Option(help="3, or 0:3 for 0, 1, 2, or 0,4.")] = "0",
        method: Annotated[Optional[list[str]], typer.Option(help="Only this method; may be repeated.")] = None,
        param: Annotated[Optional[list[str]], typer.Option("--param", "-p", help="NAME=VALUE; may be repeated.")] = None,
        n_samples: Annotated[Optional[int], typer.Option(min=2, help="A seeded subset of so many rows.")] = None,
        workers: Annotated[int, typer.Option(min=1, help="Processes; the cores are shared among them.")] = 1,
        scheduler: Annotated[Optional[str], typer.Option(help="A Dask scheduler, tcp://host:port: its workers make the "
                                                              "runs.")] = None,
        force: Annotated[bool, typer.Option("--force", help="Run again even where a record exists.")] = False,
        records: Records = None) -> None:
    """Run an experiment; each run ends as a record. What has a record is not run again."""
    from .experiments import make_specs
    from .papers import EXPERIMENTS
    if experiment == "list":
        for name, e in EXPERIMENTS.items():
            typer.echo(f"{name:24} {', '.join(e.methods):32} {e.about}")
        return
    specs = make_specs(experiment, profile=profile, methods=method, seeds=parse_seeds(seeds), n_samples=n_samples,
                       **parse_overrides(param or [], options=("experiment", "methods", "profile", "seeds", "n_samples")))
    store = record_store(records, profile)
    from .schedule import run_all
    try:
        run_all(specs, store, work_folder(), workers=workers, scheduler=scheduler, force=force, same_code=profile != "paper")
    except KeyboardInterrupt:
        typer.echo("genclust: stopped; what was saved stays, and the same command goes on with it", err=True)
        raise typer.Exit(130) from None
    wanted = {spec.id for spec in specs}
    typer.echo("\n".join(summary(head) for head in store.heads(experiment=experiment, profile=profile) if head["id"] in wanted))


def summary(head: dict) -> str:
    """One line on a record, from its head."""
    from .selection import score_of
    s, p, m = head["spec"], head["provenance"], head["metrics"]
    scores = {key: score_of(m, key) for key in ("accuracy", "nmi") if key in m} or m  # a supervised method has others
    if "share_labelled" in m:  # the scores are over all rows, noise too
        scores["labelled"] = m["share_labelled"]
    shown = "  ".join(f"{key} {'-' if value is None else f'{value:.4f}'}" for key, value in scores.items())
    return (f"{head['id']}  {s['experiment']:16} {s['method']:10} {s['profile']:6} s{s['seed']:<3} {shown}  "
            f"objective {head['objective']:.6g}  {p['wall_seconds']:.0f} s  {p['peak_memory_mb']:.0f} MB")


@app.command()
def status(records: Recorded = None) -> None:
    """List every record, and the runs that were begun and not finished."""
    store = record_store(records)
    lines = [summary(head) for head in store.heads()]
    unfinished = sorted(work_folder().glob("*.clock.json")) if records is None else []
    clocks = [json.loads(path.read_text()) for path in unfinished]
    typer.echo("\n".join(lines + [
        f"unfinished    {path.name.removesuffix('.clock.json')}  after {clock['seconds']:.0f} s: the same `genclust run` "
        "goes on with it" for path, clock in zip(unfinished, clocks)] + [f"{len(lines)} records, {len(unfinished)} unfinished"]))


@app.command()
def show(id: Annotated[str, typer.Argument(help="The id of a record, or its beginning.")], records: Recorded = None) -> None:
    """Print one record, without its history, and the command that runs it again."""
    from .experiments import recompute
    from .specs import Spec
    store = record_store(records)
    found = {head["id"]: Spec.model_validate(head["spec"]) for head in store.heads()}
    near = [spec for key, spec in found.items() if key.startswith(id)]
    if not near:
        raise ValueError(f"no record's id begins with {id!r}; `genclust status` lists all {len(found)}")
    for spec in near:
        record = store.read(store.path(spec))
        typer.echo(json.dumps(record.model_dump(exclude={"history", "digest", "history_digest"}), indent=2))
        typer.echo(f"again: {recompute(record.spec)}")


@app.command()
def verify(records: Recorded = None,
           workers: Annotated[Optional[int], typer.Option(min=1, help="Processes (as many as there are cores).")] = None) -> None:
    """Check every record, replay its first steps with today's code, and compare."""
    from .replay import NOTES, verify_all
    store = record_store(records)
    word = {True: "same  ", False: "PARTS ", None: "no data"}
    counts, unsettled = Counter(), 0
    for outcome in verify_all(store, workers=workers, notes=None if records else project_root() / NOTES, anew=True):
        counts[outcome.same] += 1
        unsettled += bool(outcome.unsettled)
        typer.echo(f"{word[outcome.same]} {outcome.what}" + (f" but for what rounding decides: {outcome.unsettled}" if outcome.unsettled else ""),
                   err=not outcome.same)
    typer.echo(f"{counts[True]} of {counts.total()} records replay"
               + (f", {unsettled} of them but for what rounding decides" if unsettled else "")
               + (f"; {counts[None]} can't be replayed here, without their data" if counts[None] else ""))
    if counts[False]:
        raise typer.Exit(1)


@app.command()
def chapter(name: Annotated[str, typer.Argument(help="For example vade.")],
            param: Annotated[Optional[list[str]], typer.Option("--param", "-p", help="NAME=VALUE; may be repeated.")] = None,
            output: Annotated[Optional[Path], typer.Option("--output", "-o", help="The executed notebook.")] = None) -> None:
    """Execute a chapter's notebook with your own parameters."""
    from .chapters import execute_chapter
    path = execute_chapter(name, parse_overrides(param or []), output)
    typer.echo(f"executed: {path}")


@app.command()
def book(profile: Annotated[str, typer.Option(help="smoke, quick or paper.")] = "quick") -> None:
    """Execute every chapter that changed and build the HTML."""
    from .book import build
    page = build(project_root(), profile)
    typer.echo(f"open {page.as_uri()}")


def main() -> None:
    """The entry point: an error that we raise ourselves is one clear message, not a traceback."""
    import logging
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        app()
    except OSError as error:
        typer.echo(f"genclust: {error.strerror if error.strerror and not error.filename else error}", err=True)
        sys.exit(1)
    except (ValueError, RuntimeError, FloatingPointError) as error:
        typer.echo(f"genclust: {error}", err=True)
        sys.exit(1)
    except ModuleNotFoundError as error:
        typer.echo(f"genclust: {error.name} is not installed: pip install 'genclust[book]'", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
