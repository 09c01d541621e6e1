"""The gallery: every method in a line, on data of the reader's own. It records nothing."""

from __future__ import annotations

from pydantic import Field

from ...datasets import describe
from ..catalogue import Chapter, Experiment, Method, PageParameters

METHODS: dict[str, Method] = {}
EXPERIMENTS: dict[str, Experiment] = {}


class Parameters(PageParameters):
    """What ``notebooks/07_gallery`` can be run with."""

    paper = "gallery"

    dataset: str | None = Field(None, pattern="^[A-Za-z0-9][A-Za-z0-9_-]*$",
                                description="a set, or the name under which you added data of your own; None: wines")
    n_clusters: int | None = Field(None, ge=2, le=1000, description="K; None: the number of classes, or 3")
    n_samples: int = Field(2000, ge=100, description="rows at most")
    seed: int = Field(0, ge=0, lt=2**31, description="seed of every fit")

    def misfits(self) -> dict[str, str]:
        """The data set where there is none of its name."""
        try:
            if self.dataset is not None:
                describe(self.dataset)
        except ValueError as error:
            return {"dataset": f"{error}. Data of your own are added by: genclust data add NAME PATH"}
        return {}


CHAPTER = Chapter("07_gallery", Parameters)
