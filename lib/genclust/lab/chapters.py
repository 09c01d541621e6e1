"""Chapters: their parameters, checked before any work, and their execution by papermill."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from .catalogue import ChapterParameters, PageParameters
from .experiments import make_specs, unknown
from .files import project_root, work_folder
from .papers import CHAPTERS
from .records import Record, RecordStore
from .schedule import run_all
from .specs import Spec


class ParameterError(ValueError):
    """A parameter that a chapter does not have, or a value that it can't take."""


def check_parameters(chapter: str, given: Mapping[str, Any]) -> PageParameters:
    """The chapter's parameters from ``given`` values.

    ParameterError that names the parameter, what it was given, and what is accepted.
    """
    if chapter not in CHAPTERS:
        raise unknown("chapter", chapter, CHAPTERS)
    model = CHAPTERS[chapter].parameters
    for name in given:
        if name not in model.model_fields:
            raise ParameterError(str(unknown(f"parameter of chapter {chapter}", name, model.model_fields)))
    try:
        params = model(**given)
    except ValidationError as error:
        lines = [f"parameter {e['loc'][0]!r} can't be {e['input']!r}: {e['msg']}" for e in error.errors()]
        lines += [f"accepted: {describe(model, str(name))}" for name in dict.fromkeys(e["loc"][0] for e in error.errors())]
        raise ParameterError("\n".join(lines)) from None
    if misfits := params.misfits():
        raise ParameterError("\n".join(f"parameter {name!r} can't be {getattr(params, name)!r}: {why}" for name, why in misfits.items()))
    return params


def describe(model: type[PageParameters], name: str) -> str:
    """A line on one parameter: its type, range, default and meaning."""
    entry = model.model_json_schema()["properties"][name]
    options = [entry, *entry.get("anyOf", [])]
    kinds = [", ".join(map(repr, o["enum"])) if "enum" in o else o.get("type", "") for o in options]
    bounds = [f"{word} {o[key]}" for o in options for key, word in
              (("minimum", "from"), ("maximum", "to"), ("exclusiveMaximum", "below")) if key in o]
    what = " or ".join(k for k in kinds if k).replace("null", "None")
    return f"{name}: {' '.join([what, *bounds])} (default {entry.get('default')!r}): {entry.get('description', '')}"


def notebook_parameters(chapter: str, namespace: Mapping[str, Any]) -> PageParameters:
    """The same, from a notebook's global names just after its parameters cell.

    At that point every public name that the notebook defined is a parameter, so a name that the chapter
    does not know was injected by mistake: papermill itself would only warn.
    """
    shell = {"In", "Out", "exit", "quit", "get_ipython", "open", "notebook_parameters"}
    given = {k: v for k, v in namespace.items() if not k.startswith("_") and k not in shell}
    if "params" in given:  # this cell ran before: what it and later cells defined is not a parameter
        given = {k: v for k, v in given.items() if k in CHAPTERS[chapter].parameters.model_fields}
    return check_parameters(chapter, given)


def live(params: ChapterParameters, methods: Sequence[str]) -> dict[str, Record]:
    """The records of a chapter's live runs, by method: made now, with a progress bar, or found from an
    earlier execution with the same parameters and the same code."""
    specs = live_specs(params, methods)
    return {r.spec.method: r for r in run_all(specs, live_store(), work_folder(), same_code=True)}


def live_specs(params: ChapterParameters, methods: Sequence[str]) -> list[Spec]:
    """What :func:`live` runs: the experiment of the chapter's data set, with its parameters."""
    return make_specs(f"{params.paper}/{params.dataset}", profile=params.profile, methods=methods, seeds=[params.seed],
                      n_samples=params.n_samples, **params.overrides())


def live_store() -> RecordStore:
    """Live records stay out of the book's own: ``build/live`` in the checkout."""
    return RecordStore(project_root() / "build" / "live")


def execute_chapter(chapter: str, given: Mapping[str, Any], output: Path | None = None, *,
                    progress: bool | dict[str, Any] = True) -> Path:
    """Executes a fresh copy of a chapter's notebook; returns the executed one, ``build/own`` in the checkout if no ``output``
    is named.

    ``progress`` may hold options of the progress bar; then those of the runs in the notebook are not shown below it.
    The parameters are checked first. ParameterError, or RuntimeError where a cell fails, with its error and the executed part.
    """
    check_parameters(chapter, given)
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    import papermill

    root = project_root()
    source = root / "notebooks" / f"{CHAPTERS[chapter].notebook}.ipynb"
    output = output or root / "build" / "own" / source.name  # the book's own pages are in build/chapters
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        done = Path(scratch) / source.name
        try:
            papermill.execute_notebook(source, done, parameters=dict(given), kernel_name="python3", cwd=root,
                                       progress_bar=progress, request_save_on_cell_execute=False,
                                       stderr_file=sys.stderr if progress is True and sys.stderr.isatty() else None)
        except papermill.PapermillExecutionError as error:
            raise RuntimeError(f"{source.name}, cell {error.cell_index}: {error.ename}: {error.evalue}\n"
                               f"executed as far as there: {output.with_suffix('.failed.ipynb')}") from error
        finally:  # a failed notebook is worth keeping too, under a name that nothing mistakes for a result
            if done.exists():
                shutil.copyfile(done, output.with_suffix(".failed.ipynb"))
        output.with_suffix(".failed.ipynb").replace(output)
    return output
