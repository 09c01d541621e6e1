"""Specs: what is run, said so completely that its hash can be its name."""

from __future__ import annotations

import json
from functools import cached_property
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from .files import sha256

Profile = Literal["smoke", "quick", "paper"]


class Spec(BaseModel):
    """One run: a method with all its parameters, on a data set, from a seed.

    ``params`` holds the method's keyword arguments; ``n_samples`` a seeded subset of the data set,
    or None for all of it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    paper: str
    experiment: str
    method: str
    dataset: str
    profile: Profile
    seed: int = Field(ge=0)
    n_samples: int | None = Field(default=None, ge=1)
    params: dict[str, Any] = {}

    def canonical(self) -> str:
        """JSON with sorted keys: equal specs give equal text."""
        return json.dumps(self.model_dump(), sort_keys=True, separators=(",", ":"))

    @cached_property
    def id(self) -> str:
        """The first twelve hex digits of the SHA-256 of :meth:`canonical`."""
        return sha256(self.canonical())[:12]

    @property
    def stem(self) -> str:
        """A file name that a person can read, unique by the id."""
        return f"{self.experiment.replace('/', '-')}--{self.method}--{self.profile}-s{self.seed}-{self.id}"

    def __str__(self) -> str:
        return f"{self.experiment} {self.method} {self.profile} seed {self.seed} [{self.id}]"
