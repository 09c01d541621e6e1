"""The command `genclust data`: list, fetch, add and verify the data sets."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Optional

import typer

from genclust import datasets

app = typer.Typer(no_args_is_help=True, help="List, fetch, add and verify the data sets.")


class _Echo(logging.Handler):
    """Messages of the library, on whatever standard error is at the moment."""

    def emit(self, record: logging.LogRecord) -> None:
        typer.echo(self.format(record), err=True)


@contextmanager
def _progress_and_errors() -> Iterator[None]:
    """Show progress; end with one message and status 1, not a traceback, when data are amiss."""
    echo, level = _Echo(), datasets.logger.level
    datasets.logger.addHandler(echo)
    datasets.logger.setLevel(logging.INFO)
    datasets.logger.propagate = False  # what shows the runs' messages would say everything twice
    try:
        yield
    except (OSError, ValueError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
    finally:
        datasets.logger.removeHandler(echo)
        datasets.logger.setLevel(level)
        datasets.logger.propagate = True


@app.command("list")
def list_sets() -> None:
    """Show all data sets."""
    rows = [("name", "rows", "features", "classes", "cached", "licence")]
    for name in datasets.names():
        source = datasets.describe(name)
        cached = "yes" if datasets.is_cached(name) else "no"
        rows.append((name, str(source.n), str(source.d), str(source.n_classes),
                     cached if source.files else "built in", source.licence))
    for name in datasets.own.names():
        try:
            source = datasets.own.describe(name)
        except (OSError, ValueError) as error:  # the others are to be seen all the same
            typer.echo(f"error: {error}", err=True)
            rows.append((name, "-", "-", "-", "damaged", "your own"))
            continue
        rows.append((name, str(source.n), str(source.d), str(source.n_classes), "yes", source.licence))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.rjust(width) if 1 <= i <= 3 else cell.ljust(width)
                 for i, (cell, width) in enumerate(zip(row, widths, strict=True)))
        typer.echo("  ".join(cells).rstrip())


@app.command()
def fetch(name: Annotated[str, typer.Argument(help="A data set, or 'all'.")]) -> None:
    """Bring a data set into the cache, or all that can be had."""
    failed = False
    with _progress_and_errors():
        for each in datasets.names() if name == "all" else [name]:
            try:
                root = datasets.fetch(each)
            except datasets.DataUnavailable as error:
                if name != "all":
                    raise
                offered = datasets.describe(each).is_offered
                failed |= offered
                typer.echo(f"error: {error}" if offered else f"{each}: to be added by hand", err=True)
            else:
                typer.echo(f"{each}: {root if each not in datasets.names() or datasets.describe(each).files else 'built in'}")
    if failed:
        raise typer.Exit(1)


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="A data set, or a name for data of your own.")],
    path: Annotated[Path, typer.Argument(help="A directory with the set's files, one of them, or an archive that holds "
                                              "them; your own data: a .npy or .npz file, or a folder of images.")],
) -> None:
    """Copy files that you have into the cache, once they are verified; or data of your own."""
    with _progress_and_errors():
        typer.echo(f"{name}: {datasets.add(name, path)}")
        (status,) = datasets.verify([name]) if name in datasets.names() else [None]
    if status and status.state == "incomplete":
        typer.echo("\n".join(["still lacking:", *(f"  {problem}" for problem in status.problems)]))


@app.command()
def verify(
    names: Annotated[Optional[list[str]], typer.Argument(help="Data sets; all if none.")] = None,
) -> None:
    """Rehash the cached files; exit with status 1 if any is corrupt."""
    with _progress_and_errors():
        report = datasets.verify(names or None)
    for status in report:
        typer.echo(f"{status.name}: {status.state}")
        if status.state in ("corrupt", "incomplete"):
            for problem in status.problems:
                typer.echo(f"  {problem}", err=status.state == "corrupt")
    if any(status.state == "corrupt" for status in report):
        raise typer.Exit(1)
