"""One module a paper: its methods, experiments, checkable statements and chapter, gathered here.

A module gives METHODS, EXPERIMENTS and CHAPTER, and where its ledger needs them

- PROPERTIES: ``f(record, arrays, data)``, what a figure shows, checked on one record;
- COMPARISONS: ``f(runs)``, a statement on the recorded runs of all methods of an experiment, by method, with their
  arrays in ``runs.store``; LookupError where there are too few;
- CHECKS: ``f()``, a statement that needs no records.

Each returns whether it holds, and the figures that decide it, in words.
"""

from __future__ import annotations

from ..catalogue import BASELINES, Chapter, Experiment, Method
from . import all_methods, gallery, ganmm, hrwae_gan, ot_clustering, vade, wamic

PAPERS = (vade, wamic, ganmm, ot_clustering, hrwae_gan, all_methods, gallery)  # the last two are of the book's own

METHODS: dict[str, Method] = dict(BASELINES)
EXPERIMENTS: dict[str, Experiment] = {}
CHAPTERS: dict[str, Chapter] = {}
PROPERTIES, COMPARISONS, CHECKS = {}, {}, {}
for _paper in PAPERS:
    METHODS |= _paper.METHODS
    EXPERIMENTS |= _paper.EXPERIMENTS
    CHAPTERS[_paper.CHAPTER.paper] = _paper.CHAPTER
    for _all, _name in ((PROPERTIES, "PROPERTIES"), (COMPARISONS, "COMPARISONS"), (CHECKS, "CHECKS")):
        _all |= {f.__name__: f for f in getattr(_paper, _name, ())}


def is_bare(experiment: str) -> bool:
    """Whether an experiment's runs keep their labels and scores alone; one that is no longer here counts as none."""
    return experiment in EXPERIMENTS and EXPERIMENTS[experiment].bare
